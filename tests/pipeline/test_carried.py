"""The model that the repository carries: made of a champion, whole, and checked."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ecgbeats.errors import ContractError, DataError
from ecgbeats.evaluation import evaluate
from ecgbeats.files import read_json, sha256_file, sha256_tree, write_json
from pipelines import bentos, carried, packaging, registry
from pipelines.registry import Registered
from tests.support.bentos import PICTURES
from tests.support.predictions import CLASSES as FIVE
from tests.support.predictions import HEADLINE, about, fake_predictions
from tests.support.projects import tiny_params
from tests.support.tiny_model import write_tiny_golden, write_tiny_model

pytestmark = pytest.mark.pipeline

TAGS = {
    "recipe": "tiny",
    "synthetic": "false",
    "git_commit": "8e6c9d1" + "0" * 33,
    "data_hash": "d1",
    "images_hash": "i1",
    "weights_sha256": "w1" * 32,
    "spec_id": "s1",
}


@pytest.fixture
def champion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registered:
    classifier = write_tiny_model(tmp_path / "kept")
    write_tiny_golden(tmp_path / "kept" / "golden.npz", classifier)
    metrics = evaluate(
        fake_predictions(), FIVE, HEADLINE, replicates=100, seed=1, about=about(synthetic=False)
    )
    write_json(tmp_path / "report" / "metrics.json", metrics)

    def fetch(source: Path, to: Path) -> Path:
        return Path(shutil.copytree(source, to))

    monkeypatch.setattr(registry, "champion", lambda _: None)
    monkeypatch.setattr(registry, "fetch_model", lambda _, to: fetch(tmp_path / "kept", to))
    monkeypatch.setattr(registry, "fetch_report", lambda _, to: fetch(tmp_path / "report", to))
    write_json(tmp_path / "kept-beside" / "reference.json", {"schema": 1})
    monkeypatch.setattr(
        registry,
        "fetch_reference",
        lambda _, to: fetch(tmp_path / "kept-beside", to) / "reference.json",
    )
    write_json(tmp_path / "project" / "params.yaml", tiny_params())
    return Registered("ecgbeats-tiny", 3, "champion", True, False, "r", TAGS)


def test_a_champion_is_carried_whole_with_card_and_checksums(
    champion: Registered, tmp_path: Path
) -> None:
    root = tmp_path / "project"
    overruled = {"override.000002": "accuracy overruled by Ada on Monday: it is better"}
    against = replace(champion, tags={**champion.tags, **overruled})
    words = (carried.carry(root, against) / "MODEL_CARD.md").read_text()
    assert "## The gate was overruled\n\n- accuracy overruled by Ada on Monday" in words
    folder = carried.carry(root, champion)
    assert "overruled" not in (folder / "MODEL_CARD.md").read_text()
    assert folder == root / "bento" / "carried"
    sums = dict(line.split()[::-1] for line in (folder / "SHA256SUMS").read_text().splitlines())
    files = {path.name for path in folder.iterdir()} - {"SHA256SUMS"}
    assert {*sums} == files == {
        "model.json", "model.onnx", "golden.npz", "metrics.json", "origin.json", "MODEL_CARD.md",
        "reference.json",
    }  # fmt: skip
    assert all(sha256_file(folder / name) == found for name, found in sums.items())
    assert read_json(folder / "origin.json")["version"] == 3
    assert "No medical device" in (folder / "MODEL_CARD.md").read_text()
    again = sha256_tree(folder)
    assert sha256_tree(carried.carry(root, champion)) == again


def test_what_may_not_be_carried_leaves_what_was(champion: Registered, tmp_path: Path) -> None:
    root = tmp_path / "project"
    before = sha256_tree(carried.carry(root, champion))
    synthetic = Registered(
        champion.name, 4, "champion", True, False, "r", {**TAGS, "synthetic": "true"}
    )
    with pytest.raises(ContractError, match="version 4: expected a model of real recordings"):
        carried.carry(root, synthetic)
    (tmp_path / "kept" / "golden.npz").write_bytes(bytes(4_000_000))
    with pytest.raises(ContractError, match="at most 3 MB to carry"):
        carried.carry(root, champion)
    assert sha256_tree(root / "bento" / "carried") == before


def test_a_carried_model_is_served_only_as_it_was_carried(
    champion: Registered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "project"
    with pytest.raises(DataError, match="carries no model"):
        carried.build(root)
    folder = carried.carry(root, champion)
    built = []

    def build(
        model: Path, golden: Path, about: packaging.BentoAbout, _: Path, beside: object
    ) -> str:
        assert beside is None
        built.append((model, golden, about))
        return about.tag

    monkeypatch.setattr(bentos, "build_by_content", build)
    tag = carried.build(root)
    ((model, golden, told),) = built
    assert (model, golden) == (folder, folder / "golden.npz")
    assert tag == "ecgbeats-tiny:carried"
    assert (told.labels["recipe"], told.labels["data_hash"]) == ("tiny", "d1")
    assert told.metrics == read_json(folder / "metrics.json")
    (folder / "model.onnx").write_bytes(b"another")
    with pytest.raises(ContractError, match=r"model\.onnx: expected SHA-256"):
        carried.build(root)
    (folder / "model.onnx").unlink()
    with pytest.raises(ContractError, match=r"model\.onnx: expected SHA-256 .*, found no file"):
        carried.build(root)
    assert len(built) == 1


def test_the_champion_for_pictures_is_carried_and_served_beside_it(
    champion: Registered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "project"
    tags = {**TAGS, "recipe": "tiny-picture"}
    pictures = Registered("ecgbeats-tiny-picture", 2, "champion", True, False, "r", tags)
    known = {"tiny": champion, "tiny-picture": pictures}
    classifier = write_tiny_model(tmp_path / "pictures", PICTURES, seed=2)
    write_tiny_golden(tmp_path / "pictures" / "golden.npz", classifier)
    of = {champion.name: tmp_path / "kept", pictures.name: tmp_path / "pictures"}
    monkeypatch.setattr(registry, "champion", known.get)
    monkeypatch.setattr(
        registry, "fetch_model", lambda found, to: Path(shutil.copytree(of[found.name], to))
    )
    folder = carried.carry(root, champion)
    whole = sha256_tree(folder)
    assert read_json(folder / "picture" / "origin.json")["recipe"] == "tiny-picture"
    # As well one after the other; and what is not there anew, stays.
    known.clear()
    carried.carry(root, champion)
    assert sha256_tree(folder) == whole
    shutil.rmtree(folder)
    carried.carry(root, champion)
    assert not (folder / "picture").exists()
    assert carried.carry(root, pictures) == folder
    assert sha256_tree(folder) == whole

    sources = []

    def build(*given: object) -> str:
        sources.append(given[-1])
        return "tag"

    monkeypatch.setattr(bentos, "build_by_content", build)
    carried.build(root)
    (beside,) = sources
    assert isinstance(beside, packaging.Source)
    assert (beside.folder, beside.golden) == (folder / "picture", folder / "picture" / "golden.npz")
    assert (beside.about.name, beside.about.labels["recipe"]) == (pictures.name, "tiny-picture")
    (folder / "picture" / "model.onnx").write_bytes(b"another")
    with pytest.raises(ContractError, match=r"picture/model\.onnx: expected SHA-256"):
        carried.build(root)


def test_other_models_bentos_do_not_hold_it() -> None:
    assert packaging._not_ours("", ["carried", "service.py", "page"]) == {"carried"}
