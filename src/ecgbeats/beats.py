"""From a recording to its beats: conditioned signal, windows around R, rhythm."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from scipy.ndimage import median_filter
from scipy.signal import resample_poly

from ecgbeats.errors import DataError
from ecgbeats.records import Recording

# Baseline estimators of de Chazal et al. 2004: a median filter of 200 ms takes out QRS
# and P, one of 600 ms the T wave; what is left is the baseline.
_QRS_MEDIAN_S, _T_MEDIAN_S = 0.2, 0.6
# The baseline is slow; it is estimated at about this rate and interpolated.
_BASELINE_HZ = 90.0
# Samples interpolated at once: in double precision a day of them takes a gigabyte.
_AT_ONCE = 1 << 20

_PEAK_S = 0.02

# Names of the columns of `rhythm`, by what intervals are compared with.
RHYTHMS = {
    "mean": ("pre_rr", "post_rr", "pre_rr_local", "pre_rr_step", "local_rr", "rr_spread"),
    "quantiles": (
        "pre_rr_20",
        "pre_rr_60",
        "pre_rr_90",
        "post_rr_20",
        "post_rr_60",
        "post_rr_90",
        "local_rr",
        "pre_rr_local",
        "pre_rr_step",
        "irregular_5",
        "irregular_10",
        "irregular_20",
    ),
}
# Percentiles of a recording's RR intervals that "quantiles" compares with. Ectopic beats come
# early: the 60th is sinus rhythm's interval where they are few, and not a pause's in bigeminy;
# where they are many, sinus rhythm shows in the longest, and a fast rhythm in the shortest.
# Chosen on DS1, on whole records, on cuts of two minutes and on records thinned out until most
# beats are supraventricular.
PERCENTILES = (20, 60, 90)
# Which percentile a value is relative to, by column; the others hang on none.
RELATIVE_TO = {20: (0, 3), 60: (1, 4, 6), 90: (2, 5)}
_LOCAL_BEATS = 10
# Spread of RR intervals that is drawn as middle grey. Measured, 10th to 90th percentile: 0.02
# to 0.10 in sinus rhythm (MIT-BIH 101, 112, 122), 0.43 to 0.74 in atrial fibrillation (203),
# where an early beat says little.
_TYPICAL_SPREAD = 0.1
# How irregular the rhythm is: of so many on either side, how many steps from one ln RR
# to the next are larger than these; softly, so that no step lies on an edge.
_AROUND_STEPS = 29
_STEPS = (0.05, 0.1, 0.2)

# How recorders write a lead's name around the name itself: "Lead II", "MDC_ECG_LEAD_II", "DII".
_AROUND_NAME = re.compile(r"^(MDC[ _-]+)?(ECG[ _-]+)?(LEAD[ _-]*)?|[ _-]+")


def choose_lead(recording: Recording, names: Sequence[str]) -> int:
    """Column of the lead to use: the first of `names` that is there, else 0.

    Case, and what recorders write around a name ("Lead II", "MDC_ECG_LEAD_II", "DII"), do not
    count.
    """
    have = [lead_name(lead) for lead in recording.leads]
    for name in names:
        if lead_name(name) in have:
            return have.index(lead_name(name))
    return 0


def lead_name(written: str) -> str:
    """A lead's name without what recorders write around it, in capitals."""
    upper = written.strip().upper()
    bare = _AROUND_NAME.sub("", upper)
    # The Latin "derivation" of limb leads: DI, DII, DIII, D2.
    limb = re.fullmatch(r"D(I{1,3}|[123])", bare)
    roman = {"1": "I", "2": "II", "3": "III"}
    if limb:
        return roman.get(limb[1], limb[1])
    return bare or upper


