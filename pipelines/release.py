"""The release folder of a version: what a person, an auditor or a machine must know of it.

Made after the decision, from what registry, promotion log, bento store and DVC hold; nothing in
it is made up by hand and nothing hangs on the clock, so it can be made again. It is no output of
a stage and in no cache: who has the registry has all that it is made of.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecgbeats.config import read_params
from ecgbeats.datasets import read_description
from ecgbeats.errors import ConfigError, ContractError, DataError, EcgbeatsError, GateFailed
from ecgbeats.files import folder_written_aside, read_json, sha256_file, write_json, write_text
from ecgbeats.inference import CARD, ONNX
from ecgbeats.model_card import model_card
from ecgbeats.signing import SIGNATURE, SUMS, check_seal, seal
from pipelines import compare, ledger, packaging, registry, release_words, sbom
from pipelines.dag import Dag
from pipelines.decisions import rival_of, verdict_folder
from pipelines.gating import METRICS, SPLIT, VERDICT
from pipelines.lineage import Link
from pipelines.lineage import in_words as chain_in_words
from pipelines.lineage import lineage as trace
from pipelines.packaging import REQUIREMENTS
from pipelines.promotion import Project
from pipelines.promotion_log import Entry, overrides_in, tags_of
from pipelines.registry import Registered
from pipelines.tracking import model_name

SCHEMA = 1
# Names the private key that releases are signed with.
KEY = "ECGBEATS_RELEASE_KEY"
ABOUT, MODEL_CARD, SBOM = "release.json", "MODEL_CARD.md", "sbom.cdx.json"
# Folder of all releases, below the project.
RELEASES = Path("reports") / "releases"


@dataclass(frozen=True)
class Made:
    """A release folder, and what it had to do without."""

    folder: Path
    missing: tuple[str, ...] = ()


def folder_of(root: Path, version: Registered) -> Path:
    """Where the release of a version lies."""
    return root / RELEASES / f"{version.name}-{version.version}"


def release(project: Project, version: Registered, key: Path | None = None) -> Made:
    """Make the release folder of `version`, replacing an earlier one; all of it or nothing.

    What cannot be made on this machine, the comparison where the test side is not here, is said
    in its place and returned.

    Parameters
    ----------
    key : Path, optional
        Private key (Ed25519, PEM) to sign with.

    Raises
    ------
    GateFailed
        The version was rejected and nobody has overruled that.
    ContractError
        Something that it is made of is not what its lineage says.
    ConfigError
        The folder is signed, and there is no key to sign what would replace it.
    """
    if key is None and (folder_of(project.root, version) / SIGNATURE).is_file():
        raise ConfigError(
            f"{folder_of(project.root, version)}: expected a key, by --key or {KEY}: it is signed, "
            "and would lose its signature; remove the folder to make it without one"
        )
    log = ledger.finished(version.name).entries
    entries = [e for e in log if e.version == version.version]
    overruled = [
        {"checks": list(e.overridden), "by": e.by, "on": e.time, "reason": e.reason}
        for e in entries
        if e.overridden
    ]
    if not version.approved and not overruled:
        raise GateFailed(
            f"{version.name} version {version.version}: expected one that passed the gate, or for "
            "which it was overruled by name; it was rejected"
        )
    links = trace(project.root, f"{version.name}/{version.version}")
    apart = [link.what for link in links if link.state == "DIFFERS"]
    if apart:
        raise ContractError(
            f"{version.name} version {version.version}: no release; not what its lineage says: "
            f"{', '.join(apart)}"
        )
    folder = folder_of(project.root, version)
    with (
        tempfile.TemporaryDirectory(prefix="ecgbeats-release-") as name,
        folder_written_aside(folder) as aside,
    ):
        scratch = Path(name)
        model = registry.fetch_model(version, scratch / "model")
        report = registry.fetch_report(version, scratch / "report")
        metrics = read_json(report / METRICS)
        citation = _data(project, version, metrics, aside)
        _evaluation(report, aside)
        verdict = _verdict(version, log, report, scratch, aside)
        card = model_card(
            read_json(model / CARD),
            metrics,
            f"{version.name} version {version.version}",
            split=read_json(report / SPLIT),
            overruled=[words for e in entries for words in overrides_in(tags_of(e))],
            citation=citation,
        )
        write_text(aside / MODEL_CARD, card)
        _chain(links, aside)
        _packages(project.root, version, model, metrics, aside)
        rival, missing = _comparison(project, version, aside)
        about = _about(version, entries, overruled, verdict, rival, missing, model)
        write_json(aside / ABOUT, about)
        write_text(aside / "README.md", release_words.read_me(about, signed=key is not None))
        seal(aside, key)
    return Made(folder, tuple(missing))


def renew(project: Project, version: Registered, key: Path | None = None) -> Made | None:
    """The same where it is not there, is not signed with `key` given, or more is known by now.

    None where it is as it would be made now.
    """
    folder = folder_of(project.root, version)
    signed = key is None or (folder / SIGNATURE).is_file()
    if signed and (folder / ABOUT).is_file() and (folder / SUMS).is_file():
        try:
            check_seal(folder)
            was = read_json(folder / ABOUT)
        except (EcgbeatsError, ValueError):
            was = {}
        entries = [e for e in ledger.finished(version.name).entries if e.version == version.version]
        # Of another schema it may lack what is asked here; then it is made anew.
        same = [e.hash for e in entries] == [each.get("hash") for each in was.get("log", [])]
        if same and not was.get("missing", True) and was.get("bento") == version.tags.get("bento"):
            return None
    return release(project, version, key)


def after_decision(project: Project, version: Registered) -> str:
    """Renew the release of a version that was decided on; what came of it, for people.

    The decision stands, whatever fails here. Signed with the key that ECGBEATS_RELEASE_KEY names.
    """
    key = os.environ.get(KEY)
    try:
        made = renew(project, version, Path(key) if key else None)
    except Exception as error:  # what it reads is DVC's, MLflow's and the disk's, who raise theirs
        recipe = version.tags["recipe"]
        what = "" if isinstance(error, EcgbeatsError) else f"{type(error).__name__}: "
        return (
            f"not made: {what}{error}. Later: ecgbeats release {recipe} --version {version.version}"
        )
    folder = folder_of(project.root, version).relative_to(project.root)
    if made is None or not made.missing:
        return str(folder)
    return f"{folder}, without {'; '.join(made.missing)}"


def after_move(root: Path, recipe: str, version: int) -> str:
    """The same, for who has but the number of a version: of `ecgbeats rollback`, say.

    Parameters and data may be broken when that is needed.
    """
    try:
        project = Project(root, Dag(root), read_params(root / "params.yaml"))
        chosen = registry.version_of(model_name(recipe), version)
    except EcgbeatsError as error:
        return f"not made: {error}. Later: ecgbeats release {recipe} --version {version}"
    return after_decision(project, chosen)


def _evaluation(report: Path, aside: Path) -> None:
    folder = aside / "evaluation"
    folder.mkdir()
    for name in ("index.html", METRICS, SPLIT):
        shutil.copyfile(report / name, folder / name)
    shutil.copytree(report / "plots", folder / "plots")


def _verdict(
    version: Registered, entries: Sequence[Entry], report: Path, scratch: Path, aside: Path
) -> dict[str, Any]:
    """The verdict that decided last, in all its forms; that of the registration if none did."""
    folder = aside / "verdict"
    folder.mkdir()
    source = verdict_folder(version, entries, report, scratch)
    for path in sorted(source.glob("verdict.*")):
        shutil.copyfile(path, folder / path.name)
    verdict: dict[str, Any] = read_json(folder / VERDICT)
    return verdict


def _data(project: Project, version: Registered, metrics: Mapping[str, Any], aside: Path) -> str:
    """Licence and citation of the data; returns the citation, if the data is here to say it."""
    said = dict(metrics["dataset"])
    citation, source = "", ""
    try:
        found = read_description(project.dag.data(version.tags["recipe"]))
    except EcgbeatsError:
        found = None
    if found is not None and (found.name, found.version) == (said["name"], said["version"]):
        citation, source = found.citation, found.source
    folder = aside / "data"
    folder.mkdir()
    about = {
        **said,
        "source": source,
        "citation": citation,
        "synthetic": metrics["synthetic"],
        "data_hash": version.tags["data_hash"],
    }
    write_json(folder / "data.json", about)
    write_text(folder / "LICENCES.md", release_words.data_licence(about))
    return citation


def _chain(links: list[Link], aside: Path) -> None:
    write_json(aside / "lineage.json", [link.to_json() for link in links])
    write_text(aside / "lineage.txt", chain_in_words(links) + "\n")


def _packages(
    root: Path, version: Registered, model: Path, metrics: Mapping[str, Any], aside: Path
) -> None:
    """SBOM and licences, of the bento's own requirements where it is here, else of the lock."""
    bento = version.tags.get("bento")
    requirements = None
    if bento is not None and packaging.has_bento(bento):
        inside = packaging.bento_folder(bento) / "src" / REQUIREMENTS
        requirements = inside.read_text(encoding="utf-8") if inside.is_file() else None
    packages = sbom.pinned(requirements or packaging.requirements(root))
    found = sbom.licences(packages)
    tags, dataset = version.tags, metrics["dataset"]
    parts = [
        {
            "type": "machine-learning-model",
            "bom-ref": f"model:{version.name}@{version.version}",
            "name": version.name,
            "version": str(version.version),
            "hashes": [{"alg": "SHA-256", "content": sha256_file(model / ONNX)}],
            "properties": [{"name": "ecgbeats:weights_sha256", "value": tags["weights_sha256"]}],
        },
        {
            "type": "data",
            "bom-ref": f"data:{dataset['name']}@{dataset['version']}",
            "name": dataset["name"],
            "version": dataset["version"],
            "licenses": [{"license": {"name": dataset.get("licence") or "not stated"}}],
            "properties": [{"name": "ecgbeats:dvc_md5", "value": tags["data_hash"]}],
        },
    ]
    document = sbom.sbom(
        root,
        packages,
        found,
        bento=bento or f"{version.name}:{version.version}",
        commit=tags["git_commit"],
        parts=parts,
    )
    write_json(aside / SBOM, document)
    folder = aside / "licences"
    folder.mkdir()
    write_text(folder / "dependencies.md", sbom.licence_table(found))
    write_text(folder / "dependencies.txt", sbom.licence_texts(found))
    shutil.copyfile(root / "LICENSE", folder / "LICENSE")


