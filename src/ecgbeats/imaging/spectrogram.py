"""Short-time Fourier transform of the beat, in decibels under the R amplitude."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ecgbeats.beats import windows
from ecgbeats.imaging.plane import Draw, full_grey, panelled
from ecgbeats.imaging.spec import SpectrogramSpec
from ecgbeats.imaging.wavelets import Transform
from ecgbeats.records import Recording


def drawer(recording: Recording, samples: np.ndarray, spec: SpectrogramSpec) -> Draw:
    """What draws the beats at `samples` (at the recording's own rate).

    Returns
    -------
    callable
        From a part of `samples` to its images, uint8 (beats of the part, rows, columns).
        0 is `floor_db` and less, or a lead that is not there; 255 is `ceiling_db` and more.
    """
    transform = fourier_transform(spec)

    def panels(signal: np.ndarray, centres: np.ndarray) -> Draw:
        def grey(part: slice) -> np.ndarray:
            beats = windows(signal, centres[part], transform.before, transform.after)
            # An even signal has no decibels; far under any floor it stays finite.
            level = 20 * np.log10(np.maximum(transform.magnitude(beats), 1e-9))
            share = (level - spec.floor_db) / (spec.ceiling_db - spec.floor_db)
            return full_grey(np.clip(share, 0, 1))

        return grey

    return panelled(recording, samples, spec, panels, empty=0)


@lru_cache(maxsize=4)
def fourier_transform(spec: SpectrogramSpec) -> Transform:
    """The transform at the spec's times and frequencies, as matrices of both parts.

    A column is the time of the middle of a Hann window of `window_ms`, a row a frequency,
    the highest on top. Frames so lie at their times exactly, whatever the sampling rate.
    Scaled so that a sine of amplitude A gives A (and a constant, at 0 Hz, twice its value).
    """
    half = spec.window_ms / 2000
    times = np.linspace(-spec.before_ms, spec.after_ms, spec.width) / 1000
    before = int(np.ceil((spec.before_ms / 1000 + half) * spec.fs))
    after = int(np.ceil((spec.after_ms / 1000 + half) * spec.fs)) + 1
    from_middle = (np.arange(-before, after) / spec.fs)[:, None] - times
    inside = np.abs(from_middle) < half
    hann = np.where(inside, np.cos(np.pi * from_middle / (2 * half)) ** 2, 0.0)
    hann *= 2 / hann.sum(axis=0)
    frequencies = np.linspace(spec.high_hz, spec.low_hz, spec.panel_height)
    phase = 2 * np.pi * frequencies[:, None] * from_middle[:, None, :]
    matrices = tuple(
        (hann[:, None, :] * part).reshape(before + after, -1).astype(np.float32)
        for part in (np.cos(phase), np.sin(phase))
    )
    return Transform(before, after, matrices, (spec.panel_height, spec.width))
