"""`ecgbeats benchmark` on a small dataset: run, resume, stale rows, the page without data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ecgbeats.benchmark import BEGIN, END
from pipelines.alone import locked
from tests.support.projects import RECIPE, Project, tiny_params

pytestmark = pytest.mark.pipeline

OWN, FOLDS = f"{RECIPE}@own", f"{RECIPE}@folds"


def params() -> dict[str, Any]:
    values = tiny_params()
    # Two minutes of training would measure nothing that two epochs do not.
    values["recipes"][RECIPE]["train"] |= {"epochs": 2, "patience": 2}
    table = {"dataset": "small", "protocol": "patients", "headline": ["N", "V"]}
    values["benchmark"] = {
        "bootstrap": 100,
        "protocols": {
            "own": {**table, "seeds": [1, 2]},
            "folds": {**table, "folds": {"number": 2, "by": "patient", "over": "training"}},
        },
        "systems": {RECIPE: {"recipe": RECIPE, "protocols": ["own", "folds"]}},
        "ablations": {
            "broken": {"of": RECIPE, "protocol": "own", "model": {"name": "no-such-network"}}
        },
    }
    return values


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which all rows were asked for; one of them cannot be run."""
    made = Project.create(tmp_path_factory.mktemp("benchmark") / "project", params())
    done = made.call("ecgbeats", "benchmark", "--system", RECIPE, "--system", "broken")
    assert done.returncode == 2, done.stderr
    # One system that fails is named and does not end the others.
    assert "broken@own, seed 1: ConfigError: model.name: " in done.stderr
    return made


def row(project: Project, name: str) -> dict[str, Any]:
    path = project.root / "reports" / "benchmark" / "rows" / f"{name}.json"
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_each_row_has_its_seeds_and_what_it_was_made_of(project: Project) -> None:
    own = row(project, OWN)
    assert list(own["seeds"]) == ["1", "2"]
    first, second = own["seeds"].values()
    assert first["weights_sha256"] != second["weights_sha256"]
    assert first["train_seconds"] > 0 and first["threads"] >= 1
    assert own["macs"] > own["parameters"] > 0
    assert own["synthetic"] and own["dataset"]["name"] == "sample"
    assert len(own["commit"]) == 40
    assert not (project.root / "reports/benchmark/rows/broken@own.json").exists()


def test_folds_over_the_training_side_test_its_beats_and_no_others(project: Project) -> None:
    own, folds = row(project, OWN), row(project, FOLDS)
    assert len(folds["seeds"]["1"]["weights_sha256"]) == 2
    assert folds["patients"]
    assert not set(folds["patients"].values()) & set(own["patients"].values())


def test_the_page_has_every_row_with_the_command_that_makes_it(project: Project) -> None:
    folder = project.root / "reports" / "benchmark"
    for text in ((folder / "index.html").read_text(), (folder / "benchmark.md").read_text()):
        for system, protocol in ((RECIPE, "own"), (RECIPE, "folds"), ("broken", "own")):
            assert f"ecgbeats benchmark --system {system} --protocol {protocol} --again" in text
        assert "not run" in text
        assert f"{row(project, OWN)['parameters']:,}" in text


def test_nothing_is_run_twice(project: Project) -> None:
    before = row(project, OWN)
    done = project.call("ecgbeats", "benchmark", "--system", RECIPE)
    assert done.returncode == 0, done.stderr
    assert "there and up to date" in done.stderr
    assert row(project, OWN) == before


def test_a_lost_row_is_made_from_what_was_kept_without_training(project: Project) -> None:
    before = row(project, FOLDS)
    (project.root / f"reports/benchmark/rows/{FOLDS}.json").unlink()
    done = project.call("ecgbeats", "benchmark", "--protocol", "folds")
    assert done.returncode == 0, done.stderr
    assert "train:" not in done.stderr
    assert row(project, FOLDS)["seeds"] == before["seeds"]


def test_the_command_beside_a_row_gives_the_same_again(project: Project) -> None:
    command = row(project, OWN)["command"].split()
    done = project.call(*command, "--seed", "2")
    assert done.returncode == 0, done.stderr
    assert "train:" in done.stderr
    assert f"{OWN}, seed 2: macro-F1" in done.stderr
    assert "as the row said, the same weights" in done.stderr


def test_the_page_needs_no_data_and_tells_what_is_stale(project: Project, tmp_path: Path) -> None:
    clone = Project(tmp_path / "clone", project.env)
    left_out = shutil.ignore_patterns("data", "__pycache__")
    shutil.copytree(project.root, clone.root, ignore=left_out)
    env = {"PYTHONPATH": f"{clone.root / 'src'}:{clone.root}"}
    readme = clone.root / "README.md"
    readme.write_text(f"above\n{BEGIN}\n{END}\nbelow\n")
    values = clone.params
    values["benchmark"]["systems"][RECIPE]["train"] = {"epochs": 3}
    clone.write_params(values)
    done = clone.call("ecgbeats", "benchmark", "--page-only", "--readme", **env)
    assert done.returncode == 0, done.stderr
    text = (clone.root / "reports" / "benchmark" / "benchmark.md").read_text()
    assert text.count("stale: code or parameters have changed since") == 2
    assert not (clone.root / "data").exists()
    shown = readme.read_text()
    assert shown.startswith(f"above\n{BEGIN}\n") and shown.endswith(f"{END}\nbelow\n")


def test_of_two_at_once_the_second_is_told(project: Project) -> None:
    with locked(project.root, "benchmark"):
        done = project.call("ecgbeats", "benchmark")
        assert done.returncode == 2 and "another benchmark is at work" in done.stderr
        # Making the page anew disturbs nobody.
        assert project.call("ecgbeats", "benchmark", "--page-only").returncode == 0


def test_a_name_that_is_not_there_is_named(project: Project) -> None:
    done = project.call("ecgbeats", "benchmark", "--system", "vgg61")
    assert done.returncode == 2
    assert done.stderr == f"ConfigError: system: expected one of broken, {RECIPE}; got 'vgg61'\n"
