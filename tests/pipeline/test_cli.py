"""The command line: help everywhere, quick to start, errors in one line."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ecgbeats.cli import in_words
from pipelines.cli import main
from tests.support.projects import RECIPE, Project, free_port

pytestmark = pytest.mark.pipeline

# Seconds to import, each of them.
HEAVY = ("bentoml", "dvc", "great_expectations", "keras", "matplotlib", "mlflow", "onnxruntime")
HEAVY += ("pandas", "prefect", "scipy", "sklearn", "tensorflow", "wfdb")


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize("path", list(commands(main)), ids=" ".join)
def test_every_command_has_help(path: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(main, [*path, "--help"], prog_name="ecgbeats")
    assert shown.exit_code == 0
    usage, _, rest = shown.output.partition("\n\n")
    assert usage.startswith(f"Usage: {' '.join(['ecgbeats', *path])} ")
    described = rest.partition("\n\n")[0].strip()
    assert len(described) > 20 and described.endswith((".", ")")), described


def test_a_fault_is_not_the_gates_no() -> None:
    @click.command()
    @in_words
    def broken() -> None:
        raise KeyError("a slip")

    told = CliRunner().invoke(broken)
    assert told.exit_code == 2 and "KeyError: 'a slip'" in told.stderr


def test_help_is_there_at_once() -> None:
    program = (
        "import sys; from click.testing import CliRunner; from pipelines.cli import main;"
        "[CliRunner().invoke(main, [*way, '--help']) for way in ([], ['run'], ['stage', 'train'])];"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert not set(HEAVY) & set(done.stdout.split())


def test_the_installed_command_answers() -> None:
    command = Path(sys.executable).with_name("ecgbeats")
    for words in (["--help"], ["stage", "--help"]):
        done = subprocess.run([command, *words], capture_output=True, text=True)
        assert done.returncode == 0 and done.stdout.startswith("Usage: ecgbeats")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.create(tmp_path / "project")


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that a command said before it gave up."""
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


def test_a_slip_in_a_parameter_is_named_before_anything_starts(project: Project) -> None:
    params = project.params
    params["recipes"][RECIPE]["train"]["lerning_rate"] = 0.1
    project.write_params(params)
    line = refused(project.call("ecgbeats", "run", RECIPE))
    assert line.startswith("ConfigError: ")
    assert f"params.yaml: recipes.{RECIPE}.train.lerning_rate: " in line
    assert not (project.root / ".prefect" / "prefect.db").exists()
    assert not (project.root / "mlflow.db").exists()


def test_an_unknown_recipe_is_named_before_anything_starts(project: Project) -> None:
    line = refused(project.call("ecgbeats", "run", "mitdb-seven"))
    assert line == f"ConfigError: recipe: expected one of {RECIPE}; got 'mitdb-seven'"
    assert not (project.root / ".prefect" / "prefect.db").exists()


def test_a_stage_refuses_in_one_line_too(project: Project) -> None:
    command = ["ecgbeats", "stage", "fetch", "small", "--out", "data/raw/small"]
    (project.root / "params.yaml").write_text("labels: {\n")
    assert refused(project.call(*command)).startswith("ConfigError: params.yaml: not YAML: ")
    (project.root / "params.yaml").unlink()
    assert refused(project.call(*command)) == (
        "ConfigError: params.yaml: cannot be read: No such file or directory"
    )


def test_commands_want_a_project(tmp_path: Path, project: Project) -> None:
    command = Path(sys.executable).with_name("ecgbeats")
    done = subprocess.run([command, "run"], cwd=tmp_path, capture_output=True, text=True)
    assert refused(done) == (
        f"ConfigError: {tmp_path}: expected to be inside the project; no dvc.yaml here or above"
    )


def test_commands_work_from_below_the_project(project: Project) -> None:
    done = subprocess.run(
        ["ecgbeats", "gate", RECIPE],
        cwd=project.root / "src",
        env=dict(project.env),
        capture_output=True,
        text=True,
    )
    line = refused(done)
    assert line.startswith(f"DataError: {RECIPE}: expected a verdict on the present data, ")
    assert line.endswith(f"Run `make run RECIPE={RECIPE}` first.")


def test_a_refused_mlflow_server_is_told_before_anybody_gives_up(project: Project) -> None:
    # By the shipped settings. It takes 4 to 6 s, by MLflow's own over four minutes.
    began = time.monotonic()
    nowhere = f"http://127.0.0.1:{free_port()}"
    asked = project.call("ecgbeats", "status", RECIPE, MLFLOW_TRACKING_URI=nowhere, NO_PROXY="*")
    assert asked.returncode == 2 and "ServiceError: " in asked.stderr, asked.stderr
    assert nowhere.rpartition(":")[2] in asked.stderr
    assert time.monotonic() - began < 90