def condition(recording: Recording, lead: int, fs: float) -> np.ndarray:
    """One lead at `fs` Hz, gaps bridged, baseline removed.

    Returns
    -------
    ndarray of float32, shape (samples,)
        Millivolts.

    Raises
    ------
    DataError
        The lead has no valid sample.
    """
    signal = np.asarray(recording.signal[:, lead], np.float32)
    missing = ~np.isfinite(signal)
    if missing.all():
        raise DataError(f"record {recording.name}, lead {recording.leads[lead]}: no valid sample")
    if missing.any():
        index = np.arange(len(signal))
        signal = np.interp(index, index[~missing], signal[~missing]).astype(np.float32)
    ratio = _ratio(recording.fs, fs)
    if ratio != 1:
        # Padding by the edge value: zeros would put a step at both ends.
        signal = resample_poly(signal, ratio.numerator, ratio.denominator, padtype="line")
    return np.asarray(signal - baseline(signal, fs), np.float32)


def _ratio(fs: float, wanted: float) -> Fraction:
    return Fraction(wanted / fs).limit_denominator(1000)


def at_rate(samples: np.ndarray, fs: float, wanted: float) -> np.ndarray:
    """Where `samples`, at `fs` Hz, are in what `condition` makes of the signal, unrounded.

    By the ratio that resampling has: it differs a little from the rates' own at odd ones, and
    half an hour adds up.
    """
    return np.asarray(samples, float) * float(_ratio(fs, wanted))


def peaks(signal: np.ndarray, centres: np.ndarray, fs: float) -> np.ndarray:
    """The largest deflection within 20 ms of each centre: the same beat, the same place.

    Annotators and detectors differ by some milliseconds, and other sampling rates round
    positions otherwise; a beat's image should not.

    Returns
    -------
    ndarray of int64, shape (len(centres),)
    """
    reach = round(_PEAK_S * fs)
    around = np.abs(windows(signal, centres, reach, reach + 1))
    moved = np.asarray(centres) + around.argmax(axis=1) - reach
    return np.asarray(np.clip(moved, 0, len(signal) - 1), np.int64)


def baseline(signal: np.ndarray, fs: float) -> np.ndarray:
    """Baseline wander by two median filters (de Chazal et al. 2004), shape (samples,)."""
    step = max(1, round(fs / _BASELINE_HZ))
    # The mean over a block, not one sample of it: no aliasing of noise into the baseline.
    padded = np.pad(signal, (0, -len(signal) % step), mode="edge")
    coarse = padded.reshape(-1, step).mean(axis=1)
    rate = fs / step
    for seconds in (_QRS_MEDIAN_S, _T_MEDIAN_S):
        coarse = median_filter(coarse, round(seconds * rate) | 1, mode="nearest")
    centres = np.arange(len(coarse)) * step + (step - 1) / 2
    out = np.empty(len(signal), np.float32)
    for start in range(0, len(signal), _AT_ONCE):
        at = np.arange(start, min(start + _AT_ONCE, len(signal)))
        out[at[0] : at[-1] + 1] = np.interp(at, centres, coarse)
    return out


def windows(signal: np.ndarray, centres: np.ndarray, before: int, after: int) -> np.ndarray:
    """Samples from `before` before to `after` after each centre, ends held at the edges.

    Returns
    -------
    ndarray, shape (len(centres), before + after)
    """
    offsets = np.arange(-before, after)
    index = np.clip(np.asarray(centres)[:, None] + offsets, 0, len(signal) - 1)
    return np.asarray(signal[index])


def rr_intervals(samples: np.ndarray, fs: float) -> tuple[np.ndarray, np.ndarray]:
    """Interval before and after each beat in seconds; the median where there is no neighbour.

    A recording of one beat has no interval; both are 1 s then (60 beats per minute).
    """
    if len(samples) < 2:
        return np.ones(len(samples)), np.ones(len(samples))
    rr = np.maximum(np.diff(samples), 1) / fs
    typical = float(np.median(rr))
    return np.concatenate([[typical], rr]), np.concatenate([rr, [typical]])


