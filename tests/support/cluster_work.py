"""What tests have workers of a cluster do; small to import."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

# The variable that names the folder of a worker's orders, and the file of whose writing they are.
ORDERS = "ECGBEATS_TESTS_ORDERS"
_AT = "s006.npy"


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


def dask_setup(worker: object) -> None:
    """As a worker's `--preload`: follow orders when it comes to write the images of one record.

    "die": it is killed, once, with half a file written; "wait": it goes on when there is "go". That
    it came there is told by "met".
    """
    orders = Path(os.environ[ORDERS])

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open" or not str(arguments[0]).endswith(_AT) or (orders / "met").exists():
            return
        if (orders / "die").exists():
            (orders / "met").touch()
            Path(arguments[0]).write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        if (orders / "wait").exists():
            (orders / "met").touch()
            until = time.monotonic() + 60
            while not (orders / "go").exists() and time.monotonic() < until:
                time.sleep(0.05)

    sys.addaudithook(hook)
