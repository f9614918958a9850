from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecgbeats.errors import ContractError, DataError
from ecgbeats.golden import Golden, read_golden, write_golden

pytestmark = pytest.mark.unit

IMAGES = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3)
ANSWERS = np.array([[0.25, 0.75], [1.0, 0.0]], np.float32)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_golden(tmp_path / "golden.npz", Golden(IMAGES, ANSWERS, ("N", "V"), "0123"))
    read = read_golden(tmp_path / "golden.npz")
    np.testing.assert_array_equal(read.images, IMAGES)
    np.testing.assert_array_equal(read.probabilities, ANSWERS)
    assert (read.classes, read.spec_id) == (("N", "V"), "0123")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"images": IMAGES.astype(float)}, "float64"),
        ({"images": IMAGES[:0], "probabilities": ANSWERS[:0]}, "at least one"),
        ({"probabilities": ANSWERS[:1]}, r"\(1, 2\)"),
        ({"probabilities": ANSWERS.astype(float)}, "float64"),
        ({"classes": ("N", "S", "V")}, r"expected probabilities float32 \(2, 3\)"),
    ],
)
def test_refuses_what_does_not_belong_together(change: dict[str, Any], what: str) -> None:
    batch = {"images": IMAGES, "probabilities": ANSWERS, "classes": ("N", "V"), "spec_id": "0123"}
    with pytest.raises(ContractError, match=what):
        Golden(**{**batch, **change})


def test_names_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.npz"):
        read_golden(tmp_path / "nothing.npz")
    (tmp_path / "text.npz").write_text("no arrays")
    with pytest.raises(DataError, match=r"text\.npz"):
        read_golden(tmp_path / "text.npz")
    np.savez(tmp_path / "half.npz", images=IMAGES)
    with pytest.raises(DataError, match="probabilities"):
        read_golden(tmp_path / "half.npz")


def test_unpickles_nothing(tmp_path: Path) -> None:
    objects = np.array([{"a": 1}], dtype=object)
    np.savez(
        tmp_path / "evil.npz", images=IMAGES, probabilities=ANSWERS, classes=objects, spec_id="0"
    )
    with pytest.raises(DataError, match="pickle"):
        read_golden(tmp_path / "evil.npz")
