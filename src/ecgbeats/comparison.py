"""Two models on the same beats of the same patients: what differs, and whether it is chance.

Figures come with 95 % intervals of their difference, by a bootstrap in which both models meet
the same resampled patients (`ecgbeats.bootstrap`). McNemar's test asks the same of beats, as if
each stood alone: Note on the sampling error of the difference between correlated proportions,
Psychometrika 12, 1947; here in its exact form, the binomial test of the discordant pairs, so no
count is too small for it. The beats of one patient resemble each other, so its p-value is too
small; beside it stands a randomisation test of whole patients (Fisher, The design of
experiments, 1935, section 21), in which each patient's difference may as well have had the
other sign.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ecgbeats import metrics
from ecgbeats.bootstrap import intervals, paired_difference
from ecgbeats.errors import ContractError

SCHEMA = 1
# Of beats that may be shown: so many of each outcome and reference class, of one record in that.
_EACH, _OF_RECORD = 8, 2
_FLIPS = 20_000
_KEY = ["record", "sample"]
OUTCOMES = ("only_first", "only_second", "neither")


@dataclass(frozen=True)
class Answers:
    """What one model answered on its test side.

    Attributes
    ----------
    name : str
        What it is called.
    about : mapping of str to str
        Where it came from, for people.
    classes : tuple of str
    predictions : DataFrame
        A predictions table (see `ecgbeats.evaluation`).
    synthetic : bool
    """

    name: str
    about: Mapping[str, str]
    classes: tuple[str, ...]
    predictions: pd.DataFrame
    synthetic: bool


def compare(
    first: Answers,
    second: Answers,
    headline: Sequence[str],
    *,
    replicates: int,
    seed: int,
) -> dict[str, Any]:
    """All that is said of two models, as JSON values.

    Differences are `second` minus `first`.

    Parameters
    ----------
    headline : sequence of str
        Classes whose mean F1 is the headline.
    replicates, seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        "sides" (name and about of each), "classes", "headline", "synthetic", "beats",
        "records", "patients", "figures" (rows: figure, first, second, their intervals, the
        difference and its interval), "mcnemar", "by_patient", "confusion" (of each side, and
        how many beats each pair of answers got) and "bootstrap".

    Raises
    ------
    ContractError
        The two answer other classes, or were tested on other beats.
    """
    check_comparable(first, second)
    ours, theirs = (_sorted(side.predictions) for side in (first, second))
    classes = first.classes
    labels = ours["label"].to_numpy(np.int64)
    said = [metrics.predicted_classes(table, classes) for table in (ours, theirs)]
    patient, patients = pd.factorize(ours["patient"], sort=True)
    right = [answer == labels for answer in said]
    settings = {"replicates": replicates, "seed": seed}
    return {
        "schema": SCHEMA,
        "sides": [{"name": side.name, "about": dict(side.about)} for side in (first, second)],
        "synthetic": first.synthetic or second.synthetic,
        "classes": list(classes),
        "headline": list(headline),
        "beats": len(ours),
        "records": int(ours["record"].nunique()),
        "patients": len(patients),
        "figures": _figures((ours, theirs), (patient, len(patients)), classes, headline, settings),
        "mcnemar": mcnemar(right[0], right[1]),
        "by_patient": by_patient(right[0], right[1], patient, list(map(str, patients)), seed),
        "confusion": {
            "first": _counts(labels, said[0], classes),
            "second": _counts(labels, said[1], classes),
            "answers": _counts(said[0], said[1], classes),
        },
        "bootstrap": {"unit": "patient", "level": 0.95, **settings},
    }


def check_comparable(first: Answers, second: Answers) -> None:
    """Make sure that both were asked the same.

    Raises
    ------
    ContractError
        Saying what differs: classes, beats, or what the beats are.
    """
    if first.classes != second.classes:
        raise ContractError(
            f"compare: expected models of the same classes; {first.name} answers "
            f"{' '.join(first.classes)}, {second.name} {' '.join(second.classes)}"
        )
    ours, theirs = (
        side.predictions.set_index(_KEY).sort_index()[["patient", "label"]]
        for side in (first, second)
    )
    if not ours.index.equals(theirs.index):
        shared = int(ours.index.isin(theirs.index).sum())
        raise ContractError(
            f"compare: expected the same test side; {first.name} was tested on {len(ours)} beats, "
            f"{second.name} on {len(theirs)}, and {shared} of the first are among the second"
        )
    other = (ours["label"] != theirs["label"]) | (ours["patient"] != theirs["patient"])
    if other.any():
        record, sample = ours.index[other.to_numpy()][0]
        raise ContractError(
            f"compare: expected the same test side; {int(other.sum())} beats have another "
            f"reference class or patient, the first in record {record} at sample {sample}"
        )


def mcnemar(first: npt.ArrayLike, second: npt.ArrayLike) -> dict[str, Any]:
    """McNemar's exact test of whether two models are right on equally many of the same beats.

    Parameters
    ----------
    first, second : array_like of bool, shape (beats,)
        Whether each was right.

    Returns
    -------
    dict
        "both", "only_first", "only_second", "neither" (beats) and "p" (two-sided; 1 where
        there is no discordant beat).
    """
    from scipy.stats import binomtest

    ours, theirs = np.asarray(first, bool), np.asarray(second, bool)
    b, c = int((ours & ~theirs).sum()), int((~ours & theirs).sum())
    return {
        "both": int((ours & theirs).sum()),
        "only_first": b,
        "only_second": c,
        "neither": int((~ours & ~theirs).sum()),
        "p": float(binomtest(b, b + c).pvalue) if b + c else 1.0,
    }


def by_patient(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    patient: npt.ArrayLike,
    names: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    """The same with whole patients as what chance may turn over.

    Parameters
    ----------
    first, second : array_like of bool, shape (beats,)
    patient : array_like of int, shape (beats,)
        Index into `names`.

    Returns
    -------
    dict
        "better", "worse", "same" (patients of whom the second model has more, fewer or as
        many beats right), "p" (two-sided, exact where 2^patients is at most 20,000, else of as
        many random draws) and "patients": name, beats and right answers of each.
    """
    ours, theirs = np.asarray(first, bool), np.asarray(second, bool)
    group = np.asarray(patient, np.int64)
    beats, right, right_too = (
        np.bincount(group, weights, len(names)).astype(np.int64) for weights in (None, ours, theirs)
    )
    difference = right_too - right
    return {
        "better": int((difference > 0).sum()),
        "worse": int((difference < 0).sum()),
        "same": int((difference == 0).sum()),
        "p": _sign_flips(difference[difference != 0], seed),
        "patients": [
            {
                "patient": name,
                "beats": int(beats[i]),
                "first": int(right[i]),
                "second": int(right_too[i]),
            }
            for i, name in enumerate(names)
        ],
    }


def disagreements(
    first: Answers, second: Answers, *, each: int = _EACH, of_record: int = _OF_RECORD
) -> pd.DataFrame:
    """Beats to look at: those that the two answer otherwise, the surest first.

    Returns
    -------
    DataFrame
        Columns outcome ("only_first", "only_second", "neither": who is right), record,
        patient, sample, time_s, symbol, actual, first, second (classes), first_confidence and
        second_confidence (of what each said). At most `each` beats of an outcome and reference
        class, and `of_record` of one record among them.
    """
    ours, theirs = (_sorted(side.predictions) for side in (first, second))
    names = np.asarray(first.classes, object)
    labels = ours["label"].to_numpy(np.int64)
    table = ours[["record", "patient", "sample", "time_s", "symbol"]].assign(actual=names[labels])
    for name, predictions in (("first", ours), ("second", theirs)):
        probabilities = metrics.probabilities_of(predictions, first.classes)
        table[name] = names[probabilities.argmax(axis=1)]
        table[f"{name}_confidence"] = probabilities.max(axis=1)
    differ = table[table["first"] != table["second"]].copy()
    differ.insert(
        0,
        "outcome",
        np.select(
            [differ["first"] == differ["actual"], differ["second"] == differ["actual"]],
            OUTCOMES[:2],
            OUTCOMES[2],
        ),
    )
    differ["sure"] = differ[["first_confidence", "second_confidence"]].min(axis=1)
    differ["class"] = differ["actual"].map({name: i for i, name in enumerate(names)})
    differ["group"] = differ["outcome"].map({name: i for i, name in enumerate(OUTCOMES)})
    differ = differ.sort_values(["group", "class", "sure"], ascending=[True, True, False])
    differ = differ.groupby(["group", "class", "record"]).head(of_record)
    differ = differ.groupby(["group", "class"]).head(each)
    return pd.DataFrame(differ.drop(columns=["sure", "class", "group"]).reset_index(drop=True))


def _figures(
    tables: tuple[pd.DataFrame, pd.DataFrame],
    patients: tuple[npt.NDArray[np.int64], int],
    classes: Sequence[str],
    headline: Sequence[str],
    settings: Mapping[str, int],
) -> list[dict[str, Any]]:
    """A row for each figure: both values with their intervals, and the difference with its own."""
    # `paired_difference` subtracts its second table.
    found = paired_difference(tables[1], tables[0], classes, headline, **settings)
    alone = [
        intervals(
            metrics.grouped_confusion(
                table["label"],
                metrics.predicted_classes(table, classes),
                *patients,
                len(classes),
            ),
            classes,
            headline,
            **settings,
        )
        for table in tables
    ]
    rows = []
    for key, value in found.items():
        for label in [None] if "difference" in value else classes:
            row = value if label is None else value[label]
            first, second = (each[key] if label is None else each[key][label] for each in alone)
            rows.append(
                {
                    "figure": key,
                    "class": label,
                    "first": row["champion"],
                    "first_interval": first,
                    "second": row["challenger"],
                    "second_interval": second,
                    "difference": row["difference"],
                    "interval": row["interval"],
                }
            )
    return rows


def _sign_flips(differences: npt.NDArray[np.int64], seed: int) -> float:
    """Two-sided p of the sum of `differences` if each might have had the other sign."""
    count = len(differences)
    if not count:
        return 1.0
    observed = abs(int(differences.sum()))
    if 2**count <= _FLIPS:
        bits = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
        sums = (2 * bits - 1) @ differences
        return float((np.abs(sums) >= observed).mean())
    signs = 2 * np.random.default_rng(seed).integers(0, 2, (_FLIPS, count)) - 1
    # With what was observed as one of the draws, so that p is never 0.
    return float((1 + (np.abs(signs @ differences) >= observed).sum()) / (1 + _FLIPS))


def _counts(
    rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64], classes: Sequence[str]
) -> list[list[int]]:
    counts: list[list[int]] = metrics.confusion_matrix(rows, columns, len(classes)).tolist()
    return counts


def _sorted(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values(_KEY, ignore_index=True)
