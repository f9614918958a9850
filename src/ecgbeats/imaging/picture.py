"""Beats of a recording as plain pictures: a thin trace, brought to the plane as any other."""

from __future__ import annotations

import numpy as np

from ecgbeats.beats import at_rate, choose_lead, condition
from ecgbeats.imaging.pixels import ink, to_plane
from ecgbeats.imaging.plane import Draw
from ecgbeats.imaging.spec import PictureSpec, WaveformSpec
from ecgbeats.imaging.waveform import rasterise
from ecgbeats.records import Recording

# Drawn larger than the plane, as pictures from elsewhere are, and with a line as thin.
_ENLARGED = 2
_STROKE = 1.3
# Rows drawn beyond either edge and cut off: a trace that leaves the frame is not seen.
_BEYOND = 2
# Points of the trace looked at per column (as `waveform.rasterise` wants them).
_POINTS = 8
_CHUNK = 128


def drawer(recording: Recording, samples: np.ndarray, spec: PictureSpec) -> Draw:
    """What draws the beats at `samples` (at the recording's own rate), each by itself.

    Returns
    -------
    callable
        From a part of `samples` to its images, uint8 (beats of the part, height, width); 255 is
        background, 0 the trace.
    """
    if not len(samples):
        return np.empty((0, *spec.shape), np.uint8).__getitem__
    signal = condition(recording, choose_lead(recording, spec.lead), spec.fs)
    frame = _frame(spec)
    offsets = np.linspace(
        -spec.before_ms / 1000 * spec.fs,
        spec.after_ms / 1000 * spec.fs,
        frame.width * _POINTS + 1,
        dtype=np.float32,
    )
    centres = at_rate(samples, recording.fs, spec.fs)

    def draw(part: slice) -> np.ndarray:
        own = centres[part]
        images = np.empty((len(own), *spec.shape), np.uint8)
        for i in range(0, len(own), _CHUNK):
            some = slice(i, i + _CHUNK)
            drawn = rasterise(_values(signal, own[some, None] + offsets), frame)
            inked = ink(drawn[:, _BEYOND:-_BEYOND, :, None])
            images[some] = to_plane(inked, spec.shape, crop=spec.crop)
        return images

    return draw


def _values(signal: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The signal at fractional positions, linearly interpolated, held at both ends."""
    at = np.clip(at, 0, len(signal) - 1)
    left = at.astype(np.int64)
    weight = (at - left).astype(np.float32)
    right = np.minimum(left + 1, len(signal) - 1)
    return np.asarray(signal[left] * (1 - weight) + signal[right] * weight, np.float32)


def _frame(spec: PictureSpec) -> WaveformSpec:
    """The drawing's frame: that of the spec, enlarged, with the rows beyond its edges."""
    height = _ENLARGED * spec.height
    beyond = _BEYOND * (spec.high_mv - spec.low_mv) / height
    return WaveformSpec(
        representation="waveform",
        height=height + 2 * _BEYOND,
        width=_ENLARGED * spec.width,
        low_mv=spec.low_mv - beyond,
        high_mv=spec.high_mv + beyond,
        stroke=_STROKE,
    )
