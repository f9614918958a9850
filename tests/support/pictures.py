"""Plain pictures of beats, as other projects draw them, and folders of them."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image

# Class folder: sign and width of its QRS complex.
FOLDERS = {"Normal": (1.0, 3.0), "Wide": (1.0, 9.0), "Inverted": (-1.0, 6.0)}


def picture(
    folder: str = "Normal",
    seed: int = 0,
    *,
    size: tuple[int, int] = (96, 144),
    margin: int = 12,
    thick: float = 1.0,
) -> np.ndarray:
    """A thin dark trace on white, uint8 (rows, columns), different for each seed."""
    sign, wide = FOLDERS[folder]
    rng = np.random.default_rng([seed, len(folder)])
    height, width = size[0] - 2 * margin, size[1] - 2 * margin
    at = np.linspace(-50, 50, width)
    shift, wave, t_wave = rng.normal(0, 3), rng.uniform(0.5, 0.9), rng.uniform(0.1, 0.3)
    trace = sign * wave * np.exp(-((at - shift) ** 2) / (2 * wide**2))
    trace += t_wave * np.exp(-((at - 30 - 2 * shift) ** 2) / 60) + 0.02 * rng.normal(size=width)
    rows = np.arange(height)[:, None] + 0.5
    line = height * (0.55 - 0.5 * trace)
    # From one column to the next, so that steep parts have no gaps.
    low, high = np.minimum(line, np.roll(line, 1)), np.maximum(line, np.roll(line, 1))
    low[0] = high[0] = line[0]
    away = np.maximum(np.maximum(low - rows, rows - high), 0)
    drawn = 255 - 170 * np.clip(thick - away, 0, 1)
    return np.pad(np.rint(drawn).astype(np.uint8), margin, constant_values=255)


def as_png(pixels: np.ndarray, **save: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **save)
    return buffer.getvalue()


def as_jpeg(pixels: np.ndarray, quality: int = 90, **save: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, **save)
    return buffer.getvalue()


def exif(turn: int, *odd: tuple[int, int, int, int]) -> bytes:
    """EXIF that says how a picture is turned, and tags of (tag, type, count, value) after that."""
    entries = [struct.pack(">HHIHH", 0x0112, 3, 1, turn, 0)]
    entries += [struct.pack(">HHII", *entry) for entry in odd]
    head = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, len(entries))
    return head + b"".join(entries) + bytes(4)


def write_folders(root: Path, each: int, *, part: str = "train", first: int = 0) -> None:
    """`root`/`part`/<class>/fig_<seed>.png, `each` of every class."""
    for folder in FOLDERS:
        (root / part / folder).mkdir(parents=True)
        for seed in range(first, first + each):
            path = root / part / folder / f"fig_{seed}.png"
            path.write_bytes(as_png(picture(folder, seed)))
