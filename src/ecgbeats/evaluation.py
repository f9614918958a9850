"""Measure a model on the beats of patients it has not seen, and write what was found.

The input is a *predictions table*, one row per beat, with the columns

    record, patient   names (str)
    sample            position of the beat in its record
    time_s            the same in seconds from the record's start
    symbol            the reference annotation
    label             index of the reference class
    p_<class>         probability of each class; a row's sum is 1

docs/metrics.md documents the keys of metrics.json.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import precision_recall_curve, roc_curve

from ecgbeats import bootstrap, metrics
from ecgbeats.errors import ConfigError, DataError
from ecgbeats.files import folder_written_aside, write_json, write_text

if TYPE_CHECKING:
    from ecgbeats.explanation import ClassAverage

METRICS = "metrics.json"
PER_RECORD = "per_record.csv"
PLOTS = "plots"
CURVES = "curves"
REPORT = "index.html"

SCHEMA = 1
# What `about` must say: without these a page or a verdict could not name what it is about.
_ABOUT = ("recipe", "dataset", "synthetic", "weights_sha256")
_COLUMNS = ("record", "patient", "sample", "time_s", "symbol", "label")
# Points of one curve in a CSV for `dvc plots`.
_CURVE_POINTS = 500
_MISTAKES_PER_CLASS = 8
# Neighbours in one record look alike: more of them show nothing new.
_MISTAKES_PER_RECORD = 2

Images = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.uint8]]


def check_predictions(predictions: pd.DataFrame, classes: Sequence[str]) -> None:
    """Make sure that a predictions table can be measured.

    Raises
    ------
    DataError
        A column is missing, there is no beat, a label is no class index, a patient is not
        named, or probabilities are not finite numbers from 0 to 1 with a sum of 1.
    """
    wanted = [*_COLUMNS, *(f"p_{name}" for name in classes)]
    missing = [name for name in wanted if name not in predictions]
    if missing:
        raise DataError(f"predictions: expected columns {wanted}; {missing} are missing")
    if predictions.empty:
        raise DataError("predictions: expected at least one beat, got none")
    labels = predictions["label"]
    if not labels.isin(range(len(classes))).all():
        raise DataError(
            f"predictions: expected labels 0 to {len(classes) - 1}, "
            f"got {sorted(labels[~labels.isin(range(len(classes)))].unique())[:5]}"
        )
    unnamed = predictions[["record", "patient"]].isna().any(axis=1)
    if unnamed.any():
        raise DataError(f"predictions: {int(unnamed.sum())} beats without record or patient")
    probabilities = metrics.probabilities_of(predictions, classes)
    # A comparison with NaN is false, so NaN is caught as well.
    good = ((probabilities >= 0) & (probabilities <= 1 + 1e-6)).all(axis=1)
    good &= np.abs(probabilities.sum(axis=1) - 1) < 1e-3
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        raise DataError(
            f"predictions: expected probabilities from 0 to 1 with a sum of 1; row {row} has "
            f"{probabilities[row].tolist()} ({int((~good).sum())} such rows)"
        )


def evaluate(
    predictions: pd.DataFrame,
    classes: Sequence[str],
    headline: Sequence[str],
    *,
    replicates: int,
    seed: int,
    about: Mapping[str, Any],
    abstain_below: float = 0.0,
) -> dict[str, Any]:
    """All figures of one model on one set of beats: the content of metrics.json.

    Parameters
    ----------
    predictions : DataFrame
        See the top of this module.
    classes : sequence of str
        Class names in the order of the labels.
    headline : sequence of str
        The classes whose mean F1 is the headline.
    replicates, seed : int
        Of the patient-clustered bootstrap.
    about : mapping
        What was measured; merged in as it is. Must have "recipe", "dataset", "synthetic"
        and "weights_sha256".
    abstain_below : float
        Confidence below which the model's answer is "uncertain". The other figures are of
        the most probable class of every beat.

    Returns
    -------
    dict
        JSON values only; a figure that is undefined is None.

    Raises
    ------
    ConfigError
        `headline` names no class or an unknown one; `about` lacks a key, or has one of the
        figures' own.
    DataError
        The table cannot be measured.
    """
    check_predictions(predictions, classes)
    unknown = [name for name in headline if name not in classes]
    if unknown or not headline:
        raise ConfigError(f"headline: expected some of {list(classes)}, got {list(headline)}")
    labels = predictions["label"].to_numpy(np.int64)
    probabilities = metrics.probabilities_of(predictions, classes)
    by_patient, patients = _by(predictions, "patient", classes)
    moved = bootstrap.intervals(by_patient, classes, headline, replicates=replicates, seed=seed)
    plain = _views(predictions, classes, headline)
    areas = {
        "auc_roc": metrics.auc_roc(labels, probabilities),
        "auc_pr": metrics.auc_pr(labels, probabilities),
    }
    for i, name in enumerate(classes):
        plain["gross"][name] |= {key: metrics.or_none(area[i]) for key, area in areas.items()}
        plain["gross"][name] |= {f"{key}_interval": moved[key][name] for key in ("se", "ppv", "f1")}
    after_learning = predictions[predictions["time_s"] >= metrics.LEARNING_SECONDS]
    reliability = metrics.reliability(labels, probabilities)
    figures = {
        "beats": len(predictions),
        "patients": len(patients),
        "records": int(predictions["record"].nunique()),
        "headline": {
            "classes": list(headline),
            "macro_f1": plain["macro_f1"],
            "macro_f1_interval": moved["macro_f1"],
        },
        "accuracy": plain["accuracy"],
        "accuracy_interval": moved["accuracy"],
        "macro_f1_all": plain["macro_f1_all"],
        "gross": plain["gross"],
        "average": plain["average"],
        "without_largest_patient": _without_largest(by_patient, patients, classes),
        "ec57": {
            "skipped_seconds": metrics.LEARNING_SECONDS,
            "beats": len(after_learning),
            **_views(after_learning, classes, headline),
        },
        "calibration": {
            "ece": metrics.or_none(metrics.expected_calibration_error(reliability)),
            "brier": metrics.or_none(metrics.brier_score(labels, probabilities)),
            "log_loss": metrics.or_none(metrics.log_loss(labels, probabilities)),
            "bins": metrics.CALIBRATION_BINS,
        },
        "abstention": _abstention(labels, probabilities, classes, headline, abstain_below),
        "confusion": {"classes": list(classes), "counts": by_patient.sum(axis=0).tolist()},
        "bootstrap": {
            "unit": "patient",
            "replicates": replicates,
            "seed": seed,
            "level": bootstrap.LEVEL,
        },
    }
    missing = [key for key in _ABOUT if key not in about]
    taken = [key for key in about if key in figures or key == "schema"]
    if missing or taken:
        raise ConfigError(f"about: expected {list(_ABOUT)} and no figures; {missing=}, {taken=}")
    return {"schema": SCHEMA, **about, **figures}


def coverage_points(
    predictions: pd.DataFrame, classes: Sequence[str], headline: Sequence[str]
) -> pd.DataFrame:
    """How accuracy and macro-F1 grow when unsure beats are left out.

    Returns
    -------
    DataFrame
        Columns threshold, coverage, accuracy and macro_f1; at most 200 rows, from all beats
        to the surest.
    """
    curve = metrics.coverage_curve(
        predictions["label"].to_numpy(np.int64),
        metrics.probabilities_of(predictions, classes),
        [list(classes).index(name) for name in headline],
    )
    return pd.DataFrame(vars(curve))


def per_record_table(predictions: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Beats, accuracy, and support, Se, +P and F1 per class, a row per record; NaN undefined."""
    matrices, records = _by(predictions, "record", classes)
    scores = metrics.class_scores(matrices)
    patients = predictions.groupby("record")["patient"].first()
    columns: dict[str, Any] = {
        "record": records,
        "patient": patients.loc[records].to_numpy(),
        "beats": matrices.sum(axis=(1, 2)),
        "accuracy": metrics.accuracy(matrices),
    }
    for i, name in enumerate(classes):
        for key in ("support", "se", "ppv", "f1"):
            columns[f"{key}_{name}"] = getattr(scores, key)[:, i]
    return pd.DataFrame(columns)


