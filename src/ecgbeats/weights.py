"""The hash of a network's weights, taken anew from its archive."""

from __future__ import annotations

from pathlib import Path

from ecgbeats.files import sha256_arrays
from ecgbeats.inference import KERAS


def weights_hash(folder: Path) -> str | None:
    """SHA-256 over the weights in `folder`/model.keras; None for a baseline, which has none.

    The same as `weights_sha256` of the model's card: of the arrays in their order, not of the
    archive.
    """
    path = Path(folder) / KERAS
    if not path.is_file():
        return None
    import keras

    import ecgbeats.models  # noqa: F401  Layers of ours are known by being imported.

    return sha256_arrays(keras.saving.load_model(path, compile=False).get_weights())
