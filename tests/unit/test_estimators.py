"""Baselines of scikit-learn: what is exported answers as what was fitted, byte for byte again."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest

from ecgbeats import training
from ecgbeats.config import AugmentParams, ModelParams, PatientSplit, Protocol, TrainParams
from ecgbeats.errors import ConfigError, DataError
from ecgbeats.export import save_network
from ecgbeats.files import read_json, sha256_tree
from ecgbeats.imaging.spec import CompositeSpec, WaveformSpec
from ecgbeats.imaging.store import BeatImages, render_dataset
from ecgbeats.inference import CARD, HISTORY, ONNX, Classifier
from ecgbeats.models import ESTIMATORS, build_estimator, build_model
from ecgbeats.models.estimators import Estimator, SupportVectorMachine
from ecgbeats.split import TEST, TRAIN, VALIDATION, assign_sides
from tests.support.recordings import AAMI5, write_dataset

pytestmark = pytest.mark.unit

SPEC = CompositeSpec(representation="composite", panel_height=8, width=16, strip_height=2)
SMALL = WaveformSpec(representation="waveform", height=16, width=16)
FEW_TREES = {"max_iter": 8, "max_leaf_nodes": 4, "min_samples_leaf": 5, "learning_rate": 0.3}
MODELS = {
    "gradient-boosting": ModelParams(name="gradient-boosting", options=FEW_TREES),
    "svm": ModelParams(name="svm", options={"c": 3.0}),
}
# Required of every recipe; of these a baseline reads the seed alone.
PARAMS = TrainParams(seed=1, epochs=1, batch=1, learning_rate=1.0, patience=1)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Iterator[training.Task]:
    folder = tmp_path_factory.mktemp("estimators")
    write_dataset(folder / "raw", {f"r{k}": "NNNVNNANNNVNNNNA" * 2 for k in range(9)})
    render_dataset(folder / "raw", SPEC, AAMI5, folder / "images", workers=1)
    images = BeatImages.open(folder / "images")
    protocol = Protocol(
        labels=AAMI5,
        split=PatientSplit(by="patient", test_share=0.25, validation_share=0.34),
        gate=({"metric": "accuracy", "at_least": 0.5},),  # type: ignore[arg-type]
    )
    sides = assign_sides(images.beats, AAMI5, protocol)
    yield training.make_task(images, sides, AAMI5.names, ("N", "S", "V"))


def train(task: training.Task, name: str, folder: Path, **changes: Any) -> dict[str, Any]:
    params = PARAMS.model_copy(update=changes)
    return training.train(
        task, MODELS[name], params, folder / "model", checkpoints=folder / "checkpoints"
    )


def noise(classes: int, count: int = 150, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images whose first row hints at their class, and their classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    images = rng.integers(0, 256, (count, *SMALL.shape))
    images[:, 0] = images[:, 0] // 2 + (120 // max(classes - 1, 1)) * labels[:, None]
    return images.astype(np.uint8), labels


def fitted(name: str, images: np.ndarray, labels: np.ndarray, classes: int = 5) -> Estimator:
    estimator = build_estimator(name, SMALL, classes, seed=0, **MODELS[name].options)
    estimator.fit(images, labels, np.ones(len(labels)))
    return estimator


def answers_of(path: Path, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    given = {"image": images[..., None].astype(np.float32)}
    return np.asarray(session.run(["label"], given)[0])


@pytest.mark.parametrize("name", ESTIMATORS)
def test_trained_exported_and_served_as_a_network_is(
    task: training.Task, tmp_path: Path, name: str
) -> None:
    card = train(task, name, tmp_path)
    written = {path.name for path in (tmp_path / "model").iterdir()}
    assert written == {CARD, ONNX, HISTORY}
    assert card == read_json(tmp_path / "model" / CARD)
    classifier = Classifier.load(tmp_path / "model")
    index = task.index(TEST)
    answers = classifier.predict(task.images.take(index))
    assert answers.dtype == np.float32
    assert answers.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert (answers.argmax(axis=1) == task.labels[index]).mean() > 0.9
    # No training beat is of class F or Q.
    assert not answers[:, 3:].any()
    (row,) = pd.read_csv(tmp_path / "model" / HISTORY).to_dict("records")
    assert row["validation_macro_f1"] == card["training"]["validation_macro_f1"] > 0.9
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("name", ESTIMATORS)
def test_input_and_output_are_those_of_networks(tmp_path: Path, name: str) -> None:
    save_network(fitted(name, *noise(3)).network(), tmp_path / ONNX)
    graph = onnx.load(tmp_path / ONNX).graph
    assert [value.name for value in (*graph.input, *graph.output)] == ["image", "label"]
    shapes = [
        [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    ]
    assert shapes == [["batch", 16, 16, 1], ["batch", 5]]


@pytest.mark.parametrize("seen", [(0, 1), (1, 4), (0, 2, 3), (0, 1, 2, 3, 4)], ids=str)
@pytest.mark.parametrize("temperature", [1.0, 1.7])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_onnx_answers_as_scikit_learn(
    tmp_path: Path, name: str, temperature: float, seen: tuple[int, ...]
) -> None:
    images, codes = noise(len(seen))
    estimator = fitted(name, images, np.array(seen)[codes])
    estimator.temperature = temperature
    save_network(estimator.network(), tmp_path / ONNX)
    others, _ = noise(len(seen), seed=1)
    expected = estimator.predict(others)
    assert expected.sum(axis=1) == pytest.approx(1)
    assert np.ptp(expected[:, seen[0]]) > 0.1
    assert set(np.flatnonzero(expected.any(axis=0))) == set(seen)
    assert np.abs(answers_of(tmp_path / ONNX, others) - expected).max() < 1e-5


@pytest.mark.parametrize("name", ESTIMATORS)
def test_same_seed_same_bytes(task: training.Task, tmp_path: Path, name: str) -> None:
    first, again = (train(task, name, tmp_path / folder) for folder in ("a", "b"))
    assert first == again
    assert sha256_tree(tmp_path / "a" / "model") == sha256_tree(tmp_path / "b" / "model")


@pytest.mark.parametrize("name", ESTIMATORS)
def test_refit_learns_from_validation_patients_too(
    task: training.Task, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides, fit = [], Estimator.fit

    def watched(self: Estimator, images: np.ndarray, *others: Any) -> None:
        sides.append(len(images))
        fit(self, images, *others)

    monkeypatch.setattr(Estimator, "fit", watched)
    selected = train(task, name, tmp_path / "selected")
    refitted = train(task, name, tmp_path / "refitted", refit=True)
    some, all_ = len(task.index(TRAIN)), len(task.index(TRAIN, VALIDATION))
    assert sides == [some, some, all_]
    assert refitted["weights_sha256"] != selected["weights_sha256"]
    of = "validation_macro_f1"
    assert refitted["training"][of] == selected["training"][of]
    history = pd.read_csv(tmp_path / "refitted" / "model" / HISTORY)
    assert history["phase"].tolist() == ["select", "refit"]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_class_balance_lifts_the_rare_class(
    task: training.Task, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = []
    fit = Estimator.fit

    def watched(self: Estimator, *given: Any) -> None:
        weights.append((given[1], given[2]))
        fit(self, *given)

    monkeypatch.setattr(Estimator, "fit", watched)
    train(task, name, tmp_path, class_balance=1.0)
    ((labels, weight),) = weights
    totals = np.bincount(labels, weight, minlength=3)
    assert totals == pytest.approx([totals[0]] * 3)


def test_weights_count_in_both(tmp_path: Path) -> None:
    images, labels = noise(2)
    images[:, 0] = 128
    for name in ESTIMATORS:
        shares = []
        for rare in (0.2, 5.0):
            estimator = build_estimator(name, SMALL, 2, seed=0, **MODELS[name].options)
            estimator.fit(images, labels, np.where(labels == 1, rare, 1.0))
            shares.append(estimator.predict(noise(2, seed=3)[0])[:, 1].mean())
        assert shares[0] < shares[1] - 0.2, name


def test_temperature_is_fitted_and_built_in(task: training.Task, tmp_path: Path) -> None:
    plain = train(task, "svm", tmp_path / "plain", calibrate="none")
    tempered = train(task, "svm", tmp_path / "tempered")
    assert plain["training"]["calibration"] is None
    assert tempered["training"]["calibration"]["temperature"] != 1
    images = task.images.take(task.index(TEST))
    both = [Classifier.load(tmp_path / n / "model").predict(images) for n in ("plain", "tempered")]
    assert (both[0].argmax(axis=1) == both[1].argmax(axis=1)).all()
    assert np.abs(both[0] - both[1]).max() > 1e-4


def test_parameters_are_what_was_learnt(tmp_path: Path) -> None:
    images, labels = noise(3)
    trees = fitted("gradient-boosting", images, labels)
    # Each tree of l leaves: l values, and pixel and threshold of l - 1 inner nodes.
    save_network(trees.network(), tmp_path / ONNX)
    (node,) = (n for n in onnx.load(tmp_path / ONNX).graph.node if "Tree" in n.op_type)
    modes = next(a.strings for a in node.attribute if a.name == "nodes_modes")
    leaves = sum(mode == b"LEAF" for mode in modes)
    assert trees.parameters == leaves + 2 * (len(modes) - leaves)
    machine = fitted("svm", images, labels)
    vectors = len(machine.arrays()[1])
    # Pixels and two coefficients a vector; a threshold for each of three pairs; the scale.
    assert machine.parameters == vectors * (256 + 2) + 3 + 2 * 256 + 1


@pytest.mark.parametrize("classes", [2, 4])
def test_the_machine_says_what_its_votes_say(classes: int) -> None:
    images, labels = noise(classes, count=300)
    machine = fitted("svm", images, labels)
    assert isinstance(machine, SupportVectorMachine)
    others, _ = noise(classes, seed=1)
    votes = machine._machine.predict(machine._scaled(others.reshape(len(others), -1)))
    assert len(set(votes)) == classes
    assert (machine.predict(others).argmax(axis=1) == votes).mean() > 0.95


def test_labels_of_one_class_are_refused() -> None:
    images, labels = noise(2)
    with pytest.raises(DataError, match="two classes, found 1"):
        fitted("svm", images, np.zeros_like(labels))


def test_augmentation_that_would_not_happen_is_refused(task: training.Task, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.augment: svm"):
        train(task, "svm", tmp_path, augment=AugmentParams(noise=0.1))


def test_unknown_names_and_options_are_named(task: training.Task, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"compact.*gradient-boosting, svm"):
        build_model("forest", SPEC, 5)
    with pytest.raises(ConfigError, match="depth"):
        build_estimator("svm", SPEC, 5, seed=0, depth=3)
    images, labels = noise(2)
    estimator = build_estimator("gradient-boosting", SMALL, 2, seed=0, max_iter=-1)
    with pytest.raises(ConfigError, match=r"model\.options.*max_iter"):
        estimator.fit(images, labels, np.ones(len(labels)))
