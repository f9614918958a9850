"""Runs that are killed, or started twice: locks that nobody has to remove, and no process left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from ecgbeats.errors import ContractError, ServiceError
from pipelines import mending
from pipelines.alone import MARK, alone
from pipelines.packaging import clear_unfinished
from tests.support.fault_report import Tried
from tests.support.projects import without_their_settings

pytestmark = pytest.mark.pipeline

_STAGE = """\
stages:
  slow:
    cmd: python slow.py
    deps: [slow.py]
    outs: [made.txt]
  quick:
    cmd: cp made.txt copied.txt
    deps: [made.txt]
    outs: [copied.txt]
"""
_SLOW = """\
import pathlib, time
wait = pathlib.Path("wait").exists()
pathlib.Path("started").touch()
time.sleep(60 if wait else 0)
pathlib.Path("made.txt").write_text("{made}")
"""
# A run: alone, each stage by DVC.
_RUN = """\
import sys
from pathlib import Path
from ecgbeats.errors import EcgbeatsError
from pipelines.alone import alone
from pipelines.dag import Stage, reproduce
try:
    with alone(Path.cwd()):
        for name in ("slow", "quick"):
            reproduce(Path.cwd(), Stage(name, (), ""), print)
except EcgbeatsError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


class Small:
    """A folder with two stages, and runs of them as processes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        (root / "dvc.yaml").write_text(_STAGE)
        self.write_slow("made")
        self.env = without_their_settings(os.environ) | {
            "DVC_NO_ANALYTICS": "1",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        subprocess.run(["git", "init", "-q"], cwd=root, check=True)
        subprocess.run(["dvc", "init", "-q"], cwd=root, env=self.env, check=True)

    def write_slow(self, made: str) -> None:
        """Let the first stage make that."""
        (self.root / "slow.py").write_text(_SLOW.format(made=made))

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", _RUN],
            cwd=self.root,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_for(self, name: str, process: subprocess.Popen[str]) -> None:
        end = time.monotonic() + 120
        while not (self.root / name).exists():
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.05)

    def started_here(self) -> list[int]:
        """Processes that bear the mark of a run in this folder."""
        found = []
        for process in psutil.process_iter():
            try:
                mark = process.environ().get(MARK, "")
            except (psutil.Error, OSError):
                continue
            if mark.startswith(str(self.root)) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        return found


@pytest.fixture
def small(tmp_path: Path) -> Small:
    return Small((tmp_path / "small").resolve())


def test_a_run_whose_stage_outlived_it_is_run_again_at_once(small: Small, tried: Tried) -> None:
    (small.root / "wait").touch()
    with tried("kill: run"):
        with small.start() as first:
            small.wait_for("started", first)
            # In the middle of it somebody starts another.
            with small.start() as second:
                said, _ = second.communicate(timeout=120)
            assert second.returncode == 1
            assert f"another run is at work in this folder (process {first.pid})" in said
            first.kill()
        # DVC and its stage are still there, with DVC's locks.
        orphans = small.started_here()
        assert len(orphans) >= 2
        assert json.loads((small.root / ".dvc/tmp/rwlock").read_text())["write"]
        (small.root / "wait").unlink()
        (small.root / "started").unlink()
        with small.start() as again:
            said, _ = again.communicate(timeout=120)
        assert again.returncode == 0, said
        assert "of a run that was killed" in said
        assert not any(psutil.pid_exists(pid) for pid in orphans)
        assert (small.root / "copied.txt").read_text() == "made"
        assert json.loads((small.root / ".dvc/tmp/rwlock").read_text()) == {}


def test_two_in_one_process_share_what_they_started(tmp_path: Path) -> None:
    with alone(tmp_path):
        server = subprocess.Popen(["sleep", "60"])
    try:
        # As two runs of `ecgbeats review` share Prefect's server.
        with alone(tmp_path):
            assert server.poll() is None
            with pytest.raises(ServiceError, match="another run"), alone(tmp_path):
                pass
            with alone(tmp_path, "promotion"):
                pass
    finally:
        server.kill()
        server.wait()
    assert MARK not in os.environ


def _lock(**made: str) -> str:
    """A lock of DVC's, by stages: what each has made."""
    stages = {
        f"{name}@x": {
            "cmd": f"python {name}.py --some option --another one --and a last one {text}",
            "deps": [{"path": f"{name}.py", "hash": "md5", "md5": "0" * 32, "size": 7}],
            "params": {"params.yaml": {"epochs": 3}},
            "outs": [
                {"path": f"{name}{k}", "hash": "md5", "md5": text * 32, "size": 1} for k in (1, 2)
            ],
        }
        for name, text in made.items()
    }
    return yaml.safe_dump({"schema": "2.0", "stages": stages}, sort_keys=False)


