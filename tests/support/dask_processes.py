"""A Dask scheduler and workers as real processes, on free ports of loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

HERE = Path(__file__).parents[2]


class DaskProcesses:
    """A scheduler at `address`, and workers as they are started; use as a context manager.

    A call whose workers die twice is given up: Dask's own number would take the tests longer.
    All processes have the variables `env` beside those of the test.
    """

    def __init__(self, folder: Path, env: Mapping[str, str] | None = None) -> None:
        self.folder = Path(folder)
        about = self.folder / "scheduler.json"
        self._env: Mapping[str, str] = {
            **os.environ,
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1",
            **(env or {}),
        }
        self._started: list[subprocess.Popen[bytes]] = []
        self.scheduler = self._start(
            "scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(about)
        )
        until = time.monotonic() + 300
        # It may be there and not be written yet.
        while not about.is_file() or not (text := about.read_text()).endswith("}"):
            assert time.monotonic() < until and self.scheduler.poll() is None, self.log
            time.sleep(0.05)
        self.address = str(json.loads(text)["address"])

    def add_workers(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start `dask worker` with `arguments`; it registers when it is ready."""
        place = ["--local-directory", str(self.folder), "--no-dashboard"]
        return self._start("worker", self.address, *place, *arguments)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def _start(self, which: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", which, "--host", "127.0.0.1", *arguments],
                # Workers import the functions of tests from here.
                cwd=HERE,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._started.append(process)
        return process

    def __enter__(self) -> DaskProcesses:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Workers first: without a scheduler they would look for it.
        for process in reversed(self._started):
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in self._started:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
