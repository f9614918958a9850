"""Model folders that are damaged, though their hashes may fit: refused by the file's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ecgbeats.errors import ContractError, DataError
from ecgbeats.files import read_json, sha256_file, write_json
from ecgbeats.inference import CARD, ONNX
from pipelines.lineage import _network, _weights
from pipelines.model_folder import load
from pipelines.offline import offline
from tests.support.tiny_model import random_images, write_tiny_model

pytestmark = pytest.mark.unit


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_network(folder: Path) -> None:
    cut(folder / ONNX)
    change_card(folder, "onnx_sha256", sha256_file(folder / ONNX))


def change_card(folder: Path, key: str, value: object) -> None:
    write_json(folder / CARD, {**read_json(folder / CARD), key: value})


DAMAGE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "card cut": (CARD, lambda folder: cut(folder / CARD)),
    "card empty": (CARD, lambda folder: write_json(folder / CARD, {})),
    "card another thing": (CARD, lambda folder: write_json(folder / CARD, 4)),
    "card not UTF-8": (CARD, lambda folder: (folder / CARD).write_bytes(b'{"classes": "\xe9"}')),
    "network cut, card to match": (ONNX, cut_network),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_model_folder_is_refused_by_the_name_of_the_file(
    tmp_path: Path, damage: str
) -> None:
    folder = tmp_path / "model"
    write_tiny_model(folder)
    file, damaged = DAMAGE[damage]
    damaged(folder)
    with pytest.raises(ContractError, match=f"{folder / file}: expected a whole file"):
        load(folder)
    with pytest.raises(ContractError, match=f"{folder / file}: expected a whole file"):
        offline(folder, random_images(1))
    assert _network(folder, {}).state == "DIFFERS"
    assert file == ONNX or _weights(folder, "0" * 64).state == "DIFFERS"


def test_images_that_cannot_be_drawn_are_the_cards_fault(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "model")
    change_card(tmp_path / "model", "image", {"representation": "none"})
    with pytest.raises(ContractError, match=f"{CARD}: expected a whole file"):
        load(tmp_path / "model")


def test_a_sound_folder_is_loaded_and_one_without_a_model_is_none(tmp_path: Path) -> None:
    made = write_tiny_model(tmp_path / "model")
    assert load(tmp_path / "model").card == made.card
    with pytest.raises(DataError, match="train a model first"):
        load(tmp_path)
