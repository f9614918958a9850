"""What tests have workers of a cluster do; small to import."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path


def square_into(folder: Path, item: int) -> int:
    """Write a file and say what is in it."""
    (folder / f"{item}.txt").write_text(str(item * item))
    return item * item


def killed_at_three(folder: Path, item: int) -> int:
    """The same, but the first worker that is given three dies, its file half written."""
    if item == 3 and not (folder / "killed").exists():
        (folder / "killed").touch()
        (folder / f"{item}.txt").write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return square_into(folder, item)


def always_killed(item: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuses(item: int) -> int:
    raise KeyError(f"item {item}")


def says_threads(item: int) -> int:
    """Say something on the way; how many threads NumPy's library was told to take."""
    print(f"at work on {item}", file=sys.stderr, flush=True)
    return int(os.environ["OMP_NUM_THREADS"])


def long_job(folder: Path, item: int) -> None:
    (folder / "pid.partial").write_text(str(os.getpid()))
    (folder / "pid.partial").rename(folder / "pid")
    time.sleep(300)
