"""Stages as processes that start at once and can be killed at any of their file operations.

Run as a program it imports what stages import, once, and forks for each command that it is sent: a
stage that would take ten seconds to import its libraries is there in milliseconds. In the fork
every operation on files is counted (Python's audit events), and at the one that was asked for the
process kills itself, or a file goes, before the operation is done.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

# What writes, renames or removes.
_EVENTS = frozenset({"os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate"})
LIGHT = ("ecgbeats.imaging.store", "ecgbeats.sources.sample", "ecgbeats.sources.physionet")
HEAVY = (
    *LIGHT,
    "ecgbeats.validation.run",
    "ecgbeats.training",
    "ecgbeats.evaluation",
    "ecgbeats.explanation",
    "ecgbeats.export",
    "great_expectations",
    "keras",
    "matplotlib.pyplot",
    "onnxruntime",
    "tf2onnx",
)


@dataclass(frozen=True)
class Ended:
    """How a stage ended.

    Attributes
    ----------
    status : int
        Exit status; negative: the signal that killed it.
    events : int
        File operations that it came to.
    """

    status: int
    events: int
    said: str


def commands(root: Path, recipe: str) -> dict[str, list[str]]:
    """Words of the command of each stage of `recipe`, as dvc.yaml has them, in its order."""
    params = yaml.safe_load((root / "params.yaml").read_text())
    dataset = params["recipes"][recipe]["dataset"]
    found = {}
    for name, stage in yaml.safe_load((root / "dvc.yaml").read_text())["stages"].items():
        if name != "unite":
            key = dataset if name == "fetch" else recipe
            text = stage["do"]["cmd"].replace("${key}", key).replace("${item.dataset}", dataset)
            found[name] = shlex.split(text)[1:]
    return found


class StageServer:
    """Runs commands of `ecgbeats` in forks of one process; use as a context manager."""

    def __init__(self, env: Mapping[str, str], preload: Sequence[str] = HEAVY) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.stage_server", *preload],
            env={**env, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> StageServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def run(
        self,
        root: Path,
        command: Sequence[str],
        *,
        kill_at: int | None = None,
        remove: tuple[int, Path] | None = None,
        largest: int | None = None,
    ) -> Ended:
        """Run `ecgbeats <command>` in the folder `root`.

        Parameters
        ----------
        kill_at : int, optional
            The file operation, from 1, before which it is killed.
        remove : (int, Path), optional
            The file operation before which that file goes.
        largest : int, optional
            Bytes that a file may have (RLIMIT_FSIZE).
        """
        log = root / ".stage.log"
        order = {
            "root": str(root),
            "command": list(command),
            "log": str(log),
            "kill_at": kill_at,
            "remove_at": remove and remove[0],
            "remove": remove and str(remove[1]),
            "largest": largest,
        }
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        answer = json.loads(self._process.stdout.readline())
        return Ended(answer["status"], answer["events"], log.read_text(errors="replace"))


def _serve(preload: Sequence[str]) -> None:
    import importlib

    for name in preload:
        importlib.import_module(name)
    for line in sys.stdin:
        order = json.loads(line)
        counted, count = os.pipe()
        child = os.fork()
        if not child:
            os.close(counted)
            _work(order, count)
        os.close(count)
        _, status = os.waitpid(child, 0)
        told = b""
        while part := os.read(counted, 1 << 16):
            told += part
        os.close(counted)
        answer = {"status": os.waitstatus_to_exitcode(status), "events": len(told)}
        print(json.dumps(answer), flush=True)


def _work(order: Mapping[str, Any], count: int) -> None:
    """In the fork: become the stage."""
    import resource

    from ecgbeats.cli import stage

    os.chdir(order["root"])
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if order["largest"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["largest"],) * 2)
    events = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal events
        if event == "open":
            writes = isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if not writes or str(arguments[0]).startswith("/dev/"):
                return
        elif event not in _EVENTS:
            return
        events += 1
        os.write(count, b".")
        if events == order["kill_at"]:
            os.kill(os.getpid(), signal.SIGKILL)
        if events == order["remove_at"]:
            Path(order["remove"]).unlink()

    sys.addaudithook(hook)
    status = 0
    try:
        stage.main(order["command"][1:], prog_name="ecgbeats stage")
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 99
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    # The channel is ours; libraries may print.
    channel = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = os.fdopen(channel, "w")
    _serve(sys.argv[1:])
