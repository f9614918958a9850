from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ecgbeats.config import BeatSplit, Check, PatientSplit, Protocol
from ecgbeats.errors import ConfigError, DataError
from ecgbeats.split import TEST, TRAIN, UNUSED, VALIDATION, assign_sides, read_split, write_split
from tests.support.recordings import AAMI5

pytestmark = pytest.mark.unit


def protocol(split: PatientSplit | BeatSplit) -> Protocol:
    return Protocol(labels=AAMI5, split=split, gate=(Check(metric="accuracy", at_least=0.5),))


def beats(patients: int = 12, each: int = 60, seed: int = 0) -> pd.DataFrame:
    """Two records a patient; V in all of them, S in every other patient."""
    rng = np.random.default_rng(seed)
    rows = []
    for patient in range(patients):
        classes = "NNNNVA" if patient % 2 else "NNNNNV"
        for part in "xy":
            rows.append(
                pd.DataFrame(
                    {
                        "record": f"{patient:02d}{part}",
                        "patient": f"p{patient:02d}",
                        "sample": np.arange(each) * 300,
                        "symbol": rng.choice(list(classes), each),
                    }
                )
            )
    return pd.concat(rows, ignore_index=True)


@pytest.mark.parametrize("seed", range(5))
def test_no_patient_is_on_two_sides_and_all_classes_are_on_each(seed: int) -> None:
    split = PatientSplit(by="patient", test_share=0.34, validation_share=0.25, seed=seed)
    sides = assign_sides(beats(seed=seed), AAMI5, protocol(split))
    assert (sides.groupby("patient")["side"].nunique() == 1).all()
    for side in (TRAIN, VALIDATION, TEST):
        assert {"N", "S", "V"} <= set(sides.loc[sides["side"] == side, "label"])
    assert (sides["side"] == TEST).mean() == pytest.approx(0.34, abs=0.1)


def test_the_same_seed_gives_the_same_split_whatever_the_classes_order_of_rows() -> None:
    split = protocol(PatientSplit(by="patient", test_share=0.34, seed=3))
    one = assign_sides(beats(), AAMI5, split)["side"]
    assert one.equals(assign_sides(beats(), AAMI5, split)["side"])


def test_a_published_split_is_kept_and_validation_comes_from_its_training_side() -> None:
    table = beats()
    names = sorted(table["record"].unique())
    split = PatientSplit(
        by="patient",
        train_records=tuple(names[:14]),
        test_records=tuple(names[16:]),
        validation_share=0.25,
    )
    sides = assign_sides(table, AAMI5, protocol(split)).groupby("record")["side"].first()
    assert set(sides[names[16:]]) == {TEST}
    assert set(sides[names[:14]]) == {TRAIN, VALIDATION}
    assert set(sides[names[14:16]]) == {UNUSED}


def test_records_that_are_not_there_are_named() -> None:
    split = PatientSplit(by="patient", test_records=("00x", "99z"))
    with pytest.raises(ConfigError, match="99z"):
        assign_sides(beats(), AAMI5, protocol(split))


def test_too_few_patients_is_an_error() -> None:
    split = PatientSplit(by="patient", test_share=0.1)
    with pytest.raises(DataError, match="10 patients, got 3"):
        assign_sides(beats(patients=3), AAMI5, protocol(split))


def test_folds_over_beats_test_each_beat_once() -> None:
    table = beats()
    times = np.zeros(len(table), int)
    for fold in range(10):
        split = BeatSplit(by="beat", folds=10, fold=fold, validation_share=0.1)
        sides = assign_sides(table, AAMI5, protocol(split))["side"]
        times += (sides == TEST).to_numpy()
        assert (sides == VALIDATION).any()
    assert (times == 1).all()


def test_a_fold_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match="fold 10 of 10"):
        assign_sides(beats(), AAMI5, protocol(BeatSplit(by="beat", folds=10, fold=10)))


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    split = protocol(PatientSplit(by="patient", test_share=0.34))
    sides = assign_sides(beats(), AAMI5, split)
    write_split(tmp_path / "split", sides, AAMI5, ["N", "S"])
    back = read_split(tmp_path / "split")
    pd.testing.assert_frame_equal(back.beats, sides, check_dtype=False)
    assert (back.classes, back.headline) == (AAMI5.names, ("N", "S"))
    with pytest.raises(DataError, match="run the split stage"):
        read_split(tmp_path / "nothing")


def test_a_share_is_one_fold_of_the_nearest_number() -> None:
    split = PatientSplit(by="patient", test_share=0.4, validation_share=0.5)
    sides = assign_sides(beats(), AAMI5, protocol(split))
    patients = sides.groupby("side")["patient"].nunique()
    assert patients.to_dict() == {TEST: 6, TRAIN: 3, VALIDATION: 3}


@pytest.mark.parametrize(
    "split",
    [
        PatientSplit(by="patient", test_share=0.6),
        PatientSplit(by="patient", test_share=0.34, validation_share=0.6),
    ],
    ids=["test", "validation"],
)
def test_more_than_half_of_the_patients_is_refused(split: PatientSplit) -> None:
    with pytest.raises(ConfigError, match=r"at most 0\.5 .*got 0\.6"):
        assign_sides(beats(), AAMI5, protocol(split))


@pytest.mark.parametrize(
    ("symbols", "folds", "share", "message"),
    [
        ("NV" * 4, 5, 0.1, "5 folds need a class of at least 5 beats, the largest has 4"),
        ("NV" * 20, 5, 0.1, "a class of more than 20 beats, the largest has 20"),
        ("NVA" * 30, 2, 0.01, "a validation share of 0.01 of 45 beats cannot hold every class"),
    ],
    ids=["folds", "validation", "share"],
)
def test_classes_too_small_to_be_parted_are_an_error(
    symbols: str, folds: int, share: float, message: str
) -> None:
    table = pd.DataFrame({"record": "00x", "patient": "p00", "symbol": list(symbols)})
    split = BeatSplit(by="beat", folds=folds, validation_share=share)
    with pytest.raises(DataError, match=message):
        assign_sides(table, AAMI5, protocol(split))


def test_classes_too_small_for_the_patients_are_an_error() -> None:
    table = pd.DataFrame({"record": list("xyz"), "patient": list("xyz"), "symbol": list("NVA")})
    split = PatientSplit(by="patient", test_share=0.34)
    with pytest.raises(DataError, match="a class of at least 3 beats, the largest has 1"):
        assign_sides(table, AAMI5, protocol(split))
