"""Which model for plain pictures goes into a recipe's bento, beside its own."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines import bentos, registry
from pipelines.bentos import Bentos, Held
from pipelines.packaging import packed_sha256
from pipelines.registry import Registered
from tests.support.bentos import ABOUT, PROJECT, SCHEME
from tests.support.tiny_model import write_tiny_golden, write_tiny_model

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
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(bentos, "held", lambda _: None)
    monkeypatch.setattr(bentos.packaging, "packed_sha256", lambda *_, **__: "c0de" * 16)
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
    assert about.version == "4-p4-" + "c0de" * 3 and about.metrics == {"accuracy": 0.9}
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
    assert [about.version for (_, _, about), _ in built] == ["4-" + "c0de" * 3] * 3
    assert [about.scheme is None for (_, _, about), _ in built] == [False, False, True]


def test_a_bento_is_named_by_what_is_packed_whatever_the_commit(tmp_path: Path) -> None:
    write_tiny_golden(tmp_path / "golden.npz", write_tiny_model(tmp_path / "model"))

    def packed(project: Path = PROJECT, **labels: str) -> str:
        about = replace(ABOUT, labels={**ABOUT.labels, **labels})
        return packed_sha256(tmp_path / "model", tmp_path / "golden.npz", about, project=project)

    assert packed(git_commit="0000000") == packed(git_commit="1111111") == packed()
    assert packed(model_version="77") != packed()
    # What the service imports, and not the rest of the library.
    ours = tmp_path / "project"
    for name in ("bento", "src", "LICENSE", "pyproject.toml", "uv.lock"):
        (ours / name).parent.mkdir(exist_ok=True)
        copy = shutil.copytree if (PROJECT / name).is_dir() else shutil.copyfile
        copy(PROJECT / name, ours / name)
    for name, same in (("gate.py", True), ("answering.py", False)):
        path = ours / "src" / "ecgbeats" / name
        path.write_text(path.read_text() + "# a comment\n")
        assert (packed(ours) == packed()) is same


def test_one_that_is_here_is_not_built_again_on_another_commit(
    champions: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Any] = []
    monkeypatch.setattr(bentos.packaging, "build_bento", lambda *_, **__: built.append(_))
    here = Held({"packed_sha256": "c0de" * 16, "git_commit": "of another day"}, {})
    monkeypatch.setattr(bentos, "held", lambda _: here)
    monkeypatch.setattr(bentos, "is_whole", lambda *_: True)
    tag = Bentos(PROJECT).build(champion("mitdb-aami5"), tmp_path)
    assert tag == "ecgbeats-mitdb-aami5:4-c0dec0dec0de" and built == []
