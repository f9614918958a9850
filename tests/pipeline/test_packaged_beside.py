"""Which model for plain pictures goes into a recipe's bento, beside its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ecgbeats.config import read_params
from pipelines import retrain
from pipelines.provenance import Code
from pipelines.registry import Registered
from tests.support.bentos import PROJECT

pytestmark = pytest.mark.unit

PARAMS = read_params(PROJECT / "params.yaml")
CODE = Code("8e6c9d1" + "0" * 33, "")


def champion(name: str, *, approved: bool = True) -> Registered:
    keys = ("data_hash", "images_hash", "weights_sha256", "spec_id")
    tags = dict.fromkeys(keys, "0123456789")
    return Registered(f"ecgbeats-{name}", 4, "champion", approved, False, "run", tags)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Champions by recipe, as the registry would have them."""
    held: dict[str, Any] = {}
    monkeypatch.setattr(retrain.registry, "champion", held.get)
    monkeypatch.setattr(retrain.registry, "fetch_model", lambda _, folder: folder / "classifier")
    monkeypatch.setattr(retrain.registry, "fetch_metrics", lambda _: {"accuracy": 0.9})
    return held


def test_the_champion_of_the_recipe_for_pictures_goes_beside(
    registry: dict[str, Any], tmp_path: Path
) -> None:
    registry["mitdb-aami5-picture"] = champion("mitdb-aami5-picture")
    beside = retrain._pictures("mitdb-aami5", PARAMS, CODE, tmp_path)
    assert beside is not None
    assert beside.golden == tmp_path / "classifier" / "golden.npz"
    assert beside.about.version == "4-8e6c9d1-0123456"
    assert beside.about.labels["recipe"] == "mitdb-aami5-picture"
    assert beside.about.scheme == PARAMS.scheme_of("mitdb-aami5-picture")
    assert beside.about.metrics == {"accuracy": 0.9}


def test_no_other_does(registry: dict[str, Any], tmp_path: Path) -> None:
    registry["mitdb-aami5-picture"] = champion("mitdb-aami5-picture", approved=False)
    assert retrain._pictures("mitdb-aami5", PARAMS, CODE, tmp_path) is None
    del registry["mitdb-aami5-picture"]
    assert retrain._pictures("mitdb-aami5", PARAMS, CODE, tmp_path) is None
    # A recipe of that name there is none.
    assert retrain._pictures("sample-aami5", PARAMS, CODE, tmp_path) is None
