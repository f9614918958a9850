"""What an addition's records are called in a union."""

from __future__ import annotations

_MARK = "__"


def prefix_of(added: str) -> str:
    """What the names of an addition's records begin with in a union; no other addition's do.

    Names of datasets hold no underscore.
    """
    return f"{added}{_MARK}"


def unprefixed(record: str) -> str:
    """What a record of a union was called before it was added."""
    return record.rpartition(_MARK)[2]
