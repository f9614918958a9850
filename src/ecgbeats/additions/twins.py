"""Recordings of the same heartbeats, whatever they are called and however they were resampled.

The sequence of RR intervals, in milliseconds, is as good as a name: another sampling rate, gain,
lead, cut or file format leaves it as it is. Of each record the stretches with the most uneven
rhythm are looked up among the stretches of all others; where one is found, half a minute on
either side is laid beat on beat. A rhythm without any variation (a pacemaker's) is nobody's
fingerprint: such records can be told only by their bytes.

Chosen on DS1 of MIT-BIH (docs/data.md): of 22 records, 176 of 176 copies are found (at 128, 250
and 500 Hz, cut to five minutes, with 2 % of beats left out, with annotations moved by 5 and by
10 ms), and of the 231 pairs of different records none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

# Intervals in a stretch that is looked up; how far each may be off, in milliseconds.
_STRETCH = 8
_TOLERANCE_MS = 25.0
# Stretches of a record that are looked up: the most uneven ones, and two in each part of it.
_LOOKED_UP, _PARTS = 8, 32
# Below this a stretch is too even to be told from another: standard deviation of steps.
_UNEVEN_MS = 8.0
# Found stretches that are laid beat on beat, for each that is looked up.
_CANDIDATES = 64
# Laid beat on beat: seconds on either side, and how far a beat may be off.
_AROUND_S = 30.0
_OFF_S = 0.04
_BEATS_AROUND = 20
# Beats that must meet, and how their intervals must correlate (Pearson).
MATCHED, CORRELATED = 0.85, 0.8


@dataclass(frozen=True)
class Twin:
    """Two records of the same heartbeats.

    Attributes
    ----------
    record, of : str
    matched : float
        Share of beats that meet where the records are laid on each other.
    correlation : float
        Of the RR intervals there.
    offset_s : float
        Time in `of` less time in `record`.
    """

    record: str
    of: str
    matched: float
    correlation: float
    offset_s: float


class Rhythms:
    """Beat times of records, to look other records up in.

    Parameters
    ----------
    times : mapping of str to ndarray, shape (beats,)
        Beat times in seconds, increasing, by record.
    """

    def __init__(self, times: Mapping[str, np.ndarray]) -> None:
        self._times = {name: np.asarray(each, float) for name, each in times.items()}
        self._names = [name for name, each in self._times.items() if len(each) > _STRETCH]
        stretches = [_stretches(self._times[name]) for name in self._names]
        self._owner = np.repeat(np.arange(len(stretches)), [len(each) for each in stretches])
        self._place = np.concatenate(
            [np.arange(len(each)) for each in stretches] or [np.zeros(0, np.int64)]
        )
        self._tree = cKDTree(np.concatenate(stretches)) if stretches else None

    def twin_of(self, name: str, times: np.ndarray) -> Twin | None:
        """The record that has the heartbeats of `times` best, or None; never `name` itself.

        Parameters
        ----------
        name : str
            What the record is called.
        times : ndarray, shape (beats,)
            Beat times in seconds, increasing.
        """
        times = np.asarray(times, float)
        if self._tree is None or len(times) <= _STRETCH:
            return None
        stretches = _stretches(times)
        best: Twin | None = None
        for i in _uneven(stretches):
            _, found = self._tree.query(
                stretches[i], k=_CANDIDATES, p=np.inf, distance_upper_bound=_TOLERANCE_MS
            )
            for k in np.atleast_1d(found)[found < len(self._owner)]:
                other = self._names[self._owner[k]]
                if other == name:
                    continue
                theirs = self._times[other]
                matched, correlation = laid_on(times, i, theirs, int(self._place[k]))
                if matched < MATCHED or correlation < CORRELATED:
                    continue
                if best is None or (matched, correlation) > (best.matched, best.correlation):
                    offset = float(theirs[int(self._place[k])] - times[i])
                    best = Twin(name, other, matched, correlation, offset)
            if best is not None:
                break
        return best


def laid_on(times: np.ndarray, i: int, theirs: np.ndarray, j: int) -> tuple[float, float]:
    """Share of beats that meet around beat `i` laid on beat `j`, and how their RR correlate.

    Both are 0 where there are too few beats to tell.
    """
    moved = times - times[i] + theirs[j]
    first = max(theirs[j] - _AROUND_S, moved[0], theirs[0]) - _OFF_S
    last = min(theirs[j] + _AROUND_S, moved[-1], theirs[-1]) + _OFF_S
    ours = moved[(moved >= first) & (moved <= last)]
    other = theirs[(theirs >= first) & (theirs <= last)]
    if min(len(ours), len(other)) < _BEATS_AROUND:
        return 0.0, 0.0
    right = np.clip(np.searchsorted(other, ours), 1, len(other) - 1)
    nearest = np.where(ours - other[right - 1] < other[right] - ours, right - 1, right)
    meets = np.abs(other[nearest] - ours) <= _OFF_S
    matched = float(meets.sum()) / max(len(ours), len(other))
    # Intervals between two beats in a row that meet two beats in a row.
    both = meets[1:] & meets[:-1] & (np.diff(nearest) == 1)
    rr, rr_other = np.diff(ours)[both], np.diff(other[nearest])[both]
    if both.sum() < _BEATS_AROUND // 2 or not rr.std() or not rr_other.std():
        return matched, 0.0
    return matched, float(np.corrcoef(rr, rr_other)[0, 1])


def _stretches(times: np.ndarray) -> np.ndarray:
    """RR intervals in milliseconds from each beat on, shape (beats - stretch, stretch)."""
    rr = np.diff(times) * 1000
    return np.lib.stride_tricks.sliding_window_view(rr, _STRETCH)


def _uneven(stretches: np.ndarray) -> list[int]:
    """Stretches to look up: the most uneven of all, then the most uneven of each part.

    A beat that one annotator left out makes a stretch the most uneven one of the record, and
    there is no other like it; so it must not be the rhythm's few strangest places alone.
    """
    spread = np.diff(stretches, axis=1).std(axis=1)
    chosen = [int(i) for i in np.argsort(-spread, kind="stable")[:_LOOKED_UP]]
    parts = np.array_split(np.arange(len(stretches)), min(_PARTS, len(stretches)))
    for part in parts:
        order = part[np.argsort(-spread[part], kind="stable")]
        # The middle one of the uneven half: uneven, and not for want of a beat.
        chosen += [int(order[0]), int(order[len(order) // 4])]
    return [i for i in dict.fromkeys(chosen) if spread[i] >= _UNEVEN_MS]
