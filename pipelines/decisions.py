"""What a decision on a version rested on, by the promotion log: its verdict, and its rival."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ecgbeats.errors import ContractError
from ecgbeats.files import sha256_file
from pipelines import ledger, registry
from pipelines.gating import VERDICT
from pipelines.promotion_log import CHAMPION, Entry
from pipelines.registry import Registered


def verdict_folder(
    version: Registered, entries: Sequence[Entry], report: Path, scratch: Path
) -> Path:
    """Where the verdict that decided last on a version lies, brought below `scratch`.

    Parameters
    ----------
    entries : sequence of Entry
        The log.
    report : Path
        Folder of the verdict of its registration, if none decided.

    Raises
    ------
    ContractError
        It is not the one that the log names.
    """
    number = _decided_by(version, entries)
    if number is None:
        return report
    entry = entries[number]
    decided = entry.facts["verdict"]
    source = registry.fetch_kept(version, decided["artifacts"], scratch / "decided")
    found = sha256_file(source / VERDICT)
    if found != decided["sha256"]:
        raise ContractError(
            f"{version.name} version {version.version}: expected the verdict of entry "
            f"{entry.number}, SHA-256 {decided['sha256']}; the artifacts hold {found}"
        )
    return source


def _decided_by(version: Registered, entries: Sequence[Entry]) -> int | None:
    """Index of the last entry for which a verdict was asked on the version."""
    asked = [
        index
        for index, entry in enumerate(entries)
        if entry.version == version.version and entry.facts.get("verdict")
    ]
    return asked[-1] if asked else None


def rival_of(version: Registered) -> tuple[int | None, str]:
    """The champion that the verdict on the version was held against; or why there is none.

    Where no verdict decided, it became champion by an entry that is older than that, or is none.
    """
    log = ledger.finished(version.name)
    number = _decided_by(version, log.entries)
    if number is None:
        crowned = [
            index
            for index, entry in enumerate(log.entries)
            if entry.version == version.version == entry.aliases.get(CHAMPION)
        ]
        if not crowned:
            return log.holder(CHAMPION), "there is no champion"
        number = crowned[0]
    before = log.entries[number - 1].aliases.get(CHAMPION) if number else None
    return before, "it was the first champion"
