"""Any plain picture of one trace, brought to one size, polarity and contrast.

The rule, step by step; every step is one function and none looks at the class.

1. *Flatten.* A palette is looked up, transparency lies on white (on black, if the trace is
   white); 16 bits become eight.
2. *Ink.* The background is the median colour. Ink is how far a pixel is from it, in the
   channel that differs most: dark on light and light on dark are the same, and a coloured
   trace counts whatever its luminance.
3. *Floor.* Ink below a fifth of the strongest is background: JPEG's ringing, faint grids.
4. *Crop.* The box of the ink, so that margins do not matter.
5. *Scale.* The box is scaled by one factor until it fits the plane, and centred. Each pixel
   of the plane is the mean over the area that it covers, so a thin line turns grey, never
   into gaps.
6. *Stretch.* The usual darkness of a column of the trace becomes black, so that thin and
   faint traces look like thick and dark ones.

Needs NumPy and Pillow alone: the service uses it as well.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

# Strongest ink, in grey levels, under which a picture is blank: paper noise, not a trace.
BLANK_LEVELS = 16
# JPEG of quality 50 rings with up to a fifth of the line that it rings from.
_FLOOR = 0.2
# A pixel is in the box when it has this share of the usual ink of the trace.
_IN_BOX = 0.35
# A trace is at least so wide, in pixels; less is a speck.
_LEAST_WIDTH = 6
# The background is looked up in so many pixels or more; all would take most of the time.
_SAMPLED = 2048


def flatten(image: Image.Image) -> np.ndarray:
    """Pixels of any Pillow mode as uint8, shape (rows, columns, channels), without alpha.

    Transparency lies on white, or on black where white would leave nothing to see.
    """
    if image.mode.startswith("I") or image.mode == "F":
        values = np.nan_to_num(np.asarray(image, np.float64), posinf=0, neginf=0)
        # 16 bits by their upper byte; a file that uses only the lower one means eight bits.
        if values.max(initial=0) > 255:
            values = values / 257
        return np.rint(np.clip(values, 0, 255)).astype(np.uint8)[:, :, None]
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))[:, :, None]
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        rgba = np.asarray(image.convert("RGBA"), np.float32)
        alpha = rgba[:, :, 3:] / 255
        for paper in (255, 0):
            flat = np.rint(rgba[:, :, :3] * alpha + paper * (1 - alpha)).astype(np.uint8)
            if not is_blank(ink(flat[None])[0]):
                break
        return flat
    return np.asarray(image.convert("RGB"), np.uint8)


def ink(pictures: np.ndarray) -> np.ndarray:
    """How far each pixel is from the background, faint noise cut off.

    Parameters
    ----------
    pictures : ndarray of uint8, shape (n, rows, columns, channels)

    Returns
    -------
    ndarray of float32, shape (n, rows, columns)
        0 to 255.
    """
    count, rows, columns, channels = pictures.shape
    stride = max(1, rows * columns // _SAMPLED)
    some = pictures.reshape(count, -1, channels)[:, ::stride]
    paper = np.median(some, axis=1).astype(np.int16)[:, None, None, :]
    away = np.abs(pictures - paper).max(axis=3).astype(np.float32)
    strongest = away.max(axis=(1, 2), keepdims=True)
    away[away < _FLOOR * strongest] = 0
    return np.asarray(away, np.float32)


def is_blank(inked: np.ndarray) -> bool:
    """Whether `ink` of one picture, shape (rows, columns), shows no trace."""
    return bool(inked.max(initial=0) < BLANK_LEVELS or _box(inked[None])[0, 4] == 0)


def to_plane(inked: np.ndarray, shape: tuple[int, int], *, crop: bool = True) -> np.ndarray:
    """Crop, scale and stretch pictures of one size: steps 4 to 6 of the rule.

    Parameters
    ----------
    inked : ndarray of float32, shape (n, rows, columns)
        From `ink`; none of them blank.
    shape : (int, int)
        Rows and columns of the plane.
    crop : bool
        Whether margins are cut off; else the picture is scaled as a whole.

    Returns
    -------
    ndarray of uint8, shape (n, *shape)
        255 is background, 0 the trace. A blank picture gives a white plane.
    """
    count, rows, columns = inked.shape
    box = np.zeros((count, 5), np.float32)
    if crop:
        box = _box(inked)
    else:
        box[:] = (0, rows, 0, columns, 1)
    top, bottom, left, right = box[:, :4].T
    size = np.minimum(
        shape[0] / np.maximum(bottom - top, 1), shape[1] / np.maximum(right - left, 1)
    )
    down = _area_weights((top + bottom) / 2, shape[0] / size, shape[0], rows)
    across = _area_weights((left + right) / 2, shape[1] / size, shape[1], columns)
    plane = (down @ inked) @ across.transpose(0, 2, 1)
    return np.asarray(np.rint(255 - 255 * _stretched(plane)), np.uint8)


def _box(inked: np.ndarray) -> np.ndarray:
    """Top, bottom, left, right of each picture's trace, and whether it has one (1 or 0)."""
    least = _IN_BOX * _usual_darkness(inked)[:, None, None]
    dark: np.ndarray = np.logical_and(inked >= least, inked > 0)
    box = np.zeros((len(inked), 5), np.float32)
    for axis, start in ((2, 0), (1, 2)):
        lines = np.asarray(dark.any(axis=axis))
        box[:, start] = lines.argmax(axis=1)
        box[:, start + 1] = lines.shape[1] - lines[:, ::-1].argmax(axis=1)
    box[:, 4] = dark.any(axis=(1, 2)) & (box[:, 3] - box[:, 2] >= _LEAST_WIDTH)
    return box


def _usual_darkness(inked: np.ndarray) -> np.ndarray:
    """Median over the columns that hold ink of their darkest pixel, shape (n,)."""
    darkest = np.sort(inked.max(axis=1), axis=1)[:, ::-1]
    held = (darkest > 0).sum(axis=1)
    return np.asarray(darkest[np.arange(len(darkest)), held // 2], np.float32)


def _stretched(plane: np.ndarray) -> np.ndarray:
    usual = np.maximum(_usual_darkness(plane), 1e-6)[:, None, None]
    return np.asarray(np.clip(plane / usual, 0, 1))


def _area_weights(centre: np.ndarray, extent: np.ndarray, cells: int, pixels: int) -> np.ndarray:
    """Share of each source pixel in the mean over each cell, shape (n or 1, cells, pixels).

    Cells divide the stretch of `extent` pixels around `centre` evenly; what lies outside of
    the picture counts as background. One matrix serves all if they are of one layout.
    """
    if len(centre) and (centre == centre[0]).all() and (extent == extent[0]).all():
        centre, extent = centre[:1], extent[:1]
    step = (extent / cells)[:, None]
    low = (centre - extent / 2)[:, None] + step * np.arange(cells, dtype=np.float32)
    at = np.arange(pixels, dtype=np.float32)
    overlap = np.minimum((low + step)[:, :, None], at + 1)
    overlap -= np.maximum(low[:, :, None], at)
    np.clip(overlap, 0, None, out=overlap)
    return np.asarray(overlap / step[:, :, None], np.float32)
