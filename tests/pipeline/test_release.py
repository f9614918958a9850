"""The folder of a release: whole, sealed, and honest about what was overruled or is missing."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from ecgbeats.comparison import Answers
from ecgbeats.comparison_page import Drawn
from ecgbeats.config import Params
from ecgbeats.datasets import Manifest, RecordEntry, write_manifest
from ecgbeats.errors import ConfigError, ContractError, DataError, GateFailed
from ecgbeats.evaluation import evaluate
from ecgbeats.files import read_json, sha256_file, sha256_tree, write_json, write_text
from ecgbeats.gate import write_verdict
from ecgbeats.signing import seal
from pipelines import compare, ledger, packaging, registry, release, release_export
from pipelines.compare import Side
from pipelines.ledger import Ledger
from pipelines.lineage import Link
from pipelines.promotion import Project
from pipelines.promotion_log import next_entry
from pipelines.registry import Registered
from tests.support.predictions import CLASSES as FIVE
from tests.support.predictions import HEADLINE, about, fake_images, fake_predictions
from tests.support.projects import HERE, tiny_params
from tests.support.promoting import Reports, verdict
from tests.support.tiny_model import write_tiny_golden, write_tiny_model

pytestmark = pytest.mark.pipeline

NAME = "ecgbeats-tiny"
TAGS = {
    "ecgbeats.content": "c2",
    "recipe": "tiny",
    "synthetic": "false",
    "git_commit": "8e6c9d1" + "0" * 33,
    "git_dirty": "false",
    "data_hash": "d1",
    "images_hash": "i1",
    "weights_sha256": "w1" * 32,
    "spec_id": "s1",
    "bento": f"{NAME}:2-abc",
}
OVERRULED = ("gross.V.se", "champion.accuracy")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What MLflow keeps of a version: model, report, and the verdict of its promotion."""
    root = tmp_path_factory.mktemp("kept")
    write_tiny_golden(root / "model" / "golden.npz", write_tiny_model(root / "model"))
    metrics = evaluate(
        fake_predictions(), FIVE, HEADLINE, replicates=100, seed=1, about=about(synthetic=False)
    )
    write_json(root / "report" / "metrics.json", metrics)
    write_json(root / "report" / "split.json", {"patients": {"train": ["a"], "test": ["b"]}})
    write_text(root / "report" / "index.html", "<p>A report.</p>")
    write_text(root / "report" / "plots" / "roc.png", "PNG")
    write_verdict(root / "report", verdict(), metrics)
    write_verdict(root / "promotion", verdict("accuracy"), metrics)
    return root


def side(name: str, seed: int) -> Side:
    answers = Answers(name, {}, FIVE, fake_predictions(seed), False)
    table = answers.predictions.drop_duplicates(["record", "sample"], ignore_index=True)
    drawn = Drawn("s1", lambda beats: fake_images(beats.index.to_numpy()))
    metrics = {"headline": {"classes": HEADLINE}, "bootstrap": {"replicates": 100, "seed": 1}}
    return Side(replace(answers, predictions=table), drawn, metrics)


@cache
def log_of(kept: Path) -> Ledger:
    """Version 1 was champion; version 2 became it against the gate."""
    entries: list[Any] = []
    entries.append(next_entry(entries, "promote", 1, by="Ada", reason="first", bento="b:1"))
    facts = {
        "verdict": {
            "passed": False,
            "sha256": sha256_file(kept / "promotion" / "verdict.json"),
            "artifacts": "promotion/x",
        }
    }
    entries.append(
        next_entry(
            entries, "promote", 2, by="Grace | Hopper", reason="the old one draws *wrongly*",
            bento=TAGS["bento"], overridden=OVERRULED, facts=facts,
        )
    )  # fmt: skip
    return Ledger(NAME, "r", tuple(entries), True)


@pytest.fixture
def version(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registered]:
    def bring(source: Path, to: Path) -> Path:
        return Path(shutil.copytree(source, to, dirs_exist_ok=True))

    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "store"))
    monkeypatch.setattr(registry, "fetch_model", lambda _, to: bring(kept / "model", to))
    monkeypatch.setattr(registry, "fetch_report", lambda _, to: bring(kept / "report", to))
    monkeypatch.setattr(
        registry, "fetch_kept", lambda _, under, to: bring(kept / under.partition("/")[0], to)
    )
    monkeypatch.setattr(ledger, "finished", lambda _: log_of(kept))
    links = [Link("raw data", "d1", "verified", "DVC's cache")]
    monkeypatch.setattr(release, "trace", lambda *_: links)
    of = {1: side(f"{NAME} version 1", 1), 2: side(f"{NAME} version 2", 1)}
    # The same beats, and of each tenth another answer.
    other = of[2].answers.predictions
    columns = [f"p_{label}" for label in FIVE]
    other.loc[::10, columns] = other.loc[::10, columns].to_numpy()[:, ::-1]
    monkeypatch.setattr(registry, "version_of", lambda _, n: replace(made, version=n))
    monkeypatch.setattr(compare, "of_version", lambda _, found: of[found.version])
    made = Registered(NAME, 2, "champion", False, False, "run", TAGS)
    yield made