def _comparison(project: Project, version: Registered, aside: Path) -> tuple[str | None, list[str]]:
    """Write the comparison with the champion before; its name, and why there is none."""
    number, why = rival_of(version)
    if number is None:
        (aside / "comparison").mkdir()
        write_text(aside / "comparison" / "README.md", f"No comparison: {why}.\n")
        return None, []
    name = f"{version.name} version {number}"
    try:
        with tempfile.TemporaryDirectory(prefix="ecgbeats-release-") as scratch:
            sides = []
            for which in (number, version.version):
                own = Path(scratch) / str(which)
                own.mkdir()
                place = compare.Place(project.root, project.dag, project.params, own)
                found = registry.version_of(version.name, which)
                sides.append(compare.of_version(place, found))
            compare.write(aside / "comparison", *sides)
    except EcgbeatsError as error:
        # The decision has been made; what it rested on is in the verdict.
        words = f"comparison with {name}: {error}"
        (aside / "comparison").mkdir(exist_ok=True)
        write_text(aside / "comparison" / "README.md", f"Not made: {words}\n")
        return name, [words]
    return name, []


def _about(
    version: Registered,
    entries: list[Entry],
    overruled: list[dict[str, Any]],
    verdict: Mapping[str, Any],
    rival: str | None,
    missing: list[str],
    model: Path,
) -> dict[str, Any]:
    tags = version.tags
    return {
        "schema": SCHEMA,
        "model": version.name,
        "version": version.version,
        "recipe": tags["recipe"],
        "synthetic": tags["synthetic"] == "true",
        "passed": verdict["passed"],
        "overruled": overruled,
        "bento": tags.get("bento"),
        "compared_with": rival,
        "missing": missing,
        "content": version.content,
        "onnx_sha256": read_json(model / CARD)["onnx_sha256"],
        **{
            key: tags[key]
            for key in ("weights_sha256", "data_hash", "images_hash", "spec_id", "git_commit")
        },
        "git_dirty": tags["git_dirty"] == "true",
        "mlflow_run": version.run_id,
        "log": [
            {"entry": e.number, "time": e.time, "action": e.action, "by": e.by, "hash": e.hash}
            for e in entries
        ],
    }


def verify(folder: Path, key: Path | None = None) -> int:
    """Make sure that a release folder is as it was sealed; return how many files it holds.

    Raises
    ------
    DataError
        It is no release folder.
    ContractError
        Naming what was changed, added or removed, or that the signature is not of this key.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: expected a release folder")
    return check_seal(folder, key)
