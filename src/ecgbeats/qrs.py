"""Where the beats of a recording are, if nobody has annotated them.

The detector is SleepECG's, a Pan-Tompkins detector with adaptive thresholds in C (Brunner C,
Hofer F. SleepECG. J Open Source Softw 8(86):5411, 2023; Pan J, Tompkins WJ. IEEE Trans Biomed
Eng 32(3):230-236, 1985). On MIT-BIH's DS1 (window 150 ms, as EC57) it finds 98.9 % of the beats,
98.6 % of what it finds are beats, in 0.03 s a record of half an hour; XQRS of the WFDB package:
98.7 %, 98.6 % and 3.4 s.
"""

from __future__ import annotations

import numpy as np
from sleepecg.heartbeats import detect_heartbeats

from ecgbeats.beats import at_rate, condition, windows
from ecgbeats.errors import DataError
from ecgbeats.records import Recording

# Pan and Tompkins' band ends at 30 Hz; less than this, and nothing of a QRS complex is left.
LEAST_FS, LEAST_SECONDS = 80.0, 2.0
# The detector's own rates; others are brought into this range.
_MOST_FS, _USUAL_FS = 1000.0, 360.0
# It marks slopes; annotators mark the peak. Within 20 ms of each other on DS1: 93 % as they
# come, 98 % when moved to the largest deflection within this time.
_TO_PEAK_S = 0.06
# Mirrored before the start, for the detector to learn its thresholds on: of
# the beats of the first ten seconds of DS1's records it misses 1 of 285, else 11.
_LEARN_S = 3.0
# What it finds of less than this share of the usual height, searching back through pauses and at
# the mirror's seam, is no beat.
_LOW = 0.1
# No ventricle answers faster.
_REFRACTORY_S = 0.15
# A signal that moves less than this has no beats: noise of a converter.
_FLAT_MV = 0.01


def detect_beats(recording: Recording, lead: int) -> np.ndarray:
    """Positions of the beats in one lead, at the recording's own rate, increasing.

    Returns
    -------
    ndarray of int64, shape (beats,)
        Empty for a lead that stands still.

    Raises
    ------
    DataError
        The recording is too short, too coarse, or has no valid sample.
    """
    if recording.fs < LEAST_FS:
        raise DataError(f"expected at least {LEAST_FS:g} Hz to find beats, got {recording.fs:g} Hz")
    if recording.seconds < LEAST_SECONDS:
        raise DataError(
            f"expected at least {LEAST_SECONDS:g} s to find beats, got {recording.seconds:.2f} s"
        )
    fs = recording.fs if recording.fs <= _MOST_FS else _USUAL_FS
    signal = condition(recording, lead, fs)
    if not np.ptp(signal) > _FLAT_MV:
        return np.zeros(0, np.int64)
    # Of its own filter's making it finds a little more than after our removal of the baseline.
    raw = _bridged(recording.signal[:, lead]) if fs == recording.fs else signal
    lead_in = min(round(_LEARN_S * fs), len(raw) - 1)
    mirrored = np.pad(raw.astype(np.float64), (lead_in, 0), mode="reflect")
    found = np.asarray(detect_heartbeats(mirrored, fs), np.int64) - lead_in
    found = found[(found >= 0) & (found < len(raw))]
    if len(found) == 0:
        return found
    reach = round(_TO_PEAK_S * fs)
    near = np.abs(windows(signal, found, reach, reach + 1))
    moved, heights = found + near.argmax(axis=1) - reach, near.max(axis=1)
    moved = moved[heights >= _LOW * np.median(heights)]
    at = np.rint(moved / at_rate(np.ones(1), recording.fs, fs)[0]).astype(np.int64)
    at = np.unique(np.clip(at, 0, len(recording.signal) - 1))
    apart = np.diff(at, prepend=-len(recording.signal)) >= _REFRACTORY_S * recording.fs
    return np.asarray(at[apart])


def _bridged(signal: np.ndarray) -> np.ndarray:
    valid = np.flatnonzero(np.isfinite(signal))
    return np.asarray(np.interp(np.arange(len(signal)), valid, signal[valid]))
