from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
    roc_auc_score,
)
from sklearn.metrics import log_loss as sklearn_log_loss

from ecgbeats import metrics
from tests.support.predictions import CLASSES, fake_predictions

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def case() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities and predicted classes of a realistic test set."""
    table = fake_predictions()
    probabilities = metrics.probabilities_of(table, CLASSES)
    return (
        table["label"].to_numpy(),
        # float32 rows sum to 1 not closely enough for scikit-learn.
        probabilities / probabilities.sum(axis=1, keepdims=True),
        metrics.predicted_classes(table, CLASSES),
    )


def test_confusion_and_scores_equal_scikit_learn(case) -> None:
    labels, _, predicted = case
    counts = metrics.confusion_matrix(labels, predicted, 5)
    assert counts.tolist() == confusion_matrix(labels, predicted, labels=range(5)).tolist()
    scores = metrics.class_scores(counts)
    ppv, se, f1, support = precision_recall_fscore_support(labels, predicted, labels=range(5))
    np.testing.assert_allclose(scores.se, se)
    np.testing.assert_allclose(scores.ppv, ppv)
    np.testing.assert_allclose(scores.f1, f1)
    assert scores.support.tolist() == support.tolist()
    assert metrics.accuracy(counts) == pytest.approx(accuracy_score(labels, predicted))
    assert metrics.macro_f1(scores.f1, [0, 1, 2]) == pytest.approx(
        f1_score(labels, predicted, labels=[0, 1, 2], average="macro")
    )


def test_specificity_is_the_sensitivity_of_all_the_rest(case) -> None:
    labels, _, predicted = case
    scores = metrics.class_scores(metrics.confusion_matrix(labels, predicted, 5))
    expected = [np.mean(predicted[labels != i] != i) for i in range(5)]
    np.testing.assert_allclose(scores.specificity, expected)


def test_areas_equal_scikit_learn_per_class(case) -> None:
    labels, probabilities, _ = case
    truth = np.eye(5)[labels]
    np.testing.assert_allclose(
        metrics.auc_roc(labels, probabilities), roc_auc_score(truth, probabilities, average=None)
    )
    np.testing.assert_allclose(
        metrics.auc_pr(labels, probabilities),
        average_precision_score(truth, probabilities, average=None),
    )


def test_brier_and_log_loss_equal_scikit_learn(case) -> None:
    labels, probabilities, _ = case
    assert metrics.brier_score(labels, probabilities) == pytest.approx(
        brier_score_loss(labels, probabilities, scale_by_half=False)
    )
    assert metrics.log_loss(labels, probabilities) == pytest.approx(
        sklearn_log_loss(labels, probabilities), rel=1e-6
    )


def test_one_certain_mistake_has_a_finite_log_loss() -> None:
    loss = metrics.log_loss(np.array([0]), np.array([[0.0, 1.0]]))
    assert loss == pytest.approx(-math.log(2**-23))


@pytest.mark.parametrize(
    ("probabilities", "score"),
    [([[1.0, 0, 0]], 0.0), ([[0, 1.0, 0]], 2.0), ([[0.5, 0.3, 0.2]], 0.25 + 0.09 + 0.04)],
)
def test_brier_is_summed_over_classes(probabilities: list[list[float]], score: float) -> None:
    got = metrics.brier_score(np.array([0]), np.array(probabilities))
    assert got == pytest.approx(score)


def test_f1_tells_missed_from_absent() -> None:
    # Class 1 has beats and none is found; class 2 is only predicted; class 3 is nowhere.
    counts = metrics.confusion_matrix([0, 0, 1, 1], [0, 2, 0, 0], 4)
    scores = metrics.class_scores(counts)
    assert [metrics.or_none(x) for x in scores.f1] == [0.4, 0.0, 0.0, None]
    assert [metrics.or_none(x) for x in scores.se] == [0.5, 0.0, None, None]
    assert [metrics.or_none(x) for x in scores.ppv] == [1 / 3, None, 0.0, None]


def test_macro_f1_with_an_undefined_class_is_undefined() -> None:
    f1 = np.array([0.9, np.nan, 0.5])
    assert metrics.or_none(metrics.macro_f1(f1, [0, 1])) is None
    assert metrics.macro_f1(f1, [0, 2]) == pytest.approx(0.7)


def test_areas_of_a_class_without_reference_beats_are_undefined() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2]])
    labels = np.array([0, 0])
    assert [metrics.or_none(x) for x in metrics.auc_roc(labels, probabilities)] == [None, None]
    assert [metrics.or_none(x) for x in metrics.auc_pr(labels, probabilities)] == [1.0, None]


def test_gross_weighs_beats_and_average_weighs_records() -> None:
    # Class 1: record 0 finds 90 of 100, record 1 finds 0 of 10, record 2 has none of it
    # but one false positive.
    by_record = np.array([[[50, 0], [10, 90]], [[20, 0], [10, 0]], [[30, 1], [0, 0]]])
    gross = metrics.class_scores(by_record.sum(axis=0))
    average = metrics.average_scores(by_record)
    assert gross.se[1] == pytest.approx(90 / 110)
    assert gross.ppv[1] == pytest.approx(90 / 91)
    assert average.se[1] == pytest.approx((0.9 + 0.0) / 2)
    assert average.se_records[1] == 2
    assert average.ppv[1] == pytest.approx((1.0 + 0.0) / 2)
    assert average.ppv_records[1] == 2


def test_average_of_no_record_is_undefined() -> None:
    average = metrics.average_scores(np.array([[[5, 0], [0, 0]]]))
    assert metrics.or_none(average.se[1]) is None
    assert average.se_records[1] == 0


def test_grouped_confusion_is_the_confusion_of_each_group(case) -> None:
    labels, _, predicted = case
    group = np.arange(len(labels)) % 3
    matrices = metrics.grouped_confusion(labels, predicted, group, 3, 5)
    for i in range(3):
        here = group == i
        assert (
            matrices[i] == confusion_matrix(labels[here], predicted[here], labels=range(5))
        ).all()


def test_ece_of_a_hand_made_case() -> None:
    # Confidence 0.95: 3 of 4 right, gap 0.2. Confidence 0.60: 1 of 2 right, gap 0.1.
    probabilities = np.array([[0.95, 0.05]] * 4 + [[0.6, 0.4]] * 2)
    labels = np.array([0, 0, 0, 1, 0, 1])
    table = metrics.reliability(labels, probabilities)
    assert metrics.expected_calibration_error(table) == pytest.approx((4 * 0.2 + 2 * 0.1) / 6)
    assert table.beats.sum() == 6
    assert np.flatnonzero(table.beats).tolist() == [8, 14]


def test_ece_of_a_sure_and_right_model_is_zero() -> None:
    labels = np.array([0, 1, 1])
    assert metrics.expected_calibration_error(metrics.reliability(labels, np.eye(2)[labels])) == 0.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float64("nan")])
def test_no_number_becomes_none(value: float) -> None:
    assert metrics.or_none(value) is None


def test_selective_risk_area_by_hand() -> None:
    # Confidences 0.9, 0.8, 0.7; the second is wrong: risks 0, 1/2, 1/3.
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
    assert metrics.selective_risk_area(np.array([0, 1, 0]), p) == pytest.approx((0.5 + 1 / 3) / 3)
    assert metrics.selective_risk_area(np.array([0, 0, 0]), p) == 0
    assert np.isnan(metrics.selective_risk_area(np.zeros(0, int), p[:0]))


def test_selective_risk_of_ties_does_not_depend_on_their_order() -> None:
    p = np.full((4, 2), 0.5)
    areas = {
        metrics.selective_risk_area(np.array(labels), p)
        for labels in ([0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0])
    }
    assert areas == {0.25}


def test_coverage_curve_is_what_counting_gives() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet([1, 1, 1], 300)
    labels = rng.integers(0, 3, 300)
    curve = metrics.coverage_curve(labels, p, [0, 2], points=17)
    assert curve.coverage[0] == 1
    assert (np.diff(curve.coverage) < 0).all()
    assert 10 < len(curve.threshold) <= 17
    for t, coverage, accuracy, f1 in zip(
        curve.threshold, curve.coverage, curve.accuracy, curve.macro_f1, strict=True
    ):
        kept = p.max(axis=1) >= t
        assert coverage == pytest.approx(kept.mean())
        assert accuracy == pytest.approx((p.argmax(axis=1) == labels)[kept].mean())
        counts = metrics.confusion_matrix(labels[kept], p[kept].argmax(axis=1), 3)
        expected = metrics.class_scores(counts).f1[[0, 2]].mean()
        assert f1 == pytest.approx(expected, nan_ok=True)