def roc_points(predictions: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """ROC curve of each class against the rest: class, fpr, tpr; at most 500 points each."""

    def points(truth: npt.NDArray[np.bool_], p: metrics.Floats) -> dict[str, metrics.Floats]:
        fpr, tpr, _ = roc_curve(truth, p)
        return _thinned(fpr=fpr, tpr=tpr)

    return _curves(predictions, classes, points, ["fpr", "tpr"])


def pr_points(predictions: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Precision-recall curve of each class: class, recall, precision; at most 500 points each."""

    def points(truth: npt.NDArray[np.bool_], p: metrics.Floats) -> dict[str, metrics.Floats]:
        precision, recall, _ = precision_recall_curve(truth, p, drop_intermediate=True)
        return _thinned(recall=recall[::-1], precision=precision[::-1])

    return _curves(predictions, classes, points, ["recall", "precision"])


def confident_mistakes(predictions: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """The wrong predictions that the model was surest of.

    At most eight per reference class, and two of them from one record.

    Returns
    -------
    DataFrame
        Columns row (position in `predictions`), record, time_s, actual, predicted (class
        names) and confidence; by reference class, then by confidence, highest first.
    """
    names = np.asarray(classes, object)
    predicted = metrics.predicted_classes(predictions, classes)
    table = pd.DataFrame(
        {
            "row": np.arange(len(predictions)),
            "record": predictions["record"].to_numpy(),
            "time_s": predictions["time_s"].to_numpy(),
            "label": predictions["label"].to_numpy(np.int64),
            "actual": names[predictions["label"].to_numpy(np.int64)],
            "predicted": names[predicted],
            "confidence": metrics.probabilities_of(predictions, classes).max(axis=1),
        }
    )
    wrong = table[table["label"].to_numpy() != predicted]
    ordered = wrong.sort_values(["label", "confidence", "row"], ascending=[True, False, True])
    spread = ordered.groupby(["label", "record"]).head(_MISTAKES_PER_RECORD)
    chosen = spread.groupby("label").head(_MISTAKES_PER_CLASS)
    return pd.DataFrame(chosen.drop(columns="label").reset_index(drop=True))


def write_evaluation(
    out: Path,
    predictions: pd.DataFrame,
    evaluation: Mapping[str, Any],
    *,
    history: pd.DataFrame | None = None,
    images: Images | None = None,
    saliency: Mapping[str, ClassAverage] | None = None,
    sheets: Mapping[str, bytes] | None = None,
    verdict: Mapping[str, Any] | None = None,
    verdict_link: str | None = None,
) -> None:
    """Write the folder `out`, whole or not at all.

    It holds metrics.json, per_record.csv, plots/ (PNGs), curves/ (CSVs for `dvc plots`) and
    the page index.html, which needs none of the others. Equal input gives equal bytes.

    Parameters
    ----------
    evaluation : mapping
        What `evaluate` returned for these predictions.
    history : DataFrame, optional
        A row per epoch: a column epoch, perhaps phase, and any figures.
    images : callable, optional
        Gives the images, uint8 (n, rows, columns), of given rows of `predictions`.
    saliency : mapping of str to ClassAverage, optional
        What each class rests on (`ecgbeats.explanation`).
    sheets : mapping of str to bytes, optional
        A contact sheet (PNG) per class name.
    verdict : mapping, optional
        What `ecgbeats.gate.judge` returned; shown on the page.
    verdict_link : str, optional
        Where the verdict's own page lies, relative to index.html.
    """
    # They load matplotlib and jinja2, which `evaluate` does not need.
    from ecgbeats import plots
    from ecgbeats.report import render_report

    classes = evaluation["confusion"]["classes"]
    confusion = np.array(evaluation["confusion"]["counts"], np.int64)
    labels = predictions["label"].to_numpy(np.int64)
    names = np.asarray(classes, object)
    records = per_record_table(predictions, classes)
    roc, pr = roc_points(predictions, classes), pr_points(predictions, classes)
    coverage = coverage_points(predictions, classes, evaluation["headline"]["classes"])
    pictures = {
        "confusion": plots.confusion(confusion, classes),
        "roc": plots.roc(roc, _areas(evaluation, "auc_roc")),
        "pr": plots.precision_recall(pr, _areas(evaluation, "auc_pr")),
        "reliability": plots.reliability(
            metrics.reliability(labels, metrics.probabilities_of(predictions, classes)),
            evaluation["calibration"]["ece"],
        ),
        "coverage": plots.coverage(coverage, evaluation["abstention"]),
        "records": plots.records(records, classes),
    }
    tables = {
        "confusion": pd.DataFrame(
            {
                "actual": names[labels],
                "predicted": names[metrics.predicted_classes(predictions, classes)],
            }
        ),
        "roc": roc,
        "pr": pr,
        "coverage": coverage,
    }
    if saliency:
        pictures["saliency"] = plots.class_saliency(saliency)
    if history is not None:
        pictures["history"] = plots.history(history)
        tables["history"] = history
    if images is not None:
        mistakes = confident_mistakes(predictions, classes)
        if len(mistakes):
            pictures["mistakes"] = plots.mistakes(images(mistakes["row"].to_numpy()), mistakes)
    page = render_report(evaluation, pictures, sheets or {}, verdict, verdict_link=verdict_link)
    with folder_written_aside(Path(out)) as aside:
        write_json(aside / METRICS, evaluation)
        write_text(aside / PER_RECORD, records.to_csv(index=False))
        (aside / PLOTS).mkdir()
        for name, picture in pictures.items():
            (aside / PLOTS / f"{name}.png").write_bytes(picture)
        (aside / CURVES).mkdir()
        for name, table in tables.items():
            write_text(aside / CURVES / f"{name}.csv", table.to_csv(index=False))
        write_text(aside / REPORT, page)


def _views(
    predictions: pd.DataFrame, classes: Sequence[str], headline: Sequence[str]
) -> dict[str, Any]:
    """Gross and average view, accuracy and macro-F1 of some beats."""
    by_record, _ = _by(predictions, "record", classes)
    pooled = by_record.sum(axis=0)
    scores = metrics.class_scores(pooled)
    means = metrics.average_scores(by_record)
    chosen = [list(classes).index(name) for name in headline]
    return {
        "accuracy": metrics.or_none(metrics.accuracy(pooled)),
        "macro_f1": metrics.or_none(metrics.macro_f1(scores.f1, chosen)),
        "macro_f1_all": metrics.or_none(metrics.macro_f1(scores.f1, range(len(classes)))),
        "gross": {
            name: {
                "support": int(scores.support[i]),
                "se": metrics.or_none(scores.se[i]),
                "ppv": metrics.or_none(scores.ppv[i]),
                "specificity": metrics.or_none(scores.specificity[i]),
                "f1": metrics.or_none(scores.f1[i]),
            }
            for i, name in enumerate(classes)
        },
        "average": {
            name: {
                "se": metrics.or_none(means.se[i]),
                "se_records": int(means.se_records[i]),
                "ppv": metrics.or_none(means.ppv[i]),
                "ppv_records": int(means.ppv_records[i]),
            }
            for i, name in enumerate(classes)
        },
    }


def _abstention(
    labels: metrics.Ints,
    probabilities: metrics.Floats,
    classes: Sequence[str],
    headline: Sequence[str],
    threshold: float,
) -> dict[str, Any]:
    """What holds of the beats that the model is sure enough of, and how many these are."""
    answered = probabilities.max(axis=1) >= threshold
    counts = metrics.confusion_matrix(
        labels[answered], probabilities[answered].argmax(axis=1), len(classes)
    )
    scores = metrics.class_scores(counts)
    support = np.bincount(labels, minlength=len(classes))
    chosen = [list(classes).index(name) for name in headline]
    return {
        "below": threshold,
        "coverage": float(answered.mean()),
        "accuracy": metrics.or_none(metrics.accuracy(counts)),
        "macro_f1": metrics.or_none(metrics.macro_f1(scores.f1, chosen)),
        "aurc": metrics.or_none(metrics.selective_risk_area(labels, probabilities)),
        "classes": {
            name: {
                "coverage": float(scores.support[i] / support[i]) if support[i] else None,
                "se": metrics.or_none(scores.se[i]),
                "ppv": metrics.or_none(scores.ppv[i]),
                "f1": metrics.or_none(scores.f1[i]),
            }
            for i, name in enumerate(classes)
        },
    }


def _without_largest(
    by_patient: metrics.Ints, patients: Sequence[str], classes: Sequence[str]
) -> dict[str, Any]:
    """Gross figures of each class without the patient who has most of its beats."""
    out: dict[str, Any] = {}
    for i, name in enumerate(classes):
        support = by_patient[:, i].sum(axis=1)
        if not support.any():
            out[name] = dict.fromkeys(("patient", "share", "se", "ppv", "f1"))
            continue
        largest = int(support.argmax())
        rest = metrics.class_scores(by_patient.sum(axis=0) - by_patient[largest])
        out[name] = {
            "patient": str(patients[largest]),
            "share": float(support[largest] / support.sum()),
            "se": metrics.or_none(rest.se[i]),
            "ppv": metrics.or_none(rest.ppv[i]),
            "f1": metrics.or_none(rest.f1[i]),
        }
    return out


def _by(
    predictions: pd.DataFrame, column: str, classes: Sequence[str]
) -> tuple[metrics.Ints, list[str]]:
    """Confusion matrix of each record or patient, and their names, in name order."""
    group, names = pd.factorize(predictions[column], sort=True)
    matrices = metrics.grouped_confusion(
        predictions["label"],
        metrics.predicted_classes(predictions, classes),
        group,
        len(names),
        len(classes),
    )
    return matrices, list(names)


def _areas(evaluation: Mapping[str, Any], key: str) -> dict[str, float | None]:
    return {name: figures[key] for name, figures in evaluation["gross"].items()}


def _curves(
    predictions: pd.DataFrame,
    classes: Sequence[str],
    points: Callable[[npt.NDArray[np.bool_], metrics.Floats], dict[str, metrics.Floats]],
    columns: list[str],
) -> pd.DataFrame:
    labels = predictions["label"].to_numpy(np.int64)
    probabilities = metrics.probabilities_of(predictions, classes)
    parts = [pd.DataFrame(columns=["class", *columns])]
    for i, name in enumerate(classes):
        truth = labels == i
        if truth.any() and not truth.all():
            curve = pd.DataFrame(points(truth, probabilities[:, i]))
            curve.insert(0, "class", name)
            parts.append(curve)
    return pd.concat(parts[1:] or parts, ignore_index=True)


def _thinned(**curve: metrics.Floats) -> dict[str, metrics.Floats]:
    """Points evenly spread along the curve's length, first and last included."""
    steps = np.abs(np.diff(list(curve.values()), axis=1)).sum(axis=0)
    path = np.concatenate([[0.0], np.cumsum(steps)])
    if len(path) > _CURVE_POINTS:
        wanted = np.linspace(0, path[-1], _CURVE_POINTS - 1)
        kept = np.unique(np.append(np.searchsorted(path, wanted), len(path) - 1))
    else:
        kept = np.arange(len(path))
    return {name: axis[kept] for name, axis in curve.items()}
