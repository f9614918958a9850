"""How well predicted beat classes agree with the reference: pure functions of arrays.

Definitions follow ANSI/AAMI EC57:2012. For one class, with true positives TP, false
negatives FN, false positives FP and true negatives TN counted over beats:

    sensitivity              Se   = TP / (TP + FN)
    positive predictivity    +P   = TP / (TP + FP)
    specificity              Sp   = TN / (TN + FP)
    F1                            = 2 TP / (2 TP + FP + FN)

EC57 asks for two views of Se and +P: *gross*, all beats pooled, where a record weighs as
much as it has beats, and *average*, the mean over records, where each record weighs the
same. Its reference programs leave out the first five minutes of each record, the learning
period of a monitor. EC57's beat matching within 150 ms has no part here, as the beats'
positions are the reference's own.

A ratio 0/0 is undefined: NaN inside arrays, never 0. `or_none` makes it None for JSON.
Note that F1 is 0 for a class that has reference beats and no true positive, and undefined
only where the class has neither reference nor predicted beats.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import average_precision_score, roc_auc_score

# Calibration is measured in training too: its measures are there, and here by name.
from ecgbeats.calibration import CALIBRATION_BINS as CALIBRATION_BINS
from ecgbeats.calibration import Reliability as Reliability
from ecgbeats.calibration import expected_calibration_error as expected_calibration_error
from ecgbeats.calibration import reliability as reliability

LEARNING_SECONDS = 300.0

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def probabilities_of(predictions: pd.DataFrame, classes: Sequence[str]) -> Floats:
    """The columns p_<class> of a predictions table, shape (beats, classes)."""
    return np.asarray(predictions[[f"p_{name}" for name in classes]], np.float64)


def predicted_classes(predictions: pd.DataFrame, classes: Sequence[str]) -> Ints:
    """Index of each beat's most probable class, the first of equals, shape (beats,)."""
    return np.asarray(probabilities_of(predictions, classes).argmax(axis=1), np.int64)


def confusion_matrix(labels: npt.ArrayLike, predicted: npt.ArrayLike, classes: int) -> Ints:
    """Count beats by reference class (row) and predicted class (column).

    Parameters
    ----------
    labels, predicted : array_like of int, shape (n,)
        Class indices in 0 .. `classes` - 1.
    classes : int

    Returns
    -------
    ndarray of int64, shape (classes, classes)
    """
    pooled = np.zeros(np.size(labels), np.int64)
    return np.asarray(grouped_confusion(labels, predicted, pooled, 1, classes)[0], np.int64)


def grouped_confusion(
    labels: npt.ArrayLike,
    predicted: npt.ArrayLike,
    group: npt.ArrayLike,
    groups: int,
    classes: int,
) -> Ints:
    """One confusion matrix per group (record or patient).

    Parameters
    ----------
    labels, predicted : array_like of int, shape (n,)
    group : array_like of int, shape (n,)
        Group index of each beat, in 0 .. `groups` - 1.

    Returns
    -------
    ndarray of int64, shape (groups, classes, classes)
    """
    shape = (groups, classes, classes)
    place = tuple(np.asarray(axis, np.int64) for axis in (group, labels, predicted))
    cell = np.ravel_multi_index(place, shape)
    return np.asarray(np.bincount(cell, minlength=math.prod(shape)), np.int64).reshape(shape)


@dataclass(frozen=True)
class Scores:
    """Figures per class, each of shape (..., classes); NaN where undefined."""

    support: npt.NDArray[np.number]
    se: Floats
    ppv: Floats
    specificity: Floats
    f1: Floats


