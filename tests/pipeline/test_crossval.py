"""`ecgbeats crossval` by the command that a user types: killed, gone on with, done again."""

from __future__ import annotations

import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from ecgbeats.files import read_json
from tests.support.projects import RECIPE, Project, tiny_params

pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(1800)]

FOLDS = Path("data/interim") / RECIPE / "crossval" / "all-patient-2" / "seed-1"
REPORT = Path("reports") / RECIPE / "crossval-all-patient"


@dataclass(frozen=True)
class Ran:
    """A run of the command, and when each fold was done."""

    done: subprocess.CompletedProcess[str]
    folds: dict[str, int]


def outcomes(project: Project) -> dict[str, int]:
    found = (project.root / FOLDS).glob("*/outcome.json")
    return {path.parent.name: path.stat().st_mtime_ns for path in found}


def run(project: Project, *options: str) -> Ran:
    done = project.call("ecgbeats", "crossval", RECIPE, *options)
    return Ran(done, outcomes(project))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    params = tiny_params()
    params["recipes"][RECIPE]["train"] |= {"epochs": 2, "patience": 2}
    params["recipes"][RECIPE]["crossval"] = {"folds": 2}
    return Project.create(tmp_path_factory.mktemp("crossval") / "project", params)


@pytest.fixture(scope="module")
def kept(project: Project, prefect_api: str) -> Project:
    """The project, with the session's Prefect server."""
    return project.with_prefect(prefect_api)


@pytest.fixture(scope="module")
def killed(kept: Project) -> dict[str, int]:
    """Killed as soon as one fold is done, with no time to tidy up."""
    command = ["ecgbeats", "crossval", RECIPE, "--jobs", "1"]
    with (kept.root.parent / "killed.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=kept.root,
            env=kept.env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        end = time.monotonic() + 1500
        try:
            while process.poll() is None and not outcomes(kept) and time.monotonic() < end:
                time.sleep(0.05)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == -signal.SIGKILL, (kept.root.parent / "killed.log").read_text()
    return outcomes(kept)


@pytest.fixture(scope="module")
def resumed(kept: Project, killed: dict[str, int]) -> Ran:
    return run(kept, "--jobs", "2")


@pytest.fixture(scope="module")
def again(kept: Project, resumed: Ran) -> Ran:
    return run(kept)


def test_a_killed_run_is_gone_on_with(killed: dict[str, int], resumed: Ran) -> None:
    assert list(killed) == ["fold-0"]
    assert resumed.done.returncode == 0, resumed.done.stderr
    assert set(resumed.folds) == {"fold-0", "fold-1"}
    assert resumed.folds["fold-0"] == killed["fold-0"]
    assert "done before 1 of 2 parts" in resumed.done.stdout
    assert "seed-1/fold-0: done before" in resumed.done.stderr
    assert "Traceback" not in resumed.done.stderr


def test_the_report_is_on_every_beat(resumed: Ran, project: Project) -> None:
    images = pd.read_parquet(project.root / "data/images" / RECIPE / "beats.parquet")
    figures = read_json(project.root / REPORT / "metrics.json")
    assert figures["seeds"]["1"]["beats"] == len(images)
    assert figures["synthetic"] and figures["dataset"]["name"] == "sample"
    folds = pd.read_csv(project.root / REPORT / "folds.csv")
    assert folds["beats"].sum() == len(images)
    tested = " ".join(folds["tested_patients"]).split()
    assert sorted(tested) == sorted(images["patient"].unique())
    assert f"{figures['mean']['accuracy']:.3f}" in resumed.done.stdout
    assert "SAMPLE DATA" in resumed.done.stdout


def test_folds_are_runs_nested_in_that_of_the_cross_validation(
    again: Ran, project: Project
) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{project.root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(f"ecgbeats-{RECIPE}")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run is not parent]
    assert sorted(run.info.run_name for run in children) == ["seed-1/fold-0", "seed-1/fold-1"]
    figures = read_json(project.root / REPORT / "metrics.json")
    folds = pd.read_csv(project.root / REPORT / "folds.csv").set_index("fold")
    for child in children:
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert child.info.status == "FINISHED"
        row = folds.loc[int(child.data.params["fold"])]
        assert child.data.metrics["accuracy"] == pytest.approx(row["accuracy"])
        assert child.data.params["train.learning_rate"] == "0.01"
        losses = client.get_metric_history(child.info.run_id, "select/loss")
        assert [point.step for point in losses] == [1, 2]
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["mean.accuracy"] == pytest.approx(figures["mean"]["accuracy"])
    report = Path(parent.info.artifact_uri.removeprefix("file://")) / "report"
    assert (report / "index.html").is_file()


def test_what_is_done_is_not_done_again(resumed: Ran, again: Ran) -> None:
    assert again.done.returncode == 0, again.done.stderr
    assert again.folds == resumed.folds
    assert "done before 2 of 2 parts" in again.done.stdout
    assert "epoch" not in again.done.stderr


def test_what_cannot_be_is_said_before_a_server_starts(project: Project) -> None:
    unknown = project.call("ecgbeats", "crossval", "huge")
    assert unknown.returncode == 2 and "expected one of tiny; got 'huge'" in unknown.stderr
    seeds = project.call("ecgbeats", "crossval", RECIPE, "--seeds", "1,two")
    assert seeds.returncode == 2 and "whole numbers" in seeds.stderr
    assert "prefect" not in (unknown.stderr + seeds.stderr).lower()
