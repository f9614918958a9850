"""A built bento under `bentoml serve`, with an eye on all that its processes write."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests

from tests.support.bentos import Built

# Imported by every interpreter of the service before anything else: notes each path that is
# opened for writing, made, renamed or removed.
_WATCH = """
import os, sys
_NOTE = os.open(os.environ["WATCH_NOTES"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
_NAMED = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink",
          "os.truncate", "shutil.rmtree"}

def _watch(event, args):
    if event == "open":
        path, mode, flags = args
        writes = (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        if not (writes or (mode and set(mode) & set("wax+"))) or isinstance(path, int):
            return
    elif event not in _NAMED:
        return
    os.write(_NOTE, f"{event} {args[0]!r}\\n".encode("utf-8", "replace"))

sys.addaudithook(_watch)
"""


@dataclass(frozen=True)
class Running:
    """A service that runs.

    Attributes
    ----------
    folder : Path
        Holds `home` (HOME), `tmp` (TMPDIR) and `cwd`, its log and what it wrote.
    """

    port: int
    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text("utf-8", "replace")

    @property
    def answered(self) -> list[dict[str, Any]]:
        """The lines of its log on requests."""
        found = [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]
        return [line for line in found if line["event"] == "answered"]

    def written(self) -> list[str]:
        """What its processes did to the file system so far, in order."""
        return (self.folder / "written").read_text("utf-8").splitlines()

    def workers(self) -> list[psutil.Process]:
        found = psutil.Process(self.process.pid).children(recursive=True)
        return [each for each in found if "_bentoml_impl.worker.service" in each.cmdline()]

    def resident_mb(self) -> float:
        """Resident memory of the workers."""
        return sum(each.memory_info().rss for each in self.workers()) / 1e6


@contextmanager
def running(built: Built, folder: Path, **env: str) -> Iterator[Running]:
    """Serve the bento from `folder`, with these variables besides; end it afterwards.

    It has one worker unless they say otherwise, on whatever machine.
    """
    for name in ("home", "tmp", "cwd", "watch"):
        (folder / name).mkdir(parents=True)
    (folder / "watch" / "sitecustomize.py").write_text(_WATCH, "utf-8")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ECGBEATS_")}
    paths = {
        "BENTOML_HOME": str(built.home),
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "PYTHONPATH": str(folder / "watch"),
        "WATCH_NOTES": str(folder / "written"),
    }
    quiet = {"BENTOML_DO_NOT_TRACK": "True", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-P", "-m", "bentoml", "serve", built.tag]
    with (folder / "log").open("wb") as out:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=folder / "cwd",
            env={**kept, **paths, **quiet, "ECGBEATS_WORKERS": "1", **env},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    found = Running(port, process, folder)
    try:
        _wait(found)
        yield found
    finally:
        family = []
        with suppress(psutil.NoSuchProcess):
            family = psutil.Process(process.pid).children(recursive=True)
        if process.poll() is None:
            process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(15)
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        if process.poll() is None:
            process.kill()
        process.wait()


def _wait(service: Running) -> None:
    session = requests.Session()
    session.trust_env = False
    end = time.monotonic() + 120
    while time.monotonic() < end and service.process.poll() is None:
        with suppress(requests.RequestException):
            if session.get(f"{service.url}/readyz", timeout=5).ok:
                return
        time.sleep(0.1)
    raise AssertionError(f"the service does not start:\n{service.log[-3000:]}")
