"""Equal networks give equal files, whatever else the process has done."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ecgbeats.errors import ContractError
from ecgbeats.export import save_keras, save_onnx
from ecgbeats.files import sha256_file
from ecgbeats.imaging.spec import CompositeSpec
from ecgbeats.inference import KERAS, ONNX
from ecgbeats.models import build_model

pytestmark = pytest.mark.unit

SPEC = CompositeSpec(representation="composite", panel_height=16, width=30, strip_height=2)


def test_exports_of_one_network_are_equal_byte_for_byte(tmp_path: Path) -> None:
    import keras

    weights = None
    hashes = set()
    for k in range(6):
        keras.backend.clear_session()
        model = build_model("compact", SPEC, 5, filters=[4, 8], dense=16, dropout=0.0)
        weights = weights or model.get_weights()
        model.set_weights(weights)
        save_keras(model, tmp_path / f"{k}.keras")
        save_onnx(model, tmp_path / f"{k}.onnx")
        hashes.add((sha256_file(tmp_path / f"{k}.keras"), sha256_file(tmp_path / f"{k}.onnx")))
    assert len(hashes) == 1


def small() -> Any:
    return build_model("compact", SPEC, 5, filters=[4, 8], dense=16, dropout=0.0)


def test_of_another_backend_tensorflow_exports_in_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    keras.backend.clear_session()
    model = small()
    save_onnx(model, tmp_path / "here.onnx")
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    # As where that backend's process was started.
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    save_onnx(model, tmp_path / "there.onnx")
    assert sha256_file(tmp_path / "there.onnx") == sha256_file(tmp_path / "here.onnx")

    (tmp_path / "file").touch()
    with pytest.raises(ContractError, match=r"(?s)on tensorflow .* ended with 1: .*Error:"):
        save_onnx(model, tmp_path / "file" / "model.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "here.onnx", "there.onnx"]


# The command of a stage has its own process too.
_EXPLAIN = """
import sys
from pathlib import Path
from ecgbeats.explanation import Explainer
network = Explainer.load(Path(sys.argv[1]), None).network
import keras
print(keras.backend.backend(), network.count_params())
"""


def test_a_network_of_another_backend_is_explained_by_tensorflow(tmp_path: Path) -> None:
    model = small()
    save_keras(model, tmp_path / KERAS)
    done = subprocess.run(
        [sys.executable, "-c", _EXPLAIN, str(tmp_path)],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["tensorflow", str(model.count_params())]


def test_numbers_have_the_axes_of_the_maps_that_they_scale(tmp_path: Path) -> None:
    import onnx

    model = small()
    save_onnx(model, tmp_path / ONNX)
    network = onnx.load(tmp_path / ONNX)
    sizes = {tensor.name: list(tensor.dims) for tensor in network.graph.initializer}
    (image,) = network.graph.input
    (scaling,) = [node for node in network.graph.node if image.name in node.input]
    assert scaling.op_type == "Mul"
    assert [sizes[name] for name in scaling.input if name in sizes] == [[1, 1, 1, 1]]
    # None is left over under its former name.
    used = {name for node in network.graph.node for name in node.input}
    assert set(sizes) <= used
