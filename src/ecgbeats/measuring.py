"""The evaluate stage: a model's answers on its test side, and what they are worth."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ecgbeats.config import EvaluateParams
from ecgbeats.datasets import Description
from ecgbeats.errors import ContractError
from ecgbeats.evaluation import evaluate, write_evaluation
from ecgbeats.explanation import Explainer, explain_classes
from ecgbeats.files import folder_written_aside
from ecgbeats.golden import Golden, write_golden
from ecgbeats.imaging.sheets import class_sheets
from ecgbeats.imaging.store import BeatImages
from ecgbeats.inference import HISTORY, Classifier
from ecgbeats.progress import say
from ecgbeats.split import TEST, Split

PREDICTIONS, GOLDEN = "predictions.parquet", "golden.npz"

# Enough for each class and many records, few enough to send in one request.
_GOLDEN_BEATS = 32
_CHUNK = 8192


def evaluate_model(
    recipe: str,
    manifest: Description,
    images: BeatImages,
    split: Split,
    classifier: Classifier,
    params: EvaluateParams,
    *,
    model_folder: Path,
    predictions: Path,
    report: Path,
) -> dict[str, Any]:
    """Classify the test side, measure the answers and write both.

    Writes predictions.parquet and golden.npz (a batch that a service must reproduce) to
    `predictions`; metrics.json, per_record.csv, plots/, curves/ and index.html to
    `report`.

    Returns
    -------
    dict
        The content of metrics.json.

    Raises
    ------
    ContractError
        Model, images and split do not belong together.
    """
    if images.spec.spec_id != classifier.spec.spec_id:
        raise ContractError(
            f"{images.folder}: images of spec {images.spec.spec_id}, "
            f"the model takes {classifier.spec.spec_id}"
        )
    if split.classes != classifier.classes:
        raise ContractError(
            f"the split has classes {split.classes}, the model answers {classifier.classes}"
        )
    index = np.flatnonzero((split.beats["side"] == TEST).to_numpy())
    probabilities = np.concatenate(
        [
            classifier.predict(images.take(index[i : i + _CHUNK]))
            for i in range(0, len(index), _CHUNK)
        ]
    )
    table = _table(split, index, probabilities)
    with folder_written_aside(predictions) as aside:
        table.to_parquet(aside / PREDICTIONS, index=False)
        write_golden(aside / GOLDEN, _golden(images, classifier, table, index, probabilities))
    card = classifier.card
    explanation = explain_classes(
        Explainer.load(model_folder, classifier),
        lambda rows: images.take(index[rows]),
        table["label"].to_numpy(np.int64),
        probabilities.argmax(axis=1),
        table["record"].to_numpy(object),
        seed=params.seed,
    )
    figures = evaluate(
        table,
        split.classes,
        params.headline,
        replicates=params.bootstrap,
        seed=params.seed,
        about={
            "recipe": recipe,
            "dataset": manifest.about(),
            "synthetic": manifest.synthetic,
            "model": card["model"]["name"],
            "parameters": card["parameters"],
            "weights_sha256": card["weights_sha256"],
            "spec_id": card["spec_id"],
            "image": card["image"],
            "training": card["training"],
            "explanation": explanation.figures,
        },
        abstain_below=classifier.abstain_below,
    )
    # The report folder holds other stages' pages too, so files move in one by one.
    with folder_written_aside(report / ".evaluation") as aside:
        write_evaluation(
            aside,
            table,
            figures,
            history=pd.read_csv(model_folder / HISTORY),
            images=lambda rows: images.take(index[rows]),
            saliency=explanation.averages,
            sheets=class_sheets(images, split.beats["label"].to_numpy(), split.classes),
            verdict_link="verdict.md",
        )
    for path in sorted((report / ".evaluation").iterdir()):
        target = report / path.name
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(path, target)
    (report / ".evaluation").rmdir()
    headline = figures["headline"]
    say(
        f"evaluate: {len(index)} beats of {figures['patients']} patients, "
        f"macro-F1 {headline['macro_f1']:.3f} over {' '.join(headline['classes'])}"
    )
    return figures


def _table(split: Split, index: np.ndarray, probabilities: np.ndarray) -> pd.DataFrame:
    table = split.beats.iloc[index][["record", "patient", "sample", "time_s", "symbol"]]
    code = {name: i for i, name in enumerate(split.classes)}
    table = table.assign(label=split.beats["label"].iloc[index].map(code).astype("int64"))
    for k, name in enumerate(split.classes):
        table[f"p_{name}"] = probabilities[:, k]
    return table.reset_index(drop=True)


def _golden(
    images: BeatImages,
    classifier: Classifier,
    table: pd.DataFrame,
    index: np.ndarray,
    probabilities: np.ndarray,
) -> Golden:
    """Some beats of each class, spread over the test side."""
    each = max(1, _GOLDEN_BEATS // table["label"].nunique())
    rows = np.concatenate(
        [
            here[np.linspace(0, len(here) - 1, min(each, len(here))).astype(int)]
            for here in (np.flatnonzero(table["label"] == k) for k in table["label"].unique())
        ]
    )
    rows = np.sort(rows)
    return Golden(
        images=images.take(index[rows]),
        probabilities=probabilities[rows],
        classes=classifier.classes,
        spec_id=classifier.spec.spec_id,
    )
