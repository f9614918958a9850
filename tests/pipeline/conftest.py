"""What tests of several files share."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.support.projects import (
    RECIPE,
    Project,
    free_port,
    healthy,
    without_their_settings,
)
from tests.support.servers import stop


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project of which the images are drawn, by DVC alone; to be copied, not to be changed."""
    project = Project.create(tmp_path_factory.mktemp("drawn") / "project")
    done = project.call("dvc", "repro", f"render@{RECIPE}")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return project


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """PREFECT_API_URL of one server, for flows of which it does not matter who keeps them.

    The server that a flow starts for itself costs ten seconds each time; tests/pipeline/
    test_retrain.py has flows that start theirs.
    """
    home = tmp_path_factory.mktemp("prefect")
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    app = ["--factory", "prefect.server.api.server:create_app", "--lifespan", "on"]
    ours = {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_ENABLED": "false",
        # No schedules, no workers: as in the servers that flows start for themselves.
        "PREFECT__SERVER_EPHEMERAL": "1",
    }
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", *app, "--host", "127.0.0.1", "--port", str(port)],
            cwd=home,
            env={**without_their_settings(os.environ), **ours},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        end = time.monotonic() + 300
        while not healthy(f"{url}/health"):
            said = (home / "log").read_text()
            assert server.poll() is None and time.monotonic() < end, said
            time.sleep(0.2)
        yield url
    finally:
        stop(server)
