"""Which model for plain pictures goes into a recipe's bento, beside its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines import bentos, registry
from pipelines.bentos import Bentos
from pipelines.registry import Registered
from tests.support.bentos import PROJECT, SCHEME

pytestmark = pytest.mark.unit


def champion(name: str, *, approved: bool = True) -> Registered:
    keys = ("data_hash", "images_hash", "weights_sha256", "spec_id")
    tags = dict.fromkeys(keys, "0123456789") | {"recipe": name}
    return Registered(f"ecgbeats-{name}", 4, "champion", approved, False, "run", tags)


@pytest.fixture
def champions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """By recipe, as the registry would have them."""
    held: dict[str, Any] = {}
    (tmp_path / "metrics.json").write_text('{"accuracy": 0.9}')
    monkeypatch.setattr(registry, "champion", held.get)
    monkeypatch.setattr(registry, "fetch_model", lambda *_: tmp_path / "model")
    monkeypatch.setattr(registry, "fetch_report", lambda *_: tmp_path)
    return held


def test_the_champion_of_the_recipe_for_pictures_goes_beside(
    champions: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Any] = []
    monkeypatch.setattr(
        bentos.packaging, "build_bento", lambda *_, **asked: built.append((_, asked))
    )
    champions["mitdb-aami5-picture"] = champion("mitdb-aami5-picture")
    Bentos(PROJECT).build(champion("mitdb-aami5"), tmp_path)
    ((_, _, about), asked) = built[0]
    assert about.version.endswith("-0123456-p4") and about.metrics == {"accuracy": 0.9}
    beside = asked["beside"]
    assert beside.golden == tmp_path / "model" / "golden.npz"
    assert beside.about.labels["recipe"] == "mitdb-aami5-picture"
    assert beside.about.scheme is not None and beside.about.scheme.names[:3] == SCHEME.names


def test_no_other_does(
    champions: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Any] = []
    monkeypatch.setattr(
        bentos.packaging, "build_bento", lambda *_, **asked: built.append((_, asked))
    )
    champions["mitdb-aami5-picture"] = champion("mitdb-aami5-picture", approved=False)
    champions["mitdb-paper8"] = champion("mitdb-paper8")
    for name in ("mitdb-aami5", "mitdb-paper8", "a-recipe-that-is-no-more"):
        Bentos(PROJECT).build(champion(name), tmp_path)
    assert all(asked["beside"] is None for _, asked in built)
    assert [about.version[-8:] for (_, _, about), _ in built] == ["-0123456"] * 3
    assert [about.scheme is None for (_, _, about), _ in built] == [False, False, True]
