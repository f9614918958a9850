"""An experiment is done once, goes on where it was killed, and is of just what it says."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ecgbeats import experiment, training
from ecgbeats.config import ModelParams, PatientSplit, Protocol, TrainParams
from ecgbeats.errors import DataError
from ecgbeats.evaluation import evaluate
from ecgbeats.experiment import MODEL, OUTCOME, PREDICTIONS, Outcome, run_experiment
from ecgbeats.files import read_json, sha256_tree, write_json
from ecgbeats.imaging.spec import CompositeSpec
from ecgbeats.imaging.store import BeatImages, render_dataset
from ecgbeats.inference import Classifier
from ecgbeats.split import TEST, TRAIN, assign_sides
from tests.support.recordings import AAMI5, write_dataset

pytestmark = pytest.mark.unit

SPEC = CompositeSpec(representation="composite", panel_height=16, width=30, strip_height=2)
NETWORK = ModelParams(name="compact", options={"filters": [4, 8], "dense": 8})
PARAMS = TrainParams(seed=1, epochs=2, batch=16, learning_rate=0.01, patience=2)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BeatImages]:
    folder = tmp_path_factory.mktemp("experiment")
    write_dataset(folder / "raw", {f"r{k}": "NNNVNNANNNVNNNNA" for k in range(8)})
    render_dataset(folder / "raw", SPEC, AAMI5, folder / "images", workers=1)
    yield BeatImages.open(folder / "images")


@pytest.fixture(scope="module")
def sides(images: BeatImages) -> pd.DataFrame:
    protocol = Protocol(
        labels=AAMI5,
        split=PatientSplit(by="patient", test_share=0.25, validation_share=0.34),
        gate=({"metric": "accuracy", "at_least": 0.5},),  # type: ignore[arg-type]
    )
    return assign_sides(images.beats, AAMI5, protocol)


def run(
    images: BeatImages, sides: pd.DataFrame, folder: Path, params: TrainParams = PARAMS
) -> Outcome:
    return run_experiment(images, sides, AAMI5.names, ("N", "S", "V"), NETWORK, params, folder)


@pytest.fixture(scope="module")
def whole(
    images: BeatImages, sides: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> Outcome:
    return run(images, sides, tmp_path_factory.mktemp("whole") / "one")


def count_trainings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that models are trained to from now on."""
    train, made = training.train, []

    def counted(task: Any, model: Any, params: Any, out: Path, **options: Any) -> Any:
        made.append(out)
        return train(task, model, params, out, **options)

    monkeypatch.setattr(training, "train", counted)
    return made


def test_it_answers_every_beat_of_the_test_side_and_can_be_evaluated(
    images: BeatImages, sides: pd.DataFrame, whole: Outcome
) -> None:
    test = sides[sides["side"] == TEST]
    assert whole.predictions["sample"].tolist() == test["sample"].tolist()
    assert whole.predictions["record"].tolist() == test["record"].tolist()
    names = np.array(whole.classes)[whole.predictions["label"]]
    assert names.tolist() == test["label"].tolist()
    classifier = Classifier.load(whole.folder / MODEL)
    answers = classifier.predict(images.take(np.flatnonzero(sides["side"] == TEST)))
    assert whole.predictions[[f"p_{name}" for name in whole.classes]].to_numpy() == pytest.approx(
        answers
    )
    about = {"recipe": "r", "dataset": {}, "synthetic": True, "weights_sha256": "0"}
    figures = evaluate(
        whole.predictions, whole.classes, ("N", "V"), replicates=100, seed=0, about=about
    )
    assert figures["beats"] == len(test)


def test_what_it_cost_is_kept(whole: Outcome) -> None:
    about = read_json(whole.folder / OUTCOME)
    assert whole.train_seconds == about["train_seconds"] > 0
    assert about["parameters"] == whole.card["parameters"] == whole.parameters > 0
    left = {path.name for path in whole.folder.iterdir()}
    assert left == {MODEL, PREDICTIONS, OUTCOME}


def test_a_finished_experiment_is_not_done_again(
    images: BeatImages, sides: pd.DataFrame, whole: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = count_trainings(monkeypatch)
    again = run(images, sides, whole.folder)
    assert not made
    pd.testing.assert_frame_equal(again.predictions, whole.predictions)
    assert (again.card, again.train_seconds) == (whole.card, whole.train_seconds)


@pytest.mark.parametrize("change", ["sides", "parameters", "code"])
def test_another_experiment_in_the_same_folder_replaces_it(
    images: BeatImages,
    sides: pd.DataFrame,
    whole: Outcome,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
) -> None:
    shutil.copytree(whole.folder, tmp_path / "one")
    params = PARAMS
    before = read_json(tmp_path / "one" / OUTCOME)["fingerprint"]
    if change == "sides":
        sides = sides.assign(side=sides["side"].replace(TEST, TRAIN))
        sides.loc[sides["record"] == "r0", "side"] = TEST
        sides.loc[sides["record"] == "r1", "side"] = "validation"
    elif change == "parameters":
        params = params.model_copy(update={"epochs": 1})
    else:
        monkeypatch.setattr(experiment, "training_code", lambda model: "another")
    made = count_trainings(monkeypatch)
    run(images, sides, tmp_path / "one", params)
    assert len(made) == 1
    assert read_json(tmp_path / "one" / OUTCOME)["fingerprint"] != before


def test_a_killed_experiment_goes_on_and_gives_the_same(
    images: BeatImages,
    sides: pd.DataFrame,
    whole: Outcome,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save = training._save
    saved = 0

    def dying(*args: Any) -> None:
        nonlocal saved
        save(*args)
        saved += 1
        if saved == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "_save", dying)
    with pytest.raises(KeyboardInterrupt):
        run(images, sides, tmp_path / "parts")
    assert not (tmp_path / "parts" / OUTCOME).exists()
    # As if the first epoch had taken 1000 s.
    clock = read_json(tmp_path / "parts" / "clock.json")
    write_json(tmp_path / "parts" / "clock.json", clock | {"began": clock["began"] - 1000})
    resumed = run(images, sides, tmp_path / "parts")
    assert saved == PARAMS.epochs
    assert sha256_tree(resumed.folder / MODEL) == sha256_tree(whole.folder / MODEL)
    pd.testing.assert_frame_equal(resumed.predictions, whole.predictions)
    assert resumed.train_seconds > 1000
    assert {path.name for path in resumed.folder.iterdir()} == {MODEL, PREDICTIONS, OUTCOME}


def test_killed_after_training_it_does_not_train_again(
    images: BeatImages, sides: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dying(*_: Any) -> pd.DataFrame:
        raise KeyboardInterrupt

    params = PARAMS.model_copy(update={"epochs": 1})
    table = experiment.predictions_table
    monkeypatch.setattr(experiment, "predictions_table", dying)
    with pytest.raises(KeyboardInterrupt):
        run(images, sides, tmp_path / "one", params)
    monkeypatch.setattr(experiment, "predictions_table", table)
    made = count_trainings(monkeypatch)
    assert run(images, sides, tmp_path / "one", params).train_seconds > 0
    assert not made


def test_no_beat_to_test_is_an_error(
    images: BeatImages, sides: pd.DataFrame, tmp_path: Path
) -> None:
    none = sides.assign(side=sides["side"].replace(TEST, "unused"))
    with pytest.raises(DataError, match="test side"):
        run(images, none, tmp_path / "one")
