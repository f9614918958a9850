"""Sides of a union: the protocol's own sides stay as they were, new patients never test.

The beats of the base are assigned by `ecgbeats.split` alone, as if there were nothing else. A
new patient goes to training or validation by a hash of the name, so that neither another
addition nor another order moves anybody. Records of a patient whom the base knows follow that
patient; where that one is tested, they are used for nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from ecgbeats.additions.naming import prefix_of
from ecgbeats.additions.twins import Rhythms
from ecgbeats.config import Protocol
from ecgbeats.labels import LabelScheme
from ecgbeats.split import TEST, TRAIN, UNUSED, VALIDATION, assign_sides
from ecgbeats.validation.engine import judge
from ecgbeats.validation.report import Summary
from ecgbeats.validation.suites import Expectation, Suite


def assign_with_additions(
    beats: pd.DataFrame, scheme: LabelScheme, protocol: Protocol, added: Sequence[str]
) -> pd.DataFrame:
    """What `assign_sides` returns, of a union of a dataset and the additions `added`.

    Without additions it is the same, row for row.

    Raises
    ------
    ValidationFailed
        An added record is a twin of one that is tested, or is tested itself.
    ConfigError, DataError
        As `assign_sides`.
    """
    new = is_added(beats, added)
    if not new.any():
        return assign_sides(beats, scheme, protocol)
    base = assign_sides(beats[~new].reset_index(drop=True), scheme, protocol)
    known = {str(who): set(group) for who, group in base.groupby("patient")["side"]}
    share = protocol.split.validation_share
    side_of = {
        who: side_of_patient(str(who), known.get(str(who), set()), share)
        for who in beats.loc[new, "patient"].unique()
    }
    side = np.full(len(beats), UNUSED, object)
    side[~new] = base["side"].to_numpy()
    side[new] = beats.loc[new, "patient"].map(side_of).to_numpy()
    labels = np.array(scheme.names, object)[scheme.encode(beats["symbol"].to_numpy())]
    sided = beats.assign(label=labels, side=side)
    check_apart(sided, new)
    return sided


def is_added(beats: pd.DataFrame, added: Sequence[str]) -> np.ndarray:
    """Which beats are of records that were added, shape (beats,)."""
    if not added:
        return np.zeros(len(beats), bool)
    return beats["record"].str.startswith(tuple(map(prefix_of, added))).to_numpy(bool)


def side_of_patient(patient: str, known: set[str], validation_share: float) -> str:
    """The side of an added patient, by the sides that the base has this patient on."""
    if TEST in known:
        return UNUSED
    for side in (VALIDATION, TRAIN):
        if side in known:
            return side
    drawn = int.from_bytes(hashlib.sha256(patient.encode()).digest()[:8], "big") / 2**64
    return VALIDATION if drawn < validation_share else TRAIN


def check_apart(sided: pd.DataFrame, new: np.ndarray) -> None:
    """Make sure that no added record is tested, nor has the heartbeats of one that is.

    Pictures have no times; a shard of them must hold none that is tested, pixel by pixel. Those
    that are tested in another rendering are left out of the union (`picture_union`).

    Raises
    ------
    ValidationFailed
        Naming the records.
    """
    tested = sided[(sided["side"] == TEST) & ~new]
    of_pictures = bool(sided["time_s"].isna().all())
    seen = dict(zip(tested["window_sha"], tested["record"], strict=True)) if of_pictures else {}
    rhythms = Rhythms(
        {} if of_pictures else {str(k): _times(rows) for k, rows in tested.groupby("record")}
    )
    rows = []
    for record, group in sided[new].groupby("record", sort=False):
        sides = set(group["side"])
        twin = None
        if of_pictures:
            used = group.loc[group["side"] != UNUSED, "window_sha"]
            twin = next((seen[sha] for sha in used if sha in seen), None)
        elif sides != {UNUSED} and (found := rhythms.twin_of(str(record), _times(group))):
            twin = found.of
        rows.append(
            {
                "record": str(record),
                "tested": "test" if TEST in sides else None,
                "twin": twin,
            }
        )
    table = pd.DataFrame(rows, columns=["record", "tested", "twin"])
    suite = Suite("additions", table, ("record",), _EXPECTATIONS)
    Summary("split of a union", (), judge([suite]), ()).raise_if_critical()


_EXPECTATIONS = (
    Expectation(
        "additions_not_tested",
        "No added record is on the test side, which stays as it was.",
        "ExpectColumnValuesToBeNull",
        {"column": "tested"},
    ),
    Expectation(
        "twins_apart",
        "No added record that is used has the heartbeats of a record on the test side.",
        "ExpectColumnValuesToBeNull",
        {"column": "twin"},
    ),
)


def _times(rows: pd.DataFrame) -> np.ndarray:
    return np.sort(rows["time_s"].to_numpy(float))
