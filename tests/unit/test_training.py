"""Training on tiny images: it learns, resumes, repeats itself and exports what it learnt."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ecgbeats import training
from ecgbeats.calibration import tempered
from ecgbeats.config import AnswerParams, ModelParams, PatientSplit, Protocol, TrainParams
from ecgbeats.errors import ConfigError, ContractError
from ecgbeats.files import read_json, sha256_tree
from ecgbeats.imaging.spec import CompositeSpec
from ecgbeats.imaging.store import BeatImages, render_dataset
from ecgbeats.inference import CARD, ONNX, Classifier
from ecgbeats.models import build_model
from ecgbeats.split import TEST, TRAIN, assign_sides
from tests.support.recordings import AAMI5, write_dataset

pytestmark = pytest.mark.unit

SPEC = CompositeSpec(representation="composite", panel_height=16, width=30, strip_height=2)
MODEL = ModelParams(name="compact", options={"filters": [4, 8], "dense": 16})
PARAMS = TrainParams(seed=1, epochs=3, batch=16, learning_rate=0.01, patience=3)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Iterator[training.Task]:
    folder = tmp_path_factory.mktemp("training")
    write_dataset(folder / "raw", {f"r{k}": "NNNVNNANNNVNNNNA" * 2 for k in range(8)})
    render_dataset(folder / "raw", SPEC, AAMI5, folder / "images", workers=1)
    images = BeatImages.open(folder / "images")
    protocol = Protocol(
        labels=AAMI5,
        split=PatientSplit(by="patient", test_share=0.25, validation_share=0.34),
        gate=({"metric": "accuracy", "at_least": 0.5},),  # type: ignore[arg-type]
    )
    sides = assign_sides(images.beats, AAMI5, protocol)
    yield training.make_task(images, sides, AAMI5.names, ("N", "S", "V"))


def fit(task: training.Task, folder: Path, params: TrainParams = PARAMS) -> dict[str, Any]:
    return training.train(task, MODEL, params, folder / "model", checkpoints=folder / "checkpoints")


@pytest.fixture(scope="module")
def trained(task: training.Task, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    params = PARAMS.model_copy(update={"epochs": 12, "patience": 12})
    fit(task, folder, params)
    return folder / "model"


def test_it_learns_what_can_be_seen(task: training.Task, trained: Path) -> None:
    classifier = Classifier.load(trained)
    index = task.index(TEST)
    answers = classifier.predict(task.images.take(index))
    assert answers.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert (answers.argmax(axis=1) == task.labels[index]).mean() > 0.9


def test_keras_and_onnx_agree_and_files_fit_the_card(task: training.Task, trained: Path) -> None:
    import keras

    images = task.images.take(task.index(TRAIN)[:20])
    model = keras.saving.load_model(trained / "model.keras")
    kept = np.asarray(model.predict_on_batch(images[..., None].astype(np.float32)))
    assert np.abs(kept - Classifier.load(trained).predict(images)).max() < 1e-5
    card = read_json(trained / CARD)
    assert card["spec_id"] == SPEC.spec_id
    assert card["parameters"] == model.count_params()
    assert not (trained.parent / "checkpoints").exists()


def test_a_changed_network_is_refused(trained: Path, tmp_path: Path) -> None:
    for path in trained.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    data = bytearray((tmp_path / ONNX).read_bytes())
    data[-1] ^= 1
    (tmp_path / ONNX).write_bytes(data)
    with pytest.raises(ContractError, match="SHA-256"):
        Classifier.load(tmp_path)


def test_images_of_another_shape_are_refused(trained: Path) -> None:
    with pytest.raises(ContractError, match="expected images uint8"):
        Classifier.load(trained).predict(np.zeros((1, 5, 5), np.uint8))


@pytest.mark.parametrize(
    ("changes", "deaths"),
    [
        ({}, (1, 2)),
        ({"refit": True}, (1, 2)),
        ({"refit": True, "select": False, "calibrate": "none", "members": 2}, (2, 2)),
    ],
    ids=["selected", "refit", "members"],
)
def test_same_seed_same_bytes_and_a_killed_training_resumes_to_them(
    task: training.Task,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    deaths: tuple[int, int],
) -> None:
    params = PARAMS.model_copy(update=changes)
    fit(task, tmp_path / "whole", params)
    save = training._save
    for die_after in deaths:
        calls = 0

        def dying(*args: Any, die_after: int = die_after) -> None:
            nonlocal calls
            save(*args)
            calls += 1
            if calls == die_after:
                raise KeyboardInterrupt

        monkeypatch.setattr(training, "_save", dying)
        with pytest.raises(KeyboardInterrupt):
            fit(task, tmp_path / "parts", params)
        assert not (tmp_path / "parts" / "model").exists()
    monkeypatch.setattr(training, "_save", save)
    fit(task, tmp_path / "parts", params)
    assert sha256_tree(tmp_path / "parts" / "model") == sha256_tree(tmp_path / "whole" / "model")


def test_members_are_trained_apart_and_answer_their_mean(
    task: training.Task, tmp_path: Path
) -> None:
    images = task.images.take(task.index(TEST))
    asked = PARAMS.model_copy(update={"epochs": 1, "calibrate": "none", "members": 2})
    card = fit(task, tmp_path / "both", asked)
    both = Classifier.load(tmp_path / "both" / "model").predict(images)
    second = int(np.random.SeedSequence([asked.seed, 1]).generate_state(1)[0])
    alone = []
    for seed in (asked.seed, second):
        params = asked.model_copy(update={"members": 1, "seed": seed})
        one = fit(task, tmp_path / str(seed), params)
        alone.append(Classifier.load(tmp_path / str(seed) / "model").predict(images))
    assert np.abs(alone[0] - alone[1]).max() > 1e-3
    assert np.abs(both - np.mean(alone, axis=0)).max() < 1e-5
    assert card["parameters"] == 2 * one["parameters"]
    assert [row["epoch"] for row in card["training"]["members"]] == [1, 1]
    phases = pd.read_csv(tmp_path / "both" / "model" / "history.csv")["phase"]
    assert phases.tolist() == ["select", "select-2"]


def test_members_may_be_of_several_kinds(task: training.Task, tmp_path: Path) -> None:
    kinds = ({"filters": [4]}, {"dense": 8})
    of_both = MODEL.model_copy(update={"kinds": kinds})
    params = PARAMS.model_copy(update={"epochs": 1, "calibrate": "none"})
    images = task.images.take(task.index(TEST))

    def answers(name: str, model: ModelParams, params: TrainParams) -> np.ndarray:
        card = training.train(
            task, model, params, tmp_path / name, checkpoints=tmp_path / f"{name}-checkpoints"
        )
        counts.append(card["parameters"])
        return Classifier.load(tmp_path / name).predict(images)

    counts: list[int] = []
    assert [of_both.of_member(k).options["dense"] for k in range(3)] == [16, 8, 16]
    together = answers("together", of_both, params.model_copy(update={"members": 2}))
    apart = []
    for k, kind in enumerate(kinds):
        seed = int(np.random.SeedSequence([params.seed, k]).generate_state(1)[0])
        one = params.model_copy(update={"seed": seed if k else params.seed})
        alone = MODEL.model_copy(update={"options": {**MODEL.options, **kind}})
        apart.append(answers(f"member{k}", alone, one))
    assert np.abs(together - np.mean(apart, axis=0)).max() < 1e-5
    assert counts[0] == sum(counts[1:])
    assert counts[1] != counts[2]


def test_without_selection_all_training_patients_are_learnt_to_the_last_epoch(
    task: training.Task, tmp_path: Path
) -> None:
    params = PARAMS.model_copy(update={"refit": True, "select": False, "calibrate": "none"})
    facts = fit(task, tmp_path, params)["training"]
    assert (facts["best_epoch"], facts["epochs_run"], facts["validation_macro_f1"]) == (3, 3, None)
    # As the refit of a network that was selected at its last epoch.
    chosen = params.model_copy(update={"select": True, "min_epochs": params.epochs})
    fit(task, tmp_path / "chosen", chosen)
    images = task.images.take(task.index(TEST))
    one, other = (
        Classifier.load(folder / "model").predict(images)
        for folder in (tmp_path, tmp_path / "chosen")
    )
    assert np.abs(one - other).max() < 1e-6
    with pytest.raises(ValueError, match="select: false needs refit: true"):
        TrainParams(**{**PARAMS.model_dump(), "select": False})


def test_the_temperature_of_the_selected_epoch_is_in_the_exported_network(
    task: training.Task, tmp_path: Path
) -> None:
    answer = AnswerParams(abstain_below=0.6)
    cards, answers = {}, {}
    images = task.images.take(task.index(TEST))
    for name, changes in {
        "none": {"calibrate": "none"},
        "temperature": {},
        "refit": {"refit": True},
    }.items():
        folder = tmp_path / name
        params = PARAMS.model_copy(update={"epochs": 2, **changes})
        cards[name] = training.train(
            task, MODEL, params, folder, checkpoints=tmp_path / "checkpoints", answer=answer
        )
        answers[name] = Classifier.load(folder).predict(images)
    found = cards["temperature"]["training"]["calibration"]
    assert cards["none"]["training"]["calibration"] is None
    assert found["temperature"] != 1.0
    assert found["validation_log_loss"] <= found["validation_log_loss_before"]
    expected = tempered(answers["none"], found["temperature"])
    assert np.abs(answers["temperature"] - expected).max() < 1e-5
    assert cards["temperature"]["weights_sha256"] == cards["none"]["weights_sha256"]
    # Refitted on the validation patients too, it cannot ask them any more.
    assert cards["refit"]["training"]["calibration"] == found
    assert cards["refit"]["weights_sha256"] != cards["none"]["weights_sha256"]
    assert Classifier.load(tmp_path / "refit").abstain_below == 0.6


def test_another_seed_gives_other_weights(task: training.Task, tmp_path: Path) -> None:
    cards = [
        fit(task, tmp_path / str(seed), PARAMS.model_copy(update={"seed": seed, "epochs": 1}))
        for seed in (1, 2)
    ]
    assert cards[0]["weights_sha256"] != cards[1]["weights_sha256"]


def test_a_checkpoint_of_another_task_is_not_resumed(
    task: training.Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = training._save

    def dying(*args: Any) -> None:
        save(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "_save", dying)
    with pytest.raises(KeyboardInterrupt):
        fit(task, tmp_path)
    monkeypatch.setattr(training, "_save", save)
    changed = PARAMS.model_copy(update={"learning_rate": 0.02, "epochs": 2})
    assert fit(task, tmp_path, changed)["training"]["epochs_run"] == 2


def test_training_stops_when_patience_ends(
    task: training.Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.95, 0.9, 0.8, 0.7, 0.6, 0.5])
    monkeypatch.setattr(
        training,
        "_validate",
        lambda *_: {"validation_loss": 1.0, "validation_macro_f1": next(scores)},
    )
    # The first epoch's score is better, and does not count.
    params = PARAMS.model_copy(update={"epochs": 6, "min_epochs": 2, "patience": 2})
    facts = fit(task, tmp_path, params)["training"]
    assert (facts["best_epoch"], facts["epochs_run"]) == (2, 4)


def test_class_weights_leave_the_mean_beat_at_one() -> None:
    labels = np.repeat([0, 1, 2], [90, 9, 1])
    for balance in (0.0, 0.5, 1.0):
        weight = training.class_weights(labels, 4, balance)
        assert weight[labels].mean() == pytest.approx(1)
        assert weight[3] == 0
    full = training.class_weights(labels, 3, 1.0)
    assert full * [90, 9, 1] == pytest.approx([100 / 3] * 3, rel=1e-5)


def test_split_of_other_beats_is_refused(task: training.Task) -> None:
    other = task.images.beats.iloc[:-1].assign(label="N", side=TRAIN)
    with pytest.raises(ContractError, match="other beats"):
        training.make_task(task.images, other, AAMI5.names, ("N",))


def test_unknown_models_and_options_are_named() -> None:
    with pytest.raises(ConfigError, match="compact"):
        build_model("giant", SPEC, 5)
    with pytest.raises(ConfigError, match="depth"):
        build_model("compact", SPEC, 5, depth=3)
