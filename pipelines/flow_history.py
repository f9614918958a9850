"""The database of Prefect's temporary server: it holds what ran, and nothing that a run needs."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from ecgbeats.progress import say

_NAME = "prefect.db"


def mend() -> None:
    """Put the database aside if it is damaged, for the server would not start and not say so.

    A server that is there already has its own (PREFECT_API_URL).
    """
    if not os.environ.get("PREFECT_API_URL") and is_damaged():
        path = Path(os.environ["PREFECT_HOME"]) / _NAME
        say(f"{path}: damaged; put aside as {_NAME}.damaged, with what ran so far")
        # The journal belongs to the file that it lies beside.
        for end in ("", "-wal", "-shm", "-journal"):
            with suppress(FileNotFoundError):
                os.replace(f"{path}{end}", f"{path}.damaged{end}")


def is_damaged() -> bool:
    """Whether there is one under PREFECT_HOME that no server could read."""
    home = os.environ.get("PREFECT_HOME")
    return bool(home) and _damaged(Path(str(home)) / _NAME)


def _damaged(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        with closing(sqlite3.connect(path)) as database:
            found: list[tuple[str]] = database.execute("pragma quick_check(1)").fetchall()
    except sqlite3.OperationalError:
        # In use, or not to be read: nothing is known of what is in it.
        return False
    except sqlite3.DatabaseError:
        return True
    return found != [("ok",)]
