"""The retrain flow: every stage of a recipe, then gate, registration and packaging.

DVC decides what must run and caches it; Prefect orders, times and shows it, and does
what no cache may skip: enforcing the verdict, registering, packaging, checking.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from ecgbeats.config import Params, read_params
from ecgbeats.errors import EcgbeatsError, ServiceError, is_of_storage, of_storage
from ecgbeats.files import read_json
from ecgbeats.gate import enforce, joined, verdict_markdown, write_verdict
from ecgbeats.inference import HISTORY
from ecgbeats.progress import say
from ecgbeats.split import read_split
from pipelines import (
    flow_history,
    ledger,
    prefect_server,
    promotion,
    registry,
    release,
    tracking,
)
from pipelines.alone import alone
from pipelines.bentos import Bentos
from pipelines.dag import Dag, Lineage, Stage, reproduce
from pipelines.gating import (
    SPLIT,
    Candidate,
    hash_of_test_side,
    live_rows,
    report_folder,
    split_folder,
)
from pipelines.memory import PeakMemory
from pipelines.promotion import Project
from pipelines.provenance import code_of
from pipelines.uniting import change_additions, check_listed

_FETCH, _TRAIN = "fetch", "train"


@dataclass
class Run:
    """What one run of the flow did; filled as it goes on.

    Attributes
    ----------
    seconds : dict of str to float
        Wall time of each step that ran.
    peak_mb : dict of str to float
        Greatest memory of each stage that ran, all its processes together.
    skipped : list of str
        Stages that were unchanged.
    checked : set of str
        Those of them whose files were hashed, because a later stage ran.
    """

    recipe: str
    seconds: dict[str, float] = field(default_factory=dict)
    peak_mb: dict[str, float] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    checked: set[str] = field(default_factory=set)
    metrics: dict[str, Any] = field(default_factory=dict)
    verdict: dict[str, Any] = field(default_factory=dict)
    registered: registry.Registered | None = None
    champion: registry.Registered | None = None
    bento: str | None = None
    release: str | None = None
    report: Path | None = None
    error: EcgbeatsError | None = None


def retrain(
    root: Path, recipe: str, *, with_: Sequence[str] = (), without: Sequence[str] = ()
) -> Run:
    """Run the flow for `recipe` of the project at `root`.

    Parameters
    ----------
    with_, without : sequence of str
        Additions that it is trained with from now on, or no longer: params.yaml keeps them, and
        is not touched while another run is at work.

    Returns
    -------
    Run
        Its `error` says what stopped it, if anything did; a rejecting gate is a
        GateFailed, after the model was registered as rejected.
    """
    try:
        with alone(root):
            if with_ or without:
                using = change_additions(root, recipe, with_=with_, without=without)
                say(f"{recipe}: with {', '.join(using) or 'nothing added'} (params.yaml)")
            # Before a server is waited for: most often a slip in params.yaml or a name.
            _open(root, recipe)
            return _run(root, recipe)
    except EcgbeatsError as error:
        return Run(recipe, error=error)


def _run(root: Path, recipe: str) -> Run:
    try:
        flow_history.mend()
        prefect_server.wait()
        named = retrain_flow.with_options(flow_run_name=f"retrain {recipe}")
        outcome, message = _ended(named(str(root), recipe, return_state=True))
    except EcgbeatsError:
        raise
    except Exception as error:
        # What the flow itself raises comes as a state: this is Prefect's server, or the way to it.
        return Run(recipe, error=ServiceError(f"Prefect: {type(error).__name__}: {error}"))
    if isinstance(outcome, Run):
        return outcome
    # Not an error of ours: whatever it was, the run has not succeeded.
    return Run(recipe, error=ServiceError(f"flow: {message}"))


def _ended(state: State[Any]) -> tuple[object, str | None]:
    return state.result(raise_on_failure=False), state.message


@flow(name="retrain", persist_result=False)
def retrain_flow(root: str, recipe: str) -> State[Run]:
    """All steps for `recipe` of the project at `root`; fails when one fails or the gate does."""
    run = Run(recipe)
    folder = Path(root)
    try:
        params, dag = _open(folder, recipe)
        # Of an earlier run; this one may stop before it has one.
        shutil.rmtree(report_folder(dag, recipe, "gate"), ignore_errors=True)
        for stage in dag.plan(recipe):
            _run_stage.with_options(task_run_name=stage.address)(folder, dag, params, run, stage)
        _judge(dag, params, run)
        _register(folder, dag, params, run)
        enforce(run.verdict)
        _package(Project(folder, dag, params), run)
        _release(Project(folder, dag, params), run)
    except (EcgbeatsError, OSError) as error:
        if isinstance(error, OSError):
            if not is_of_storage(error):
                raise
            error = of_storage(error)
        run.error = error
        # A state, not an exception: the message says it all, a traceback would bury it.
        return Failed(message=str(error), data=run)
    return Completed(message="approved", data=run)


def _open(root: Path, recipe: str) -> tuple[Params, Dag]:
    params = read_params(root / "params.yaml")
    params.recipe(recipe)
    # Of a recipe that was given them earlier: what lies here may be half of another version.
    for name in params.additions_of(recipe):
        check_listed(root, name)
    return params, Dag(root)


@contextmanager
def _timed(run: Run, step: str) -> Iterator[None]:
    began = time.monotonic()
    try:
        yield
    finally:
        run.seconds[step] = time.monotonic() - began


def _never(*_: object) -> bool:
    return False


# Results are never kept by Prefect: DVC, MLflow and the bento store hold what matters.
# A task that may not be tried again at all has its failure logged with a traceback, which
# buries the message; one whose retry is refused has it told in one line.
_step = task(persist_result=False, cache_policy=None, retries=1, retry_condition_fn=_never)


@_step
def _run_stage(root: Path, dag: Dag, params: Params, run: Run, stage: Stage) -> None:
    logger = get_run_logger()
    if dag.unchanged(stage):
        run.skipped.append(stage.address)
        logger.info("%s: unchanged, skipped", stage.address)
        if stage.name == _FETCH and os.environ.get("ECGBEATS_MIRROR"):
            logger.info(
                "%s: the mirror was not read, for %s is there; remove it to take the mirror's",
                stage.address,
                stage.outs[0],
            )
        return
    # What it is made from: unchanged to DVC, by time and size.
    for earlier in dag.plan(run.recipe):
        if earlier.address in run.skipped and earlier.address not in run.checked:
            dag.check_whole(earlier)
            run.checked.add(earlier.address)
    with _timed(run, stage.address), PeakMemory() as peak:
        if stage.name == _TRAIN:
            _train(root, dag, params, run, stage)
        else:
            reproduce(root, stage, logger.info)
    run.peak_mb[stage.address] = peak.megabytes
    logger.info("%s: done in %.0f s", stage.address, run.seconds[stage.address])


def _train(root: Path, dag: Dag, params: Params, run: Run, stage: Stage) -> None:
    recipe = params.recipe(run.recipe)
    model = dag.out(run.recipe, _TRAIN)
    history = dag.option(stage, "--checkpoints") / HISTORY
    with tracking.following_training(run.recipe, history, recipe.model_dump(mode="json")) as live:
        reproduce(root, stage, get_run_logger().info)
    tracking.training_ended(live, model)


@_step(name="gate")
def _judge(dag: Dag, params: Params, run: Run) -> None:
    """What the stage found, and what hangs on this machine and on the champion, as one verdict.

    Written to reports/<recipe>/gate: no output of a stage, for it may be another tomorrow.
    """
    files = dag.out(run.recipe, "verdict", "verdict.json")
    run.metrics = read_json(dag.out(run.recipe, "evaluate", "metrics.json"))
    run.report = dag.out(run.recipe, "evaluate", "index.html")
    with _timed(run, "checks"), tempfile.TemporaryDirectory(prefix="ecgbeats-gate-") as scratch:
        split = split_folder(dag, run.recipe)
        side = hash_of_test_side(read_split(split))
        ours = Candidate("this model", dag.out(run.recipe, _TRAIN), split, side)
        log = ledger.settle(tracking.model_name(run.recipe))
        # Not against itself.
        theirs = promotion.rival_of(log, Path(scratch), content=_lineage(dag, run).content)
        rows = live_rows(dag, params, run.recipe, ours, theirs)
    run.verdict = joined(read_json(files), rows)
    write_verdict(report_folder(dag, run.recipe, "gate"), run.verdict, run.metrics)
    create_markdown_artifact(
        verdict_markdown(run.verdict, run.metrics), key=f"verdict-{run.recipe}"
    )
    passed = sum(check["passed"] for check in run.verdict["checks"])
    get_run_logger().info("gate: %d of %d checks passed", passed, len(run.verdict["checks"]))


def _lineage(dag: Dag, run: Run) -> Lineage:
    return Lineage.of(run.recipe, dag.lock_entries(run.recipe))


@_step(name="register")
def _register(root: Path, dag: Dag, params: Params, run: Run) -> None:
    with _timed(run, "register"):
        run.registered = registry.register(
            registry.Evidence(
                recipe_name=run.recipe,
                recipe=params.recipe(run.recipe),
                lineage=_lineage(dag, run),
                code=code_of(root),
                model=dag.out(run.recipe, _TRAIN),
                metrics=dag.out(run.recipe, "evaluate", "metrics.json"),
                verdict=report_folder(dag, run.recipe, "gate") / "verdict.json",
                report=dag.out(run.recipe, "evaluate", "index.html").parent,
                golden=dag.out(run.recipe, "evaluate", "evaluation") / "golden.npz",
                split=split_folder(dag, run.recipe) / SPLIT,
                test_side=hash_of_test_side(read_split(split_folder(dag, run.recipe))),
            )
        )
        # Also with a version that was registered before there was one.
        registry.keep(run.registered, dag.out(run.recipe, "reference"), registry.MONITORING)
        run.champion = registry.champion(run.recipe)
    made = run.registered
    get_run_logger().info(
        "%s version %d: %s",
        made.name,
        made.version,
        "registered" if made.created else "was registered before",
    )


@_step(name="package")
def _package(project: Project, run: Run) -> None:
    """Champion or challenger, by the promotion log; the champion's bento built and checked."""
    assert run.registered is not None
    with _timed(run, "package"):
        entry = promotion.take_in(
            project,
            run.recipe,
            run.registered,
            Bentos(project.root),
            run.verdict,
            run.metrics,
            get_run_logger().info,
        )
    run.bento = entry.bento
    run.champion = registry.champion(run.recipe)
    made = registry.version_of(run.registered.name, run.registered.version)
    run.registered = replace(made, created=run.registered.created)


@_step(name="release")
def _release(project: Project, run: Run) -> None:
    """The release folder of the champion, where it is not there or not of today."""
    assert run.champion is not None
    with _timed(run, "release"):
        run.release = release.after_decision(project, run.champion)
    get_run_logger().info("release: %s", run.release)
