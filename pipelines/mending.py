"""Files of DVC that it writes in place, made whole again after it was killed or the disk was full.

DVC opens `dvc.lock` and the list of its own locks (`.dvc/tmp/rwlock`) for writing and then writes:
killed in between, or without room, they are cut off, and DVC then refuses to work until a person
removes them. That list names processes by id, too: after a restart of the machine, or of the
container, another process may have that id. No DVC is needed to mend this, so this is no door to
it.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import yaml

from ecgbeats.files import write_text, written_aside
from ecgbeats.progress import say

_LOCK = Path("dvc.lock")
_TMP = Path(".dvc/tmp")
_KEPT = _TMP / "dvc.lock.kept"
_RWLOCK = _TMP / "rwlock"


def keep_lock(root: Path) -> None:
    """Keep a copy of dvc.lock, before DVC writes to it."""
    if (root / _LOCK).is_file():
        with written_aside(root / _KEPT) as aside:
            shutil.copyfile(root / _LOCK, aside)


def mend(root: Path) -> None:
    """Put right what a killed DVC left; nothing where all is as it should be."""
    if not _readable(root / _LOCK) and _readable(root / _KEPT) and (root / _KEPT).is_file():
        say(f"{_LOCK}: cut off by a run that was killed; put back as it was before that stage")
        with written_aside(root / _LOCK) as aside:
            shutil.copyfile(root / _KEPT, aside)
    if (root / _RWLOCK).is_file():
        with _guarded(root):
            _mend_rwlock(root / _RWLOCK)


def _readable(path: Path) -> bool:
    """Whether `path` is a lock file, or not there, which is one without stages."""
    if not path.is_file():
        return True
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        content = yaml.load(path.read_text("utf-8"), Loader=loader)  # noqa: S506
    except (yaml.YAMLError, UnicodeDecodeError):
        return False
    return isinstance(content, dict) and isinstance(content.get("stages"), dict)


@contextmanager
def _guarded(root: Path) -> Iterator[None]:
    """Hold the lock under which DVC changes its list; a DVC at work is waited for."""
    handle = os.open(root / _TMP / "rwlock.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _mend_rwlock(path: Path) -> None:
    try:
        held = json.loads(path.read_text("utf-8"))
        readers = {where: list(infos) for where, infos in held.get("read", {}).items()}
        writers = dict(held.get("write", {}))
        alive = {
            "read": {where: [i for i in infos if _is_dvc(i)] for where, infos in readers.items()},
            "write": {where: info for where, info in writers.items() if _is_dvc(info)},
        }
    except (ValueError, AttributeError, KeyError, TypeError):
        say(f"{path.name}: cut off by a DVC that was killed; removed")
        path.unlink()
        return
    alive["read"] = {where: infos for where, infos in alive["read"].items() if infos}
    if alive != {"read": readers, "write": writers}:
        write_text(path, json.dumps(alive))


def _is_dvc(info: dict[str, Any]) -> bool:
    """Whether the process that an entry names is the one that wrote it, not a later one."""
    with suppress(psutil.Error):
        said = " ".join(psutil.Process(int(info["pid"])).cmdline())
        # DVC writes its arguments, after what it was called as.
        return said.endswith(str(info["cmd"]).partition(" ")[2])
    return False
