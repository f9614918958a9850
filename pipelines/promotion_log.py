"""What happened to a recipe's models, entry by entry, and what follows from it.

Each entry holds the hash of the one before it, and the whole state that it leads to: who is
champion, challenger and previous, and in which bento the champion is. So the last entry says
what must be, any earlier one what was, and an entry that was changed, taken out or put in
shows. Nothing here knows where the log is kept; `pipelines.ledger` does.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, time
from typing import Any, Literal

from ecgbeats.errors import ConfigError, ContractError
from ecgbeats.files import canonical_json, sha256_text

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
ALIASES = (CHAMPION, CHALLENGER, PREVIOUS)

# What an entry does. "adopt" takes over aliases that are older than the log; "challenge" is an
# approved version beside a champion; "package" gives the champion a new bento.
Action = Literal["adopt", "promote", "challenge", "package", "rollback"]

_SCHEMA = 1
# Begins the name of a tag that says what was overruled.
_OVERRIDE = "override."
# Of a version's tags, what its entries repeat.
_FACTS = ("data_hash", "images_hash", "weights_sha256", "git_commit")
# Long enough for a sentence or two, short enough for one entry in one MLflow parameter, in
# whatever script.
REASON_LENGTH, NAME_LENGTH = 300, 60


@dataclass(frozen=True)
class Entry:
    """One entry.

    Attributes
    ----------
    number : int
        From 1, without gaps.
    before : str
        Hash of the entry before; empty for the first.
    time : str
        ISO 8601, UTC; never earlier than that of the entry before.
    version : int
        The version that it is about.
    by, reason : str
    aliases : mapping of str to int
        All of them afterwards; an alias that nobody holds is not there.
    bento : str or None
        Tag of the champion's bento afterwards.
    overridden : tuple of str
        Checks that failed and were overruled.
    facts : mapping of str to str or float
        Of `version`: data, commit, weights, figures, and where the verdict lies.
    """

    number: int
    before: str
    time: str
    action: Action
    version: int
    by: str
    reason: str
    aliases: Mapping[str, int]
    bento: str | None
    overridden: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        return sha256_text(canonical_json(self._content()))

    def dumps(self) -> str:
        """As it is kept; `loads` reads it."""
        return canonical_json({**self._content(), "hash": self.hash})

    def _content(self) -> dict[str, Any]:
        return {"schema": _SCHEMA, **asdict(self), "overridden": list(self.overridden)}


def loads(values: Mapping[str, Any]) -> Entry:
    """The entry that `Entry.dumps` wrote.

    Raises
    ------
    ContractError
        It is not what was written: its hash, or a field, is another.
    """
    try:
        fields = {key: value for key, value in values.items() if key not in ("schema", "hash")}
        entry = Entry(**{**fields, "overridden": tuple(fields["overridden"])})
        whole = entry.hash == values["hash"]
    except (AttributeError, TypeError, KeyError) as error:
        raise ContractError(f"promotion log: expected an entry, got {values}: {error}") from error
    if not whole or values["schema"] != _SCHEMA:
        raise ContractError(
            f"promotion log: entry {entry.number} was changed: expected SHA-256 "
            f"{values['hash']}, found {entry.hash}"
        )
    return entry


def check_chain(entries: Sequence[Entry]) -> None:
    """Make sure that no entry was changed, taken out or put in.

    Raises
    ------
    ContractError
        Naming the first entry that does not follow from the one before it.
    """
    before = ""
    for number, entry in enumerate(entries, start=1):
        if (entry.number, entry.before) != (number, before):
            raise ContractError(
                f"promotion log: expected entry {number} after {before or 'none'}, "
                f"got entry {entry.number} after {entry.before or 'none'}"
            )
        before = entry.hash


def champions(entries: Sequence[Entry]) -> list[int]:
    """Versions that were champion one after the other; a rollback takes off those after its own."""
    stack: list[int] = []
    for entry in entries:
        if entry.action in ("adopt", "promote"):
            stack.append(entry.version)
        elif entry.action == "rollback":
            stack = _back_to(stack, entry.version)
    return stack


def former_champion(stack: Sequence[int], gone: Collection[int] = ()) -> int | None:
    """The champion before the last of `stack` that is not among the versions `gone`."""
    for version in reversed(stack[:-1]):
        if version not in gone and version != stack[-1]:
            return version
    return None


def _back_to(stack: Sequence[int], version: int) -> list[int]:
    """`stack` without its last, and without those after `version`."""
    left = list(stack[:-1])
    while left and left[-1] != version:
        left.pop()
    return left


def facts_of(tags: Mapping[str, str], metrics: Mapping[str, Any] | None) -> dict[str, Any]:
    """What an entry repeats of its version's tags and of its metrics.json, where there is one."""
    facts: dict[str, Any] = {key: tags[key] for key in _FACTS if key in tags}
    facts["git_dirty"] = tags.get("git_dirty") == "true"
    if metrics is not None:
        facts |= {
            "synthetic": metrics["synthetic"],
            "accuracy": metrics["accuracy"],
            "macro_f1": metrics["headline"]["macro_f1"],
            "beats": metrics["beats"],
        }
    return facts


