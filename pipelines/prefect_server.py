"""Prefect's temporary server, started ahead: it comes up while the flow's own imports run.

Left alone, Prefect starts one at a flow's first request, and to do so imports the whole server
into the flow's process first: on two processors seven seconds more of a run that has nothing to
do. Where a server is named, or Prefect is set up in a way of its own, nothing is started here.
"""

from __future__ import annotations

import atexit
import importlib
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ecgbeats.errors import ServiceError
from pipelines import alone, flow_history, loopback
from pipelines.importing import without_collector

_URL = "PREFECT_API_URL"
# Files in which Prefect may be told of a server.
_SETTINGS = ("prefect.toml", ".env")
_PROFILES = "profiles.toml"
# As Prefect's own: no page, no schedules, and not itself a client.
_TEMPORARY = {
    "PREFECT_UI_ENABLED": "0",
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
}
_STOPS_IN_S = 5.0


@dataclass
class _Server:
    url: str
    process: subprocess.Popen[bytes]
    log: IO[bytes]


_started: _Server | None = None


def start_ahead(root: Path) -> None:
    """Start a server for a run at `root`, unless there is one; it ends with this process.

    For a command's own process, before it imports Prefect, which reads its settings then. And
    which sends the last of its log when the process ends: what is registered first ends last.
    """
    global _started
    if not _wanted(root):
        return
    _started = _start(root, tempfile.TemporaryFile())  # noqa: SIM115 (as long as this process)
    atexit.register(loopback.stop, _started.process, _STOPS_IN_S)
    os.environ[_URL] = _started.url


def wait() -> None:
    """Wait until the server that was started ahead answers, if one was.

    Raises
    ------
    ServiceError
        It ended, or does not answer in PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.
    """
    if _started is None:
        return
    # What the flow imports when it comes to it, meanwhile.
    import requests

    with without_collector():
        for name in ("mlflow.store.tracking.sqlalchemy_store", "onnxruntime"):
            importlib.import_module(name)
    patience_s = float(os.environ.get("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS") or 60)
    end = time.monotonic() + patience_s
    with loopback.session() as session:
        while True:
            with suppress(requests.RequestException):
                if session.get(f"{_started.url}/health", timeout=5).status_code == 200:
                    return
            status = _started.process.poll()
            if status is not None:
                raise ServiceError(f"Prefect's server ended with {status}: {_tail(_started.log)}")
            if time.monotonic() > end:
                raise ServiceError(f"Prefect's server does not answer after {patience_s:.0f} s")
            time.sleep(0.05)


def _wanted(root: Path) -> bool:
    home = os.environ.get("PREFECT_HOME")
    return not (
        os.environ.get(_URL)
        # It has read its settings: what is set now it would not see.
        or "prefect" in sys.modules
        or home is None
        # It is put aside once no other run is at work, which is not known yet.
        or flow_history.is_damaged()
        or (Path(home) / _PROFILES).exists()
        or any((root / name).exists() for name in _SETTINGS)
        or os.environ.get("PREFECT_SERVER_ALLOW_EPHEMERAL_MODE", "1").lower() in ("0", "false")
    )


def _start(root: Path, log: IO[bytes]) -> _Server:
    port = loopback.free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.temporary_server", str(port)],
        # Whoever finds it after this process was killed ends it.
        env={**os.environ, **_TEMPORARY, alone.MARK: alone.mark(root)},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )
    return _Server(f"http://127.0.0.1:{port}/api", process, log)


def _tail(log: IO[bytes]) -> str:
    log.seek(0)
    return log.read().decode(errors="replace").strip()[-500:] or "it said nothing"