@pytest.fixture
def project(tmp_path: Path) -> Project:
    root = tmp_path / "project"
    root.mkdir()
    for name in ("pyproject.toml", "uv.lock", "LICENSE", "README.md"):
        shutil.copyfile(HERE / name, root / name)
    params = Params.model_validate(tiny_params())
    return Project(root, Reports(root), params)  # type: ignore[arg-type]


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    key = Ed25519PrivateKey.generate()
    private, public = tmp_path / "key.pem", tmp_path / "key.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


def test_a_release_holds_all_that_is_known_and_its_sbom_is_valid_cyclonedx(
    version: Registered, project: Project, keys: tuple[Path, Path]
) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    bento = packaging.bento_folder(TAGS["bento"]) / "src" / "requirements.txt"
    # As its bento has it: an older NumPy than the lock's, and a package for another platform.
    write_text(bento, "numpy==1.0.0\nclick==8.5.1\nodd-one[x]==2 ; sys_platform == 'win32'\n")
    made = release.release(project, version, keys[0])
    assert made.missing == ()
    assert made.folder == project.root / "reports" / "releases" / f"{NAME}-2"
    assert release.verify(made.folder, keys[1]) == len(
        [path for path in made.folder.rglob("*") if path.is_file()]
    ) - len(("SHA256SUMS", "SHA256SUMS.sig"))
    sums = (made.folder / "SHA256SUMS").read_text()
    for name in (
        "MODEL_CARD.md", "README.md", "release.json", "lineage.json", "sbom.cdx.json",
        "evaluation/index.html", "verdict/verdict.xml", "comparison/index.html",
        "data/LICENCES.md", "licences/dependencies.md",
    ):  # fmt: skip
        assert f"  {name}\n" in sums
    # The verdict of the promotion, not that of the registration.
    assert read_json(made.folder / "verdict" / "verdict.json")["passed"] is False
    assert "<img" in (made.folder / "comparison" / "index.html").read_text()
    assert read_json(made.folder / "comparison" / "comparison.json")["mcnemar"]["p"] < 1
    text = (made.folder / "sbom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_5).validate_str(text) is None
    document = read_json(made.folder / "sbom.cdx.json")
    found = {each["name"]: each for each in document["components"]}
    assert {"numpy", "click", "odd-one", NAME, "sample"} == set(found)
    assert found["numpy"]["version"] == "1.0.0" and "externalReferences" not in found["numpy"]
    assert found["numpy"]["licenses"][0]["license"]["name"].startswith("not known: ")
    assert found["click"]["licenses"] == [{"expression": "BSD-3-Clause"}]
    assert "click 8.5.1: LICENSE" in (made.folder / "licences" / "dependencies.txt").read_text()
    # Nothing in it hangs on the clock or on chance.
    before = sha256_tree(made.folder)
    assert sha256_tree(release.release(project, version, keys[0]).folder) == before
    assert release.renew(project, version) is None


def test_a_release_cites_the_data_that_the_model_learnt_from_additions_included(
    version: Registered, project: Project
) -> None:
    said = {"name": "sample", "version": "1+ward:2"}
    manifest = Manifest(
        **said, source="union", licence="ODC-By", citation="Ward et al.", synthetic=False,
        annotator="atr", records=(RecordEntry(record="ward__a", patient="ward/a"),),
    )  # fmt: skip
    project.dag.data("tiny").mkdir(parents=True)
    write_manifest(project.dag.data("tiny"), manifest)
    metrics = {"dataset": {**said, "licence": "ODC-By"}, "synthetic": False}
    aside = project.root / "aside"
    aside.mkdir()
    assert release._data(project, version, metrics, aside) == "Ward et al."
    assert read_json(aside / "data" / "data.json")["source"] == "union"


def test_an_overruled_gate_shows_first(version: Registered, project: Project) -> None:
    folder = release.release(project, version).folder
    card = (folder / "MODEL_CARD.md").read_text()
    assert card.index("## The gate was overruled") < card.index("## Intended use")
    for words in (*OVERRULED, "Grace | Hopper", "the old one draws *wrongly*"):
        assert words in card and words in (folder / "README.md").read_text()
    assert read_json(folder / "release.json")["overruled"][0]["checks"] == list(OVERRULED)


def test_what_was_rejected_is_not_released(
    version: Registered, project: Project, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = replace(log_of(kept), entries=log_of(kept).entries[:1])
    monkeypatch.setattr(ledger, "finished", lambda _: log)
    with pytest.raises(GateFailed, match="version 2: expected one that passed"):
        release.release(project, version)
    assert not release.folder_of(project.root, version).exists()


def test_a_broken_lineage_or_verdict_makes_no_release_and_keeps_the_old_one(
    version: Registered, project: Project, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = release.release(project, version).folder
    before = sha256_tree(folder)
    with monkeypatch.context() as patch:
        patch.setattr(registry, "fetch_kept", lambda *_: kept / "report")
        with pytest.raises(ContractError, match="expected the verdict of entry 2"):
            release.release(project, version)
    links = [Link("weights", "w1", "DIFFERS", "MLflow")]
    monkeypatch.setattr(release, "trace", lambda *_: links)
    with pytest.raises(ContractError, match="not what its lineage says: weights"):
        release.release(project, version)
    assert sha256_tree(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_what_cannot_be_compared_here_is_said_and_tried_again(
    version: Registered, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> Side:
        raise DataError("tiny: expected the test side of the present data")

    with monkeypatch.context() as patch:
        patch.setattr(compare, "of_version", gone)
        assert "without comparison with ecgbeats-tiny version 1: tiny: expected the test side" in (
            release.after_decision(project, version)
        )
    folder = release.folder_of(project.root, version)
    assert "expected the test side" in (folder / "README.md").read_text()
    made = release.renew(project, version)
    assert made is not None and made.missing == ()
    assert (folder / "comparison" / "index.html").is_file()


def test_a_signature_is_added_where_there_is_a_key_and_never_lost(
    version: Registered, project: Project, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    private, public = keys
    folder = release.release(project, version).folder
    assert release.renew(project, version) is None
    assert release.renew(project, version, private) is not None
    assert release.renew(project, version, private) is None
    assert release.verify(folder, public) > 0
    with pytest.raises(ConfigError, match="expected a key, by --key or ECGBEATS_RELEASE_KEY"):
        release.release(project, version)
    assert release.verify(folder, public) > 0


def test_the_signature_of_what_is_handed_over_covers_the_bento(
    version: Registered,
    project: Project,
    keys: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def exported(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        Path(command[-1]).write_bytes(b"a bento")
        return subprocess.CompletedProcess(command, 0, "", "")

    asked = []

    def bento_of(root: Path, recipe: str, tell: object) -> str:
        asked.append((root, recipe))
        return TAGS["bento"]

    monkeypatch.setattr(release_export.elsewhere, "bento_of", bento_of)
    monkeypatch.setattr(release_export.Bentos, "verify", lambda *_: "")
    monkeypatch.setattr(release_export.subprocess, "run", exported)
    private, public = keys
    made = release.folder_of(project.root, version)
    write_text(made / "release.json", "{}")
    seal(made)
    out = tmp_path / "dist"
    # No bento is built for a release that is not there.
    made.rename(tmp_path / "away")
    with pytest.raises(DataError, match="expected its release"):
        release_export.export(project.root, "tiny", version, out)
    (tmp_path / "away").rename(made)
    with pytest.raises(DataError, match="tiny: no champion yet"):
        release_export.export(project.root, "tiny", None, out)
    assert not asked
    for key in (None, private):
        release_export.export(project.root, "tiny", version, out, key)
    assert asked == [(project.root, "tiny")] * 2
    assert release.verify(out, public) == 2
    # A folder with anything else in it is somebody's own.
    for name, words in (("thesis.txt", "thesis.txt"), ("photos.tar.gz", "SHA256SUMS, ")):
        write_text(out / name, "years of work")
        with pytest.raises(ConfigError, match=f"found .*{words}"):
            release_export.export(project.root, "tiny", version, out, private)
        (out / name).unlink()
    (tmp_path / "dist" / f"{NAME}-2-abc.bento").write_bytes(b"another")
    with pytest.raises(ContractError, match=r"2-abc\.bento: was changed"):
        release.verify(tmp_path / "dist", public)


@pytest.mark.parametrize("error", [KeyError("schema"), OSError("disk full")])
def test_a_decision_stands_whatever_fails_in_making_its_release(
    error: Exception, version: Registered, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(release, "trace", fail)
    said = release.after_decision(project, version)
    assert said.startswith(f"not made: {type(error).__name__}: {error}. Later: ecgbeats release")


def test_whatever_is_changed_is_named(
    version: Registered, project: Project, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    private, public = keys
    folder = release.release(project, version, private).folder
    card = folder / "MODEL_CARD.md"
    whole = card.read_text()
    card.write_text(whole.replace("## The gate was overruled", "## Notes"))
    (folder / "verdict" / "verdict.md").unlink()
    (folder / "data" / "SHA256SUMS").write_text("one more")
    with pytest.raises(ContractError) as raised:
        release.verify(folder, public)
    said = str(raised.value)
    assert "MODEL_CARD.md: was changed" in said and "verdict/verdict.md: is missing" in said
    assert "data/SHA256SUMS: is not among the checksums" in said
    # Whoever changes the checksums as well is caught by the signature alone.
    (folder / "data" / "SHA256SUMS").unlink()
    signature = (folder / "SHA256SUMS.sig").read_bytes()
    seal(folder)
    (folder / "SHA256SUMS.sig").write_bytes(signature)
    assert release.verify(folder) > 0
    with pytest.raises(ContractError, match="was changed, or signed by another key"):
        release.verify(folder, public)
    (folder / "SHA256SUMS.sig").unlink()
    with pytest.raises(ContractError, match="it is not signed"):
        release.verify(folder, public)
    with pytest.raises(ConfigError, match="expected an Ed25519 public key"):
        release.verify(folder, private)
    with pytest.raises(ConfigError, match="expected an Ed25519 private key"):
        release.release(project, version, public)
