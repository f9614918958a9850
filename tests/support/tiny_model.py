"""A model folder that needs no training: one matrix and a softmax over 16 x 16 pixels."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ecgbeats.files import read_json, sha256_arrays, sha256_file, write_json
from ecgbeats.golden import Golden, write_golden
from ecgbeats.imaging.spec import Spec, WaveformSpec
from ecgbeats.inference import CARD, ONNX, Classifier

CLASSES = ("N", "S", "V")
SPEC = WaveformSpec(representation="waveform", height=16, width=16)


def write_tiny_model(
    folder: Path,
    spec: Spec = SPEC,
    classes: tuple[str, ...] = CLASSES,
    *,
    seed: int = 0,
) -> Classifier:
    """Write model.json and model.onnx to `folder`; return the model, loaded."""
    rng = np.random.default_rng(seed)
    rows, columns = spec.shape
    weights = rng.normal(0, 0.002, (rows * columns, len(classes))).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["image"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weights"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["probabilities"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", rows, columns, 1])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", len(classes)])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    folder.mkdir(parents=True)
    onnx.save(model, folder / ONNX)
    card = {
        "schema": 1,
        "classes": list(classes),
        "spec_id": spec.spec_id,
        "image": spec.model_dump(mode="json"),
        "model": {"name": "tiny", "options": {}},
        "parameters": int(weights.size),
        "weights_sha256": sha256_arrays([weights]),
        "onnx_sha256": sha256_file(folder / ONNX),
        "training": {"epochs_run": 1, "records": ["r001"]},
    }
    write_json(folder / CARD, card)
    return Classifier.load(folder)


def random_images(count: int, spec: Spec = SPEC, *, seed: int = 0) -> np.ndarray:
    """Images for it, uint8 (count, rows, columns)."""
    return np.random.default_rng(seed).integers(0, 256, (count, *spec.shape), dtype=np.uint8)


def write_tiny_golden(path: Path, classifier: Classifier, *, count: int = 5) -> Golden:
    """Write, and return, what `classifier` answers to some images."""
    images = random_images(count, classifier.spec)
    answers = classifier.predict(images)
    golden = Golden(images, answers, classifier.classes, classifier.spec.spec_id)
    write_golden(path, golden)
    return golden


def forge(model: Path, aside: Path) -> None:
    """Put another network into the folder `model`; card and golden batch agree, in all but name."""
    weights = read_json(model / CARD)["weights_sha256"]
    other = write_tiny_model(aside, seed=1)
    write_tiny_golden(model / "golden.npz", other)
    write_json(model / CARD, {**read_json(aside / CARD), "weights_sha256": weights})
    shutil.copyfile(aside / ONNX, model / ONNX)
    assert Classifier.load(model).classes == other.classes
