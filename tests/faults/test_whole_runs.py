"""`ecgbeats run`, killed wherever it happens to be, and started again: data to bento."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import mlflow
import psutil
import pytest
import yaml

from pipelines.alone import MARK
from tests.faults.test_stages import ALL, HEAVY, THREADS, files, outs, params, reference_in
from tests.support.fault_report import Tried
from tests.support.projects import RECIPE, Project

pytestmark = [pytest.mark.pipeline, pytest.mark.faults, pytest.mark.timeout(3600)]

# What the log has when a stage or step begins; those that are killed are drawn from these.
BEGINS = (
    *(f"Running stage '{stage}@" for stage in ALL),
    "checks passed",
    "registered",
    "deciding",
    "decided",
    "alias champion",
)


def kill_run(project: Project, begins: str, wait_s: float) -> bool:
    """Run, and kill the run alone, not what it has started, so long after it says `begins`.

    Returns whether it was killed: one that goes on after a kill may have that behind it.
    """
    with subprocess.Popen(
        ["ecgbeats", "run", RECIPE],
        cwd=project.root,
        env=project.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if begins in line:
                time.sleep(wait_s)
                break
        run.kill()
        # What it has started holds the pipe.
        run.stdout.close()
        return run.wait() == -9


def marked(root: Path) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK, "").startswith(f"{root}|"):
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return found


def test_a_run_that_was_killed_ends_in_the_same_bytes_and_one_champion(
    tmp_path: Path, seed: int, tried: Tried
) -> None:
    reference = reference_in(tmp_path / "reference", HEAVY, ALL)
    with reference.server:
        pass
    project = Project.create((tmp_path / "project").resolve(), params())
    project = Project(project.root, {**project.env, **THREADS})
    chance = random.Random(f"{seed} whole")
    for begins in sorted(chance.sample(BEGINS, 3), key=BEGINS.index):
        with tried("kill: whole run") as fault:
            wait_s = chance.uniform(0, 4)
            fault.met = kill_run(project, begins, wait_s)
            print(f"seed {seed}: {wait_s:.1f} s after {begins!r}: killed {fault.met}")
            # Only the last step may be over before its kill comes.
            assert fault.met or begins == BEGINS[-1]
            wrong = files(reference.root)
            names = {name for stage in ALL for name in outs(stage)}
            now = {n: h for n, h in files(project.root).items() if n in names}
            assert not {name for name, digest in now.items() if wrong[name] != digest}
    with tried("kill: whole run, then run again"):
        done = project.call("ecgbeats", "run", RECIPE)
        assert done.returncode == 0, done.stderr[-3000:]
        right, now = files(reference.root), files(project.root)
        made = {name for stage in ALL for name in outs(stage)}
        assert {name: now.get(name) for name in made} == {name: right[name] for name in made}
        client = mlflow.MlflowClient(f"sqlite:///{project.root / 'mlflow.db'}")
        (model,) = client.search_registered_models()
        assert {name: int(at) for name, at in model.aliases.items()} == {"champion": 1}
        bentos = list((project.root / ".bentoml/bentos").glob("*/*/bento.yaml"))
        assert len(bentos) == 1
        assert yaml.safe_load(bentos[0].read_text())["labels"]["model_version"] == "1"
        assert not list((project.root / ".bentoml").glob(".building-*"))
        # Prefect's servers of the killed runs are gone too.
        assert marked(project.root) == []
        # And no lock of DVC is anybody's.
        assert '"pid"' not in (project.root / ".dvc/tmp/rwlock").read_text()
