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
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import yaml

from ecgbeats.errors import ContractError
from ecgbeats.files import write_text, written_aside
from ecgbeats.progress import say

_LOCK = Path("dvc.lock")
_TMP = Path(".dvc/tmp")
_KEPT = _TMP / "dvc.lock.kept"
# Names the stage that DVC runs, and may write to dvc.lock for.
_RUNNING = _TMP / "dvc.lock.stage"
_RWLOCK = _TMP / "rwlock"


def keep_lock(root: Path, stage: str) -> None:
    """Keep a copy of dvc.lock, before DVC runs the stage of that address and writes to it."""
    if (root / _LOCK).is_file():
        with written_aside(root / _KEPT) as aside:
            shutil.copyfile(root / _LOCK, aside)
    else:
        (root / _KEPT).unlink(missing_ok=True)
    write_text(root / _RUNNING, stage)


def lock_is_written(root: Path) -> None:
    """DVC has ended well: what is in dvc.lock from here on is as somebody wanted it."""
    (root / _RUNNING).unlink(missing_ok=True)


def mend(root: Path) -> None:
    """Put right what a killed DVC left; nothing where all is as it should be.

    Raises
    ------
    ContractError
        dvc.lock holds git's marks of a conflict.
    """
    _check_no_conflict(root / _LOCK)
    if (root / _RUNNING).is_file():
        _mend_lock(root, (root / _RUNNING).read_text("utf-8"))
        (root / _RUNNING).unlink()
    if (root / _RWLOCK).is_file():
        with _guarded(root):
            _mend_rwlock(root / _RWLOCK)


def _check_no_conflict(lock: Path) -> None:
    if lock.is_file() and re.search(rb"^(<{7}|>{7}) ", lock.read_bytes(), re.MULTILINE):
        raise ContractError(
            f"{lock.name}: expected what DVC wrote, found git's marks of a conflict (<<<<<<<); "
            "docs/remotes.md says how to resolve it"
        )


def _mend_lock(root: Path, stage: str) -> None:
    lock, kept = root / _LOCK, root / _KEPT
    now = lock.read_bytes() if lock.is_file() else b""
    before = kept.read_bytes() if kept.is_file() else b""
    if now == before or not _was_cut(now, before, stage):
        return
    say(f"{_LOCK}: cut off by a run that was killed; put back as it was before {stage}")
    if before:
        with written_aside(lock) as aside:
            shutil.copyfile(kept, aside)
    else:
        lock.unlink(missing_ok=True)


def _was_cut(now: bytes, before: bytes, stage: str) -> bool:
    """Whether `now` is a beginning of what DVC writes in place of `before` once `stage` has run.

    DVC puts the entry of that stage where the old one was, else at the end. Most beginnings are
    YAML and pass DVC's schema, with entries, or rows of the last one, lost. So an entry that
    nothing follows is not believed: to run its stage again costs a look into DVC's run cache.
    """
    stages, others = _stages(now), _stages(before)
    if stages is None or others is None:
        return others is not None
    last = next(reversed(stages), stage)
    lost = any(
        name not in stages or (name != stage and stages[name] != entry)
        for name, entry in others.items()
    )
    if last != stage and not lost and now.endswith(b"\n"):
        return False
    # What else is in it somebody else has written: a checkout, a merge, DVC by hand.
    entry = re.search(rb"^  %b:" % re.escape(stage.encode()), before, re.MULTILINE)
    return before.startswith(now) or now.startswith(before[: entry.start() if entry else None])


def _stages(content: bytes) -> dict[str, Any] | None:
    """The stages of a lock file; of an empty one none, and None if it is not one."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        lock = yaml.load(content, Loader=loader) or {"stages": {}}  # noqa: S506
    except (yaml.YAMLError, UnicodeDecodeError):
        return None
    stages = lock.get("stages") if isinstance(lock, dict) else None
    return stages if isinstance(stages, dict) else None


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
