"""Patient-clustered bootstrap: how far a figure moves with other patients of the same kind.

Beats of one patient resemble each other, so beats are no independent sample: resampling
them gives intervals that are far too narrow where one patient holds most beats of a class.
Patients are drawn with replacement instead, each with all beats (Field and Welsh,
Bootstrapping clustered data, JRSS B 69, 2007); intervals are percentiles of the replicates
(Efron and Tibshirani, An introduction to the bootstrap, 1993, ch. 13).

A figure of pooled beats depends on a patient only through the patient's confusion matrix.
So a replicate is a weighted sum of matrices, and all replicates are one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ecgbeats import metrics
from ecgbeats.errors import ContractError

LEVEL = 0.95

Interval = list[float]


def replicate_confusions(by_patient: metrics.Ints, replicates: int, seed: int) -> metrics.Ints:
    """Pooled confusion matrix of each replicate.

    Parameters
    ----------
    by_patient : ndarray of int64, shape (patients, classes, classes)
    replicates : int
    seed : int
        The same seed draws the same patients, whatever the matrices hold.

    Returns
    -------
    ndarray of int64, shape (replicates, classes, classes)
        Without any replicate if there are fewer than two patients, from whom nothing can be
        learned about others.
    """
    patients, classes, _ = by_patient.shape
    if patients < 2:
        return np.empty((0, classes, classes), np.int64)
    drawn = draws(patients, replicates, seed)
    return (drawn @ by_patient.reshape(patients, -1)).reshape(replicates, classes, classes)


def draws(patients: int, replicates: int, seed: int) -> metrics.Ints:
    """How often each patient is drawn in each replicate, int64 (replicates, patients)."""
    return np.random.default_rng(seed).multinomial(
        patients, np.full(patients, 1.0 / patients), size=replicates
    )


def percentile_interval(replicates: npt.NDArray[np.float64]) -> Interval | None:
    """Percentile interval (95 %) of one figure over its replicates, shape (replicates,).

    Replicates in which the figure is undefined are left out. None if these are more than
    half: then the interval would say more about chance than about the figure.
    """
    defined = replicates[~np.isnan(replicates)]
    if 2 * len(defined) < len(replicates) or not len(defined):
        return None
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(defined, [tail, 100 - tail])
    return [float(low), float(high)]


def intervals(
    by_patient: metrics.Ints,
    classes: Sequence[str],
    headline: Sequence[str],
    *,
    replicates: int,
    seed: int,
) -> dict[str, Any]:
    """95 % intervals of accuracy, headline macro-F1, and Se, +P and F1 of each class.

    Parameters
    ----------
    by_patient : ndarray of int64, shape (patients, classes, classes)
        Confusion matrix of each patient's beats.
    classes : sequence of str
        Class names in the order of the matrices.
    headline : sequence of str
        The classes whose mean F1 is the headline.

    Returns
    -------
    dict
        "accuracy" and "macro_f1": [low, high] or None; "se", "ppv" and "f1": such an
        interval per class name. All None with fewer than two patients.
    """
    figures = _figures(replicate_confusions(by_patient, replicates, seed), classes, headline)
    return _map(percentile_interval, figures)


def paired_difference(
    challenger: pd.DataFrame,
    champion: pd.DataFrame,
    classes: Sequence[str],
    headline: Sequence[str],
    *,
    replicates: int,
    seed: int,
) -> dict[str, Any]:
    """Challenger minus champion on the same beats, with patient-clustered 95 % intervals.

    Both models are measured on the same resampled patients, so what makes a patient easy
    or hard for both cancels out, and the interval is that of the difference itself.

    Parameters
    ----------
    challenger, champion : DataFrame
        Prediction tables (see `ecgbeats.evaluation`) of the same beats, in any order.

    Returns
    -------
    dict
        "accuracy" and "macro_f1": {"challenger", "champion", "difference", "interval"};
        "se", "ppv" and "f1": the same per class name. Undefined figures are None.

    Raises
    ------
    ContractError
        The two tables are not about the same beats with the same reference classes.
    """
    first, second = _same_beats(challenger, champion)
    patient, patients = pd.factorize(first["patient"], sort=True)
    by_patient = [
        metrics.grouped_confusion(
            table["label"],
            metrics.predicted_classes(table, classes),
            patient,
            len(patients),
            len(classes),
        )
        for table in (first, second)
    ]
    pooled = [_figures(matrices.sum(axis=0), classes, headline) for matrices in by_patient]
    moved = [
        _figures(replicate_confusions(matrices, replicates, seed), classes, headline)
        for matrices in by_patient
    ]
    return _map(_compare, *pooled, *moved)


def _compare(ours: Any, theirs: Any, ours_moved: Any, theirs_moved: Any) -> dict[str, Any]:
    return {
        "challenger": metrics.or_none(ours),
        "champion": metrics.or_none(theirs),
        "difference": metrics.or_none(ours - theirs),
        "interval": percentile_interval(ours_moved - theirs_moved),
    }


def _figures(
    confusion: metrics.Ints, classes: Sequence[str], headline: Sequence[str]
) -> dict[str, Any]:
    scores = metrics.class_scores(confusion)
    chosen = [list(classes).index(name) for name in headline]
    return {
        "accuracy": metrics.accuracy(confusion),
        "macro_f1": metrics.macro_f1(scores.f1, chosen),
        **{
            kind: {name: getattr(scores, kind)[..., i] for i, name in enumerate(classes)}
            for kind in ("se", "ppv", "f1")
        },
    }


def _map(function: Callable[..., Any], *figures: Mapping[str, Any]) -> dict[str, Any]:
    """Apply `function` to the figures of the same name in dicts of one shape."""
    return {
        key: _map(function, *(each[key] for each in figures))
        if isinstance(value, dict)
        else function(*(each[key] for each in figures))
        for key, value in figures[0].items()
    }


def _same_beats(
    challenger: pd.DataFrame, champion: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    key = ["record", "sample"]
    first = challenger.sort_values(key, ignore_index=True)
    second = champion.sort_values(key, ignore_index=True)
    same = [*key, "patient", "label"]
    if len(first) != len(second) or not all((first[c] == second[c]).all() for c in same):
        raise ContractError(
            "challenger and champion: expected predictions for the same beats with the same "
            f"reference classes; got {len(first)} and {len(second)} beats that differ"
        )
    return first, second
