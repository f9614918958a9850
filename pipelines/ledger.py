"""The promotion log in MLflow, and the aliases and tags that follow from it.

The log of a model is one MLflow run, named by a tag of the registered model, and each entry a
parameter of that run: MLflow lets a parameter be written once and never changed. So it is the
same on all machines that use one MLflow, and of two that write entry 7 at the same time one
succeeds and the other is told.

An entry is written first and is the decision; aliases and tags are brought to what it says
afterwards, and a second parameter says that they were. Whoever opens the log and does not
find that mark does what is left to do, as often as it takes: each step sets what the entry
says, whatever was there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ecgbeats.errors import ContractError, ServiceError
from pipelines.promotion_log import (
    ALIASES,
    CHALLENGER,
    CHAMPION,
    Entry,
    check_chain,
    facts_of,
    loads,
    next_entry,
    tags_of,
)
from pipelines.tracking import answered, client_of_mlflow, experiment_named, logged_json

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Experiment of all logs; tag of the registered model that names its run, and of that run.
_EXPERIMENT = "ecgbeats-promotions"
LOG = "ecgbeats.promotion_log"
_ENTRY, _APPLIED = "entry.", "applied."
# MLflow cuts longer parameters off without a word.
_LONGEST = 6000

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Ledger:
    """The log of one model as it is now.

    Attributes
    ----------
    run_id : str or None
        None where the model has no log yet.
    applied : bool
        Whether aliases and tags were brought to what the last entry says.
    gone : frozenset of int
        Versions that entries are about and that were deleted from the registry since.
    """

    name: str
    run_id: str | None
    entries: tuple[Entry, ...]
    applied: bool
    gone: frozenset[int] = frozenset()

    @property
    def last(self) -> Entry | None:
        return self.entries[-1] if self.entries else None

    def holder(self, alias: str) -> int | None:
        """The version that `alias` belongs to, by the log; nobody where that one was deleted."""
        version = self.last.aliases.get(alias) if self.last else None
        return None if version in self.gone else version

    @property
    def lost_champion(self) -> int | None:
        """The champion, where it was deleted from the registry."""
        version = self.last.aliases.get(CHAMPION) if self.last else None
        return version if version in self.gone else None

    def check_champion(self) -> None:
        """Make sure that the champion was not deleted.

        Raises
        ------
        ContractError
            It was.
        """
        if self.lost_champion is not None:
            raise ContractError(
                f"{self.name}: its champion, version {self.lost_champion}, was deleted from the "
                "registry. `ecgbeats rollback`, or `ecgbeats promote` with --version, --by and "
                "--reason, makes another one champion"
            )


def silent(_: str) -> None:
    """Tell nobody."""


def start_log(client: MlflowClient, name: str) -> str:
    """The run that is to hold the log of a model that is not registered yet."""
    number = experiment_named(client, _EXPERIMENT)
    found = client.search_runs([number], f"tags.`{LOG}` = '{name}'")
    for run in found:
        # Of a registration that was killed; two machines that share it are well served. One with
        # entries is of a model of that name that was deleted.
        if not run.data.params:
            return str(run.info.run_id)
    made = client.create_run(number, tags={LOG: name}, run_name=name)
    client.set_terminated(made.info.run_id)
    return str(made.info.run_id)


@answered()
def read(name: str) -> Ledger:
    """The log of the model `name`, checked: its chain, and what versions say of it.

    Raises
    ------
    ContractError
        An entry was changed, taken out or put in.
    ServiceError
        MLflow does not answer, or the run that holds the log was deleted.
    """
    return _read(client_of_mlflow(), name)


@answered()
def finished(name: str, tell: Tell = silent) -> Ledger:
    """The log, after finishing what a killed promotion left undone.

    Aliases that are older than the log become its first entry.
    """
    client = client_of_mlflow()
    log = _read(client, name)
    if log.last is None:
        return _adopted(client, log, tell)
    if not log.applied:
        tell(f"entry {log.last.number} of the promotion log was not finished; finishing it")
        log = _apply(client, log, tell)
    return log


@answered()
def compared(name: str, tell: Tell = silent) -> tuple[Ledger, list[str]]:
    """As `finished`, and what in the registry is not as the log says: see `differences`."""
    while True:
        log = finished(name, tell)
        apart = differences(name, log)
        # Somebody may have promoted between one look and the other.
        if not apart or read(name).last == log.last:
            return log, apart


def settle(name: str, tell: Tell = silent) -> Ledger:
    """As `finished`; then aliases and tags are as the log says.

    Raises
    ------
    ContractError
        As `read`; or an alias or tag was changed by other means than promotion.
    """
    log, apart = compared(name, tell)
    if apart:
        raise ContractError(
            f"{name}: not as its promotion log says, so changed by other means: {'; '.join(apart)}."
            f" `ecgbeats promote` and `ecgbeats rollback` set all of it anew"
        )
    return log


@answered()
def open_for_change(name: str, tell: Tell = silent) -> Ledger:
    """The log, to be written to: finished, also where aliases were moved by other means."""
    log = finished(name, tell)
    if log.last is None or not differences(name, log):
        return log
    tell(f"bringing aliases and tags to entry {log.last.number} of the promotion log")
    return _apply(client_of_mlflow(), log, tell)


def _adopted(client: MlflowClient, log: Ledger, tell: Tell) -> Ledger:
    """The log with a first entry, if there is a champion that is older."""
    held = _aliases(client, log.name)
    if CHAMPION not in held:
        return log
    version = client.get_model_version(log.name, str(held[CHAMPION]))
    first = next_entry(
        (),
        "adopt",
        held[CHAMPION],
        by="ecgbeats",
        reason="champion before there was a log",
        bento=version.tags.get("bento"),
        facts=facts_of(version.tags, logged_json(str(version.run_id), "report/metrics.json")),
    )
    kept = {alias: held[alias] for alias in (CHAMPION, CHALLENGER) if alias in held}
    try:
        return append(log, replace(first, aliases=kept), tell)
    except ServiceError:
        now = _read(client, log.name)
        if now.last is None:
            raise
        # Another machine adopted it at the same time.
        return now if now.applied else _apply(client, now, tell)


def append(log: Ledger, entry: Entry, tell: Tell = silent) -> Ledger:
    """Write `entry` after those of `log`, and bring aliases and tags to it.

    Raises
    ------
    ServiceError
        Somebody else wrote that entry first; nothing was changed.
    """
    from mlflow.exceptions import MlflowException

    client = client_of_mlflow()
    text = entry.dumps()
    if len(text) > _LONGEST:
        raise ServiceError(
            f"promotion log: expected an entry of at most {_LONGEST} characters, got {len(text)}"
        )
    run_id = log.run_id or _adopt_log(client, log.name)
    tell(f"deciding: entry {entry.number}, {entry.action} version {entry.version}")
    try:
        client.log_param(run_id, f"{_ENTRY}{entry.number:06d}", text)
    except MlflowException as error:
        found = read(log.name)
        now = found.last
        if now is None or now.number < entry.number:
            raise ServiceError(f"MLflow: {error}") from error
        if any(each.hash == entry.hash for each in found.entries):
            # It was written, only the answer was lost; another may have followed since.
            tell("decided")
            return _apply(client, found, tell)
        raise ServiceError(
            f"{log.name}: the registry has changed meanwhile: entry {now.number}, {now.action} "
            f"version {now.version} by {now.by}. Nothing was done; look at `ecgbeats status`"
        ) from error
    tell("decided")
    return _apply(client, read(log.name), tell)


def differences(name: str, log: Ledger) -> list[str]:
    """What in the registry is not as the log says: aliases, and tags of promoted versions."""
    client = client_of_mlflow()
    if log.last is None:
        return []
    held = _aliases(client, name)
    found = [
        f"{alias} is {_version(held.get(alias))}, the log says {_version(log.holder(alias))}"
        for alias in ALIASES
        if held.get(alias) != log.holder(alias)
    ]
    for version, key, value, have in _tags_apart(client, log):
        found.append(f"tag {key} of version {version} is {have}, the log says {value}")
    return found


def _apply(client: MlflowClient, log: Ledger, tell: Tell) -> Ledger:
    """Bring tags, then aliases, to what the last entry says."""
    from mlflow.exceptions import MlflowException

    assert log.last is not None
    try:
        return _bring(client, log, tell)
    except MlflowException as error:
        raise ServiceError(
            f"MLflow: {error}. Entry {log.last.number} of the promotion log stands; the next "
            "command that looks at the registry finishes it"
        ) from error


def _bring(client: MlflowClient, log: Ledger, tell: Tell) -> Ledger:
    """The same, again if another entry came meanwhile."""
    while True:
        entry = log.last
        assert entry is not None
        for version, key, value, _ in _tags_apart(client, log):
            client.set_model_version_tag(log.name, str(version), key, value)
            tell(f"tag {key}")
        # The champion's alias moves in one step; what goes with it is set before.
        held = _aliases(client, log.name)
        for alias in reversed(ALIASES):
            wanted = log.holder(alias)
            if wanted is None and alias in held:
                client.delete_registered_model_alias(log.name, alias)
                tell(f"alias {alias}")
            elif wanted is not None and held.get(alias) != wanted:
                client.set_registered_model_alias(log.name, alias, str(wanted))
                tell(f"alias {alias}")
        assert log.run_id is not None
        client.log_param(log.run_id, f"{_APPLIED}{entry.number:06d}", entry.hash)
        log = _read(client, log.name)
        if log.last is not None and log.last.number == entry.number:
            tell("applied")
            return log


def _tags_apart(client: MlflowClient, log: Ledger) -> list[tuple[int, str, str, str | None]]:
    """Version, key, value wanted and value found of each tag that is not as entries left it.

    Versions that were deleted from the registry since are passed over.
    """
    wanted: dict[int, dict[str, str]] = {}
    for entry in log.entries:
        wanted.setdefault(entry.version, {}).update(tags_of(entry))
    have = _tags(client, log.name)
    return [
        (version, key, value, have[version].get(key))
        for version, tags in wanted.items()
        if version in have
        for key, value in tags.items()
        if have[version].get(key) != value
    ]


def _tags(client: MlflowClient, name: str) -> dict[int, dict[str, str]]:
    found = client.search_model_versions(f"name = '{name}'")
    return {int(version.version): dict(version.tags) for version in found}


def _read(client: MlflowClient, name: str) -> Ledger:
    # Before the log, which may grow meanwhile: what they say is in it by now.
    tags = _tags(client, name)
    run_id = _log_of(client, name)
    if run_id is None:
        _check_anchors(tags, ())
        return Ledger(name, None, (), applied=True)
    run = client.get_run(run_id)
    if run.info.lifecycle_stage == "deleted":
        raise ServiceError(
            f"{name}: its promotion log was deleted; `mlflow runs restore --run-id {run_id}`"
        )
    params = run.data.params
    entries = [_entry(key, text) for key, text in sorted(params.items()) if key.startswith(_ENTRY)]
    check_chain(entries)
    _check_anchors(tags, entries)
    applied = not entries or f"{_APPLIED}{entries[-1].number:06d}" in params
    gone = frozenset(entry.version for entry in entries if entry.version not in tags)
    if gone:
        # Also missing: one that was registered after the tags were read.
        gone -= _tags(client, name).keys()
    return Ledger(name, run_id, tuple(entries), applied, gone)


def _entry(key: str, text: str) -> Entry:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise ContractError(
            f"promotion log: {key} was changed: expected JSON, got {text[:40]!r}: {error}"
        ) from error
    return loads(values)


def _check_anchors(tags_of_all: Mapping[int, Mapping[str, str]], entries: Sequence[Entry]) -> None:
    """Entries that versions bear the hash of must be in the log."""
    said = {f"promotion.{entry.number:06d}": f"{entry.action} {entry.hash}" for entry in entries}
    for version, tags in tags_of_all.items():
        for key, value in tags.items():
            if key.startswith("promotion.") and said.get(key) != value:
                raise ContractError(
                    f"promotion log: version {version} bears {key}: {value}; "
                    f"the log says {said.get(key, 'nothing of it')}"
                )


def _log_of(client: MlflowClient, name: str) -> str | None:
    found = client.search_registered_models(f"name = '{name}'")
    return found[0].tags.get(LOG) if found else None


def _adopt_log(client: MlflowClient, name: str) -> str:
    """Give a log to a model that was registered before there were any."""
    run_id = start_log(client, name)
    client.set_registered_model_tag(name, LOG, run_id)
    return run_id


def _aliases(client: Any, name: str) -> dict[str, int]:
    found = client.search_registered_models(f"name = '{name}'")
    return {alias: int(v) for alias, v in found[0].aliases.items()} if found else {}


def _version(number: int | None) -> str:
    return "nobody" if number is None else f"version {number}"
