"""RR and morphology values of a beat as one row of grey, for classifiers that want vectors.

So that they pass through the same store, PNG export and service as images do. A value v is
drawn as rint(128 + 127 v), v in -1..1, hence in steps of 1/127; 128 is zero or absent. What
v is:

- rhythm: `ecgbeats.beats.rhythm` (logarithms of RR ratios; irregularity) over 0.8, clipped;
- amplitudes a in units of the recording's R amplitude: a / (|a| + 0.3), never clipped, in
  steps of 0.0024 R at zero and 0.04 R at R;
- logarithms of ratios: over their full scale, clipped.

`feature_values` gives v back. The values follow de Chazal P, O'Dwyer M, Reilly RB. Automatic
classification of heartbeats using ECG morphology and heartbeat interval features. IEEE Trans
Biomed Eng 51(7):1196-1206 (2004): RR intervals, QRS duration, sampled morphology. Theirs need
onset and offset of QRS; ours are defined without, so that they are as good on wide beats.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ecgbeats.beats import RHYTHMS, rhythm, windows
from ecgbeats.imaging.plane import (
    Draw,
    chunks,
    lead_columns,
    lead_in_r_amplitudes,
    median_beat,
    rhythm_levels,
    signed_grey,
    soft,
)
from ecgbeats.imaging.spec import QRS_VALUES, FeaturesSpec
from ecgbeats.records import Recording

# Smoothing under every value, standard deviation of a Gaussian: to about 40 Hz, as far as
# a QRS reaches, so that values hang neither on the sampling rate nor on single samples.
_SMOOTH_S = 0.004
# QRS values are taken within this time of R; half of it for the heights of its peaks.
_QRS_S = 0.12
# Rhythm values that are drawn.
_RHYTHM = RHYTHMS["mean"]
# A slope of one R amplitude in this time is drawn as one R amplitude; QRS has a fifth to one.
_SLOPE_S = 0.005
# An area of one R amplitude over this time likewise.
_AREA_S = 0.1
# QRS width drawn as middle grey, and the factors drawn as full black and white: a narrow
# QRS has about this width by our measure, a wide one 60 to 100 ms.
_TYPICAL_WIDTH_S = 0.03
_WIDTH_FULL = np.log(4)
_RATIO_FULL = np.log(3)


def feature_names(spec: FeaturesSpec) -> list[str]:
    """Names of the columns, in order: rhythm, then for each lead morphology and QRS values.

    "lead1_at_-250ms" is the beat at that time from R, "lead1_diff_at_..." its difference
    from the recording's median beat; the rest are `ecgbeats.imaging.spec.QRS_VALUES`.
    """
    names = list(_RHYTHM)
    for lead in range(1, spec.leads + 1):
        names += [f"lead{lead}_at_{t:+g}ms" for t in _times_ms(spec, spec.points)]
        names += [f"lead{lead}_diff_at_{t:+g}ms" for t in _times_ms(spec, spec.difference_points)]
        names += [f"lead{lead}_{name}" for name in QRS_VALUES]
    return names


def feature_values(images: np.ndarray) -> np.ndarray:
    """The values that are drawn in `images`, uint8 (n, 1, K): float32 (n, K), in -1..1."""
    levels = np.asarray(images).reshape(len(images), -1).astype(np.float32)
    return np.asarray((levels - 128) / np.float32(127))


def drawer(recording: Recording, samples: np.ndarray, spec: FeaturesSpec) -> Draw:
    """What draws the beats at `samples` (at the recording's own rate).

    Returns
    -------
    callable
        From a part of `samples` to its images, uint8 (beats of the part, 1, K); columns as
        `feature_names` says.
    """
    count = len(samples)
    images = np.full((count, *spec.shape), 128, np.uint8)
    if not count:
        return images.__getitem__
    images[:, 0, : len(_RHYTHM)] = rhythm_levels(rhythm(np.asarray(samples), recording.fs))
    leads = lead_columns(recording, spec.lead, spec.leads, spec.second_lead)
    for k, column in enumerate(leads):
        if column is not None:
            signal, centres = lead_in_r_amplitudes(recording, samples, column, spec.fs)
            first = len(_RHYTHM) + k * spec.values_per_lead
            values = morphology(signal, centres, spec)
            images[:, 0, first : first + spec.values_per_lead] = signed_grey(values)
    # A beat takes some hundred bytes: all are drawn at once.
    return images.__getitem__


def morphology(signal: np.ndarray, centres: np.ndarray, spec: FeaturesSpec) -> np.ndarray:
    """Values in -1..1 of every beat of a lead, shape (n, values_per_lead).

    Parameters
    ----------
    signal : ndarray, shape (samples,)
        In units of the recording's R amplitude, at `spec.fs`.
    centres : ndarray of int, shape (n,)
        Where R is.
    """
    reading = _reading(spec)
    typical = median_beat(signal, centres, reading.before, reading.after)
    parts = []
    for part in chunks(0, len(centres)):
        beats = windows(signal, centres[part], reading.before, reading.after)
        away = beats - typical
        distance = np.sqrt(np.mean((away @ reading.qrs) ** 2, axis=1))
        parts.append(
            (
                soft(beats @ reading.points),
                soft(away @ reading.difference_points),
                _qrs(beats, distance, reading, spec.fs),
            )
        )
    points, differences, qrs = (np.concatenate(part) for part in zip(*parts, strict=True))
    return np.hstack([points, differences, _qrs_levels(qrs)])


@lru_cache(maxsize=4)
def upside_down(spec: FeaturesSpec) -> tuple[np.ndarray, np.ndarray]:
    """What becomes of the values of a lead that is inverted.

    Returns
    -------
    source : ndarray of int64, shape (values_per_lead,)
        The value that takes the place of each.
    sign : ndarray of float32, shape (values_per_lead,)
        By what it is then multiplied: lengths, heights and distances stay.
    """
    source, sign = np.arange(spec.values_per_lead), np.ones(spec.values_per_lead, np.float32)
    first = spec.points + spec.difference_points
    sign[:first] = -1
    place = {name: first + k for k, name in enumerate(QRS_VALUES)}
    for name, other in (
        ("qrs_area", "qrs_area"),
        ("highest", "lowest"),
        ("steepest_rise", "steepest_fall"),
    ):
        a, b = place[name], place[other]
        source[[a, b]] = b, a
        sign[[a, b]] = -1
    return source, sign


def _qrs(beats: np.ndarray, distance: np.ndarray, reading: _Reading, fs: float) -> np.ndarray:
    """What `QRS_VALUES` says of windows around R, but for what is relative to other beats.

    Columns: width in s; area, highest, lowest value, steepest rise and fall in R amplitudes;
    height from the lowest to the highest; distance from the median beat.
    """
    near, slope = beats @ reading.qrs, beats @ reading.slope
    # Twice the standard deviation of time under the slope's square: 2.4 standard deviations
    # of a Gaussian wave. Smooth in the signal, where onset and offset jump.
    weight = slope**2
    weight /= np.maximum(weight.sum(axis=1, keepdims=True), 1e-12)
    middle = weight @ reading.times
    spread = weight @ reading.times**2 - middle**2
    width = 2 * np.sqrt(np.maximum(spread, 1e-6))
    core = near[:, np.abs(reading.times) <= _QRS_S / 2 + 1e-9]
    high, low = core.max(axis=1), core.min(axis=1)
    area = near.sum(axis=1) / fs / _AREA_S
    return np.column_stack(
        [width, area, high, low, slope.max(axis=1), slope.min(axis=1), high - low, distance]
    )


def _qrs_levels(values: np.ndarray) -> np.ndarray:
    """Columns of `_qrs` for all beats of a recording as -1..1, in the order of QRS_VALUES."""
    width, area, high, low, rise, fall, height, distance = values.T
    wide = np.log(width / _TYPICAL_WIDTH_S) / _WIDTH_FULL
    wider = np.log(width / np.median(width)) / _RATIO_FULL
    height = np.maximum(height, 1e-3)
    taller = np.log(height / np.median(height)) / _RATIO_FULL
    amplitudes = soft(np.column_stack([area, high, low, rise, fall, distance]))
    ratios = np.clip(np.column_stack([wide, wider, taller]), -1, 1)
    return np.hstack([ratios, amplitudes])


class _Reading:
    """Matrices that read values off windows around R; smoothing is part of them.

    Attributes
    ----------
    points, difference_points : ndarray of float32, shape (before + after, points)
    qrs, slope : ndarray of float32, shape (before + after, len(times))
        Value, and slope in R amplitudes per 5 ms.
    times : ndarray, shape (len(times),)
        Seconds from R.
    """

    def __init__(self, spec: FeaturesSpec) -> None:
        reach = 4 * _SMOOTH_S
        self.before = int(np.ceil((max(spec.before_ms / 1000, _QRS_S) + reach) * spec.fs))
        self.after = int(np.ceil((max(spec.after_ms / 1000, _QRS_S) + reach) * spec.fs)) + 1
        at = np.arange(-self.before, self.after) / spec.fs
        around = round(_QRS_S * spec.fs)
        self.times = (np.arange(-around, around + 1) / spec.fs).astype(np.float32)
        self.points = _smoothed(at, np.array(_times_ms(spec, spec.points)) / 1000)
        self.difference_points = _smoothed(
            at, np.array(_times_ms(spec, spec.difference_points)) / 1000
        )
        self.qrs = _smoothed(at, self.times)
        self.slope = _smoothed_slope(at, self.times) * np.float32(_SLOPE_S)


@lru_cache(maxsize=4)
def _reading(spec: FeaturesSpec) -> _Reading:
    return _Reading(spec)


def _smoothed(at: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Matrix from samples at `at` to their Gaussian mean around `times` (both in seconds)."""
    weight = np.exp(-(((at[:, None] - times) / _SMOOTH_S) ** 2) / 2)
    return np.asarray(weight / weight.sum(axis=0), np.float32)


def _smoothed_slope(at: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Likewise to the slope per second, exact for a straight line."""
    away = at[:, None] - times
    weight = np.exp(-((away / _SMOOTH_S) ** 2) / 2)
    weight /= weight.sum(axis=0)
    away = away - (weight * away).sum(axis=0)
    return np.asarray(weight * away / (weight * away**2).sum(axis=0), np.float32)


def _times_ms(spec: FeaturesSpec, points: int) -> list[float]:
    # To a tenth, for names; zero is added to write no "-0".
    times = np.linspace(-spec.before_ms, spec.after_ms, points)
    return [float(t) for t in np.round(times, 1) + 0.0]
