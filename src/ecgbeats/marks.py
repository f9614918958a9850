"""Where beats are marked, by whomever: brought to R, where the training database marks them.

Databases mark another place of the QRS (its onset, the middle, the peak of a band-passed
signal), and a network that learnt beats centred on R answers others badly: on recordings of
MIT-BIH whose marks are moved by 60 ms, macro-F1 falls by a fifth (docs/records-from-elsewhere.md).
"""

from __future__ import annotations

import numpy as np

from ecgbeats.beats import at_rate, condition, windows
from ecgbeats.records import Recording

# R is looked for within this time of a mark. Half a QRS complex that is wide: the T wave and
# the next beat are farther.
_REACH_S = 0.08
# Of MIT-BIH's own marks in DS1, lead MLII, the median distance to the largest deflection is at
# most 6 ms in each record, and the spread (of the middle half, as a standard deviation) 4 ms.
_USUAL_OFFSET_S = 0.010
_USUAL_SPREAD_S = 0.007
# Of fewer beats the median says nothing of where marks are put.
_FEWEST = 8
_HZ = 360.0
_BEATS = 4000
# Of a normal distribution, standard deviation over median absolute deviation.
_DEVIATIONS = 1.4826


def at_r(recording: Recording, lead: int, samples: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Marks of beats, brought to R where they are elsewhere; and what was done, in words.

    Marks that are all early or late by about the same are moved by the median; marks that are
    scattered are moved each to the largest deflection near. Those as near to R as the training
    database's are left as they are, so that one wide or inverted beat is not moved for itself.

    Parameters
    ----------
    recording : Recording
    lead : int
        Column of the lead in which R is looked for.
    samples : ndarray of int, shape (n,)
        Increasing, at the recording's own rate.

    Returns
    -------
    samples : ndarray of int64, shape (n,)
        Not decreasing.
    remarks : list of str
    """
    samples = np.asarray(samples, np.int64)
    if len(samples) < _FEWEST:
        return samples, []
    signal = np.abs(condition(recording, lead, _HZ))
    marks = np.rint(at_rate(samples, recording.fs, _HZ)).astype(np.int64)
    reach = round(_REACH_S * _HZ)
    away = np.concatenate(
        [
            windows(signal, marks[k : k + _BEATS], reach, reach + 1).argmax(axis=1) - reach
            for k in range(0, len(marks), _BEATS)
        ]
    )
    offset = float(np.median(away)) / _HZ
    spread = _DEVIATIONS * float(np.median(np.abs(away - np.median(away)))) / _HZ
    if spread > _USUAL_SPREAD_S:
        moved, words = away / _HZ, f"marks of beats scatter by {1000 * spread:.0f} ms about R"
    elif abs(offset) > _USUAL_OFFSET_S:
        side = "before" if offset > 0 else "after"
        moved = np.full(len(samples), offset)
        words = f"beats are marked {1000 * abs(offset):.0f} ms {side} R"
    else:
        return samples, []
    at = samples + np.rint(moved * recording.fs).astype(np.int64)
    at = np.clip(np.maximum.accumulate(at), 0, len(recording.signal) - 1)
    return at, [f"{words}: drawn at R"]
