"""What a model that is already trusted says of new labels, class by class."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from ecgbeats.additions.suites import AGREEMENT_BEATS
from ecgbeats.datasets import Manifest
from ecgbeats.inference import Classifier
from ecgbeats.labels import LabelScheme
from ecgbeats.measuring_records import Reading, RecordSet, classify_record
from ecgbeats.parallel import parallel_map


def measure_agreement(
    model: Path,
    folder: Path,
    manifest: Manifest,
    scheme: LabelScheme,
    *,
    workers: int | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Classify all beats of a dataset and count them against its labels.

    Parameters
    ----------
    model : Path
        A model folder, of the classes of `scheme`.

    Returns
    -------
    DataFrame
        One row a class: label, beats, agreement (share that the model calls so; null of fewer
        beats than `AGREEMENT_BEATS`).
    DataFrame
        Counts: labels are rows, the model's answers columns.
    """
    classes = Classifier.load(model).classes
    records = RecordSet(folder, manifest.patient_of, manifest)
    job = partial(classify_record, model, records, scheme, Reading(manifest.annotator))
    done = parallel_map(job, list(manifest.record_names), job="model", workers=workers)
    counts = np.zeros((len(classes), len(classes)), np.int64)
    for each in done:
        if each.skipped is None:
            given = each.predictions["label"].to_numpy()
            found = each.predictions[[f"p_{name}" for name in classes]].to_numpy().argmax(axis=1)
            np.add.at(counts, (given, found), 1)
    return agreement_of(counts, classes), pd.DataFrame(counts, list(classes), list(classes))


def agreement_of(counts: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """The first table of `measure_agreement`, of counts with labels as rows."""
    beats = counts.sum(axis=1)
    share = np.where(beats >= AGREEMENT_BEATS, counts.diagonal() / np.maximum(beats, 1), np.nan)
    return pd.DataFrame({"label": list(classes), "beats": beats, "agreement": share})
