"""The whole loop on a tiny dataset, by the commands that a user types.

The runs build on each other: a first one, one more, one with a training parameter changed, one
whose model is bad on purpose; then promotion and rollback. Each happens once, in a fixture, which
keeps what it left behind; the tests look at that. In other projects meanwhile: DVC alone, and a run
on damaged data. The first two runs start Prefect servers of their own, as those of users do; the
others share one.
"""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml

from ecgbeats.config import SampleSource
from ecgbeats.datasets import MANIFEST
from ecgbeats.files import read_json, write_text
from ecgbeats.sources.sample import make_sample
from pipelines.standing import standing
from tests.support.databases import write_sums
from tests.support.projects import RECIPE, Project, tiny_params

# Whole runs are in the fixtures; each command in them has a limit of its own.
pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(1800)]

MODEL = f"ecgbeats-{RECIPE}"
STAGES = ("fetch", "validate", "render", "split", "train", "evaluate", "reference", "verdict")


@dataclass(frozen=True)
class Ran:
    """A run of the flow, and the state of the project after it."""

    done: subprocess.CompletedProcess[str]
    commit: str
    lock: dict[str, Any]
    versions: dict[int, Any]
    aliases: dict[str, int]
    # Tag and time of building.
    bentos: dict[str, int]

    @property
    def summary(self) -> dict[str, str]:
        """Lines of the printed summary by their first word; a line without one continues."""
        lines: dict[str, str] = {}
        word = ""
        for line in self.done.stdout.splitlines():
            head, rest = line[:14].strip(), line[14:].strip()
            word = head or word
            lines[word] = f"{lines[word]}; {rest}" if word in lines else rest
        return lines

    @property
    def unchanged(self) -> list[str]:
        """Stages that the summary calls unchanged."""
        listed = self.summary.get("unchanged", "").partition(";")[0]
        return [name for name in listed.split(", ") if name]


def run(project: Project) -> Ran:
    commit = project.call("git", "rev-parse", "HEAD", check=True).stdout.strip()
    done = project.call("ecgbeats", "run", RECIPE)
    client = client_of(project)
    found = client.search_registered_models(f"name = '{MODEL}'")
    return Ran(
        done=done,
        commit=commit,
        lock=project.lock(),
        versions={int(v.version): v for v in client.search_model_versions(f"name = '{MODEL}'")},
        aliases={alias: int(v) for alias, v in found[0].aliases.items()} if found else {},
        bentos={
            f"{path.parent.parent.name}:{path.parent.name}": path.stat().st_mtime_ns
            for path in (project.root / ".bentoml" / "bentos").glob("*/*/bento.yaml")
        },
    )


def client_of(project: Project) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(f"sqlite:///{project.root / 'mlflow.db'}")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project.create(tmp_path_factory.mktemp("retrain") / "project")