def check_words(by: str | None, reason: str | None) -> None:
    """Make sure that an entry can hold them.

    Raises
    ------
    ConfigError
        One is too long.
    """
    for what, text, most in (("reason", reason, REASON_LENGTH), ("by", by, NAME_LENGTH)):
        if text is not None and len(text) > most:
            raise ConfigError(f"{what}: expected at most {most} characters, got {len(text)}")


def next_entry(
    entries: Sequence[Entry],
    action: Action,
    version: int,
    *,
    by: str,
    reason: str,
    bento: str | None,
    overridden: Sequence[str] = (),
    facts: Mapping[str, Any] | None = None,
    gone: Collection[int] = (),
    now: datetime | None = None,
) -> Entry:
    """The entry that `action` on `version` adds to a log.

    Parameters
    ----------
    gone : collection of int
        Versions that were deleted from the registry: they get no alias any more.

    Raises
    ------
    ConfigError
        Name or reason is too long; a rollback has nowhere to go, or not to `version`.
    """
    check_words(by, reason)
    last = entries[-1] if entries else None
    aliases = dict(last.aliases) if last else {}
    stack = champions(entries)
    if action == "challenge":
        aliases[CHALLENGER] = version
        bento = last.bento if last else None
    elif action == "rollback":
        if former_champion(stack, gone) != version:
            raise ConfigError(f"rollback: expected a champion before the present one, got {stack}")
        aliases = _crowned(aliases, _back_to(stack, version), gone)
    elif action != "package":
        aliases = _crowned(aliases, [*stack, version], gone)
    at = (now or datetime.now(UTC)).isoformat(timespec="milliseconds")
    return Entry(
        number=len(entries) + 1,
        before=last.hash if last else "",
        # Another machine's clock may be ahead.
        time=max(at, last.time) if last else at,
        action=action,
        version=version,
        by=by,
        reason=reason,
        aliases=aliases,
        bento=bento,
        overridden=tuple(overridden),
        facts=facts or {},
    )


def _crowned(
    aliases: Mapping[str, int], stack: Sequence[int], gone: Collection[int]
) -> dict[str, int]:
    """Aliases once the last of `stack` is champion."""
    held = {CHAMPION: stack[-1]}
    previous = former_champion(stack, gone)
    if previous is not None:
        held[PREVIOUS] = previous
    challenger = aliases.get(CHALLENGER)
    if challenger is not None and challenger != stack[-1] and challenger not in gone:
        held[CHALLENGER] = challenger
    return held


def crowning(entries: Sequence[Entry]) -> Entry | None:
    """The entry that made the present champion champion."""
    for entry in reversed(entries):
        if entry.action in ("adopt", "promote", "rollback"):
            return entry
    return None


def until(entries: Sequence[Entry], when: datetime) -> list[Entry]:
    """What the log said at that time."""
    return [entry for entry in entries if datetime.fromisoformat(entry.time) <= when]


def read_when(text: str) -> datetime:
    """The time that `text` names; of a day, its end. UTC unless it says otherwise.

    Raises
    ------
    ConfigError
        It is neither 2026-03-31 nor 2026-03-31T12:00.
    """
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(
            f"on: expected a date, as 2026-03-31 or 2026-03-31T12:00; got {text!r}"
        ) from error
    if len(text) == len("2026-03-31"):
        when = datetime.combine(when.date(), time.max)
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def overrides_in(tags: Mapping[str, str]) -> list[str]:
    """What was overruled for a version, by the tags that it has of it, the first at first."""
    return [words for key, words in sorted(tags.items()) if key.startswith(_OVERRIDE)]


def tags_of(entry: Entry) -> dict[str, str]:
    """Tags that an entry leaves on its version, for ever: its hash, and what it overruled.

    The hash there holds the log to what it said: entries that are cut off its end are missed.
    """
    tags = {f"promotion.{entry.number:06d}": f"{entry.action} {entry.hash}"}
    if entry.overridden:
        tags[f"{_OVERRIDE}{entry.number:06d}"] = (
            f"{', '.join(entry.overridden)} overruled by {entry.by} on {entry.time}: {entry.reason}"
        )
    if entry.bento is not None and entry.version == entry.aliases.get(CHAMPION):
        tags["bento"] = entry.bento
    return tags
