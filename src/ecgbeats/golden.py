"""A golden batch: images and the probabilities that every copy of a model must give."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ecgbeats.errors import ContractError, DataError
from ecgbeats.files import written_aside


@dataclass(frozen=True)
class Golden:
    """Images and what the offline model answered.

    Attributes
    ----------
    images : ndarray of uint8, shape (n, rows, columns)
    probabilities : ndarray of float32, shape (n, classes)
    classes : tuple of str
        Names, in the order of the probabilities.
    spec_id : str
        The image spec that the images were drawn by.
    """

    images: np.ndarray
    probabilities: np.ndarray
    classes: tuple[str, ...]
    spec_id: str

    def __post_init__(self) -> None:
        images, answers = self.images, self.probabilities
        if images.dtype != np.uint8 or images.ndim != 3 or not len(images):
            raise ContractError(
                f"golden batch: expected images uint8 (n, rows, columns), at least one; "
                f"got {images.dtype} {images.shape}"
            )
        expected = (len(images), len(self.classes))
        if answers.dtype != np.float32 or answers.shape != expected:
            raise ContractError(
                f"golden batch: expected probabilities float32 {expected}, "
                f"got {answers.dtype} {answers.shape}"
            )


def write_golden(path: Path, golden: Golden) -> None:
    """Write `golden` as .npz with equal bytes for equal batches, whole or not at all."""
    with written_aside(path) as aside:
        np.savez(
            aside,
            images=golden.images,
            probabilities=golden.probabilities,
            classes=np.array(golden.classes),
            spec_id=np.array(golden.spec_id),
        )


def read_golden(path: Path) -> Golden:
    """Read what `write_golden` wrote.

    Raises
    ------
    DataError
        `path` is no such file.
    ContractError
        Its arrays do not belong together.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Golden(
                images=arrays["images"],
                probabilities=arrays["probabilities"],
                classes=tuple(str(name) for name in arrays["classes"]),
                spec_id=str(arrays["spec_id"]),
            )
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise DataError(f"{path}: expected a golden batch: {error}") from error
