"""Files written whole or not at all, and their hashes."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from ecgbeats.errors import is_of_storage, name_file

# What is written aside bears a number: this begins those of this machine, what follows is random.
_HOST = f"{int(hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8], 16):010d}"
_NUMBER = r"\d+"
_OF_THIS_HOST = re.compile(rf"[.-]{_HOST}\d{{18}}(\.|$)")
# How long it stays where nobody can tell whether its writer lives: written by another machine.
_DAY_S = 86_400.0
# What this process writes aside, and its lock.
_locks: dict[Path, int] = {}


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Yield a sibling path to write to; rename it to `path` on success, remove it on error.

    The rename replaces atomically, so a reader sees the old file, the new one or none,
    never a half-written one, whenever the process dies or the power goes. What a process of
    this machine left when it was killed is removed by the next that writes `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: numpy, Keras and Pillow choose the format by it.
    stem, suffix = path.stem, path.suffix
    _remove_left(_beside(path, rf"\.{re.escape(stem)}\.{_NUMBER}\.partial{re.escape(suffix)}"))
    begin, end = f".{stem}.", f".partial{suffix}"
    with _named(path), _locked_aside(path, begin, end, Path.touch) as aside:
        yield aside
        _sync(aside)
        _rename(aside, path)


@contextmanager
def folder_written_aside(path: Path) -> Iterator[Path]:
    """The same for a folder: yield an empty sibling, swap it in for `path` on success.

    A folder is swapped in two steps. If the process was killed between them, the next that
    writes `path` first puts the old folder back.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    name = re.escape(path.name)
    # While a folder is swapped, the lock of the new one is that of the old one, too.
    for old in _beside(path, rf"\.{name}\.{_NUMBER}\.old"):
        with _nobodys(old.with_suffix(".partial")) as left_behind:
            if left_behind:
                _put_back_or_remove(old, path)
    # What is written aside may be written aside in its turn.
    partial = rf"\.{name}\.{_NUMBER}\.partial"
    _remove_left(_beside(path, partial, rf"\.{partial}\.{_NUMBER}\.(partial|old)"))
    with (
        _named(path),
        _locked_aside(path, f".{path.name}.", ".partial", Path.mkdir) as aside,
    ):
        old = aside.with_suffix(".old")
        try:
            yield aside
            for content in sorted(aside.rglob("*")):
                _sync(content)
            _sync(aside)
            if path.exists():
                os.replace(path, old)
            _rename(aside, path)
        finally:
            _put_back_or_remove(old, path)


@contextmanager
def workplace(folder: Path, begin: str) -> Iterator[Path]:
    """Yield a new folder in `folder`, its name begins with `begin`; removed when this is left.

    It is locked as what is written aside; see `clear_workplaces`.
    """
    with _locked_aside(folder / begin, begin, "", Path.mkdir) as place:
        yield place


def clear_workplaces(folder: Path, begin: str) -> None:
    """Remove the workplaces in `folder` that nobody works in any more."""
    _remove_left([*folder.glob(f"{begin}*")])


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let errors of the disk say where, which those of writing do not: `path` is being made."""
    try:
        yield
    except OSError as error:
        if error.filename is None and is_of_storage(error):
            name_file(error, str(path))
        raise


@contextmanager
def _locked_aside(
    path: Path, begin: str, end: str, make: Callable[[Path], object]
) -> Iterator[Path]:
    """Make a sibling of `path`, locked until this is left; removed then, if it is still there.

    The system gives a lock back when its holder dies; and unlike the id of a process, in all
    containers of a machine it is told from others'.
    """
    while True:
        aside = path.with_name(f"{begin}{_HOST}{secrets.randbelow(10**18):018d}{end}")
        make(aside)
        lock = _locks[aside] = os.open(aside, os.O_RDONLY)
        try:
            # Some file systems have no locks.
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            # Before it was locked another may have taken it for left behind.
            if os.fstat(lock).st_nlink:
                yield aside
                return
        finally:
            _remove(aside)
            os.close(_locks.pop(aside))


def _rename(aside: Path, path: Path) -> None:
    os.replace(aside, path)
    _sync(path.parent)
    if path in _locks:
        # Written aside in its turn: what has that name now is to be locked for as long.
        os.dup2(_locks[aside], _locks[path])


def _sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk: the power may go, too."""
    if path.is_symlink() or not (path.is_file() or path.is_dir()):
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        # Some file systems do not take it of folders.
        if not path.is_dir():
            raise
    finally:
        os.close(handle)


def _beside(path: Path, *patterns: str) -> list[Path]:
    named = re.compile("|".join(patterns))
    return [sibling for sibling in path.parent.iterdir() if named.fullmatch(sibling.name)]


def _remove_left(found: Iterable[Path]) -> None:
    for left in found:
        with _nobodys(left) as left_behind:
            if left_behind:
                _remove(left)


@contextmanager
def _nobodys(aside: Path) -> Iterator[bool]:
    """Whether nobody writes `aside`; where it is so, nobody does before this is left."""
    try:
        lock = os.open(aside, os.O_RDONLY)
    except FileNotFoundError:
        yield True
        return
    except OSError:  # somebody else's
        yield False
        return
    try:
        free = time.time() - os.fstat(lock).st_mtime > _DAY_S
        if _OF_THIS_HOST.search(aside.name):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                free = True
            except BlockingIOError:
                free = False
            except OSError:  # no locks here
                pass
        yield free
    finally:
        os.close(lock)


def _put_back_or_remove(old: Path, path: Path) -> None:
    if old.exists() and not path.exists():
        os.replace(old, path)
    else:
        _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with a final newline; NaN is refused (it is no JSON)."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def canonical_json(value: Any) -> str:
    """One text for equal values: sorted keys, no spaces. What is hashed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def sha256_text(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def sha256_file(path: Path) -> str:
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_tree(folder: Path) -> str:
    """Hash of a folder: names and contents of all files below it, in name order.

    Hidden files (partial writes, editors' leavings) do not count.
    """
    folder = Path(folder)
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        relative = path.relative_to(folder)
        if any(part.startswith(".") for part in relative.parts):
            continue
        digest.update(f"{relative.as_posix()}\0{sha256_file(path)}\n".encode())
    return digest.hexdigest()


def sha256_arrays(arrays: list[np.ndarray]) -> str:
    """Hash of arrays in order: dtype, shape and bytes (weights, whose files are not stable)."""
    digest = hashlib.sha256()
    for array in arrays:
        contiguous = np.ascontiguousarray(array)
        digest.update(f"{contiguous.dtype.str}{contiguous.shape}".encode())
        digest.update(contiguous.tobytes())
    return digest.hexdigest()
