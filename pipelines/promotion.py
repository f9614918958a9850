"""Who is champion: the one way in which that changes, for flow and commands alike.

First all that can fail: the gate, the bento, its answers to its golden batch. Then one entry
in the promotion log, which is the decision; aliases and tags follow from it
(`pipelines.ledger`). Killed before the entry, nothing has changed; killed after it, the next
command that looks at the registry finishes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ecgbeats.config import Params
from ecgbeats.errors import ConfigError, ContractError, GateFailed, ServiceError
from ecgbeats.files import read_json, sha256_file
from ecgbeats.gate import enforce, failed_metrics, write_verdict
from ecgbeats.golden import read_golden
from ecgbeats.imaging.spec import spec_from_json
from ecgbeats.inference import CARD
from pipelines import ledger, registry
from pipelines.dag import Dag
from pipelines.gating import (
    METRICS,
    VERDICT,
    Candidate,
    check_test_side,
    report_folder,
    whole_verdict,
)
from pipelines.ledger import Ledger, Tell, silent
from pipelines.offline import offline
from pipelines.promotion_log import (
    CHALLENGER,
    CHAMPION,
    Action,
    Entry,
    champions,
    check_words,
    facts_of,
    former_champion,
    next_entry,
)
from pipelines.provenance import user_of
from pipelines.registry import Registered
from pipelines.stored import GOLDEN
from pipelines.tracking import model_name

_TOLERANCE = 1e-5


class BentoStore(Protocol):
    """What is needed of `pipelines.bentos.Bentos`."""

    def is_whole(self, tag: str, folder: Path) -> bool: ...
    def was_tried(self, tag: str) -> bool: ...
    def build(self, version: Registered, folder: Path) -> str: ...
    def verify(self, tag: str, folder: Path) -> str: ...


@dataclass(frozen=True)
class Project:
    """Where the test side of a recipe lies and how it is judged."""

    root: Path
    dag: Dag
    params: Params


@dataclass(frozen=True)
class Moved:
    """What a promotion or a rollback came to.

    Attributes
    ----------
    entry : Entry or None
        None where the version was champion already.
    report : Path or None
        Folder of the verdict, where one was asked for.
    """

    version: int
    entry: Entry | None
    report: Path | None = None


def candidate_of(version: Registered, folder: Path) -> Candidate:
    """Bring model and report of a version below `folder`.

    Raises
    ------
    ContractError
        What the registry keeps is not the model that the version was registered for.
    """
    model = registry.fetch_model(version, folder / f"model-{version.version}")
    report = registry.fetch_report(version, folder / f"report-{version.version}")
    found = read_json(model / CARD)["weights_sha256"]
    if found != version.tags["weights_sha256"]:
        raise ContractError(
            f"{version.name} version {version.version}: expected weights "
            f"{version.tags['weights_sha256']}, the registry's artifacts hold {found}"
        )
    return Candidate(
        f"version {version.version}", model, report, version.tags.get(registry.TEST_SIDE)
    )


def promote(
    project: Project,
    recipe: str,
    bentos: BentoStore,
    *,
    version: int | None = None,
    by: str | None = None,
    reason: str | None = None,
    overrule: bool = True,
    tell: Tell = silent,
) -> Moved:
    """Make a version champion, if the gate passes now, or is overruled by name and with reason.

    Parameters
    ----------
    version : int, optional
        The challenger by default.
    by, reason : str, optional
        Both are needed where the gate fails.
    overrule : bool
        Whether they then overrule it; else they are who approved, and why, no more.

    Raises
    ------
    ConfigError
        There is no such version, or no challenger.
    GateFailed
        Nothing has changed; the verdict lies in promotion/ of the recipe's reports.
    ServiceError
        The bento cannot be built or answers otherwise; nothing has changed.
    """
    check_words(by, reason)
    name = model_name(recipe)
    log = ledger.open_for_change(name, tell)
    chosen = _chosen(log, recipe, version)
    if chosen.version == log.holder(CHAMPION):
        return Moved(chosen.version, None)
    check_test_side(project.dag, recipe)
    with tempfile.TemporaryDirectory(prefix="ecgbeats-promote-") as scratch:
        candidate = candidate_of(chosen, Path(scratch))
        rival = rival_of(log, Path(scratch))
        tell("gate")
        verdict, metrics = whole_verdict(project.dag, project.params, recipe, candidate, rival)
        report = report_folder(project.dag, recipe, "promotion")
        write_verdict(report, verdict, metrics)
        overruled = _overruled(verdict, by if overrule else None, reason)
        bento = _built(bentos, chosen, candidate.model, tell)
        facts = facts_of(chosen.tags, metrics) | _kept(
            chosen, verdict, metrics, Path(scratch), tell
        )
    entry = next_entry(
        log.entries,
        "promote",
        chosen.version,
        by=by or user_of(project.root),
        reason=reason or "",
        bento=bento,
        overridden=overruled,
        facts=facts,
        gone=log.gone,
    )
    return Moved(chosen.version, _last(ledger.append(log, entry, tell)), report)


def rollback(
    root: Path,
    recipe: str,
    bentos: BentoStore,
    *,
    by: str | None = None,
    reason: str | None = None,
    tell: Tell = silent,
) -> Moved:
    """Make the champion before the present one champion again, after trying it out.

    A renderer that has changed since is no hindrance where its bento is here, which has its own.

    Raises
    ------
    ConfigError
        There was none before.
    ContractError, ServiceError
        It, or its bento, answers its golden batch otherwise than it did; nothing has changed.
    """
    check_words(by, reason)
    name = model_name(recipe)
    log = ledger.open_for_change(name, tell)
    stack = champions(log.entries)
    number = former_champion(stack, log.gone)
    if number is None:
        held = f"version {stack[-1]} is the first" if stack else "there is no champion"
        raise ConfigError(
            f"rollback: expected a champion of {name} before this one, and still in the registry; "
            f"{held}"
        )
    former = registry.version_of(name, number)
    with tempfile.TemporaryDirectory(prefix="ecgbeats-rollback-") as scratch:
        candidate = candidate_of(former, Path(scratch))
        _smoke_test(candidate)
        tell("answers as it did")
        bento = former.tags.get("bento")
        if bento is None or not bentos.is_whole(bento, candidate.model):
            # Another machine's, or removed or damaged since.
            bento = _built(bentos, former, candidate.model, tell)
        else:
            tell(f"bento answers as offline: {bentos.verify(bento, candidate.model)}")
        facts = facts_of(former.tags, read_json(candidate.report / METRICS))
    entry = next_entry(
        log.entries,
        "rollback",
        former.version,
        by=by or user_of(root),
        reason=reason or "",
        bento=bento,
        facts=facts,
        gone=log.gone,
    )
    return Moved(former.version, _last(ledger.append(log, entry, tell)))


def take_in(
    project: Project,
    recipe: str,
    made: Registered,
    bentos: BentoStore,
    verdict: Mapping[str, Any],
    metrics: Mapping[str, Any],
    tell: Tell = silent,
) -> Entry:
    """What a run does with a version that passed: champion if there is none, else challenger.

    The champion's bento is made anew where it is not here or was damaged, or where what is packed
    has changed, and tried out unless that was done before. One whose images today's code draws
    otherwise stays in the bento that it has.

    Returns
    -------
    Entry
        The log's last.
    """
    log = ledger.open_for_change(made.name, tell)
    log.check_champion()
    by = user_of(project.root)
    holder = log.holder(CHAMPION)
    known = {entry.version for entry in log.entries}
    with tempfile.TemporaryDirectory(prefix="ecgbeats-package-") as scratch:
        if holder is not None and made.version not in known:
            facts = facts_of(made.tags, metrics) | _kept(
                made, verdict, metrics, Path(scratch), tell
            )
            log = _entered(log, "challenge", made, by, None, "passed the gate", facts, tell)
        champion = made if holder is None else registry.version_of(made.name, holder)
        folder = registry.fetch_model(champion, Path(scratch) / "model")
        held = log.last.bento if log.last else None
        if (
            log.last is not None
            and held is not None
            and not _drawn_as_ever(folder)
            and bentos.is_whole(held, folder)
        ):
            _try_out(bentos, held, folder, tell)
            tell(f"{held}: kept; today's renderer draws other images for version {holder}")
            return log.last
        bento = bentos.build(champion, folder)
        _try_out(bentos, bento, folder, tell)
        if log.last is not None and held == bento:
            return log.last
        if holder is None:
            facts = facts_of(made.tags, metrics) | _kept(
                made, verdict, metrics, Path(scratch), tell
            )
            reason = "the first that passed the gate"
            return _last(_entered(log, "promote", made, by, bento, reason, facts, tell))
    reason = "it had no bento"
    if held is not None:
        reason = f"what is packed is another than in {held}: code, requirements or a model"
    return _last(_entered(log, "package", champion, by, bento, reason, {}, tell))


def _entered(
    log: Ledger,
    action: Action,
    version: Registered,
    by: str,
    bento: str | None,
    reason: str,
    facts: Mapping[str, Any],
    tell: Tell,
) -> Ledger:
    entry = next_entry(
        log.entries,
        action,
        version.version,
        by=by,
        reason=reason,
        bento=bento,
        facts=facts,
        gone=log.gone,
    )
    return ledger.append(log, entry, tell)


def _chosen(log: Ledger, recipe: str, version: int | None) -> Registered:
    if version is None:
        version = log.holder(CHALLENGER)
    if version is None:
        raise ConfigError(
            f"promote: {log.name} has no challenger; make one with `make run RECIPE={recipe}`, "
            "or name a version with --version"
        )
    return registry.version_of(log.name, version)


def rival_of(log: Ledger, folder: Path, *, content: str | None = None) -> Candidate | None:
    """The champion, fetched below `folder`; None where there is none, or it has that content.

    Of one that was deleted from the registry there are no files: it cannot be compared with.
    """
    if log.lost_champion is not None:
        name = f"version {log.lost_champion}, deleted from the registry"
        return Candidate(name, folder / "gone", folder / "gone")
    holder = log.holder(CHAMPION)
    if holder is None:
        return None
    champion = registry.version_of(log.name, holder)
    return None if champion.content == content else candidate_of(champion, folder)


def _overruled(verdict: Mapping[str, Any], by: str | None, reason: str | None) -> Sequence[str]:
    """The checks that fail, if whoever promotes may overrule them; else GateFailed."""
    failed = failed_metrics(verdict)
    if failed and not (by and by.strip() and reason and reason.strip()):
        try:
            enforce(verdict)
        except GateFailed as error:
            raise GateFailed(f"{error}. To promote all the same: --by and --reason") from error
    return failed


def _built(bentos: BentoStore, version: Registered, folder: Path, tell: Tell) -> str:
    tell("bento")
    bento = bentos.build(version, folder)
    tell("bento built")
    tell(f"bento answers as offline: {bentos.verify(bento, folder)}")
    return bento


def _try_out(bentos: BentoStore, bento: str, folder: Path, tell: Tell) -> None:
    if bentos.was_tried(bento):
        tell(f"{bento}: built and checked before")
    else:
        tell(f"{bento}: answers as offline ({bentos.verify(bento, folder)})")


def _smoke_test(candidate: Candidate) -> None:
    """Load the model and let it answer its golden batch."""
    golden = read_golden(candidate.model / GOLDEN)
    answers = offline(candidate.model, golden.images)
    apart = float(np.abs(answers - golden.probabilities).max())
    if not apart <= _TOLERANCE:
        raise ContractError(
            f"{candidate.name}: its answers to its golden batch differ by up to {apart:.1e} from "
            f"those of its evaluation; expected at most {_TOLERANCE:.0e}"
        )


def _drawn_as_ever(folder: Path) -> bool:
    """Whether today's renderer draws the images that the model in `folder` was trained on."""
    card = read_json(folder / CARD)
    return spec_from_json(card["image"]).spec_id == str(card["spec_id"])


def _kept(
    version: Registered,
    verdict: Mapping[str, Any],
    metrics: Mapping[str, Any],
    scratch: Path,
    tell: Tell,
) -> dict[str, Any]:
    """Keep the verdict with the version's run; say where, and its hash, for the log."""
    folder = scratch / "verdict"
    write_verdict(folder, verdict, metrics)
    digest = sha256_file(folder / VERDICT)
    where = f"promotion/{digest[:12]}"
    registry.keep(version, folder, where)
    tell("verdict kept")
    return {"verdict": {"passed": verdict["passed"], "sha256": digest, "artifacts": where}}


def _last(log: Ledger) -> Entry:
    if log.last is None:
        raise ServiceError(f"{log.name}: expected an entry in the promotion log, found none")
    return log.last
