"""Which parts of one beat image an answer rests on, for any model that can only answer.

*Occlusion* (Zeiler MD, Fergus R. Visualizing and understanding convolutional networks. ECCV
2014): squares of the image are emptied one after another; what is lost of the evidence for the
class is what the square held for it. It needs the network's answers alone, so that ONNX Runtime
is enough. `ecgbeats.explanation` has integrated gradients, which need Keras.

Squares overlap by half within a panel and never reach over its edge; each value of the rhythm
strip is emptied as a whole.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ecgbeats.beats import RHYTHMS
from ecgbeats.imaging.spec import PANELLED, FeaturesSpec, ScalogramSpec, Spec

_PATCH = 8
# Of larger images a square is this share of the longer side, so that there are a few hundred.
_SHARE = 10
_AT_ONCE = 64
_TINY = float(np.finfo(np.float32).tiny)
# Grey level that shows nothing, by representation.
_EMPTY = {"composite": 128, "features": 128, "picture": 255, "spectrogram": 0, "waveform": 255}
# Evidence for and against: red and blue of Okabe and Ito's colours, over a faint image.
_FOR, _AGAINST = (213, 94, 0), (0, 114, 178)

Window = tuple[slice, slice]


def windows_of(spec: Spec) -> list[Window]:
    """What is emptied, one at a time, as slices of rows and columns."""
    rows, columns = spec.shape
    if isinstance(spec, FeaturesSpec):
        return [(slice(0, rows), slice(k, k + 1)) for k in range(columns)]
    if not isinstance(spec, PANELLED):
        return _squares(slice(0, rows), columns)
    height = spec.panel_height
    found = [
        window
        for k in range(spec.panel_count)
        for window in _squares(slice(k * height, (k + 1) * height), columns)
    ]
    values = spec.rows_of_values
    # Single values, side by side: eight at a time.
    found += [
        (slice(row, row + 1), slice(left, left + 8))
        for row in range(values.start, values.stop)
        for left in range(0, columns, 8)
    ]
    if spec.strip_height:
        count = len(RHYTHMS[spec.rhythm])
        block, strip = columns // count, spec.rows_of_strip
        found += [(strip, slice(k * block, (k + 1) * block)) for k in range(count)]
    return found


def _squares(rows: slice, columns: int) -> list[Window]:
    side = max(_PATCH, -(-max(rows.stop - rows.start, columns) // _SHARE))
    return [
        (slice(top, min(top + side, rows.stop)), slice(left, min(left + side, columns)))
        for top in _starts(rows.start, rows.stop, side)
        for left in _starts(0, columns, side)
    ]


def _starts(first: int, end: int, side: int) -> range:
    return range(first, max(first + 1, end - side // 2), side // 2)


def empty_level(spec: Spec) -> int:
    """The grey level that shows nothing in images of `spec`."""
    if isinstance(spec, ScalogramSpec):
        return 128 if spec.value == "signed" else 0
    return _EMPTY[spec.representation]


def evidence(probabilities: np.ndarray, k: int) -> np.ndarray:
    """Log-odds of class `k` against all others, shape (n,), in nats; never infinite."""
    p = np.asarray(probabilities, np.float64)
    others = np.delete(p, k, axis=1).sum(axis=1)
    return np.asarray(np.log(np.maximum(p[:, k], _TINY)) - np.log(np.maximum(others, _TINY)))


def occlusion_map(
    predict: Callable[[np.ndarray], np.ndarray], image: np.ndarray, k: int, spec: Spec
) -> np.ndarray:
    """How much evidence for class `k` is lost where the image is emptied.

    Parameters
    ----------
    predict : callable
        Images, uint8 (n, rows, columns), to probabilities.
    image : ndarray of uint8, shape (rows, columns)

    Returns
    -------
    ndarray of float32, shape (rows, columns)
        In nats; positive for, negative against the class. The mean over the windows that a
        pixel lies in, by the share of their pixels that showed something.
    """
    windows, empty = windows_of(spec), empty_level(spec)
    whole = float(evidence(predict(image[None]), k)[0])
    lost = np.zeros(image.shape, np.float64)
    times = np.zeros(image.shape)
    for start in range(0, len(windows), _AT_ONCE):
        some = windows[start : start + _AT_ONCE]
        without = np.repeat(image[None], len(some), axis=0)
        for row, window in enumerate(some):
            without[row][window] = empty
        for window, left in zip(some, evidence(predict(without), k), strict=True):
            lost[window] += whole - left
            times[window] += 1
    return np.asarray(lost / np.maximum(times, 1), np.float32)


def overlay(image: np.ndarray, saliency: np.ndarray, scale: int = 6) -> np.ndarray:
    """`image` enlarged and faint, red where it speaks for the class, blue where against.

    Parameters
    ----------
    image : ndarray of uint8, shape (rows, columns)
    saliency : ndarray, shape (rows, columns)

    Returns
    -------
    ndarray of uint8, shape (rows * scale, columns * scale, 3)
        As opaque as the saliency is strong; a hundredth of the pixels may be at full.
    """
    strength = np.abs(saliency)
    limit = float(np.quantile(strength, 0.99)) or float(strength.max()) or 1.0
    opaque = 0.85 * np.clip(strength / limit, 0, 1)[:, :, None] ** 0.7
    colour = np.where(saliency[:, :, None] >= 0, _FOR, _AGAINST)
    # Washed out, so that colours show on dark and on light.
    faint = 90 + 0.6 * image[:, :, None].astype(np.float64)
    drawn = np.rint(faint * (1 - opaque) + colour * opaque).astype(np.uint8)
    return np.asarray(drawn.repeat(scale, axis=0).repeat(scale, axis=1))
