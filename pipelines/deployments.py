"""What a Prefect server starts by itself (prefect.yaml): retraining, its reasons, its approval.

Retraining goes by the same flow as `ecgbeats run`. What starts it (a schedule, new data, drift)
only starts it: DVC decides what has to be done, and the gate what comes of it. Asked for, a person
decides last: the run that waits holds no process, survives the server's and the machine's restart,
and ends in the promotion log with the name that was given.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import FlowRun, State
from prefect.deployments import run_deployment
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from prefect.states import Completed, Failed
from pydantic import Field

from ecgbeats.errors import EcgbeatsError, GateFailed, NothingYet
from ecgbeats.files import canonical_json, sha256_text
from pipelines.environment import enter
from pipelines.promotion_log import NAME_LENGTH, REASON_LENGTH

# Named as in prefect.yaml, <flow>/<deployment>.
RETRAIN, APPROVE = "retrain-and-propose/retrain", "promote-when-approved/approve"
# A flow run that waits for its answer has asked for it by this name before.
_ASKED = "approval"
_REJECTED = "Rejected"
# For one reason.
_TRIES = 3


class Approval(RunInput):
    """What a person says of a challenger. The gate is asked anew either way, and not overruled."""

    approve: bool = Field(description="Whether it shall become champion.")
    # What the log cannot hold is refused here, where it can be said again in fewer words.
    by: str = Field(
        min_length=1, max_length=NAME_LENGTH, description="Who decides; kept in the log."
    )
    reason: str = Field(default="", max_length=REASON_LENGTH, description="Why; kept in the log.")


@flow(name="retrain-and-propose", persist_result=False)
def retrain_and_propose(
    recipe: str,
    promotion: Literal["leave", "ask", "at-once"] = "leave",
    with_: list[str] | None = None,
) -> State[str]:
    """Retrain RECIPE; say what shall become of a challenger.

    A model that the gate rejects is the state "Rejected", which is one of failure.

    Parameters
    ----------
    with_ : list of str, optional
        Additions that it is to learn from too, as of `ecgbeats retrain --with`; params.yaml keeps
        them.
    promotion : {"leave", "ask", "at-once"}
        It stays challenger; a person is asked; or it is promoted where the gate passes again.
    """
    root = enter()
    from pipelines.retrain import retrain

    run = retrain(root, recipe, with_=with_ or ())
    if isinstance(run.error, GateFailed):
        return Failed(name=_REJECTED, message=str(run.error))
    if run.error is not None:
        return Failed(message=str(run.error))
    made = run.registered
    assert made is not None
    words = f"{made.name} version {made.version}: {made.alias or 'no alias'}"
    if made.alias != "challenger" or promotion == "leave":
        return Completed(message=words)
    if promotion == "at-once":
        return _promoted(root, recipe, made.version, None, f"flow {RETRAIN}")
    # The same challenger, retrained to the same end, is asked for once.
    key = f"approve-{made.name}-{made.version}"
    asked = _begin(APPROVE, {"recipe": recipe, "version": made.version}, key)
    return Completed(message=f"{words}; approval is asked for by the flow run {asked.name}")


@flow(name="promote-when-approved", persist_result=False)
def promote_when_approved(recipe: str, version: int, wait_hours: float = 168) -> State[str]:
    """Wait until a person has decided on VERSION of RECIPE, and do so.

    While it waits, no process runs. When it is resumed with an answer, it starts anew, and finds
    the answer where it stopped.
    """
    root = enter()
    answer = suspend_flow_run(
        wait_for_input=Approval.with_initial_data(description=_what_is_asked(recipe, version)),
        timeout=round(wait_hours * 3600),
        key=_ASKED,
    )
    if not answer.approve:
        said = f": {answer.reason}" if answer.reason else ""
        return Completed(name=_REJECTED, message=f"version {version}: no, by {answer.by}{said}")
    return _promoted(root, recipe, version, answer.by, answer.reason)


@flow(name="watch-data", persist_result=False)
def watch_data(
    recipe: str,
    additions: list[str] | None = None,
    promotion: Literal["leave", "ask", "at-once"] = "ask",
) -> State[str]:
    """Start retraining with what was added when it is other than before.

    Parameters
    ----------
    additions : list of str, optional
        Those to train with; by default all from which RECIPE can learn. Those that do not lie
        here as they are listed have to wait until they do.
    """
    root = enter()
    from pipelines import added
    from pipelines.uniting import usable

    try:
        found = usable(root, recipe, additions)
    except EcgbeatsError as error:
        return Failed(message=str(error))
    if not found:
        return Completed(message=f"{added.FOLDER}: nothing that {recipe} can learn from")
    texts = {name: added.pointer_of(root, name).read_text("utf-8") for name in found}
    held = sha256_text(canonical_json(texts))
    words = f"{added.FOLDER}: {', '.join(found)}, state {held[:12]}"
    parameters = {"recipe": recipe, "promotion": promotion, "with_": list(found)}
    return _start(parameters, f"data-{recipe}-{held}", words)


@flow(name="watch-drift", persist_result=False)
def watch_drift(
    recipe: str,
    logs: list[str],
    promotion: Literal["leave", "ask", "at-once"] = "ask",
    again_after_days: float = 7,
) -> State[str]:
    """Compare the service's logs with what the champion learnt; start retraining on drift.

    Parameters
    ----------
    logs : list of str
        Paths or patterns ("logs/*.jsonl"), relative to the project.
    again_after_days : float
        Drift lasts until another model is served: for one model, retraining is started at most
        once in each period of so many days. The periods are counted from 1970, not from the last
        start, so that two starts may be closer than that; those of 7 days begin on Thursdays, UTC.
    """
    if not again_after_days > 0:
        return Failed(message=f"again_after_days: expected more than 0, got {again_after_days}")
    root = enter()
    from pipelines.monitoring import watch

    paths = sorted({path for pattern in logs for path in _matching(root, pattern)})
    if not paths:
        return Completed(message=f"{', '.join(logs)}: no log yet, nothing to compare")
    try:
        done = watch(root, recipe, paths)
    except NothingYet as error:
        # Of a champion of a minute ago, say.
        return Completed(message=f"nothing to compare yet: {error}")
    except EcgbeatsError as error:
        return Failed(message=str(error))
    words = str(done.verdict["words"])
    create_markdown_artifact(
        f"**{recipe}**: {words}\n\nPage: `{done.out / 'index.html'}`", key=f"drift-{recipe}"
    )
    if not done.retrain:
        return Completed(message=words)
    period = int(time.time() // (again_after_days * 86400))
    parameters = {"recipe": recipe, "promotion": promotion}
    return _start(parameters, f"drift-{recipe}-{done.weights}-{period}", words)


def _matching(root: Path, pattern: str) -> list[Path]:
    absolute = Path(pattern)
    if absolute.is_absolute():
        return sorted(Path(absolute.anchor).glob(str(absolute.relative_to(absolute.anchor))))
    return sorted(root.glob(pattern))


def _start(parameters: dict[str, Any], key: str, words: str) -> State[str]:
    """Start retraining, unless it was for this very reason before.

    One that failed is started again at the next look, `_TRIES` times in all. One that the gate
    rejected is done: the same again would be rejected again.
    """
    begun = time.time()
    why = ""
    for number in range(_TRIES):
        started = _begin(RETRAIN, parameters, f"{key}-{number}" if number else key)
        if not _in_vain(started.state):
            break
        why = f"flow run {started.name}: {started.state and started.state.message}"
    else:
        return Failed(
            message=f"{words}: retraining failed {_TRIES} times, and is not started again; "
            f"last {why}"
        )
    created = started.created
    again = created is not None and created.timestamp() < begun
    said = "was started before" if again else "is started"
    get_run_logger().info("%s: retraining %s: flow run %s", words, said, started.name)
    return Completed(message=f"{words}: retraining {said}: flow run {started.name}")


def _in_vain(state: State[Any] | None) -> bool:
    """Whether a run has ended without an answer."""
    if state is None or state.name == _REJECTED:
        return False
    return state.is_failed() or state.is_crashed()


def _begin(deployment: str, parameters: dict[str, Any], key: str) -> FlowRun:
    """A run of `deployment`, not waited for; that of the same key, if there was one."""
    begun = run_deployment(
        deployment, parameters=parameters, timeout=0, as_subflow=False, idempotency_key=key
    )
    # Awaitable where the caller is; ours are not.
    assert isinstance(begun, FlowRun)
    return begun


def _promoted(root: Path, recipe: str, version: int, by: str | None, reason: str) -> State[str]:
    from ecgbeats.config import read_params
    from pipelines.bentos import Bentos
    from pipelines.dag import Dag
    from pipelines.promotion import Project, promote
    from pipelines.release import after_move

    try:
        project = Project(root, Dag(root), read_params(root / "params.yaml"))
        moved = promote(
            project,
            recipe,
            Bentos(root),
            version=version,
            by=by,
            reason=reason,
            overrule=False,
            tell=get_run_logger().info,
        )
    except EcgbeatsError as error:
        return Failed(message=str(error))
    get_run_logger().info("release: %s", after_move(root, recipe, version))
    if moved.entry is None:
        return Completed(message=f"version {version} is champion already")
    return Completed(message=f"version {version} is champion, by {moved.entry.by}")


def _what_is_asked(recipe: str, version: int) -> str:
    """For whoever is to decide: the version, and the verdict that made it challenger."""
    import tempfile

    from ecgbeats.files import read_json
    from ecgbeats.gate import verdict_markdown
    from pipelines import ledger, registry
    from pipelines.decisions import verdict_folder
    from pipelines.gating import METRICS, VERDICT
    from pipelines.tracking import model_name

    made = registry.version_of(model_name(recipe), version)
    entries = ledger.finished(made.name).entries
    with tempfile.TemporaryDirectory(prefix="ecgbeats-approval-") as scratch:
        report = registry.fetch_report(made, Path(scratch))
        decided = verdict_folder(made, entries, report, Path(scratch))
        verdict: dict[str, Any] = read_json(decided / VERDICT)
        words = verdict_markdown(verdict, read_json(report / METRICS))
    return f"Shall {made.name} version {version} become champion?\n\n{words}"