def rhythm(samples: np.ndarray, fs: float, against: str = "mean") -> np.ndarray:
    """How each beat stands in the rhythm of its recording.

    Ratios to the recording's own intervals, not seconds: a beat is premature by comparison,
    whatever the heart rate. In atrial fibrillation being early says little, so that it is also
    told how even the intervals around are; bigeminy is as uneven as fibrillation by this.

    Parameters
    ----------
    samples : ndarray of int, shape (n,)
        Positions of all beats of the recording, increasing.
    fs : float
        Their sampling frequency in Hz.
    against : {"mean", "quantiles"}
        What intervals are compared with: the mean of the recording's RR intervals, or their
        20th, 60th and 90th percentiles.

    Returns
    -------
    ndarray of float32, shape (n, len(RHYTHMS[against]))
        With "mean", ln of: RR before / mean; RR after / mean; RR before / mean of the ten RR
        before it; RR before / the RR before that; mean of the last ten RR / mean; and 0.4 ln
        of the range from the 20th to the 80th percentile of ln RR over ten beats on either
        side, by 0.1. With "quantiles", ln of: RR before / each percentile; RR after / each;
        mean of the last ten RR / 60th percentile; RR before / mean of the ten RR before it;
        RR before / the RR before that; and, for 5, 10 and 20 %, the share of steps between
        successive ln RR that are larger, less a half, over 29 steps on either side of the
        three that this beat makes. The recording's own intervals and the RR after the beat
        need the recording and beat positions, not labels.
    """
    before, after = rr_intervals(samples, fs)
    if not len(before):
        return np.zeros((0, len(RHYTHMS[against])), np.float32)
    mean = float(np.mean(before))
    total = np.concatenate([[0.0], np.cumsum(before)])
    index = np.arange(len(before))
    first = np.maximum(index - _LOCAL_BEATS, 0)
    local = (total[index] - total[first]) / np.maximum(index - first, 1)
    previous = np.concatenate([[before[0]], before[:-1]])
    if against == "mean":
        local[0] = mean
        ratios = [before / mean, after / mean, before / local, before / previous, local / mean]
        return np.column_stack([*np.log(ratios), _spread(before)]).astype(np.float32)
    low, usual, high = np.percentile(before, PERCENTILES)
    local[0] = usual
    ratios = [before / low, before / usual, before / high, after / low, after / usual, after / high]
    ratios += [local / usual, before / local, before / previous]
    return np.column_stack([*np.log(ratios), _irregular(before) - 0.5]).astype(np.float32)


def _spread(rr: np.ndarray) -> np.ndarray:
    reach = min(_LOCAL_BEATS, (len(rr) - 1) // 2)
    logs = np.pad(np.log(rr), reach, mode="reflect")
    around = np.lib.stride_tricks.sliding_window_view(logs, 2 * reach + 1)
    low, high = np.percentile(around, [20, 80], axis=1)
    # The addend keeps an even rhythm finite.
    return np.asarray(0.4 * np.log((high - low + 0.01) / _TYPICAL_SPREAD))


def _irregular(rr: np.ndarray) -> np.ndarray:
    """Share of steps around each beat that exceed each of `_STEPS`, shape (n, len(_STEPS))."""
    # Step k leads to the RR before beat k; nothing is known before the second beat.
    steps = np.full(len(rr) + 2 * _AROUND_STEPS + 2, np.nan)
    steps[_AROUND_STEPS + 2 : _AROUND_STEPS + len(rr)] = np.abs(np.diff(np.log(rr[1:])))
    around = np.lib.stride_tricks.sliding_window_view(steps, 2 * _AROUND_STEPS + 3)
    # An early or late beat makes three steps: to its RR, to the next and to the one after.
    others = np.delete(around, np.s_[_AROUND_STEPS : _AROUND_STEPS + 3], axis=1)
    known = np.maximum(np.isfinite(others).sum(axis=1), 1)
    squares = np.nan_to_num(others) ** 2
    shares = [(squares / (squares + step**2)).sum(axis=1) / known for step in _STEPS]
    return np.column_stack(shares)