@pytest.mark.parametrize("stage", ["fetch", "render", "train", "evaluate"])
def test_a_lock_of_dvc_cut_off_at_any_byte_is_mended(
    tmp_path: Path, stage: str, tried: Tried
) -> None:
    before = {"fetch": "a", "render": "b", "train": "c"}
    lock, whole = tmp_path / "dvc.lock", _lock(**before)
    new = _lock(**(before | {stage: "d"}))
    with tried("DVC's files cut off"):
        for size in range(len(new)):
            # Up to there nothing has changed, and nothing has to be put back.
            same = whole.startswith(new[:size]) and size == len(whole)
            cut = mending._was_cut(new[:size].encode(), whole.encode(), f"{stage}@x")
            assert cut or same, size
        lock.write_text(whole)
        mending.keep_lock(tmp_path, f"{stage}@x")
        lock.write_text(new[: 2 * len(new) // 3])
        mending.mend(tmp_path)
        assert lock.read_text() == whole
    # What DVC has written whole stays; of a last entry nobody can know whether it is.
    mending.keep_lock(tmp_path, f"{stage}@x")
    lock.write_text(new)
    mending.mend(tmp_path)
    assert lock.read_text() == (new if stage in ("fetch", "render") else whole)


def test_a_first_lock_of_dvc_that_was_cut_off_is_removed(tmp_path: Path, tried: Tried) -> None:
    with tried("DVC's files cut off"):
        mending.keep_lock(tmp_path, "fetch@x")
        (tmp_path / "dvc.lock").write_text(_lock(fetch="a")[:90])
        mending.mend(tmp_path)
        assert not (tmp_path / "dvc.lock").exists()


def test_a_lock_that_others_wrote_stays_as_it_is(tmp_path: Path) -> None:
    lock = tmp_path / "dvc.lock"
    lock.write_text(_lock(fetch="a", render="b", train="c"))
    theirs = _lock(fetch="f", render="e", train="d")
    # After a run that was killed, and after one that was not.
    for ended in (False, True):
        mending.keep_lock(tmp_path, "train@x")
        if ended:
            mending.lock_is_written(tmp_path)
        lock.write_text(theirs)
        mending.mend(tmp_path)
        assert lock.read_text() == theirs
        theirs = _lock(fetch="g")


def test_a_conflict_in_a_lock_of_dvc_is_left_to_people(tmp_path: Path) -> None:
    ours, theirs = (_lock(fetch="a", train=text).splitlines(keepends=True) for text in "bc")
    # As git leaves it in the entry of a stage.
    conflict = "".join(
        [*ours[:15], "<<<<<<< HEAD\n", *ours[15:], "=======\n", *theirs[15:], ">>>>>>> other\n"]
    )
    (tmp_path / "dvc.lock").write_text("".join(ours))
    mending.keep_lock(tmp_path, "train@x")
    (tmp_path / "dvc.lock").write_text(conflict)
    named = r"dvc\.lock: .* conflict .*docs/remotes\.md"
    with pytest.raises(ContractError, match=named), alone(tmp_path):
        pass
    assert (tmp_path / "dvc.lock").read_text() == conflict


@pytest.mark.parametrize("size", [0, 1, 20], ids=lambda size: f"{size} bytes")
def test_a_list_of_locks_that_was_cut_off_is_removed(
    tmp_path: Path, size: int, tried: Tried
) -> None:
    rwlock = tmp_path / ".dvc/tmp/rwlock"
    rwlock.parent.mkdir(parents=True)
    with tried("DVC's files cut off"):
        rwlock.write_text('{"write": {"/a": {"pid": 1, "cmd": "dvc repro"'[:size])
        mending.mend(tmp_path)
        assert not rwlock.exists()


def test_a_lock_of_dvc_whose_number_another_process_has_is_nobodys(
    tmp_path: Path, tried: Tried
) -> None:
    tmp = tmp_path / ".dvc/tmp"
    tmp.mkdir(parents=True)
    with (
        subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.stdin.read()", "repro", "a"],
            stdin=subprocess.PIPE,
        ) as alive,
        tried("lock of a reused process id"),
    ):
        # The test's own process stands for one that got the number after a restart.
        late = {"pid": os.getpid(), "cmd": "dvc repro train"}
        held = {"pid": alive.pid, "cmd": "dvc repro a"}
        gone = {"pid": 2**22 - 1, "cmd": "dvc repro b"}
        (tmp / "rwlock").write_text(
            json.dumps({"read": {"/a": [late, held], "/b": [gone]}, "write": {"/c": late}})
        )
        mending.mend(tmp_path)
        assert json.loads((tmp / "rwlock").read_text()) == {"read": {"/a": [held]}, "write": {}}
        alive.send_signal(signal.SIGKILL)


_BUILDS = """\
import pathlib, sys, time
from ecgbeats.files import workplace
with workplace(pathlib.Path.cwd(), ".building-") as own:
    (own / "bentos").mkdir()
    print(own.name, flush=True)
    time.sleep(600)
"""


def test_builds_that_were_killed_leave_nothing_in_the_store(tmp_path: Path, tried: Tried) -> None:
    command = [sys.executable, "-c", _BUILDS]
    builds = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE) for _ in range(2)]
    try:
        left, others = (
            tmp_path / str(build.stdout.readline(), "ascii").strip() for build in builds
        )
        assert {*tmp_path.iterdir()} == {left, others}
        builds[0].kill()
        builds[0].wait()
        with tried("kill: bento build"):
            clear_unfinished(tmp_path)
            assert [*tmp_path.iterdir()] == [others]
    finally:
        for build in builds:
            build.kill()
            build.communicate()
