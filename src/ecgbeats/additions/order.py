"""Whether labels are in the order that hearts have, record by record. No model is asked.

Three things hold of nearly every record, whoever annotated it: a beat of ventricular origin is
less like the record's dominant beat than a sinus beat is, and comes earlier; a supraventricular
ectopic beat comes earlier than a sinus beat, and is more like the dominant beat than a
ventricular one. Each is told as a probability: that of two beats drawn at random, one of each
kind, the first is the more unlike, or the earlier. Two kinds whose labels were exchanged have
one less that probability. docs/data.md has what DS1 of MIT-BIH shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.ndimage import median_filter
from scipy.stats import rankdata

from ecgbeats.beats import at_rate, choose_lead, condition, peaks, windows
from ecgbeats.datasets import Manifest, RecordEntry
from ecgbeats.errors import DataError
from ecgbeats.parallel import parallel_map
from ecgbeats.records import BEAT_SYMBOLS, Recording, in_order, read_annotations, read_recording

# Kinds of beats by their symbols, whatever classes a protocol makes of them (EC57, with j and
# e among the sinus beats). Paced and fusion beats have no place in the order.
KINDS = {"N": "NLRBej", "S": "AaJSn", "V": "VEr"}

# Fewer beats of a kind say little about its place.
LEAST_BEATS = 5

_LEADS = ("MLII", "II", "V5", "I")
_HZ = 125.0
_BEFORE_S, _AFTER_S = 0.12, 0.20
# RR intervals are compared with the median of so many around.
_AROUND = 41

COLUMNS = (
    "record",
    "unlike_v",
    "early_v",
    "early_s",
    "alike_s",
    "normal_share",
)


@dataclass(frozen=True)
class Beats:
    """The beats of a record as the order needs them, each of shape (n,).

    Attributes
    ----------
    kind : ndarray of str
        Of `KINDS`, else "".
    likeness : ndarray
        Correlation with the record's median beat.
    earliness : ndarray
        Share by which the RR interval before is shorter than is usual around.
    """

    kind: np.ndarray
    likeness: np.ndarray
    earliness: np.ndarray


def measure_order(folder: Path, manifest: Manifest, *, workers: int | None = None) -> pd.DataFrame:
    """One row a record with the columns of `COLUMNS`; null where it has too few beats to say.

    unlike_v, early_v : V beats against N. early_s : S against N. alike_s : S against V.
    normal_share : share of N among N, S and V.
    """
    rows = parallel_map(
        partial(_row, Path(folder), manifest.annotator),
        list(manifest.records),
        job="labels",
        name=lambda entry: entry.record,
        workers=workers,
    )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(folder: Path, annotator: str, entry: RecordEntry) -> dict[str, object]:
    path = folder / entry.record
    try:
        recording = read_recording(path)
        found = read_annotations(path, annotator).only(BEAT_SYMBOLS)
        beats, _ = in_order(found, len(recording.signal))
        measured = look_at(recording, beats.sample, beats.symbol)
    except DataError:  # other expectations say why
        return {"record": entry.record}
    return {"record": entry.record, **order_of(measured)}


def look_at(recording: Recording, samples: np.ndarray, symbols: np.ndarray) -> Beats:
    """Likeness and earliness of the beats of one recording.

    Raises
    ------
    DataError
        The lead that would be looked at has no valid sample.
    """
    signal = condition(recording, choose_lead(recording, _LEADS), _HZ)
    centres = np.rint(at_rate(samples, recording.fs, _HZ)).astype(np.int64)
    centres = peaks(signal, np.clip(centres, 0, len(signal) - 1), _HZ)
    shapes = windows(signal, centres, round(_BEFORE_S * _HZ), round(_AFTER_S * _HZ)).astype(float)
    kind = np.full(len(samples), "", dtype="U1")
    for name, group in KINDS.items():
        kind[np.isin(symbols, list(group))] = name
    if len(samples) < 2:
        return Beats(kind, np.zeros(len(samples)), np.zeros(len(samples)))
    likeness = _unit(shapes) @ _unit(np.median(shapes, axis=0)[None])[0]
    rr = np.diff(samples) / recording.fs
    rr = np.concatenate([[np.median(rr)], rr])
    usual = median_filter(rr, min(_AROUND, len(rr)) | 1, mode="nearest")
    return Beats(kind, likeness, 1 - rr / usual)


def _unit(rows: np.ndarray) -> np.ndarray:
    centred = rows - rows.mean(axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-9))


def order_of(beats: Beats) -> dict[str, float | None]:
    """The columns of `COLUMNS` but for the record's name."""
    n, s, v = (beats.kind == kind for kind in KINDS)
    ordered = int(n.sum() + s.sum() + v.sum())
    return {
        "unlike_v": _higher(-beats.likeness[v], -beats.likeness[n]),
        "early_v": _higher(beats.earliness[v], beats.earliness[n]),
        "early_s": _higher(beats.earliness[s], beats.earliness[n]),
        "alike_s": _higher(beats.likeness[s], beats.likeness[v]),
        "normal_share": round(float(n.sum()) / ordered, 4) if ordered else None,
    }


def _higher(ones: np.ndarray, others: np.ndarray) -> float | None:
    """Probability that one of `ones` is above one of `others`, ties as half (Mann-Whitney)."""
    if min(len(ones), len(others)) < LEAST_BEATS:
        return None
    ranks = rankdata(np.concatenate([ones, others]))[: len(ones)]
    above = ranks.sum() - len(ones) * (len(ones) + 1) / 2
    return round(float(above / (len(ones) * len(others))), 4)
