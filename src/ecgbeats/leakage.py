"""Who and what is on both sides of a split, as checks of the gate."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import pandas as pd

from ecgbeats.gate import Row, none_of
from ecgbeats.validation.sides import measure_split

PATIENTS, TWINS = "leakage.patients", "leakage.twins"


def leakage_rows(
    beats: pd.DataFrame, *, by: Literal["patient", "beat"], allowed_patients: Collection[str]
) -> list[Row]:
    """Rows of a verdict on what a split lets a model see of its test.

    The split stage stops on the same findings. They are counted anew here, from the table
    that training and evaluation read, so that the verdict says it of this model.

    Parameters
    ----------
    beats : DataFrame
        The table of a split; see `ecgbeats.validation.sides.measure_split`.
    by : {"patient", "beat"}
        What the protocol parts. Where it parts beats, patients are on both sides by design
        and there is no row on them.
    allowed_patients : collection of str
        Patients whom a published split puts on both sides.

    Raises
    ------
    DataError
        A column is missing.
    """
    facts = measure_split(beats, headline=(), allowed_patients=allowed_patients)
    twins = int(facts.beats["twin"].notna().sum())
    rows = [none_of(TWINS, "beats whose signal is on another side too", twins)]
    if by == "patient":
        shared = int(facts.patients["shared"].notna().sum())
        rows.insert(0, none_of(PATIENTS, "patients on more than one side", shared))
    return rows
