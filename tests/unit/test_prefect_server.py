"""Prefect's temporary server ahead of a run: where one is started, and what it leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from ecgbeats.errors import ServiceError
from pipelines import alone, prefect_server

pytestmark = pytest.mark.unit


def test_no_second_server_where_prefect_is_set_up_in_its_own_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, home = tmp_path / "project", tmp_path / "home"
    root.mkdir()
    home.mkdir()
    monkeypatch.delitem(sys.modules, "prefect", raising=False)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.delenv("PREFECT_SERVER_ALLOW_EPHEMERAL_MODE", raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(home))
    assert prefect_server._wanted(root)
    for change in (
        lambda patch: patch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api"),
        lambda patch: patch.setenv("PREFECT_SERVER_ALLOW_EPHEMERAL_MODE", "False"),
        lambda patch: patch.delenv("PREFECT_HOME"),
        # What it has read already does not change.
        lambda patch: patch.setitem(sys.modules, "prefect", pytest),
    ):
        with monkeypatch.context() as patch:
            change(patch)
            assert not prefect_server._wanted(root)
    files: tuple[Path, ...] = (home / "profiles.toml", root / "prefect.toml", root / ".env")
    for path in files:
        path.touch()
        assert not prefect_server._wanted(root)
        path.unlink()
    assert prefect_server._wanted(root)
    (home / "prefect.db").write_bytes(b"SQLite format 3\0" + b"cut off" * 100)
    assert not prefect_server._wanted(root)
    assert (home / "prefect.db").exists()


def test_a_server_that_ends_is_told_with_what_it_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(code: str) -> Callable[[], None]:
        def check() -> None:
            with tempfile.TemporaryFile() as log:
                process = subprocess.Popen([sys.executable, "-c", code], stdout=log, stderr=log)
                process.wait()
                started = prefect_server._Server("http://127.0.0.1:9/api", process, log)
                monkeypatch.setattr(prefect_server, "_started", started)
                prefect_server.wait()

        return check

    with pytest.raises(ServiceError, match=r"Prefect's server ended with 3: no database$"):
        ended("print('no database'); raise SystemExit(3)")()
    with pytest.raises(ServiceError, match=r"ended with 1: it said nothing$"):
        ended("raise SystemExit(1)")()
    monkeypatch.setattr(prefect_server, "_started", None)
    prefect_server.wait()


_RUN = """
import os, sys
from pathlib import Path
from pipelines import prefect_server
prefect_server.start_ahead(Path(sys.argv[1]))
prefect_server.wait()
from prefect import get_client
with get_client(sync_client=True) as client:
    assert str(client.api_url).rstrip("/") == os.environ["PREFECT_API_URL"], client.api_url
    assert client.hello().status_code == 200
print(prefect_server._started.process.pid, flush=True)
if len(sys.argv) > 2:
    os.kill(os.getpid(), 9)
"""


def test_it_serves_the_process_and_ends_with_it_or_is_ended_by_the_next(tmp_path: Path) -> None:
    env = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    env |= {"PREFECT_HOME": str(tmp_path), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    env["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] = "300"

    def run(*more: str) -> tuple[int, int]:
        command = [sys.executable, "-c", _RUN, str(tmp_path), *more]
        done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, timeout=400)
        return done.returncode, int(done.stdout)

    status, server = run()
    assert status == 0 and not psutil.pid_exists(server)
    status, server = run("and is killed")
    assert status == -9 and psutil.pid_exists(server)
    with alone.alone(tmp_path):
        assert not psutil.pid_exists(server)
