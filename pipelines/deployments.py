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
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from prefect.states import Completed, Failed, State
from pydantic import Field

from ecgbeats.errors import EcgbeatsError
from ecgbeats.files import sha256_text
from pipelines.environment import enter

# Named as in prefect.yaml, <flow>/<deployment>.
RETRAIN, APPROVE = "retrain-and-propose/retrain", "promote-when-approved/approve"
# A flow run that waits for its answer has asked for it by this name before.
_ASKED = "approval"


class Approval(RunInput):
    """What a person says of a challenger. The gate is asked anew either way, and not overruled."""

    approve: bool = Field(description="Whether it shall become champion.")
    by: str = Field(min_length=1, max_length=200, description="Who decides; kept in the log.")
    reason: str = Field(default="", max_length=2000, description="Why; kept in the log.")


@flow(name="retrain-and-propose", persist_result=False)
def retrain_and_propose(
    recipe: str, promotion: Literal["leave", "ask", "at-once"] = "leave"
) -> State[str]:
    """Retrain RECIPE; say what shall become of a challenger.

    Parameters
    ----------
    promotion : {"leave", "ask", "at-once"}
        It stays challenger; a person is asked; or it is promoted where the gate passes again.
    """
    root = enter()
    from pipelines.retrain import retrain

    run = retrain(root, recipe)
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
        return Completed(name="Rejected", message=f"version {version}: no, by {answer.by}{said}")
    return _promoted(root, recipe, version, answer.by, answer.reason)


@flow(name="watch-data", persist_result=False)
def watch_data(
    recipe: str, folder: str = "data/added", promotion: Literal["leave", "ask", "at-once"] = "ask"
) -> State[str]:
    """Start retraining when the datasets that DVC tracks in `folder` are others than before."""
    root = enter()
    tracked = sorted((root / folder).rglob("*.dvc"))
    if not tracked:
        return Completed(message=f"{folder}: no dataset")
    held = sha256_text("".join(f"{path.name}\n{path.read_text('utf-8')}\n" for path in tracked))
    words = f"{folder}: {len(tracked)} datasets, state {held[:12]}"
    return _start(recipe, promotion, f"data-{recipe}-{held}", words)


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
        Drift lasts until another model is served: for one model, retraining is started once in
        so many days.
    """
    root = enter()
    from pipelines.monitoring import watch

    paths = sorted({path for pattern in logs for path in _matching(root, pattern)})
    if not paths:
        return Failed(message=f"{', '.join(logs)}: expected logs of the service, found none")
    try:
        done = watch(root, recipe, paths)
    except EcgbeatsError as error:
        return Failed(message=str(error))
    words = str(done.verdict["words"])
    create_markdown_artifact(
        f"**{recipe}**: {words}\n\nPage: `{done.out / 'index.html'}`", key=f"drift-{recipe}"
    )
    if not done.retrain:
        return Completed(message=words)
    period = int(time.time() // (again_after_days * 86400))
    return _start(recipe, promotion, f"drift-{recipe}-{done.weights}-{period}", words)


def _matching(root: Path, pattern: str) -> list[Path]:
    absolute = Path(pattern)
    if absolute.is_absolute():
        return sorted(Path(absolute.anchor).glob(str(absolute.relative_to(absolute.anchor))))
    return sorted(root.glob(pattern))


def _start(recipe: str, promotion: str, key: str, words: str) -> State[str]:
    """Start retraining, unless it was for this very reason before."""
    begun = time.time()
    started = _begin(RETRAIN, {"recipe": recipe, "promotion": promotion}, key)
    created = started.created
    again = created is not None and created.timestamp() < begun
    said = "was started before" if again else "is started"
    get_run_logger().info("%s: retraining %s: flow run %s", words, said, started.name)
    return Completed(message=f"{words}: retraining {said}: flow run {started.name}")


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
    if moved.entry is None:
        return Completed(message=f"version {version} is champion already")
    return Completed(message=f"version {version} is champion, by {moved.entry.by}")


def _what_is_asked(recipe: str, version: int) -> str:
    """For whoever is to decide: the version, and the verdict that it was registered with."""
    import tempfile

    from ecgbeats.files import read_json
    from ecgbeats.gate import verdict_markdown
    from pipelines import registry
    from pipelines.gating import METRICS, VERDICT
    from pipelines.tracking import model_name

    made = registry.version_of(model_name(recipe), version)
    with tempfile.TemporaryDirectory(prefix="ecgbeats-approval-") as scratch:
        report = registry.fetch_report(made, Path(scratch))
        verdict: dict[str, Any] = read_json(report / VERDICT)
        words = verdict_markdown(verdict, read_json(report / METRICS))
    return f"Shall {made.name} version {version} become champion?\n\n{words}"
