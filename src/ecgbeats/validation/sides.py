"""What a split is like: who and what is on which side. Plain measurements, no judgement."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import pandas as pd

from ecgbeats.errors import DataError

SIDES = ("train", "validation", "test")
# Of beats whose records a published split names on neither side.
UNUSED = "unused"
COLUMNS = ("record", "patient", "sample", "symbol", "label", "side", "window_sha")


@dataclass(frozen=True)
class SplitFacts:
    """Measurements of one split, as three tables.

    Attributes
    ----------
    patients : DataFrame
        One row per patient; `shared` and `shared_as_published` name the sides of a
        patient who is on several, and are null otherwise.
    beats : DataFrame
        One row per beat on a side; `twin` names a beat on another side with the same
        window.
    classes : DataFrame
        One row per side and headline class, with its number of beats.
    unused : int
        Number of beats that belong to no side; the tables leave them out.
    """

    patients: pd.DataFrame
    beats: pd.DataFrame
    classes: pd.DataFrame
    unused: int


def measure_split(
    beats: pd.DataFrame, *, headline: Sequence[str], allowed_patients: Collection[str]
) -> SplitFacts:
    """Measure who and what is on which side.

    Parameters
    ----------
    beats : DataFrame
        One row per beat with the columns of `COLUMNS`.
    headline : sequence of str
        Classes that every side needs.
    allowed_patients : collection of str
        Patients whom a published split puts on both sides.

    Raises
    ------
    DataError
        A column is missing.
    """
    absent = [column for column in COLUMNS if column not in beats.columns]
    if absent:
        raise DataError(f"split: expected the columns {', '.join(COLUMNS)}; missing {absent}")
    unused = beats["side"] == UNUSED
    beats = beats.loc[~unused, list(COLUMNS)].reset_index(drop=True)
    beats["twin"] = _twins(beats)
    return SplitFacts(
        patients=_patients(beats, allowed_patients),
        beats=beats,
        classes=_classes(beats, headline),
        unused=int(unused.sum()),
    )


def _patients(beats: pd.DataFrame, allowed: Collection[str]) -> pd.DataFrame:
    rows = []
    for patient, group in beats.groupby("patient", sort=True):
        sides = [side for side in SIDES if (group["side"] == side).any()]
        shared = " and ".join(sides) if len(sides) > 1 else None
        published = str(patient) in allowed
        rows.append(
            {
                "patient": str(patient),
                "records": ", ".join(sorted({str(record) for record in group["record"]})),
                "shared": None if published else shared,
                "shared_as_published": shared if published else None,
            }
        )
    return pd.DataFrame(rows, columns=["patient", "records", "shared", "shared_as_published"])


def _twins(beats: pd.DataFrame) -> pd.Series:
    """For a beat whose window occurs on another side too: where; else null.

    Told from the later side to the earlier, so that a pair is one finding. Beats without
    a window's hash (a flat stretch) are nobody's twins.
    """
    order = {side: rank for rank, side in enumerate(SIDES)}
    rank = beats["side"].map(order).fillna(len(SIDES)).sort_values(kind="stable")
    text = beats["side"].astype(str) + " record " + beats["record"].astype(str)
    text += " sample " + beats["sample"].astype(str)
    window = beats["window_sha"].loc[rank.index]
    first = text.loc[rank.index].groupby(window).transform("first")
    later = rank > rank.groupby(window).transform("min")
    return first.where(later).reindex(beats.index)


def _classes(beats: pd.DataFrame, headline: Sequence[str]) -> pd.DataFrame:
    present = set(beats["side"])
    counts = beats.groupby(["side", "label"]).size()
    # A protocol may do without a validation side, never without the other two.
    rows = [
        {"side": side, "label": label, "beats": int(counts.get((side, label), 0))}
        for side in SIDES
        if side in present or side != "validation"
        for label in headline
    ]
    return pd.DataFrame(rows, columns=["side", "label", "beats"])