@dataclass(frozen=True)
class Beside:
    """A command in another project, started and perhaps not done yet."""

    project: Project
    done: Future[subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def beside(
    tmp_path_factory: pytest.TempPathFactory, drawn: Project, prefect_api: str
) -> Iterator[dict[str, Beside]]:
    """What depends on no run of the chain, one after the other on a processor of its own."""
    root = tmp_path_factory.mktemp("repro") / "project"
    clone = Project.create_after(drawn, root, tiny_params())
    params = tiny_params()
    params["datasets"]["hospital"] = {
        "source": "physionet",
        "database": "hospital/1.0",
        "licence": "CC0-1.0",
        "citation": "none",
    }
    params["recipes"][RECIPE]["dataset"] = "hospital"
    hospital = Project.create(tmp_path_factory.mktemp("damaged") / "project", params).with_prefect(
        prefect_api
    )
    write_text(hospital.root / "reports" / RECIPE / "gate" / "verdict.md", "passed yesterday")
    mirror = write_damaged(tmp_path_factory.mktemp("mirror") / "hospital")
    with ThreadPoolExecutor(1) as pool:
        repro = pool.submit(
            clone.call, "dvc", "repro", *(f"{last}@{RECIPE}" for last in STAGES[-2:])
        )
        damaged = pool.submit(hospital.call, "ecgbeats", "run", RECIPE, "--mirror", str(mirror))
        yield {"repro": Beside(clone, repro), "damaged": Beside(hospital, damaged)}


def write_damaged(folder: Path) -> Path:
    """A database whose publisher lost half of one record, and took checksums of the rest."""
    source = SampleSource(source="sample", patients=4, minutes=0.6, fs=180, seed=7)
    manifest = make_sample(source, folder, workers=1)
    (folder / MANIFEST).unlink()
    (folder / "RECORDS").write_text("".join(f"{name}\n" for name in manifest.record_names))
    signal = (folder / "s002.dat").read_bytes()
    (folder / "s002.dat").write_bytes(signal[: len(signal) // 2])
    write_sums(folder)
    return folder


@pytest.fixture(scope="module")
def first(project: Project, beside: dict[str, Beside]) -> Ran:
    return run(project)


@pytest.fixture(scope="module")
def second(project: Project, first: Ran) -> Ran:
    return run(project)


@pytest.fixture(scope="module")
def changed(project: Project, second: Ran, prefect_api: str) -> Ran:
    """One training parameter is another."""
    params = project.params
    params["recipes"][RECIPE]["train"]["weight_decay"] = 0.001
    project.write_params(params)
    project.commit("More weight decay")
    return run(project.with_prefect(prefect_api))


@pytest.fixture(scope="module")
def passed(project: Project, changed: Ran) -> subprocess.CompletedProcess[str]:
    return project.call("ecgbeats", "gate", RECIPE)


@pytest.fixture(scope="module")
def stale(
    project: Project, passed: subprocess.CompletedProcess[str]
) -> subprocess.CompletedProcess[str]:
    """The gate again, before a changed parameter has had its run."""
    params = project.params
    params["recipes"][RECIPE]["train"] |= {"learning_rate": 1e-9, "epochs": 1}
    project.write_params(params)
    project.commit("A bad idea")
    return project.call("ecgbeats", "gate", RECIPE)


@pytest.fixture(scope="module")
def bad(project: Project, stale: subprocess.CompletedProcess[str], prefect_api: str) -> Ran:
    """A network that has learnt nothing."""
    return run(project.with_prefect(prefect_api))


@pytest.fixture(scope="module")
def blocked(project: Project, bad: Ran) -> subprocess.CompletedProcess[str]:
    return project.call("ecgbeats", "gate", RECIPE)


@dataclass(frozen=True)
class Moved:
    """A command that changes who is champion, and what there is afterwards."""

    done: subprocess.CompletedProcess[str]
    status: dict[str, Any]
    aliases: dict[str, int]


def move(project: Project, *command: str) -> Moved:
    done = project.call("ecgbeats", *command)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project.root / 'mlflow.db'}")
        status = standing(MODEL)
    (model,) = client_of(project).search_registered_models(f"name = '{MODEL}'")
    aliases = {alias: int(version) for alias, version in model.aliases.items()}
    return Moved(done, status, aliases)


@pytest.fixture(scope="module")
def refused(project: Project, blocked: subprocess.CompletedProcess[str]) -> Moved:
    """Somebody tries to promote the bad model."""
    return move(project, "promote", RECIPE, "--version", "3", "--reason", "it is new")


@pytest.fixture(scope="module")
def promoted(project: Project, refused: Moved) -> Moved:
    return move(project, "promote", RECIPE, "--by", "Ada", "--reason", "more weight decay")


@pytest.fixture(scope="module")
def rolled_back(project: Project, promoted: Moved) -> Moved:
    return move(project, "rollback", RECIPE, "--reason", "alarms")


# The first run.


def test_the_first_run_ends_with_a_summary(first: Ran, project: Project) -> None:
    assert first.done.returncode == 0, first.done.stderr
    summary = first.summary
    version = read_json(project.root / "data/raw/small" / MANIFEST)["version"]
    assert summary["dataset"] == f"sample {version}"
    assert "SAMPLE DATA" in first.done.stdout
    interval = r"\d\.\d{3} \(95 % \d\.\d{3} to \d\.\d{3}\)"
    assert re.fullmatch(rf"{interval}  over N V", summary["macro-F1"])
    assert re.fullmatch(interval, summary["accuracy"])
    # Two floors, two on leaks, one latency; no champion yet.
    assert summary["gate"] == "passed, 5 of 5 checks"
    assert summary["registered"] == f"{MODEL} version 1 (champion)"
    assert list(first.bentos) == [summary["bento"]]
    report = project.root / summary["report"]
    assert report == project.root / "reports" / RECIPE / "index.html" and report.is_file()
    assert "make mlflow" in summary["UIs"] and "make prefect" in summary["UIs"]
    assert not first.unchanged


def test_progress_is_visible_throughout(first: Ran) -> None:
    for stage in STAGES:
        assert re.search(rf"Running stage '{stage}@", first.done.stderr), stage
    assert re.search(r"render: \d+/11 \(s\d{3}\)", first.done.stderr)
    assert re.search(r"epoch 8/8: loss .*validation_macro_f1 ", first.done.stderr)
    assert "Traceback" not in first.done.stderr


def test_the_registered_version_says_what_it_is_made_of(first: Ran, project: Project) -> None:
    assert first.aliases == {"champion": 1}
    (version,) = first.versions.values()
    outs = {name: entry["outs"][0] for name, entry in first.lock.items()}
    card = read_json(project.root / "data/models" / RECIPE / "model.json")
    expected = {
        "recipe": RECIPE,
        "data_hash": outs["fetch@small"]["md5"].removesuffix(".dir"),
        "images_hash": outs[f"render@{RECIPE}"]["md5"].removesuffix(".dir"),
        "git_commit": first.commit,
        "git_dirty": "false",
        "weights_sha256": card["weights_sha256"],
        "spec_id": card["spec_id"],
        "verdict": "approved",
        "synthetic": "true",
        "bento": first.summary["bento"],
    }
    assert expected.items() <= version.tags.items()


def test_the_run_in_mlflow_has_all_that_explains_the_model(first: Ran, project: Project) -> None:
    client = client_of(project)
    made = client.get_run(first.versions[1].run_id)
    assert made.info.status == "FINISHED"
    assert made.data.params["train.learning_rate"] == "0.01"
    assert made.data.tags["git_commit"] == first.commit
    epochs = tiny_params()["recipes"][RECIPE]["train"]["epochs"]
    for curve in ("loss", "accuracy", "validation_loss", "validation_macro_f1"):
        points = client.get_metric_history(made.info.run_id, f"select/{curve}")
        assert [point.step for point in points] == list(range(1, epochs + 1))
    (data,) = made.inputs.dataset_inputs
    assert data.dataset.name == "small"
    assert data.dataset.digest == first.versions[1].tags["data_hash"]
    folder = Path(made.info.artifact_uri.removeprefix("file://"))
    report = folder / "report"
    for name in ("index.html", "metrics.json", "verdict.json"):
        assert (report / name).is_file()
    assert list((report / "plots").iterdir())
    accuracy = read_json(report / "metrics.json")["accuracy"]
    assert made.data.metrics["accuracy"] == pytest.approx(accuracy)


def test_the_registered_model_has_the_networks_signature(first: Ran, project: Project) -> None:
    run_id = first.versions[1].run_id
    client = client_of(project)
    experiment = client.get_run(run_id).info.experiment_id
    (logged,) = client.search_logged_models([experiment], filter_string=f"source_run_id='{run_id}'")
    about = yaml.safe_load((Path(logged.artifact_location) / "MLmodel").read_text())
    (image,) = json.loads(about["signature"]["inputs"])
    spec = read_json(project.root / "data/models" / RECIPE / "model.json")["image"]
    rows = len(spec["panels"]) * spec["panel_height"] + spec["strip_height"]
    assert image["tensor-spec"] == {"dtype": "float32", "shape": [-1, rows, spec["width"], 1]}
    assert about["metadata"]["classes"] == ["N", "S", "V", "F", "Q"]


def test_the_bento_says_which_model_code_and_data_it_holds(first: Ran, project: Project) -> None:
    name, _, version = first.summary["bento"].partition(":")
    folder = project.root / ".bentoml" / "bentos" / name / version
    labels = yaml.safe_load((folder / "bento.yaml").read_text())["labels"]
    tags = first.versions[1].tags
    assert name == MODEL
    assert version == f"1-{labels['packed_sha256'][:12]}"
    assert labels["model_version"] == "1"
    same = ("recipe", "git_commit", "data_hash", "weights_sha256", "spec_id")
    assert {key: labels[key] for key in same} == {key: tags[key] for key in same}
    assert re.search(rf"{re.escape(first.summary['bento'])}: answers as offline", first.done.stderr)


def test_prefect_keeps_what_ran(first: Ran, project: Project) -> None:
    with sqlite3.connect(project.root / ".prefect" / "prefect.db") as database:
        (name, state) = database.execute(
            "select name, state_type from flow_run order by created limit 1"
        ).fetchone()
        ((verdict,),) = database.execute(
            "select data from artifact where key = ? order by created limit 1",
            [f"verdict-{RECIPE}"],
        ).fetchall()
    assert (name, state) == (f"retrain {RECIPE}", "COMPLETED")
    assert f"{RECIPE}: passed" in verdict


def test_status_describes_the_champion(first: Ran, project: Project) -> None:
    status = project.call("ecgbeats", "status", RECIPE)
    assert status.returncode == 0
    assert f"{MODEL} version 1: champion" in status.stdout
    assert f"git_commit: {first.commit}" in status.stdout
    assert f"bento: {first.summary['bento']}" in status.stdout
    assert "promote version 1 by" in status.stdout


# Once more.


def test_a_second_run_does_nothing_again_and_says_so(first: Ran, second: Ran) -> None:
    assert second.done.returncode == 0, second.done.stderr
    assert second.unchanged == list(STAGES)
    assert "nothing was trained again" in second.done.stdout
    assert "Running stage" not in second.done.stderr
    assert second.summary["registered"] == f"{MODEL} version 1 (champion, registered before)"
    assert second.lock == first.lock
    assert second.bentos == first.bentos
    assert second.summary["bento"] == first.summary["bento"]
    assert [version.tags for version in second.versions.values()] == [first.versions[1].tags]
    assert second.aliases == first.aliases


# Another training parameter.


def test_a_training_parameter_reruns_from_training_on(second: Ran, changed: Ran) -> None:
    assert changed.done.returncode == 0, changed.done.stderr
    assert changed.unchanged == ["fetch", "validate", "render", "split"]
    assert "nothing was trained again" not in changed.done.stdout
    differing = {
        address for address in second.lock if changed.lock[address] != second.lock[address]
    }
    assert differing == {f"{stage}@{RECIPE}" for stage in STAGES[-4:]}


def test_the_new_version_is_challenger(first: Ran, changed: Ran) -> None:
    assert changed.aliases == {"champion": 1, "challenger": 2}
    assert changed.versions[2].run_id != changed.versions[1].run_id
    assert changed.versions[2].tags["git_commit"] == changed.commit
    assert changed.summary["registered"] == (
        f"{MODEL} version 2 (challenger); champion stays version 1"
    )
    # Against the champion, on the same beats, and both trained on others.
    assert changed.summary["gate"] == "passed, 8 of 8 checks"
    assert re.match(r"headline\.macro_f1: 0\.\d+ against 0\.\d+ of ", changed.summary["champion"])
    # The champion is what gets served.
    assert all(tag.startswith(f"{MODEL}:1-") for tag in changed.bentos)


# A bad model.


def test_the_gate_passes_a_good_model(passed: subprocess.CompletedProcess[str]) -> None:
    assert passed.returncode == 0
    # With latency, leaks and champion, as the run asked them.
    assert [line[:4] for line in passed.stdout.splitlines()] == ["pass"] * 8


def test_the_gate_knows_a_verdict_on_something_else(
    stale: subprocess.CompletedProcess[str],
) -> None:
    assert stale.returncode == 2
    assert f"not up to date: train@{RECIPE}. " in stale.stderr


def test_the_gate_blocks_a_bad_model(bad: Ran, blocked: subprocess.CompletedProcess[str]) -> None:
    assert bad.done.returncode == blocked.returncode == 1, bad.done.stderr
    assert bad.summary["gate"].startswith("REJECTED")
    failed = [line for line in blocked.stdout.splitlines() if line.startswith("FAIL")]
    assert any("macro-F1" in line for line in failed)
    for said in (bad.done.stderr, blocked.stderr):
        assert f"GateFailed: {RECIPE}: the gate fails" in said
        assert "headline.macro_f1: required >= 0.7, measured" in said
        assert "Traceback" not in said


def test_a_rejected_model_is_evidence_and_no_more(changed: Ran, bad: Ran) -> None:
    assert bad.versions[3].tags["verdict"] == "rejected"
    assert bad.aliases == changed.aliases
    assert bad.bentos == changed.bentos
    assert "bento" not in bad.versions[3].tags
    assert bad.summary["bento"] == "none"
    assert bad.summary["registered"] == (
        f"{MODEL} version 3 (rejected, no alias); champion stays version 1"
    )


# Promotion.


def test_a_worse_model_is_not_promoted(refused: Moved, bad: Ran, project: Project) -> None:
    assert refused.done.returncode == 1
    said = refused.done.stderr
    assert f"GateFailed: {RECIPE}: the gate fails" in said and "Traceback" not in said
    assert "champion.headline.macro_f1: required >= -0.3, measured -" in said
    assert said.rstrip().endswith("To promote all the same: --by and --reason")
    assert refused.aliases == bad.aliases and len(refused.status["history"]) == 2
    folder = project.root / "reports" / RECIPE / "promotion"
    verdict = read_json(folder / "verdict.json")
    assert not verdict["passed"]
    assert (folder / "verdict.xml").read_text().count("<failure ") == sum(
        not row["passed"] for row in verdict["checks"]
    )


def test_the_challenger_is_promoted_with_its_bento(promoted: Moved, project: Project) -> None:
    assert promoted.done.returncode == 0, promoted.done.stderr
    assert promoted.aliases == {"champion": 2, "previous": 1}
    champion = promoted.status["champion"]
    assert (champion["version"], champion["by"], champion["reason"]) == (
        2,
        "Ada",
        "more weight decay",
    )
    assert champion["overridden"] == [] and promoted.status["apart"] == []
    name, _, version = champion["bento"].partition(":")
    labels = yaml.safe_load(
        (project.root / ".bentoml/bentos" / name / version / "bento.yaml").read_text()
    )["labels"]
    assert labels["model_version"] == "2"
    assert labels["weights_sha256"] == champion["weights_sha256"]
    tags = client_of(project).get_model_version(MODEL, "2").tags
    assert tags["bento"] == champion["bento"] and tags["git_commit"] == champion["git_commit"]
    assert "bento answers as offline: " in promoted.done.stderr


def test_rollback_serves_the_former_champion_again(
    project: Project, changed: Ran, promoted: Moved, rolled_back: Moved
) -> None:
    assert rolled_back.done.returncode == 0, rolled_back.done.stderr
    assert rolled_back.aliases == {"champion": 1}
    champion = rolled_back.status["champion"]
    # The very bento that it was served by before.
    assert champion["bento"] == changed.summary["bento"]
    assert "bento answers as offline: " in rolled_back.done.stderr
    actions = [row["action"] for row in rolled_back.status["history"]]
    # The commits between the runs changed nothing that is packed.
    assert actions == ["promote", "challenge", "promote", "rollback"]
    assert champion["version"] == 1 and champion["action"] == "rollback"
    told = project.call("ecgbeats", "status", RECIPE, "--json")
    status = json.loads(told.stdout)
    assert status["champion"].pop("bento_here") is True
    assert status == rolled_back.status


def test_every_champion_has_its_release(
    project: Project, first: Ran, promoted: Moved, rolled_back: Moved
) -> None:
    folders = [f"reports/releases/{MODEL}-{number}" for number in (1, 2)]
    # How long it took stands behind it.
    assert first.summary["release"].partition(";")[0] == folders[0]
    assert f"  release: {folders[1]}\n" in promoted.done.stdout
    assert f"  release: {folders[0]}\n" in rolled_back.done.stdout
    was, now = (read_json(project.root / folder / "release.json") for folder in folders)
    assert [each["action"] for each in was["log"]] == ["promote", "rollback"]
    assert (now["compared_with"], now["missing"]) == (f"{MODEL} version 1", [])
    compared = read_json(project.root / folders[1] / "comparison" / "comparison.json")
    names = [f"{MODEL} version {number}" for number in (1, 2)]
    assert [side["name"] for side in compared["sides"]] == names
    page = (project.root / folders[1] / "comparison" / "index.html").read_text()
    assert "Both are wrong, differently" in page
    verified = project.call("ecgbeats", "release", "verify", folders[1])
    assert verified.returncode == 0, verified.stderr


def test_lineage_finds_what_is_not_what_it_says(project: Project, rolled_back: Moved) -> None:
    champion = rolled_back.status["champion"]
    # Another network in the bento, and one more byte in the cached images.
    name, _, version = champion["bento"].partition(":")
    about = (project.root / ".bentoml/bentos" / name / version / "bento.yaml").read_text()
    (model,) = yaml.safe_load(about)["services"][0]["models"]
    onnx = project.root.joinpath(".bentoml/models", *model["tag"].split(":"), "model.onnx")
    onnx.write_bytes(onnx.read_bytes() + b"x")
    cache, images = project.root / ".dvc/cache/files/md5", champion["images_hash"]
    listed = read_json(cache / images[:2] / f"{images[2:]}.dir")[0]["md5"]
    spoilt = cache / listed[:2] / listed[2:]
    spoilt.chmod(0o644)
    spoilt.write_bytes(spoilt.read_bytes() + b"x")
    done = project.call("ecgbeats", "lineage", f"{MODEL}@champion", "--json")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f"ContractError: {MODEL}@champion: not what its lineage says: images, bento"
    )
    links = {link["what"]: link for link in json.loads(done.stdout)}
    others = {what for what, link in links.items() if link["state"] == "verified"}
    assert others == {
        "raw data",
        "weights",
        "network",
        "version",
        "commit of the model",
        "commit of the service",
    }
    assert links["raw data"]["name"] == champion["data_hash"]
    assert links["weights"]["name"] == champion["weights_sha256"]
    assert "model.onnx not as of the version" in links["bento"]["how"]


# In other projects.


def test_dvc_alone_gives_the_same_bytes(first: Ran, beside: dict[str, Beside]) -> None:
    done = beside["repro"].done.result()
    assert done.returncode == 0, done.stderr
    clone = beside["repro"].project
    outs = {address: entry["outs"] for address, entry in clone.lock().items()}
    assert outs == {address: entry["outs"] for address, entry in first.lock.items()}
    assert len(outs) == len(STAGES)
    assert not (clone.root / "mlflow.db").exists()
    assert not (clone.root / ".prefect").exists()


def test_dvc_shows_the_metrics(beside: dict[str, Beside]) -> None:
    beside["repro"].done.result()
    clone = beside["repro"].project
    shown = clone.call("dvc", "metrics", "show", "--json", check=True)
    (files,) = [revision["data"] for revision in json.loads(shown.stdout).values()]
    path = f"reports/{RECIPE}/metrics.json"
    measured = read_json(clone.root / path)
    assert files[path]["data"]["accuracy"] == measured["accuracy"]
    assert files[path]["data"]["headline"]["macro_f1"] == measured["headline"]["macro_f1"]


def test_damaged_data_stop_the_run_before_training(beside: dict[str, Beside]) -> None:
    done = beside["damaged"].done.result()
    root = beside["damaged"].project.root
    assert done.returncode == 2
    (message,) = [line for line in done.stderr.splitlines() if line.startswith("ServiceError: ")]
    assert f"stage validate@{RECIPE} failed: ValidationFailed: dataset hospital: " in message
    assert re.search(r"header_length \[record s002: -\d+ samples\]", message)
    assert done.stdout == "" and "Traceback" not in done.stderr
    assert not (root / "data/images").exists() and not (root / "data/models").exists()
    assert not (root / "mlflow.db").exists() and not (root / ".bentoml").exists()
    # No verdict of an earlier run; what was found is there to be read.
    assert not (root / "reports" / RECIPE / "gate").exists()
    found = read_json(root / "reports" / RECIPE / "validation" / "validation.json")
    assert "header_length" in found["critical_failed"]


def test_there_is_nothing_to_serve_of_it(beside: dict[str, Beside]) -> None:
    beside["damaged"].done.result()
    served = beside["damaged"].project.call("ecgbeats", "serve", RECIPE)
    assert served.returncode == 2
    line = served.stderr.splitlines()[-1]
    assert line == f"DataError: {RECIPE}: no bento yet; run `make run RECIPE={RECIPE}` first"
