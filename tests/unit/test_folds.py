"""Folds test every beat once, keep patients together and the protocol's test side apart."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import StratifiedGroupKFold

from ecgbeats.config import BeatSplit, Check, PatientSplit, Protocol
from ecgbeats.errors import ConfigError, DataError
from ecgbeats.folds import make_folds
from ecgbeats.split import (
    TEST,
    TRAIN,
    UNUSED,
    VALIDATION,
    assign_sides,
    class_counts,
    group_folds,
)
from tests.support.recordings import AAMI5

pytestmark = pytest.mark.unit

NAMED = PatientSplit(
    by="patient",
    train_records=tuple(f"{k:02d}x" for k in range(0, 14)),
    test_records=tuple(f"{k:02d}x" for k in range(14, 26)),
    validation_share=0.25,
)
SHARED = PatientSplit(by="patient", test_share=0.34, validation_share=0.25, seed=2)
BEATS = BeatSplit(by="beat", folds=5, validation_share=0.1, seed=4)


def protocol(split: PatientSplit | BeatSplit) -> Protocol:
    return Protocol(labels=AAMI5, split=split, gate=(Check(metric="accuracy", at_least=0.5),))


def beats(patients: int = 26, each: int = 40) -> pd.DataFrame:
    """N and V in all; S in every other patient; F in the patients 3 and 4 alone.

    Records 13x and 14x are of one patient, and on two sides of `NAMED`.
    """
    rng = np.random.default_rng(0)
    rows = []
    for k in range(patients):
        kinds = list("NNNNVA" if k % 2 else "NNNNNV") + (["F"] if k in (3, 4) else [])
        rows.append(
            pd.DataFrame(
                {
                    "record": f"{k:02d}x",
                    "patient": "13+14" if k in (13, 14) else f"p{k:02d}",
                    "sample": np.arange(each) * 300,
                    "symbol": rng.choice(kinds, each),
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


@pytest.mark.parametrize("split", [NAMED, SHARED, BEATS], ids=["named", "shared", "beats"])
@pytest.mark.parametrize("by", ["patient", "beat"])
def test_every_beat_is_tested_once(split: PatientSplit | BeatSplit, by: str) -> None:
    folds = make_folds(beats(), AAMI5, protocol(split), folds=5, by=by)  # type: ignore[arg-type]
    tested = np.stack([folds.sides(k)["side"] == TEST for k in range(len(folds))])
    assert (tested.sum(axis=0) == 1).all()
    assert (folds.tested_in() == tested.argmax(axis=0)).all()
    for k in range(5):
        assert {TRAIN, VALIDATION, TEST} == set(folds.sides(k)["side"])


@pytest.mark.parametrize("over", ["all", "training"])
@pytest.mark.parametrize("split", [NAMED, SHARED], ids=["named", "shared"])
def test_a_patient_is_on_one_side_of_a_fold_also_with_two_records(
    split: PatientSplit, over: str
) -> None:
    folds = make_folds(beats(), AAMI5, protocol(split), folds=4, over=over)  # type: ignore[arg-type]
    for k in range(4):
        sides = folds.sides(k)
        used = sides[sides["side"] != UNUSED]
        assert (used.groupby("patient")["side"].nunique() == 1).all()
        assert {"N", "V", "S"} <= set(used.loc[used["side"] == TEST, "label"])


@pytest.mark.parametrize("split", [NAMED, SHARED, BEATS], ids=["named", "shared", "beats"])
@pytest.mark.parametrize("by", ["patient", "beat"])
def test_folds_over_the_training_side_leave_the_test_side_alone(
    split: PatientSplit | BeatSplit, by: str
) -> None:
    table = beats()
    folds = make_folds(table, AAMI5, protocol(split), folds=4, by=by, over="training")  # type: ignore[arg-type]
    test = (assign_sides(table, AAMI5, protocol(split))["side"] == TEST).to_numpy()
    assert (folds.tested_in()[test] == -1).all()
    assert (folds.tested_in()[~test] >= 0).all()
    for k in range(4):
        assert set(folds.sides(k)["side"][test]) == {UNUSED}


def test_records_of_neither_side_are_not_used() -> None:
    folds = make_folds(beats(28), AAMI5, protocol(NAMED), folds=4)
    unused = folds.beats["record"].isin(["26x", "27x"])
    assert (folds.tested_in()[unused] == -1).all()
    assert (folds.tested_in()[~unused] >= 0).all()


def test_a_class_in_fewer_patients_than_folds_breaks_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folds = make_folds(beats(), AAMI5, protocol(NAMED), folds=10)
    table = folds.beats
    tested = pd.Series(folds.tested_in(), table.index)
    of_patients = tested[table["label"] == "F"].groupby(table["patient"])
    assert of_patients.ngroups == 2
    # A fold for each of the two patients, all of whose beats lie in it; no fold is empty.
    assert of_patients.nunique().tolist() == [1, 1]
    assert sorted(set(tested)) == list(range(10))
    # Where one of them is tested and the other not, that one is there to learn F from.
    for k in sorted(set(of_patients.first())):
        sides = folds.sides(k)
        there = sides.loc[sides["label"] == "F"].groupby("side")["patient"].nunique()
        assert there[TEST] == (of_patients.first() == k).sum()
        assert there.sum() == 2


def test_patients_are_spread_evenly() -> None:
    folds = make_folds(beats(), AAMI5, protocol(NAMED), folds=5)
    for name in ("N", "V", "S"):
        counts = np.bincount(folds.tested_in()[folds.beats["label"] == name], minlength=5)
        assert counts.max() < 2 * counts.min()


def test_each_patient_may_be_a_fold() -> None:
    folds = make_folds(beats(), AAMI5, protocol(NAMED), folds=25)
    assert folds.beats.groupby(folds.tested_in())["patient"].nunique().tolist() == [1] * 25


def test_folds_over_beats_are_those_of_the_protocol() -> None:
    table = beats()
    folds = make_folds(table, AAMI5, protocol(BEATS), folds=5)
    for k in range(5):
        split = protocol(BEATS.model_copy(update={"fold": k}))
        ours, theirs = folds.sides(k), assign_sides(table, AAMI5, split)
        pd.testing.assert_frame_equal(ours, theirs[ours.columns])


@pytest.mark.parametrize("seed", range(12))
def test_groups_are_parted_as_scikit_learn_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    folds = int(rng.integers(2, 8))
    groups = rng.integers(0, folds + 12, 600)
    labels = rng.choice([0, 1, 2, 4], 600, p=[0.8, 0.1, 0.09, 0.01])
    _, group, table = class_counts(groups, labels)
    ours = group_folds(table, folds, seed)[group]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        for k, (_, theirs) in enumerate(splitter.split(labels, labels, groups)):
            assert np.flatnonzero(ours == k).tolist() == theirs.tolist()


def test_the_seed_decides() -> None:
    one, again, other = (
        make_folds(beats(), AAMI5, protocol(NAMED), folds=5, seed=seed).side for seed in (1, 1, 2)
    )
    assert (one == again).all()
    assert (one != other).any()


def test_what_cannot_be_parted_is_said() -> None:
    with pytest.raises(DataError, match="at least 26 patients, one a fold, got 25"):
        make_folds(beats(), AAMI5, protocol(NAMED), folds=26)
    with pytest.raises(ConfigError, match="at least 2, got 1"):
        make_folds(beats(), AAMI5, protocol(NAMED), folds=1)
    with pytest.raises(ConfigError, match="fold 5 of 5"):
        make_folds(beats(), AAMI5, protocol(NAMED), folds=5).sides(5)
