"""Equal networks give equal files, whatever else the process has done."""

from pathlib import Path

import pytest

from ecgbeats.export import save_keras, save_onnx
from ecgbeats.files import sha256_file
from ecgbeats.imaging.spec import CompositeSpec
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
