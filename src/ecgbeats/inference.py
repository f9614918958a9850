"""A trained model as it is evaluated and served: ONNX, checked against its description."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ecgbeats.errors import ContractError, DataError
from ecgbeats.files import read_json, sha256_file
from ecgbeats.imaging.spec import Spec, spec_from_json

# Files of a model folder.
CARD, ONNX, KERAS, HISTORY = "model.json", "model.onnx", "model.keras", "history.csv"
# The answer where the model is not sure enough to name a class.
UNCERTAIN = "uncertain"
_BATCH = 1024


@dataclass(frozen=True)
class Classifier:
    """Images to class probabilities.

    Attributes
    ----------
    classes : tuple of str
        Names, in the order of the probabilities.
    spec : Spec
        The images that it takes.
    card : dict
        All of model.json.
    """

    classes: tuple[str, ...]
    spec: Spec
    card: dict[str, Any]
    _session: Any

    @classmethod
    def load(cls, folder: Path, *, threads: int = 0) -> Classifier:
        """Load the model in `folder`, after checking its hash and its image spec.

        Parameters
        ----------
        threads : int
            Threads of one prediction; 0 lets ONNX Runtime choose.

        Raises
        ------
        DataError
            `folder` holds no model.
        ContractError
            The network differs from the one that model.json describes, or its images
            would now be drawn differently.
        """
        import onnxruntime

        folder = Path(folder)
        if not (folder / CARD).is_file() or not (folder / ONNX).is_file():
            raise DataError(f"{folder}: expected {CARD} and {ONNX}; train a model first")
        card = read_json(folder / CARD)
        actual = sha256_file(folder / ONNX)
        if actual != card["onnx_sha256"]:
            raise ContractError(
                f"{folder / ONNX}: expected SHA-256 {card['onnx_sha256']}, found {actual}"
            )
        spec = spec_from_json(card["image"])
        if spec.spec_id != card["spec_id"]:
            raise ContractError(
                f"{folder}: the model takes images of spec {card['spec_id']}, "
                f"this renderer draws {spec.spec_id} for the same settings"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Spinning threads take the cores from whatever else runs beside a service.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(
            str(folder / ONNX), options, providers=["CPUExecutionProvider"]
        )
        return cls(tuple(card["classes"]), spec, card, session)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Probabilities, float32 (n, classes), of images, uint8 (n, rows, columns).

        Raises
        ------
        ContractError
            The images are not of this model's shape or type.
        """
        if images.dtype != np.uint8 or images.shape[1:] != self.spec.shape:
            raise ContractError(
                f"expected images uint8 (n, {self.spec.shape[0]}, {self.spec.shape[1]}), "
                f"got {images.dtype} {images.shape}"
            )
        name = self._session.get_inputs()[0].name
        out = [np.zeros((0, len(self.classes)), np.float32)]
        for i in range(0, len(images), _BATCH):
            batch = images[i : i + _BATCH, :, :, None].astype(np.float32)
            out.append(self._session.run(None, {name: batch})[0])
        return np.concatenate(out)

    @property
    def abstain_below(self) -> float:
        """Confidence below which the answer is "uncertain"; 0 for never."""
        return float(self.card.get("answer", {}).get("abstain_below", 0.0))

    def answers(self, probabilities: np.ndarray) -> list[str]:
        """What is said of each row of probabilities: the most probable class, or "uncertain"."""
        return [
            self.classes[int(row.argmax())] if float(row.max()) >= self.abstain_below else UNCERTAIN
            for row in probabilities
        ]
