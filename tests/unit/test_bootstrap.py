from __future__ import annotations

import numpy as np
import pytest

from ecgbeats import metrics
from ecgbeats.bootstrap import (
    intervals,
    paired_difference,
    percentile_interval,
    replicate_confusions,
)
from ecgbeats.errors import ContractError
from tests.support.predictions import CLASSES, HEADLINE, fake_predictions, table_of

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def table():
    return fake_predictions()


def matrices(table, by: str) -> np.ndarray:
    group, names = np.unique(table[by], return_inverse=True)[::-1]
    predicted = metrics.predicted_classes(table, CLASSES)
    return metrics.grouped_confusion(table["label"], predicted, group, len(names), len(CLASSES))


def width(interval: list[float]) -> float:
    return interval[1] - interval[0]


def test_intervals_hold_the_figures_themselves(table) -> None:
    by_patient = matrices(table, "patient")
    scores = metrics.class_scores(by_patient.sum(axis=0))
    found = intervals(by_patient, CLASSES, HEADLINE, replicates=1000, seed=0)
    assert found["accuracy"][0] < metrics.accuracy(by_patient.sum(axis=0)) < found["accuracy"][1]
    assert found["macro_f1"][0] < metrics.macro_f1(scores.f1, [0, 1, 2]) < found["macro_f1"][1]
    for key in ("se", "ppv", "f1"):
        for i, name in enumerate(HEADLINE):
            low, high = found[key][name]
            assert low <= getattr(scores, key)[i] <= high


def test_patients_give_wider_intervals_than_beats_where_one_patient_dominates(table) -> None:
    by_beat = table.assign(beat=np.arange(len(table)))
    common = {"replicates": 200, "seed": 0}
    patients = intervals(matrices(table, "patient"), CLASSES, HEADLINE, **common)
    beats = intervals(matrices(by_beat, "beat"), CLASSES, HEADLINE, **common)
    assert width(patients["f1"]["S"]) > 4 * width(beats["f1"]["S"])


def test_the_seed_decides(table) -> None:
    by_patient = matrices(table, "patient")
    one, same, other = (
        intervals(by_patient, CLASSES, HEADLINE, replicates=100, seed=seed) for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other


def test_a_replicate_is_a_draw_of_whole_patients() -> None:
    # Patient i has 10**i beats of its one class, so a sum tells how often each was drawn.
    by_patient = np.array([[[10**i, 0], [0, 0]] for i in range(3)])
    drawn = replicate_confusions(by_patient, 50, seed=0)[:, 0, 0]
    digits = [[int(d) for d in f"{n:03d}"] for n in drawn]
    assert all(sum(row) == 3 for row in digits)
    assert len(set(drawn)) > 3


def test_one_patient_gives_no_interval() -> None:
    found = intervals(np.array([[[5, 1], [2, 7]]]), ("N", "V"), ("N",), replicates=100, seed=0)
    assert found["accuracy"] is None
    assert found["f1"] == {"N": None, "V": None}


def test_percentiles_leave_out_undefined_replicates_unless_they_prevail() -> None:
    values = np.append(np.linspace(0, 1, 101), [np.nan] * 20)
    assert percentile_interval(values) == pytest.approx([0.025, 0.975])
    assert percentile_interval(np.append(np.linspace(0, 1, 101), [np.nan] * 102)) is None


def test_a_model_against_itself_differs_by_exactly_nothing(table) -> None:
    shuffled = table.sample(frac=1, random_state=3)
    found = paired_difference(shuffled, table, CLASSES, HEADLINE, replicates=200, seed=0)
    assert found["macro_f1"]["difference"] == 0.0
    assert found["macro_f1"]["interval"] == [0.0, 0.0]
    assert found["accuracy"]["interval"] == [0.0, 0.0]
    assert all(row["difference"] == 0.0 for row in found["f1"].values())


def test_a_better_challenger_is_better_on_every_patient() -> None:
    labels = [0, 1] * 30
    patients = [f"p{i // 10}" for i in range(60)]
    champion = table_of(labels, [0, 0] * 30, patients=patients)
    challenger = table_of(labels, labels, patients=patients)
    settings = {"classes": ("N", "V"), "headline": ("V",), "replicates": 200, "seed": 0}
    found = paired_difference(challenger, champion, **settings)
    assert found["accuracy"]["challenger"] == 1.0
    assert found["accuracy"]["champion"] == 0.5
    assert found["accuracy"]["interval"] == [0.5, 0.5]
    assert found["se"]["V"]["difference"] == 1.0
    swapped = paired_difference(champion, challenger, **settings)
    assert swapped["accuracy"]["interval"] == [-0.5, -0.5]


def test_pairing_takes_out_what_patients_share() -> None:
    # Patients differ a lot, the two models by one beat each: the difference is well known.
    rng = np.random.default_rng(0)
    labels, theirs, ours, patients = [], [], [], []
    for patient in range(12):
        wrong = rng.uniform(0, 0.8, 1) > rng.uniform(size=100)
        predicted = np.where(wrong, 1, 0)
        predicted[0] = 1
        better = predicted.copy()
        better[0] = 0
        labels += [0] * 100
        theirs += predicted.tolist()
        ours += better.tolist()
        patients += [f"p{patient}"] * 100
    first, second = (table_of(labels, p, patients=patients) for p in (ours, theirs))
    settings = {"classes": ("N", "V"), "headline": ("N",), "replicates": 300, "seed": 0}
    found = paired_difference(first, second, **settings)["accuracy"]
    assert found["difference"] == pytest.approx(0.01)
    assert width(found["interval"]) < 1e-9


@pytest.mark.parametrize("change", ["label", "sample", "rows"])
def test_models_on_other_beats_are_not_compared(change: str) -> None:
    champion = table_of([0, 1, 0], [0, 1, 1])
    challenger = champion.copy()
    if change == "rows":
        challenger = challenger.iloc[:2]
    else:
        challenger.loc[0, change] = 1
    with pytest.raises(ContractError, match="same beats"):
        paired_difference(challenger, champion, ("N", "V"), ("N",), replicates=100, seed=0)
