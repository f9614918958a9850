"""What may be remembered of a classified beat: a few rounded numbers, no pixel and no sample.

The service writes them to its log and the reference is made of them, by these functions, so that
monitoring compares like with like. A beat is reduced to eight numbers of two or three digits, an
image of thousands of pixels to five of them. No beat can be drawn from that. Nor can a rhythm:
whoever writes rows of these down puts them in the order of `shuffled`, which time has no part in.

Images are in units of the recording's own R amplitude, so that a gain that changed leaves them as
they are. It shows in the signal alone, which is why its amplitude is here in millivolts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

# Rises whenever the same beat would give other numbers; logs of another are not compared.
FEATURES_VERSION = 1

# Of an image. `mean` grey; `contrast`, the standard deviation of the grey levels, near zero for
# an empty image; `peak`, the 99th percentile of what stands off from the median grey; `noise`,
# the mean second difference along time; `rhythm`, how far the rhythm strip is from middle grey.
OF_IMAGE = ("image_mean", "image_contrast", "image_peak", "image_noise", "image_rhythm")
# Of the signal: largest deflection at R, residual from a moving mean beside the QRS complex,
# interval since the beat before.
OF_SIGNAL = ("amplitude_mv", "noise_mv", "rr_s")

# Seconds around R: where its peak is looked for, what the baseline is the median of, and what of
# that is QRS and no noise.
_PEAK_S, _AROUND_S, _QRS_S = 0.06, 0.3, 0.1
# The moving mean; muscle and mains are faster, P and T slower.
_SMOOTH_S = 0.025
# Standard deviation of a normal distribution from its median absolute deviation.
_FROM_MAD = 1.4826
_RR_STEP_S = 0.02

# Grey levels as an image has them, 0 to 1.
_LEVELS = np.arange(256, dtype=np.float32) / 255

# A header may call a lead anything, a person's name included: only these are repeated.
_KNOWN_LEAD = re.compile(
    r"I{1,3}|AV[RLF]|V[1-9]?R?|V[XYZ]|[XYZ]|ML(I{1,3}|[2-5])|(MV|MCL|MLV)[1-6]|MOD-V1"
    r"|C[CMS][1-6]|D[34]|[AE]-?[SI]|ECG[1-9]?"
)


def pick(count: int, most: int) -> np.ndarray:
    """At most `most` of `count` places, evenly spread: int64, increasing, none twice."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def image_features(images: np.ndarray, strip_height: int) -> dict[str, np.ndarray]:
    """Numbers of each image by the names of `OF_IMAGE`, 0 to 1 and rounded to three decimals.

    Parameters
    ----------
    images : ndarray of uint8, shape (n, rows, columns)
    strip_height : int
        Rows of the rhythm strip at the bottom; 0 for none, whose number is then NaN.
    """
    panels = images[:, : images.shape[1] - strip_height]
    grey = panels.astype(np.float32) / 255
    flat = grey.reshape(len(images), -1)
    if grey.shape[2] > 2:
        steps = grey[:, :, 1:] - grey[:, :, :-1]
        steps = steps[:, :, 1:] - steps[:, :, :-1]
    else:
        steps = np.zeros((len(images), 1, 1), np.float32)
    strip = images[:, images.shape[1] - strip_height :].astype(np.float32)
    found = {
        "image_mean": flat.mean(axis=1),
        "image_contrast": flat.std(axis=1),
        "image_peak": np.array([_peak(image) for image in panels], np.float32),
        "image_noise": np.abs(steps).mean(axis=(1, 2)),
        "image_rhythm": (
            np.abs(strip - 128).mean(axis=(1, 2)) / 127
            if strip_height
            else np.full(len(images), np.nan)
        ),
    }
    rows = np.round(np.array([*found.values()], np.float64), 3)
    return dict(zip(found, rows, strict=True))


