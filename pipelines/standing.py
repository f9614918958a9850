"""Who is what in the registry, since when and by whom: for people and for programs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from pipelines import ledger, packaging, registry
from pipelines.ledger import Tell, silent
from pipelines.promotion_log import (
    ALIASES,
    CHAMPION,
    Entry,
    crowning,
    until,
)

# Of an entry, what is told of a champion, in this order.
_TOLD = ("data_hash", "images_hash", "git_commit", "weights_sha256")


def newest_bento(root: Path) -> str | None:
    """The bento of whoever became champion last, of those in this machine's store."""
    database = Path(os.environ["MLFLOW_TRACKING_URI"].removeprefix("sqlite:///"))
    if database.parent == root and not database.exists():
        # Nothing has run; MLflow would take a while to make itself an empty database.
        return None
    crowned = []
    for name in registry.model_names():
        entries = ledger.finished(name).entries
        last = crowning(entries)
        bento = entries[-1].bento if entries else None
        if last is not None and bento is not None and packaging.has_bento(bento):
            crowned.append((last.time, bento))
    return max(crowned)[1] if crowned else None


def standing(
    name: str,
    *,
    on: datetime | None = None,
    has_bento: Callable[[str], bool] | None = None,
    tell: Tell = silent,
) -> dict[str, Any]:
    """How the model `name` stands, or stood at the time `on`; JSON values only.

    Finishes what a killed promotion left undone.

    Parameters
    ----------
    has_bento : callable, optional
        Whether this machine's store holds the bento of a tag; then told as "bento_here".

    Returns
    -------
    dict
        "model", "on", "champion" (None, or version, since, by, reason, action, entry, bento,
        overridden and what it was made of), "challenger" and "previous" (versions or None),
        "log" (entries and the hash of the last), "history" (all entries until then), and
        "apart": what is not as the log says; of the present alone.

    Raises
    ------
    ContractError
        The log itself was tampered with.
    """
    log, apart = ledger.compared(name, tell)
    entries = list(log.entries) if on is None else until(log.entries, on)
    last = entries[-1] if entries else None
    held = {alias: last.aliases.get(alias) if last else None for alias in ALIASES}
    if on is None:
        held |= {alias: log.holder(alias) for alias in ALIASES}
        if log.lost_champion is not None:
            apart = [*apart, f"version {log.lost_champion} was deleted from the registry"]
    return {
        "model": name,
        "on": None if on is None else on.isoformat(),
        **held,
        CHAMPION: _champion(entries, has_bento),
        "log": {"entries": len(log.entries), "last": log.last.hash if log.last else None},
        "history": [
            {
                "entry": entry.number,
                "time": entry.time,
                "action": entry.action,
                "version": entry.version,
                "by": entry.by,
                "reason": entry.reason,
                "overridden": list(entry.overridden),
                "champion": entry.aliases.get(CHAMPION),
                "bento": entry.bento,
            }
            for entry in entries
        ],
        "apart": apart if on is None else [],
    }


def _champion(
    entries: list[Entry], has_bento: Callable[[str], bool] | None
) -> dict[str, Any] | None:
    crowned = crowning(entries)
    if crowned is None:
        return None
    version = crowned.version
    overridden = [
        {"checks": list(entry.overridden), "by": entry.by, "reason": entry.reason, "on": entry.time}
        for entry in entries
        if entry.version == version and entry.overridden
    ]
    bento = entries[-1].bento
    here = {} if has_bento is None else {"bento_here": bento is not None and has_bento(bento)}
    return {
        "version": version,
        "since": crowned.time,
        "by": crowned.by,
        "reason": crowned.reason,
        "action": crowned.action,
        "entry": crowned.number,
        "bento": bento,
        **here,
        "overridden": overridden,
        **crowned.facts,
    }


def in_words(found: Mapping[str, Any]) -> str:
    """`standing`, as lines for people."""
    return "\n".join(_lines(found))


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    champion, name = found[CHAMPION], found["model"]
    when = f" on {found['on']}" if found["on"] else ""
    if champion is None:
        yield f"{name}: no champion{when}"
    else:
        yield f"{name} version {champion['version']}: champion{when}"
        yield f"  since: {champion['since']}"
        yield f"  by: {champion['by']} ({champion['action']}, entry {champion['entry']})"
        if champion["reason"]:
            yield f"  reason: {champion['reason']}"
        for row in champion["overridden"]:
            yield (
                f"  OVERRULED: {', '.join(row['checks'])}, by {row['by']} on {row['on']}: "
                f"{row['reason']}"
            )
        if "macro_f1" in champion:
            sample = ", SAMPLE DATA" if champion["synthetic"] else ""
            yield (
                f"  measured: macro-F1 {champion['macro_f1']:.3f}, accuracy "
                f"{champion['accuracy']:.3f}, {champion['beats']} beats{sample}"
            )
        for key in _TOLD:
            if key in champion:
                dirty = key == "git_commit" and champion.get("git_dirty")
                yield f"  {key}: {champion[key]}{' and changes' if dirty else ''}"
        elsewhere = "" if champion.get("bento_here", True) else " (not in this machine's store)"
        yield f"  bento: {champion['bento'] or 'none'}{elsewhere}"
    for alias in ALIASES[1:]:
        if found[alias] is not None:
            yield f"  {alias}: version {found[alias]}"
    yield from _history(found)
    for line in found["apart"]:
        yield f"  NOT AS THE LOG SAYS: {line}"


def _history(found: Mapping[str, Any]) -> Iterator[str]:
    if not found["history"]:
        return
    log = found["log"]
    count = f"{log['entries']} {'entry' if log['entries'] == 1 else 'entries'}"
    yield f"  log: {count}, none changed; the last is {log['last'][:16]}"
    for row in found["history"]:
        over = f"; OVERRULED {', '.join(row['overridden'])}" if row["overridden"] else ""
        why = f": {row['reason']}" if row["reason"] else ""
        yield (
            f"    {row['entry']}  {row['time'][:19]}  {row['action']} version {row['version']} "
            f"by {row['by']}{why}{over}"
        )
