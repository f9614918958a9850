"""What `ecgbeats lineage` says where a part of the chain was changed, is lost or out of reach."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from ecgbeats.errors import ServiceError
from ecgbeats.files import read_json, sha256_tree, write_json, write_text
from ecgbeats.inference import CARD, Classifier
from pipelines import ledger, lineage, registry
from pipelines.ledger import Ledger
from pipelines.lineage import Link
from pipelines.registered_files import tags_of
from pipelines.registry import Registered
from pipelines.stored import CONTENT
from tests.support.tiny_model import forge, write_tiny_golden, write_tiny_model

pytestmark = pytest.mark.pipeline

TAG = "ecgbeats-tiny:1-abc"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """What MLflow keeps of the version; its archive is lost."""
    write_tiny_model(tmp_path / "kept")
    return tmp_path / "kept"


@pytest.fixture
def version(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registered:
    card = read_json(model / CARD)
    labels = {
        "data_hash": "d1", "images_hash": "i1", "spec_id": card["spec_id"],
        "weights_sha256": card["weights_sha256"],
    }  # fmt: skip
    tags = {**labels, "git_commit": "0" * 40, "git_dirty": "false", "bento": TAG}
    made = Registered("ecgbeats-tiny", 1, "champion", True, False, "run", tags)
    store = tmp_path / "store"
    bento = store.joinpath("bentos", *TAG.split(":"))
    write_text(bento / "src" / "bento" / "service.py", "answer = 1")
    labels |= {"model_version": "1", "git_commit": "0" * 40, CONTENT: sha256_tree(bento / "src")}
    # As BentoML and a run of it leave it.
    write_text(bento / "src" / "bentofile.yaml", "service: x")
    write_text(bento / "src" / "bento" / "__pycache__" / "service.pyc", "x")
    shutil.copytree(model, store.joinpath("models", *TAG.split(":")))
    about = {"labels": labels, "services": [{"models": [{"tag": TAG}]}]}
    write_text(bento / "bento.yaml", yaml.safe_dump(about))
    monkeypatch.setenv("BENTOML_HOME", str(store))
    monkeypatch.setattr(registry, "find", lambda _: made)
    monkeypatch.setattr(
        registry, "fetch_unchecked", lambda _, to: Path(shutil.copytree(model, to / "model"))
    )
    monkeypatch.setattr(ledger, "finished", lambda name: Ledger(name, "r", (), True))
    monkeypatch.setattr(lineage, "cached_state", lambda *_: "absent")
    return made


def links(root: Path) -> dict[str, Link]:
    return {link.what: link for link in lineage.lineage(root, "ecgbeats-tiny@champion")}


def test_weights_without_an_archive_are_verified_of_a_baseline_alone(
    version: Registered, model: Path, tmp_path: Path
) -> None:
    found = links(tmp_path)
    assert found["weights"].state == "not here" and "model.keras is gone" in found["weights"].how
    assert (found["network"].state, found["bento"].state) == ("verified", "verified")
    write_json(model / CARD, {**read_json(model / CARD), "model": {"name": "svm", "options": {}}})
    assert links(tmp_path)["weights"].state == "verified"


def test_other_code_in_a_bento_shows(version: Registered, tmp_path: Path) -> None:
    service = tmp_path.joinpath("store", "bentos", *TAG.split(":"), "src", "bento", "service.py")
    write_text(service, "answer = 2")
    bento = links(tmp_path)["bento"]
    assert (bento.state, bento.how) == ("DIFFERS", "its src/ is not what was packed")


def test_artifacts_out_of_reach_leave_the_rest_of_the_chain(
    version: Registered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ServiceError("MLflow: no route to the store")

    monkeypatch.setattr(registry, "fetch_unchecked", fail)
    monkeypatch.setattr(ledger, "finished", fail)
    found = links(tmp_path)
    assert {what for what, link in found.items() if link.state == "verified"} == set()
    assert {what for what, link in found.items() if link.state == "DIFFERS"} == set()
    assert "no route" in found["weights"].how and "no route" in found["version"].how


def test_a_network_exchanged_with_its_card_and_golden_batch_shows(
    version: Registered, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_golden(model / "golden.npz", Classifier.load(model))
    tagged = replace(version, tags={**version.tags, **tags_of(model, model / "golden.npz")})
    monkeypatch.setattr(registry, "find", lambda _: tagged)
    how = links(tmp_path)["network"].how
    assert "SHA-256 of the tag" in how
    forge(model, tmp_path / "other")
    found = links(tmp_path)
    assert found["network"].state == "DIFFERS"
    assert "golden.npz: expected SHA-256" in found["network"].how
    # Of one that was registered before there were such tags it is said.
    monkeypatch.setattr(registry, "find", lambda _: version)
    network = links(tmp_path)["network"]
    assert network.state == "verified"
    assert "names none of model.json, model.onnx, golden.npz" in network.how
