"""The trace of one beat as an image, drawn for many beats at once."""

from __future__ import annotations

from functools import reduce

import numpy as np

from ecgbeats.beats import at_rate, choose_lead, condition, rr_intervals
from ecgbeats.imaging.plane import Draw
from ecgbeats.imaging.spec import WaveformSpec
from ecgbeats.records import Recording

# Points of the trace looked at per column: as many samples as fall on one at usual rates.
_POINTS = 8
# Beats drawn at once: the work arrays then stay within a few megabytes, in cache.
_CHUNK = 256


def drawer(recording: Recording, samples: np.ndarray, spec: WaveformSpec) -> Draw:
    """What draws the beats at `samples` (at the recording's own rate).

    Returns
    -------
    callable
        From a part of `samples` to its images, uint8 (beats of the part, height, width); 255 is
        background, 0 the trace, greys are the share of the pixel that is covered.
    """
    signal = condition(recording, choose_lead(recording, spec.lead), spec.fs)
    centres = at_rate(samples, recording.fs, spec.fs)
    if spec.window == "rr":
        before, after = rr_intervals(np.asarray(samples), recording.fs)
        # At least 100 ms on each side, however short the interval.
        margin = spec.margin_ms / 1000
        start = centres - np.maximum(before - margin, 0.1) * spec.fs
        stop = centres + np.maximum(after - margin, 0.1) * spec.fs
    else:
        start = centres - spec.before_ms / 1000 * spec.fs
        stop = centres + spec.after_ms / 1000 * spec.fs
    rise = np.diff(signal, append=signal[-1:])

    def draw(part: slice) -> np.ndarray:
        first, last = start[part], stop[part]
        images = np.empty((len(first), spec.height, spec.width), np.uint8)
        for i in range(0, len(first), _CHUNK):
            some = slice(i, i + _CHUNK)
            trace = _trace(signal, rise, first[some], last[some], spec.width)
            images[some] = rasterise(trace, spec)
        return images

    return draw


def _trace(
    signal: np.ndarray, rise: np.ndarray, start: np.ndarray, stop: np.ndarray, width: int
) -> np.ndarray:
    """The signal between start and stop at evenly spaced points, linearly interpolated.

    `rise` is from each sample of `signal` to the next.

    Returns
    -------
    ndarray of float32, shape (n, width * 8 + 1)
    """
    share = np.linspace(0, 1, width * _POINTS + 1, dtype=np.float32)
    at = start[:, None] + (stop - start)[:, None] * share
    np.clip(at, 0, len(signal) - 1, out=at)
    left = at.astype(np.intp)
    at -= left
    trace = rise[left]
    trace *= at.astype(np.float32)
    trace += signal[left]
    return np.asarray(trace, np.float32)


def rasterise(trace: np.ndarray, spec: WaveformSpec) -> np.ndarray:
    """Draw traces given in millivolts at `width * 8 + 1` even points.

    A column shows the span from its lowest to its highest value, widened by half the
    stroke on both sides; a pixel is as dark as the share of it that the span covers.
    """
    scale = spec.height / (spec.high_mv - spec.low_mv)
    # Row coordinate from the top; the trace stays inside by half a stroke.
    half = np.float32(spec.stroke / 2)
    y = np.clip((spec.high_mv - trace) * np.float32(scale), half, spec.height - half)
    # The last point of a column is the first of the next: the line has no gaps.
    points = [y[:, k : k + _POINTS * spec.width : _POINTS] for k in range(_POINTS + 1)]
    top = reduce(np.minimum, points) - half
    bottom = reduce(np.maximum, points) + half
    rows = np.arange(spec.height, dtype=np.float32)[None, :, None]
    covered = np.minimum(bottom[:, None, :], rows + 1)
    covered -= np.maximum(top[:, None, :], rows)
    np.clip(covered, 0, 1, out=covered)
    covered *= -255
    covered += 255
    return np.asarray(np.rint(covered, out=covered), np.uint8)
