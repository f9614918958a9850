"""A model folder from elsewhere: what is damaged in it is told in words, with the file's name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ecgbeats.errors import ContractError, EcgbeatsError
from ecgbeats.files import read_json
from ecgbeats.imaging.spec import spec_from_json
from ecgbeats.inference import CARD, ONNX, Classifier

# What is asked of a card wherever one is read.
_KEYS = ("classes", "image", "spec_id", "model", "weights_sha256", "onnx_sha256")


def load(folder: Path, *, threads: int = 0) -> Classifier:
    """`Classifier.load` of a folder that another machine, or anybody, may have written.

    Raises
    ------
    DataError
        `folder` holds no model.
    ContractError
        As `Classifier.load`; or its card or its network is damaged.
    """
    if (folder / CARD).is_file():
        card = card_of(folder)
        with undamaged(folder / CARD):
            spec_from_json(card["image"])
    with undamaged(folder / ONNX):
        return Classifier.load(folder, threads=threads)


def card_of(folder: Path) -> dict[str, Any]:
    """The description of the model in `folder`.

    Raises
    ------
    ContractError
        It is no JSON, or not all of it is there.
    """
    with undamaged(folder / CARD):
        card: dict[str, Any] = read_json(folder / CARD)
        missing = [key for key in _KEYS if key not in card]
        if missing:
            raise ValueError(f"{', '.join(missing)} missing")
    return card


@contextmanager
def undamaged(path: Path) -> Iterator[None]:
    """Turn what reading `path` fails with into a `ContractError` that names it.

    ONNX Runtime's errors have no base of their own, so any other than ours and the system's is
    one of reading.
    """
    try:
        yield
    except (EcgbeatsError, OSError, MemoryError):
        raise
    except Exception as error:
        words = " ".join(f"{type(error).__name__}: {error}".split())
        raise ContractError(f"{path}: expected a whole file of a model; {words}") from error
