"""One model trained on one set of sides and asked about its test side; kept, never done twice.

Cross-validation, search and benchmark are many of these. An experiment is a folder:

    model/                as `ecgbeats.training.train` writes it
    predictions.parquet   the answers on the test side, a predictions table
    outcome.json          what it was, what it cost; written last, so it marks the end

A folder without outcome.json is unfinished, and is gone on with from its checkpoints.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ecgbeats import training
from ecgbeats.codehash import code_hash
from ecgbeats.config import ModelParams, TrainParams
from ecgbeats.errors import DataError
from ecgbeats.files import (
    canonical_json,
    read_json,
    sha256_arrays,
    sha256_text,
    write_json,
    written_aside,
)
from ecgbeats.imaging.store import BeatImages
from ecgbeats.inference import CARD, Classifier
from ecgbeats.split import TEST

MODEL, PREDICTIONS, OUTCOME = "model", "predictions.parquet", "outcome.json"
_CHECKPOINTS, _CLOCK = "checkpoints", "clock.json"
_CHUNK = 8192


@dataclass(frozen=True)
class Outcome:
    """A finished experiment.

    Attributes
    ----------
    folder : Path
        Its `folder / MODEL` is a model folder.
    classes : tuple of str
        In the order of the labels and probabilities.
    predictions : DataFrame
        Predictions table (see `ecgbeats.evaluation`) of the labelled beats of the test side,
        in the order of the images.
    card : dict
        The model's card, model.json.
    train_seconds : float
        Wall time of training, over all its interruptions; what was lost in them not counted.
    fingerprint : str
        Hash of all that decides the outcome.
    """

    folder: Path
    classes: tuple[str, ...]
    predictions: pd.DataFrame
    card: dict[str, Any]
    train_seconds: float
    fingerprint: str = ""

    @property
    def parameters(self) -> int:
        """Weights of the network."""
        return int(self.card["parameters"])


def run_experiment(
    images: BeatImages,
    sides: pd.DataFrame,
    classes: Sequence[str],
    headline: Sequence[str],
    model: ModelParams,
    train: TrainParams,
    folder: Path,
) -> Outcome:
    """Train on the training side of `sides`, classify its test side, keep both in `folder`.

    Returns at once when `folder` holds the outcome of the same images, sides, parameters and
    code; goes on where it stopped when that was begun; begins anew when it was anything else.

    Parameters
    ----------
    sides : DataFrame
        The beats of `images`, in their order, with columns label (class name) and side, as
        `ecgbeats.split.assign_sides` gives them.
    classes : sequence of str
        In the order of the network's outputs.
    headline : sequence of str
        The classes by whose mean F1 an epoch is chosen.

    Raises
    ------
    ContractError
        Images and sides are of different beats.
    DataError
        No labelled beat on the training, validation or test side.
    """
    folder = Path(folder)
    task = training.make_task(images, sides, classes, headline)
    test = task.index(TEST)
    if not len(test):
        raise DataError(f"{folder}: expected a labelled beat on the test side, found none")
    fingerprint = _fingerprint(task, model, train, images.digest())
    done = finished(folder, fingerprint)
    if done is not None:
        return done
    clock = _Clock.of(folder, fingerprint)
    # The clock's folder was cleared unless it is of this very experiment, so a model that
    # lies in it is the one that is wanted: training writes it whole or not at all.
    if not (folder / MODEL / CARD).is_file():
        training.train(task, model, train, folder / MODEL, checkpoints=folder / _CHECKPOINTS)
        clock.stop()
    classifier = Classifier.load(folder / MODEL)
    probabilities = np.concatenate(
        [classifier.predict(images.take(test[i : i + _CHUNK])) for i in range(0, len(test), _CHUNK)]
    )
    table = predictions_table(sides, classifier.classes, test, probabilities)
    with written_aside(folder / PREDICTIONS) as aside:
        table.to_parquet(aside, index=False)
    write_json(
        folder / OUTCOME,
        {
            "schema": 1,
            "fingerprint": fingerprint,
            "classes": list(task.classes),
            "headline": list(task.headline),
            "model": model.model_dump(mode="json"),
            "train": train.model_dump(mode="json"),
            "parameters": classifier.card["parameters"],
            "weights_sha256": classifier.card["weights_sha256"],
            "train_seconds": round(clock.seconds, 3),
            "test_beats": len(table),
        },
    )
    (folder / _CLOCK).unlink(missing_ok=True)
    outcome = finished(folder, fingerprint)
    assert outcome is not None
    return outcome


def look_up(
    images: BeatImages,
    sides: pd.DataFrame,
    classes: Sequence[str],
    headline: Sequence[str],
    model: ModelParams,
    train: TrainParams,
    folder: Path,
    *,
    digest: str,
) -> Outcome | None:
    """What `run_experiment` would return without training, or None.

    Parameters
    ----------
    digest : str
        `images.digest()`, which takes as long as reading all images; it is the same for all
        experiments on them.
    """
    task = training.make_task(images, sides, classes, headline)
    return finished(folder, _fingerprint(task, model, train, digest))


def finished(folder: Path, fingerprint: str | None = None) -> Outcome | None:
    """The outcome in `folder`; None where there is none, or one of another fingerprint."""
    folder = Path(folder)
    if not (folder / OUTCOME).is_file():
        return None
    about = read_json(folder / OUTCOME)
    if fingerprint is not None and about["fingerprint"] != fingerprint:
        return None
    return Outcome(
        folder=folder,
        classes=tuple(about["classes"]),
        predictions=pd.read_parquet(folder / PREDICTIONS),
        card=read_json(folder / MODEL / CARD),
        train_seconds=float(about["train_seconds"]),
        fingerprint=about["fingerprint"],
    )


def predictions_table(
    sides: pd.DataFrame, classes: Sequence[str], index: np.ndarray, probabilities: np.ndarray
) -> pd.DataFrame:
    """The predictions table of the beats `index` of `sides`.

    Parameters
    ----------
    sides : DataFrame
        With columns record, patient, sample, time_s, symbol and label (class name).
    index : ndarray of int, shape (n,)
    probabilities : ndarray, shape (n, classes)
    """
    table = sides.iloc[index][["record", "patient", "sample", "time_s", "symbol"]]
    code = {name: i for i, name in enumerate(classes)}
    table = table.assign(label=sides["label"].iloc[index].map(code).astype("int64"))
    for k, name in enumerate(classes):
        table[f"p_{name}"] = probabilities[:, k]
    return table.reset_index(drop=True)


@cache
def training_code(model: str) -> str:
    """Hash of the code that decides what the network `model` and its answers become.

    How images are drawn, and sides assigned, does not count: those are hashed themselves.
    """
    modules = ("ecgbeats.training", "ecgbeats.inference")
    return code_hash(modules, model=model, without=("ecgbeats.imaging", "ecgbeats.split"))


def _fingerprint(task: training.Task, model: ModelParams, train: TrainParams, digest: str) -> str:
    return sha256_text(
        canonical_json(
            {
                "images": digest,
                "labels": sha256_arrays([task.labels]),
                "side": sha256_text(",".join(task.side)),
                "classes": task.classes,
                "headline": task.headline,
                "model": model.model_dump(mode="json"),
                "train": train.model_dump(mode="json"),
                "code": training_code(model.name),
            }
        )
    )


class _Clock:
    """Counts the seconds of a training that may be killed and gone on with.

    A killed process cannot say how long it ran. What it left behind does: the time of its
    last checkpoint, up to which nothing has to be done again.
    """

    def __init__(self, path: Path, fingerprint: str, spent: float) -> None:
        self._path, self._fingerprint, self.seconds = path, fingerprint, spent
        self._began = time.monotonic()
        self._write(time.time())

    @classmethod
    def of(cls, folder: Path, fingerprint: str) -> _Clock:
        """The clock of the experiment in `folder`, which is cleared if it was another's."""
        path = folder / _CLOCK
        if path.is_file():
            stored = read_json(path)
            if stored["fingerprint"] == fingerprint:
                return cls(path, fingerprint, stored["spent"] + _since(folder, stored["began"]))
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return cls(path, fingerprint, 0.0)

    def stop(self) -> None:
        """Training is done."""
        self.seconds += time.monotonic() - self._began
        self._write(None)

    def _write(self, began: float | None) -> None:
        write_json(
            self._path,
            {"fingerprint": self._fingerprint, "spent": self.seconds, "began": began},
        )


def _since(folder: Path, began: float | None) -> float:
    """Seconds from `began` to the last checkpoint, or to the model that training ended with."""
    if began is None:
        return 0.0
    kept = [folder / _CHECKPOINTS / "state.json", folder / MODEL / CARD]
    return max([0.0, *(path.stat().st_mtime - began for path in kept if path.is_file())])
