"""`ecgbeats tune` by the command that a user types: some trials, then more of them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import yaml

from ecgbeats.config import Params
from ecgbeats.errors import ConfigError
from ecgbeats.files import read_json
from pipelines.tune import tune
from tests.support.projects import RECIPE, Project, tiny_params

pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(1800)]

REPORT = Path("reports") / RECIPE / "tune"
SPACE = {
    "train.learning_rate": {"log": [0.001, 0.02]},
    "model.options.filters": {"choice": [[4, 8], [8, 16]]},
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, drawn: Project, prefect_api: str) -> Project:
    params = tiny_params()
    params["recipes"][RECIPE]["train"] |= {"epochs": 1, "patience": 1}
    params["recipes"][RECIPE]["tune"] = {"trials": 2, "folds": 2, "space": SPACE}
    root = tmp_path_factory.mktemp("tune") / "project"
    return Project.create_after(drawn, root, params).with_prefect(prefect_api)


@pytest.fixture(scope="module")
def first(project: Project) -> subprocess.CompletedProcess[str]:
    return project.call("ecgbeats", "tune", RECIPE, "--trials", "1", "--jobs", "1")


@pytest.fixture(scope="module")
def more(
    project: Project, first: subprocess.CompletedProcess[str]
) -> subprocess.CompletedProcess[str]:
    return project.call("ecgbeats", "tune", RECIPE, "--jobs", "2")


def test_a_search_is_gone_on_with(
    first: subprocess.CompletedProcess[str],
    more: subprocess.CompletedProcess[str],
    project: Project,
) -> None:
    assert first.returncode == 0, first.stderr
    assert more.returncode == 0, more.stderr
    # Images that are there are taken as they are.
    assert f"render@{RECIPE}: unchanged, skipped" in first.stderr
    assert "1, 0 of them given up; 1 in this run" in first.stdout
    assert "2, 0 of them given up; 1 in this run" in more.stdout
    table = pd.read_csv(project.root / REPORT / "trials.csv")
    assert table["number"].tolist() == [0, 1]
    assert table["train.learning_rate"].between(0.001, 0.02).all()
    assert (project.root / REPORT / "index.html").is_file()


def test_the_best_values_can_be_pasted_into_params(
    more: subprocess.CompletedProcess[str], project: Project
) -> None:
    text = more.stdout.partition("For params.yaml, under recipes:")[2]
    best = yaml.safe_load(text)[RECIPE]
    table = pd.read_csv(project.root / REPORT / "trials.csv").sort_values("macro_f1")
    assert best["train"]["learning_rate"] == table["train.learning_rate"].iloc[-1]
    params = project.params
    params["recipes"][RECIPE]["train"] |= best["train"]
    params["recipes"][RECIPE]["model"]["options"] |= best["model"]["options"]
    Params.model_validate(params)


def test_trials_are_runs_nested_in_that_of_the_search(
    more: subprocess.CompletedProcess[str], project: Project
) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{project.root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(f"ecgbeats-{RECIPE}")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    trials = {run.data.params["trial"]: run for run in runs if run is not parent}
    table = pd.read_csv(project.root / REPORT / "trials.csv").set_index("number")
    assert sorted(trials) == ["0", "1"]
    for number, run in trials.items():
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        row = table.loc[int(number)]
        assert run.data.metrics["macro_f1"] == pytest.approx(row["macro_f1"])
        assert float(run.data.params["train.learning_rate"]) == row["train.learning_rate"]
    assert parent.data.metrics["best_macro_f1"] == pytest.approx(table["macro_f1"].max())


def test_no_fold_of_a_trial_tests_what_the_protocol_tests(
    more: subprocess.CompletedProcess[str], project: Project
) -> None:
    done = project.call("ecgbeats", "stage", "split", RECIPE, *_split_folders(), check=True)
    assert done.returncode == 0
    sides = pd.read_parquet(project.root / "split" / "split.parquet")
    tested = set(sides.loc[sides["side"] == "test", "record"])
    folder = project.root / "data/interim" / RECIPE / "tune" / "trials"
    tables = list(folder.rglob("predictions.parquet"))
    assert len(tables) == 4
    for path in tables:
        assert not tested & set(pd.read_parquet(path)["record"])
        assert read_json(path.with_name("outcome.json"))["test_beats"] > 0


def _split_folders() -> list[str]:
    folders = {"out": "split", "report": "split-report", "docs": "split-docs"}
    options = [word for name, path in folders.items() for word in (f"--{name}", path)]
    return ["--images", f"data/images/{RECIPE}", *options]


def test_a_recipe_without_a_space_is_refused_in_one_line(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "project")
    done = project.call("ecgbeats", "tune", RECIPE)
    assert done.returncode == 2
    assert done.stderr.startswith("ConfigError: ")
    assert "expected a section tune with a space" in done.stderr


@pytest.mark.parametrize(
    ("path", "values", "message"),
    [
        ("train.speed", {"log": [0.1, 1.0]}, "train.speed"),
        ("image.width", {"int": [16, 32]}, "other images have to be drawn first"),
    ],
    ids=["unknown-path", "image"],
)
def test_what_cannot_be_searched_is_refused(
    tmp_path: Path, path: str, values: dict[str, object], message: str
) -> None:
    params = tiny_params()
    params["recipes"][RECIPE]["tune"] = {"space": {path: values}}
    project = Project.create(tmp_path / "project", params)
    refused = tune(project.root, RECIPE)
    assert isinstance(refused.error, ConfigError)
    assert message in str(refused.error)
    assert not refused.ended and refused.report is None
