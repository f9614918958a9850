"""Ours and the usual way as running servers, and what they take of the machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import requests

from pipelines import loopback

_HERE = Path(__file__).parent
_POLL_S = 0.02
_PATIENCE_S = 180.0
_STOPS_IN_S = 10.0


@dataclass(frozen=True)
class Side:
    """A server that runs.

    Attributes
    ----------
    url : str
        Where images are posted.
    ready_s : float
        From its process' start to its first good answer.
    ready_cpu_s : float
        Processor time that it took by then, which hangs less on what else the machine does.
    """

    name: str
    url: str
    ready_s: float
    ready_cpu_s: float
    process: subprocess.Popen[bytes]

    def memory_mb(self) -> list[float]:
        """Resident memory of each of its processes."""
        return [member.memory_info().rss / 1e6 for member in _family(self.process)]

    def cpu_s(self) -> float:
        """Seconds of processor time that all of them have had."""
        return _cpu_s(self.process)


def _family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    server = psutil.Process(process.pid)
    return [server, *server.children(recursive=True)]


def _cpu_s(process: subprocess.Popen[bytes]) -> float:
    return sum(sum(member.cpu_times()[:2]) for member in _family(process))


@contextmanager
def ours(tag: str, scratch: Path) -> Iterator[Side]:
    """The bento `tag`, by `bentoml serve` as everybody starts it."""
    command = [sys.executable, "-P", "-m", "bentoml", "serve", tag, "--host", "127.0.0.1"]
    with _running("ours", [*command, "--port"], "/readyz", "/classify", scratch) as side:
        yield side


@contextmanager
def usual(scratch: Path) -> Iterator[Side]:
    """The Flask application of `usual.py`."""
    script = str(_HERE / "usual.py")
    subprocess.run([sys.executable, script, "save", str(scratch)], check=True, env=_quiet())
    command = [sys.executable, script, "serve", str(scratch)]
    with _running("the usual way", command, "/", "/predict", scratch) as side:
        yield side


@contextmanager
def _running(name: str, command: list[str], probe: str, path: str, scratch: Path) -> Iterator[Side]:
    port = loopback.free_port()
    url = f"http://127.0.0.1:{port}"
    log = scratch / f"{name}.log"
    began = time.monotonic()
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, str(port)],
            cwd=scratch,
            env=_quiet(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        with loopback.session() as session:
            while not _answers(session, url + probe):
                if process.poll() is not None or time.monotonic() - began > _PATIENCE_S:
                    raise SystemExit(f"{name} does not start:\n{log.read_text()[-3000:]}")
                time.sleep(_POLL_S)
        yield Side(name, url + path, time.monotonic() - began, _cpu_s(process), process)
    finally:
        loopback.stop(process, _STOPS_IN_S)


def _answers(session: requests.Session, url: str) -> bool:
    try:
        return session.get(url, timeout=5).status_code == 200
    except requests.RequestException:
        return False


def _quiet() -> dict[str, str]:
    return {**os.environ, "BENTOML_DO_NOT_TRACK": "True", "TF_CPP_MIN_LOG_LEVEL": "3"}
