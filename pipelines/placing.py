"""New data in place of old under `data/added`: until DVC and the listing have them, the old stay.

What is aside lies beside, hidden: `.NAME.new` is written, `.NAME.old` is what it replaces, and
`.NAME.pointer` its .dvc file, which DVC writes in place; that one is empty where there was none.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ecgbeats.errors import DataError, ServiceError
from ecgbeats.files import write_text
from pipelines import added, dag


def fresh_of(root: Path, name: str) -> Path:
    """Where a new version is written before it takes its place."""
    return added.folder_of(root, name).with_name(f".{name}.new")


def as_listed(root: Path, name: str) -> bool:
    """Whether the addition lies here whole, as its listing and DVC say."""
    try:
        entry = added.find(root, name)
    except DataError:
        return False
    return entry is not None and dag.tracked_as_is(root, added.folder_of(root, name))


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """One addition or removal at a time: each addition is held against all others.

    A killed process holds no lock.

    Raises
    ------
    ServiceError
        Another is at it.
    """
    folder = root / added.FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ServiceError(
                "data: another `ecgbeats data add` or `remove` runs here; start this one when it "
                "is done"
            ) from error
        yield
    finally:
        os.close(handle)


def recover(root: Path, name: str) -> None:
    """Clear up after a process that was killed: the new version, if it was listed, else the old."""
    place, old = added.folder_of(root, name), _old_of(root, name)
    if _said_of(root, name).exists():
        if not as_listed(root, name):
            _put_pointer_back(root, name)
        _said_of(root, name).unlink()
    if not old.exists():
        return
    if as_listed(root, name):
        shutil.rmtree(old)
    else:
        shutil.rmtree(place, ignore_errors=True)
        os.replace(old, place)


@contextmanager
def in_place(root: Path, name: str) -> Iterator[None]:
    """Put the fresh folder in its place for what is done within; on any error all is as before.

    As before are the folder and its .dvc file; DVC's cache is not asked for either, it may be
    locked or gone.
    """
    place, fresh, old = added.folder_of(root, name), fresh_of(root, name), _old_of(root, name)
    pointer, said = added.pointer_of(root, name), _said_of(root, name)
    write_text(said, pointer.read_text(encoding="utf-8") if pointer.is_file() else "")
    try:
        if place.exists():
            os.replace(place, old)
        os.replace(fresh, place)
        yield
    except BaseException:
        if not fresh.exists():
            shutil.rmtree(place, ignore_errors=True)
        if old.exists():
            os.replace(old, place)
        _put_pointer_back(root, name)
        said.unlink()
        raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    said.unlink()
    shutil.rmtree(old, ignore_errors=True)


def _put_pointer_back(root: Path, name: str) -> None:
    pointer, said = added.pointer_of(root, name), _said_of(root, name).read_text(encoding="utf-8")
    if said:
        write_text(pointer, said)
    else:
        pointer.unlink(missing_ok=True)


def _said_of(root: Path, name: str) -> Path:
    return added.folder_of(root, name).with_name(f".{name}.pointer")


def _old_of(root: Path, name: str) -> Path:
    return added.folder_of(root, name).with_name(f".{name}.old")
