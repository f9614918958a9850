"""One run at a time in a checkout; what a killed one left behind is cleared up by the next.

A process that is killed cleans up nothing: what it had started (DVC, its stage, Prefect's
temporary server, a bento on trial) goes on without it, writes under whoever comes next and holds
DVC's lock. The lock here is the system's own (flock), which dies with its holder; whoever gets it
knows that no other run is alive, so all that still bears another run's mark is an orphan.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from ecgbeats.errors import ServiceError, of_storage
from ecgbeats.progress import say
from pipelines import mending

# In the environment of all that a run starts. Without the prefix of the service's settings, which
# a bento on trial is started without.
MARK = "RUN_OF_ECGBEATS"
# Of this process: Prefect's server outlives one run and serves the next that it starts.
_OURS = secrets.token_hex(8)
_FOLDER = Path(".dvc/tmp")
_ENDS_IN_S = 10.0


@contextmanager
def alone(root: Path, what: str = "run") -> Iterator[None]:
    """Be the only `what` in the checkout at `root`; end and mend first what a killed one left.

    Raises
    ------
    ServiceError
        Another is at work.
    StorageError
        Nothing can be written here.
    """
    root = root.resolve()
    with locked(root, what):
        _end_orphans(f"{root}|{what}|")
        mending.mend(root)
        before = os.environ.get(MARK)
        os.environ[MARK] = mark(root, what)
        try:
            yield
        finally:
            if before is None:
                del os.environ[MARK]
            else:
                os.environ[MARK] = before


def mark(root: Path, what: str = "run") -> str:
    """What all that this process starts for a `what` at `root` bears as MARK."""
    return f"{root.resolve()}|{what}|{_OURS}"


@contextmanager
def locked(root: Path, what: str) -> Iterator[None]:
    """Be the only `what` in the checkout at `root`, and no more; raises as `alone`."""
    path = root / _FOLDER / f"ecgbeats-{what}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise of_storage(error) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(handle, 32).decode(errors="replace").strip()
            raise ServiceError(
                f"another {what} is at work in this folder"
                + (f" (process {holder})" if holder else "")
                + "; start this one when it is done"
            ) from error
        # For people; that it cannot be written on a full disk is no hindrance.
        with suppress(OSError):
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


def _end_orphans(mark: str) -> None:
    """Kill what bears a mark that begins so, with all that it may start meanwhile."""
    while found := _bearing(mark):
        for process in found:
            with suppress(psutil.NoSuchProcess):
                say(f"ending process {process.pid} of a run that was killed: {_name(process)}")
                # Not asked: all of them are made to be killed at any moment, as their run was.
                process.kill()
        _, left = psutil.wait_procs(found, timeout=_ENDS_IN_S)
        if left:
            raise ServiceError(
                "of a run that was killed there are still processes that cannot be ended: "
                + ", ".join(str(process.pid) for process in left)
            )


def _bearing(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        # Other people's, or gone meanwhile.
        with suppress(psutil.Error, OSError):
            ended = process.status() == psutil.STATUS_ZOMBIE
            theirs = "" if ended else process.environ().get(MARK, "")
            if theirs.startswith(mark) and not theirs.endswith(_OURS):
                found.append(process)
    return found


def _name(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline()[:6])
    return "?"
