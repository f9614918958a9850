"""A model's network by itself, for images that are drawn already, by whatever renderer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ecgbeats.errors import ContractError
from ecgbeats.files import sha256_file
from ecgbeats.inference import ONNX
from pipelines.model_folder import card_of, undamaged


def offline(folder: Path, images: np.ndarray) -> np.ndarray:
    """Probabilities, float32 (n, classes), of images, uint8 (n, rows, columns).

    Unlike `ecgbeats.inference.Classifier` it does not ask that today's renderer draws what the
    model was trained on, as a former champion's bento brings its own.

    Raises
    ------
    ContractError
        The network differs from the one that model.json describes, or one of the two is damaged.
    """
    import onnxruntime

    wanted, found = card_of(folder)["onnx_sha256"], sha256_file(folder / ONNX)
    if found != wanted:
        raise ContractError(f"{folder / ONNX}: expected SHA-256 {wanted}, found {found}")
    with undamaged(folder / ONNX):
        session = onnxruntime.InferenceSession(
            str(folder / ONNX), providers=["CPUExecutionProvider"]
        )
    batch = images[:, :, :, None].astype(np.float32)
    answers: np.ndarray = session.run(None, {session.get_inputs()[0].name: batch})[0]
    return answers
