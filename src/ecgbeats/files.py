"""Files written whole or not at all, and their hashes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Yield a sibling path to write to; rename it to `path` on success, remove it on error.

    The rename replaces atomically, so a reader sees the old file, the new one or none,
    never a half-written one, whenever the process dies. What a process of this machine
    left when it was killed is removed by the next that writes `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: numpy, Keras and Pillow choose the format by it.
    stem, suffix = re.escape(path.stem), re.escape(path.suffix)
    for left in _left_behind(path, rf"\.{stem}\.(\d+)\.partial{suffix}"):
        _remove(left)
    aside = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield aside
        with aside.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def folder_written_aside(path: Path) -> Iterator[Path]:
    """The same for a folder: yield an empty sibling, swap it in for `path` on success.

    A folder is swapped in two steps. If the process was killed between them, the next that
    writes `path` first puts the old folder back.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    name = re.escape(path.name)
    # What is written aside may be written aside in its turn, as `..name.1.partial.1.partial`.
    for pattern in (rf"\.{name}\.(\d+)\.partial", rf"\.\.{name}\.(\d+)\.partial\.\d+\.partial"):
        for left in _left_behind(path, pattern):
            _remove(left)
    for left in _left_behind(path, rf"\.{name}\.(\d+)\.old"):
        _put_back_or_remove(left, path)
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    aside.mkdir()
    try:
        yield aside
        if path.exists():
            os.replace(path, old)
        os.replace(aside, path)
    finally:
        _remove(aside)
        _put_back_or_remove(old, path)


def _left_behind(path: Path, pattern: str) -> list[Path]:
    """Siblings whose names fit, of processes that are gone; the group is a process's id."""
    named = re.compile(pattern)
    return [
        sibling
        for sibling in path.parent.iterdir()
        if (match := named.fullmatch(sibling.name)) and _is_gone(int(match[1]))
    ]


def _is_gone(process: int) -> bool:
    # In a container every run may have the same id: one of its own is from an earlier run.
    if process == os.getpid():
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:  # somebody else's
        return False
    return False


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
