"""Training on several devices and in 16 bits: what is exported is float32, and says how it came."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ecgbeats import training
from ecgbeats.config import ModelParams, TrainParams
from ecgbeats.devices import tell_in_card, training_as_asked
from ecgbeats.errors import ConfigError
from ecgbeats.files import read_json
from ecgbeats.inference import CARD, ONNX, Classifier
from ecgbeats.split import TEST
from tests.unit.test_training import MODEL, PARAMS, task  # noqa: F401

pytestmark = pytest.mark.unit


def asked(**changes: Any) -> TrainParams:
    return PARAMS.model_copy(update={"epochs": 4, **changes})


def test_a_training_without_them_is_known_as_it_was_before_there_were_any() -> None:
    named = PARAMS.model_dump(mode="json")
    assert not {"precision", "devices", "LATER"} & set(named)
    other = asked(precision="mixed_bfloat16", devices=2)
    assert TrainParams.model_validate(other.model_dump(mode="json")) == other
    assert other.model_dump(mode="json")["devices"] == 2


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_trained_in_16_bits_it_is_exported_in_float32(
    task: training.Task,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
) -> None:
    import keras
    import onnx

    saved, params = training._save, asked(precision=precision, epochs=6)
    seen: set[str] = set()

    def look(model: keras.Model, *rest: Any) -> None:
        seen.update(f"{layer.name} {layer.compute_dtype}" for layer in model.layers)
        assert {weight.dtype for weight in model.weights if "seed" not in weight.path} == {
            "float32"
        }
        saved(model, *rest)

    monkeypatch.setattr(training, "_save", look)
    with training_as_asked(MODEL, params):
        training.train(task, MODEL, params, tmp_path / "model", checkpoints=tmp_path / "c")
    tell_in_card(tmp_path / "model" / CARD, params)
    bits = precision.removeprefix("mixed_")
    assert f"conv1 {bits}" in seen
    assert keras.config.dtype_policy().name == "float32"
    # train() itself holds ONNX and Keras together within 1e-5.
    network = onnx.load(tmp_path / "model" / ONNX)
    assert {tensor.data_type for tensor in network.graph.initializer} <= {
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.INT64,
        onnx.TensorProto.INT32,
    }
    assert "Cast" not in {node.op_type for node in network.graph.node}
    card = read_json(tmp_path / "model" / CARD)
    assert card["training"]["precision"] == precision and "devices" not in card["training"]
    index = task.index(TEST)
    answers = Classifier.load(tmp_path / "model").predict(task.images.take(index))
    assert (answers.argmax(axis=1) == task.labels[index]).mean() > 0.9


# In a process of its own: a processor is parted before TensorFlow runs.
_TWO = """
import json, sys
from pathlib import Path
import pandas as pd
from ecgbeats import training
from ecgbeats.config import ModelParams, TrainParams
from ecgbeats.devices import tell_in_card, training_as_asked
from ecgbeats.files import sha256_tree
from ecgbeats.imaging.store import BeatImages

folder, given = Path(sys.argv[1]), json.loads(sys.argv[2])
model, params = ModelParams(**given["model"]), TrainParams(**given["train"])
sides = pd.read_pickle(folder / "sides.pkl")
task = training.make_task(BeatImages.open(Path(given["images"])), sides, given["classes"], ["N"])
save, calls = training._save, 0

def dying(*args):
    global calls
    save(*args)
    calls += 1
    if calls == 2:
        raise KeyboardInterrupt

def run(name):
    with training_as_asked(model, params):
        training.train(task, model, params, folder / name, checkpoints=folder / "checkpoints")
    tell_in_card(folder / name / "model.json", params)

run("whole")
training._save = dying
try:
    run("died")
except KeyboardInterrupt:
    training._save = save
assert not (folder / "died").exists()
run("died")
import tensorflow as tf
print(json.dumps({
    "same": sha256_tree(folder / "whole") == sha256_tree(folder / "died"),
    "devices": [device.name for device in tf.config.list_logical_devices("CPU")],
}))
"""


def test_on_two_devices_it_learns_the_same_and_goes_on_where_it_was_killed(
    task: training.Task,  # noqa: F811
    tmp_path: Path,
) -> None:
    params = asked(devices=2, epochs=3)
    task.images.beats.assign(
        label=[task.classes[k] if k >= 0 else None for k in task.labels], side=task.side
    ).to_pickle(tmp_path / "sides.pkl")
    given = {
        "model": MODEL.model_dump(mode="json"),
        "train": params.model_dump(mode="json"),
        "images": str(task.images.folder),
        "classes": list(task.classes),
    }
    done = subprocess.run(
        [sys.executable, "-c", _TWO, str(tmp_path), json.dumps(given)],
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said == {"same": True, "devices": ["/device:CPU:0", "/device:CPU:1"]}
    assert read_json(tmp_path / "whole" / CARD)["training"]["devices"] == 2
    index = task.index(TEST)
    answers = Classifier.load(tmp_path / "whole").predict(task.images.take(index))
    assert (answers.argmax(axis=1) == task.labels[index]).mean() > 0.85


def test_what_cannot_be_had_is_refused_before_training() -> None:
    import tensorflow as tf

    with (
        pytest.raises(ConfigError, match=r"train\.precision: svm is no network"),
        training_as_asked(ModelParams(name="svm"), asked(precision="mixed_bfloat16")),
    ):
        pass
    tf.config.list_logical_devices()
    with (
        pytest.raises(ConfigError, match="expected 64 devices; TensorFlow runs in this process"),
        training_as_asked(MODEL, asked(devices=64, batch=64)),
    ):
        pass
    with pytest.raises(ValueError, match="batch 1 is less than devices 2"):
        TrainParams(**{**PARAMS.model_dump(), "batch": 1, "devices": 2})
