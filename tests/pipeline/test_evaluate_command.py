"""`ecgbeats evaluate` as a user runs it: a folder or a registered model, anybody's records."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import wfdb

from ecgbeats.config import Params
from ecgbeats.files import read_json, write_json, write_text
from pipelines import ledger, registry
from pipelines.dag import Lineage
from pipelines.promotion_log import next_entry
from pipelines.provenance import Code
from pipelines.registry import Evidence, register
from tests.support.projects import RECIPE, Project, tiny_params
from tests.support.recordings import bumps
from tests.support.tiny_model import SPEC, write_tiny_golden, write_tiny_model

pytestmark = pytest.mark.pipeline

CLASSES = ("N", "S", "V", "F", "Q")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A checkout with a model folder, `tiny`, and records of two patients, `clinic`."""
    made = Project.create(tmp_path_factory.mktemp("project") / "checkout")
    classifier = write_tiny_model(made.root / "tiny", SPEC, CLASSES)
    write_text(made.root / "tiny" / "history.csv", "phase,epoch,loss\nselect,1,0.5\n")
    write_tiny_golden(made.root / "golden.npz", classifier)
    for k, name in enumerate(("p1-1", "p1-2", "p2-1")):
        symbols = "NNVNNANNFN"
        samples = np.arange(1, 11) * 128
        trace = bumps(samples, 12 * 128, fs=128, seed=k)
        folder = str(made.root / "clinic")
        Path(folder).mkdir(exist_ok=True)
        wfdb.wrsamp(
            name,
            fs=128,
            units=["mV", "mV"],
            sig_name=["ECG1", "ECG2"],
            p_signal=np.stack([trace, -trace], axis=1),
            fmt=["212", "212"],
            adc_gain=[200, 200],
            baseline=[0, 0],
            write_dir=folder,
        )
        wfdb.wrann(name, "ari", samples, symbol=list(symbols), write_dir=folder)
    (made.root / "clinic" / "RECORDS").write_text("p1-1\np1-2\np2-1\np2-2\n")
    return made


def evaluate(*options: str, model: str = "tiny") -> list[str]:
    command = ["ecgbeats", "evaluate", "--model", model, "--data", "clinic", "--annotator", "ari"]
    return [*command, "--labels", "patients", "--bootstrap", "100", "--workers", "1", *options]


def test_a_model_folder_is_measured_on_records_from_elsewhere(project: Project) -> None:
    done = project.call(*evaluate("--out", "found/here", "--patients", r"^(p\d)"))
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[0] == "tiny on clinic"
    assert "  measured    30 beats, 3 records, 2 patients" in said
    assert "  leads       ECG1 (3)" in said
    assert "  left out    p2-2: p2-2.hea is missing" in said
    assert any(line.startswith("  took ") for line in said)
    metrics = read_json(project.root / "found" / "here" / "metrics.json")
    # The classes that the protocol's recipe puts first.
    assert metrics["headline"]["classes"] == ["N", "V"]
    assert metrics["dataset"]["annotator"] == "ari"
    assert "p2-2.hea is missing" in (project.root / "found" / "here" / "index.html").read_text()


def test_paths_are_relative_to_where_the_user_stands(project: Project, tmp_path: Path) -> None:
    options = ["--out", str(tmp_path / "out"), "--headline", "N, S,V", "--predictions", "csv"]
    command = [word.replace("clinic", "../clinic") for word in evaluate(*options, model="../tiny")]
    done = project.call("env", "-C", str(project.root / "src"), *command)
    assert done.returncode == 0, done.stderr
    assert read_json(tmp_path / "out" / "metrics.json")["headline"]["classes"] == ["N", "S", "V"]
    assert (tmp_path / "out" / "predictions.csv").is_file()


def refused(project: Project, *command: str) -> str:
    """The last line that a command said before it gave up."""
    done = project.call(*command)
    assert done.returncode == 2 and done.stdout == ""
    return done.stderr.splitlines()[-1]


def test_what_does_not_fit_is_refused_in_one_line(project: Project, tmp_path: Path) -> None:
    out = ("--out", str(tmp_path / "out"))
    assert "model: expected a folder that is there, or a registered model" in refused(
        project, *evaluate(*out, model="nowhere")
    )
    shutil.copytree(project.root / "tiny", project.root / "cut")
    (project.root / "cut" / "model.json").write_text('{"classes": [')
    assert "cut/model.json: expected a whole file" in refused(project, *evaluate(*out, model="cut"))
    kept = project.root / "kept" / "notes.txt"
    write_text(kept, "mine")
    assert "found notes.txt" in refused(project, *evaluate("--out", str(kept.parent)))
    assert refused(project, *evaluate(*out, "--labels", "seven")) == (
        "ConfigError: protocol: expected one of patients; got 'seven'"
    )
    assert "expected lead V1" in refused(project, *evaluate(*out, "--lead", "V1"))
    assert not (tmp_path / "out").exists()


def test_a_registered_model_is_found_by_alias_and_by_version(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project.root / 'mlflow.db'}")
    write_json(project.root / "metrics.json", {"accuracy": 0.9, "synthetic": True})
    write_json(project.root / "verdict.json", {"passed": True})
    write_json(project.root / "split.json", {"patients": {}})
    write_text(project.root / "report" / "index.html", "<p>A report.</p>")
    write_text(project.root / "report" / "plots" / "roc.svg", "<svg/>")
    registered = register(
        Evidence(
            recipe_name=RECIPE,
            recipe=Params.model_validate(tiny_params()).recipe(RECIPE),
            lineage=Lineage(RECIPE, content="c1", data="d1", images="i1", model="m1"),
            code=Code("8e6c9d1" + "0" * 33, ""),
            model=project.root / "tiny",
            metrics=project.root / "metrics.json",
            verdict=project.root / "verdict.json",
            report=project.root / "report",
            golden=project.root / "golden.npz",
            split=project.root / "split.json",
            test_side="t1",
        )
    )
    name = registered.name
    entry = next_entry((), "promote", 1, by="Ada", reason="", bento=None)
    ledger.append(ledger.open_for_change(name), entry)
    for reference in (f"{name}@champion", f"{name}/1", f"models:/{name}@champion"):
        assert registry.find(reference).run_id == registered.run_id
    out = tmp_path / "out"
    done = project.call(*evaluate("--out", str(out), model=f"{name}@champion"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == f"{name} version 1 on clinic"
    metrics = read_json(out / "metrics.json")
    assert metrics["model"]["registered"] == f"{name} version 1"
    assert metrics["weights_sha256"] == registered.tags["weights_sha256"]
    assert refused(project, *evaluate("--out", str(tmp_path / "no"), model=f"{name}@best")) == (
        f"ConfigError: model: '{name}@best' is not in the registry; "
        f"{name} has the aliases @champion"
    )
    assert f"it has {name}" in refused(
        project, *evaluate("--out", str(tmp_path / "no"), model="others@champion")
    )