def _peak(image: np.ndarray) -> np.float32:
    """The 99th percentile of what stands off from the median grey, of one image of uint8.

    As `np.percentile(np.abs(grey - np.median(grey)), 99)` of float32 has it, to the last bit: from
    counts of the 256 levels, for a service does this beside each answer.
    """
    counts = np.bincount(image.ravel(), minlength=256)
    below = counts.cumsum()
    last = image.size - 1
    middle = below.searchsorted([last // 2, (last + 1) // 2], side="right")
    median = (_LEVELS[middle[0]] + _LEVELS[middle[1]]) / np.float32(2)
    away = np.abs(_LEVELS - median)
    order = away.argsort()
    at = last * 0.99
    place = int(at)
    ranks = counts[order].cumsum().searchsorted([place, min(place + 1, last)], side="right")
    low, high = away[order[ranks]]
    share = at - place
    if share >= 0.5:
        return np.float32(high - (high - low) * (1 - share))
    return np.float32(low + (high - low) * share)


def signal_features(
    signal: np.ndarray, samples: np.ndarray, fs: float, index: np.ndarray
) -> dict[str, np.ndarray]:
    """Numbers of the beats `index` by the names of `OF_SIGNAL`; NaN where it cannot be told.

    Parameters
    ----------
    signal : ndarray of float, shape (time,)
        The lead that was drawn, as recorded, in millivolts; NaN where a sample is missing.
    samples : ndarray of int, shape (n,)
        Positions of all beats, increasing.
    fs : float
        Samples a second.
    index : ndarray of int
        Places in `samples` of the beats that are asked for.
    """
    reach = max(2, round(_AROUND_S * fs))
    offsets = np.arange(-reach, reach + 1)
    inside = np.clip(np.asarray(samples)[index][:, None] + offsets, 0, len(signal) - 1)
    windows = np.asarray(signal, np.float64)[inside]
    whole = np.isfinite(windows).all(axis=1)
    windows = np.where(whole[:, None], windows, 0.0)
    at_r, in_qrs = (np.abs(offsets) <= seconds * fs for seconds in (_PEAK_S, _QRS_S))
    deflection = np.abs(windows - np.median(windows, axis=1, keepdims=True))
    residual = np.abs(windows - _smoothed(windows, max(3, round(_SMOOTH_S * fs) | 1)))
    intervals = np.concatenate([[np.nan], np.diff(samples) / fs])
    return {
        "amplitude_mv": _two_digits(np.where(whole, deflection[:, at_r].max(axis=1), np.nan)),
        "noise_mv": _two_digits(
            np.where(whole, _FROM_MAD * np.median(residual[:, ~in_qrs], axis=1), np.nan)
        ),
        "rr_s": np.round(np.round(intervals[index] / _RR_STEP_S) * _RR_STEP_S, 2),
    }


def shuffled(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """An order of beats that tells nothing of when they came: by the values of `columns`.

    By the first column falling, equals by the next. Beats that are equal in all of them are not
    to be told apart.
    """
    return np.lexsort([-values for values in reversed([*columns.values()])])


def known_lead(name: str) -> str:
    """`name`, bare and in capitals (`ecgbeats.beats.lead_name`), if it is a lead's; else "other".

    What is no lead's name may be anything, and reaches no log.
    """
    return name if _KNOWN_LEAD.fullmatch(name) else "other"


def irregularity(samples: np.ndarray) -> float | None:
    """Median step from one RR interval to the next by the median interval; None for few beats."""
    rr = np.diff(samples)
    if len(rr) < 2 or not np.median(rr) > 0:
        return None
    return float(np.median(np.abs(np.diff(rr))) / np.median(rr))


def as_json(features: Mapping[str, np.ndarray]) -> dict[str, list[float | None]]:
    """Arrays as lists; what cannot be told is null, and a feature that never can is left out."""
    return {
        name: [None if np.isnan(value) else float(value) for value in values]
        for name, values in features.items()
        if not np.isnan(values).all()
    }


def _smoothed(windows: np.ndarray, width: int) -> np.ndarray:
    """Moving mean along the second axis, ends held."""
    half = width // 2
    padded = np.pad(windows, ((0, 0), (half + 1, half)), mode="edge")
    total = np.cumsum(padded, axis=1)
    return np.asarray((total[:, width:] - total[:, :-width]) / width)


def _two_digits(values: np.ndarray) -> np.ndarray:
    """Rounded to two significant digits; zero and NaN as they are."""
    sized = np.where(np.isfinite(values) & (values != 0), np.abs(values), 1.0)
    digits = 1 - np.floor(np.log10(sized))
    factor = 10.0**digits
    return np.asarray(np.round(np.round(values * factor) / factor, 9))
