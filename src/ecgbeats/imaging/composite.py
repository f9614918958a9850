"""Wavelet panels over a rhythm strip: the beat's shape and its place in the rhythm."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ecgbeats.beats import RHYTHM, choose_lead, condition, rhythm, windows
from ecgbeats.imaging.spec import CompositeSpec
from ecgbeats.records import Recording

# The Mexican hat is below 1e-6 of its peak beyond six standard deviations; four keep
# all but 0.3 % of its weight and a third of the window.
_SUPPORT = 4.0
# A transform value (in units of the recording's R amplitude) that is drawn halfway from
# grey to black or white. Small waves (P, about a tenth of R) so keep twenty grey levels.
_HALF_LEVEL = 0.3
# Logarithm of an RR ratio drawn as full black or white: a factor of 2.2.
_RHYTHM_FULL = 0.8
# R amplitude: largest deflection within this time of R.
_PEAK_S = 0.06
# Beats from which the median beat is taken, evenly spread over the recording.
_MEDIAN_BEATS = 400
_CHUNK = 1024


def draw(recording: Recording, samples: np.ndarray, spec: CompositeSpec) -> np.ndarray:
    """Draw the beats at `samples` (at the recording's own rate).

    Returns
    -------
    ndarray of uint8, shape (n, rows, columns)
    """
    count = len(samples)
    images = np.empty((count, *spec.shape), np.uint8)
    if not count:
        return images
    signal = condition(recording, choose_lead(recording, spec.lead), spec.fs)
    centres = np.rint(np.asarray(samples) * (spec.fs / recording.fs)).astype(np.int64)
    before, after, matrix = _transform(spec)
    typical = np.unique(np.linspace(0, count - 1, min(count, _MEDIAN_BEATS)).astype(int))
    amplitude = _r_amplitude(signal, centres, spec.fs)
    median_beat = np.median(windows(signal, centres[typical], before, after), axis=0)
    reference = median_beat.astype(np.float32) / amplitude @ matrix
    for i in range(0, count, _CHUNK):
        part = slice(i, i + _CHUNK)
        beat = windows(signal, centres[part], before, after) / amplitude @ matrix
        for k, panel in enumerate(spec.panels):
            # The transform is linear: that of a difference is the difference.
            values = beat if panel == "beat" else beat - reference
            rows = slice(k * spec.panel_height, (k + 1) * spec.panel_height)
            images[part, rows] = _grey(values / (np.abs(values) + np.float32(_HALF_LEVEL))).reshape(
                -1, spec.panel_height, spec.width
            )
    images[:, len(spec.panels) * spec.panel_height :] = strip(
        rhythm(np.asarray(samples), recording.fs), spec
    )
    return images


def strip(values: np.ndarray, spec: CompositeSpec) -> np.ndarray:
    """Paint rhythm values, shape (n, len(RHYTHM)), as blocks of even grey side by side."""
    levels = _grey(np.clip(values / _RHYTHM_FULL, -1, 1))
    image = np.full((len(values), spec.strip_height, spec.width), 128, np.uint8)
    block = spec.width // len(RHYTHM)
    image[:, :, : block * len(RHYTHM)] = np.repeat(levels, block, axis=1)[:, None, :]
    return image


def _grey(values: np.ndarray) -> np.ndarray:
    """Values in -1..1 as grey levels 1..255, zero as 128."""
    return np.asarray(np.rint(128 + 127 * values), np.uint8)


def _r_amplitude(signal: np.ndarray, centres: np.ndarray, fs: float) -> np.float32:
    """Median over beats of the largest deflection near R, in mV; never zero."""
    reach = round(_PEAK_S * fs)
    peaks = np.abs(windows(signal, centres, reach, reach + 1)).max(axis=1)
    return np.float32(max(float(np.median(peaks)), 1e-3))


@lru_cache(maxsize=4)
def _transform(spec: CompositeSpec) -> tuple[int, int, np.ndarray]:
    """Samples needed before and after R, and the wavelet transform of them as a matrix.

    The transform of a window at fixed times and scales is linear, hence one matrix,
    shape (before + after, panel_height * width), and one matrix product for all beats.
    """
    scales = np.geomspace(spec.finest_ms, spec.coarsest_ms, spec.panel_height) / 1000
    times = np.linspace(-spec.before_ms, spec.after_ms, spec.width) / 1000
    reach = _SUPPORT * spec.coarsest_ms / 1000
    before = int(np.ceil((spec.before_ms / 1000 + reach) * spec.fs))
    after = int(np.ceil((spec.after_ms / 1000 + reach) * spec.fs)) + 1
    at = np.arange(-before, after) / spec.fs
    u = (at[:, None, None] - times) / scales[:, None]
    # Scaled so that the positive lobe of the wavelet has area one: the value is then
    # about the height of a wave as wide as the lobe.
    lobe = 2 * np.exp(-0.5)
    hat = np.where(np.abs(u) < _SUPPORT, (1 - u**2) * np.exp(-(u**2) / 2) / lobe, 0.0)
    matrix = hat / (scales[:, None] * spec.fs)
    return before, after, matrix.reshape(len(at), -1).astype(np.float32)