def class_scores(confusion: npt.NDArray[np.number]) -> Scores:
    """Se, +P, specificity and F1 of each class (definitions: EC57, see above).

    Parameters
    ----------
    confusion : ndarray, shape (..., classes, classes)
        Confusion matrices; leading axes (records, patients, replicates) are kept.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    reference = confusion.sum(axis=-1)
    predicted = confusion.sum(axis=-2)
    total = confusion.sum(axis=(-2, -1))[..., None]
    negatives = total - reference
    return Scores(
        support=reference,
        se=_ratio(hits, reference),
        ppv=_ratio(hits, predicted),
        specificity=_ratio(negatives - (predicted - hits), negatives),
        f1=_ratio(2 * hits, reference + predicted),
    )


def accuracy(confusion: npt.NDArray[np.number]) -> Floats:
    """Share of beats whose predicted class is the reference class, shape (...)."""
    return _ratio(
        np.trace(confusion, axis1=-2, axis2=-1),
        confusion.sum(axis=(-2, -1)),
    )


def macro_f1(f1: Floats, chosen: Sequence[int]) -> Floats:
    """Unweighted mean F1 of the chosen classes, shape (...).

    Undefined if the F1 of one of them is: leaving that class out would compare means over
    different classes under one name.
    """
    return np.asarray(f1[..., list(chosen)].mean(axis=-1), np.float64)


@dataclass(frozen=True)
class AverageScores:
    """EC57's average view, each of shape (classes,); NaN where no record counts.

    `se_records` and `ppv_records` are the numbers of records that each mean is over.
    """

    se: Floats
    se_records: Ints
    ppv: Floats
    ppv_records: Ints


def average_scores(by_record: npt.NDArray[np.number]) -> AverageScores:
    """Mean Se and +P over records, each record weighing the same (EC57 "average").

    Se is averaged over the records that have reference beats of the class, +P over the
    records in which the class was predicted at least once.

    Parameters
    ----------
    by_record : ndarray, shape (records, classes, classes)
    """
    scores = class_scores(by_record)
    se, se_records = _mean_of_defined(scores.se)
    ppv, ppv_records = _mean_of_defined(scores.ppv)
    return AverageScores(se, se_records, ppv, ppv_records)


def auc_roc(labels: Ints, probabilities: Floats) -> Floats:
    """Area under each class's ROC curve, one class against the rest, shape (classes,).

    Undefined for a class without reference beats, or with nothing else.
    """
    return np.array(
        [
            roc_auc_score(truth, p) if truth.any() and not truth.all() else np.nan
            for truth, p in _one_vs_rest(labels, probabilities)
        ],
        np.float64,
    )


def auc_pr(labels: Ints, probabilities: Floats) -> Floats:
    """Average precision of each class against the rest, shape (classes,).

    The step-wise sum of scikit-learn's `average_precision_score`, not a trapezoid.
    Undefined for a class without reference beats.
    """
    return np.array(
        [
            average_precision_score(truth, p) if truth.any() else np.nan
            for truth, p in _one_vs_rest(labels, probabilities)
        ],
        np.float64,
    )


def selective_risk_area(labels: Ints, probabilities: Floats) -> float:
    """AURC: mean error rate of the n most confident beats, over n = 1 to all; 0 is best.

    The area under the risk-coverage curve of Geifman and El-Yaniv, Selective classification
    for deep neural networks, NeurIPS 2017. Beats of equal confidence come in no order: each
    counts with their mean error.
    """
    if not len(labels):
        return math.nan
    confidence = probabilities.max(axis=1)
    wrong = (probabilities.argmax(axis=1) != labels).astype(np.float64)
    _, level, beats = np.unique(-confidence, return_inverse=True, return_counts=True)
    expected = np.bincount(level, wrong) / beats
    risk = np.cumsum(np.repeat(expected, beats)) / np.arange(1, len(labels) + 1)
    return float(risk.mean())


@dataclass(frozen=True)
class Coverage:
    """What holds of the beats that are answered at each threshold, each of shape (points,).

    A beat is answered if the confidence in its most probable class is not below the
    threshold. NaN where undefined.
    """

    threshold: Floats
    coverage: Floats
    accuracy: Floats
    macro_f1: Floats


def coverage_curve(
    labels: Ints, probabilities: Floats, headline: Sequence[int], points: int = 200
) -> Coverage:
    """Accuracy and macro-F1 of answered beats against their share, from all beats down.

    Parameters
    ----------
    headline : sequence of int
        Indices of the classes whose mean F1 is taken.
    points : int
        Thresholds at about evenly spread coverages; fewer where beats tie.
    """
    confidence = probabilities.max(axis=1)
    classes = probabilities.shape[1]
    place = np.unique(np.linspace(0, len(labels) - 1, points).astype(int))
    threshold = np.unique(np.sort(confidence)[place])
    # Beats between two thresholds, counted once; summed from the most confident down.
    between = np.searchsorted(threshold, confidence, side="right") - 1
    counts = grouped_confusion(
        labels, probabilities.argmax(axis=1), between, len(threshold), classes
    )
    answered = counts[::-1].cumsum(axis=0)[::-1]
    return Coverage(
        threshold=threshold,
        coverage=answered.sum(axis=(1, 2)) / max(len(labels), 1),
        accuracy=accuracy(answered),
        macro_f1=macro_f1(class_scores(answered).f1, headline),
    )


def brier_score(labels: Ints, probabilities: Floats) -> float:
    """Mean over beats of the squared distance between probabilities and truth, 0 to 2.

    The original multi-class form, summed over classes: Brier, Verification of forecasts
    expressed in terms of probability, Monthly Weather Review 78, 1950.
    """
    if not len(labels):
        return math.nan
    truth = np.eye(probabilities.shape[1])[labels]
    return float(np.square(probabilities - truth).sum(axis=1).mean())


def log_loss(labels: Ints, probabilities: Floats) -> float:
    """Mean of -ln(probability of the reference class), in nats.

    Probabilities are held off 0 by the resolution of float32, in which networks state
    them, so that one certain mistake costs 15.9 instead of infinity.
    """
    if not len(labels):
        return math.nan
    of_truth = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.clip(of_truth, np.finfo(np.float32).eps, 1.0)).mean())


def or_none(value: float | np.floating | npt.NDArray[np.float64]) -> float | None:
    """A plain float for JSON, None where it is undefined."""
    number = float(value)
    return number if math.isfinite(number) else None


def _one_vs_rest(
    labels: Ints, probabilities: Floats
) -> Iterator[tuple[npt.NDArray[np.bool_], Floats]]:
    return ((labels == i, probabilities[:, i]) for i in range(probabilities.shape[1]))


def _ratio(part: npt.NDArray[np.number], whole: npt.NDArray[np.number]) -> Floats:
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    ratio: Floats = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
    return ratio


def _mean_of_defined(values: Floats) -> tuple[Floats, Ints]:
    defined = ~np.isnan(values)
    count = defined.sum(axis=0)
    return _ratio(np.where(defined, values, 0.0).sum(axis=0), count), count.astype(np.int64)
