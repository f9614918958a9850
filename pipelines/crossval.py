"""The cross-validation flow: images by DVC, an experiment a fold and seed, one report.

Folds are kept under data/interim/<recipe>/crossval, so that a flow that was killed goes on
with what is missing; MLflow shows each as a run nested in that of the cross-validation.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from prefect import flow, get_run_logger, task
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from ecgbeats import crossval as library
from ecgbeats.config import Params, read_params
from ecgbeats.datasets import read_description
from ecgbeats.errors import EcgbeatsError, ServiceError
from ecgbeats.experiment import MODEL, Outcome
from ecgbeats.folds import make_folds
from ecgbeats.imaging.store import BeatImages
from ecgbeats.inference import HISTORY
from ecgbeats.parallel import slots
from pipelines import flow_history, tracking
from pipelines.alone import alone
from pipelines.dag import Dag, Stage, reproduce

# The stage after which there is all that folds are made of.
_LAST = "render"


@dataclass(frozen=True)
class Asked:
    """What the command asks for; None: as the recipe's section `crossval` has it."""

    folds: int | None = None
    over: Literal["all", "training"] | None = None
    by: Literal["patient", "beat"] | None = None
    seeds: tuple[int, ...] = ()
    # By default as many as there are processors.
    jobs: int | None = None
    # Folds, from 0; by default all.
    only: tuple[int, ...] = ()


@dataclass
class Crossvalidated:
    """What a run of the flow did.

    Attributes
    ----------
    parts, before, missing : list of str
        All parts; those that had been done before; those that are still to do.
    figures : dict
        The content of metrics.json; empty as long as parts are missing.
    """

    recipe: str
    parts: list[str] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    report: Path | None = None
    seconds: float = 0.0
    error: EcgbeatsError | None = None


def crossval(root: Path, recipe: str, asked: Asked) -> Crossvalidated:
    """Cross-validate `recipe` of the project at `root`; `error` says what stopped it."""
    try:
        _open(root, recipe)
    except EcgbeatsError as error:
        # Before any server is started: most often a slip in params.yaml or a name.
        return Crossvalidated(recipe, error=error)
    flow_history.mend()
    named = crossval_flow.with_options(flow_run_name=f"crossval {recipe}")
    state = named(str(root), recipe, asked, return_state=True)
    outcome = state.result(raise_on_failure=False)
    if isinstance(outcome, Crossvalidated):
        return outcome
    return Crossvalidated(recipe, error=ServiceError(f"flow: {state.message}"))


@flow(name="crossval", persist_result=False, validate_parameters=False)
def crossval_flow(root: str, recipe: str, asked: Asked) -> State[Crossvalidated]:
    """All folds of `recipe` that are not done yet, then the report over all of them."""
    run = Crossvalidated(recipe)
    began = time.monotonic()
    try:
        params, dag = _open(Path(root), recipe)
        images = prepared_images(Path(root), dag, recipe)
        _crossvalidate(Path(root), dag, params, images, run, asked)
    except EcgbeatsError as error:
        run.error = error
        return Failed(message=str(error), data=run)
    finally:
        run.seconds = time.monotonic() - began
    return Completed(message=f"{len(run.parts)} parts, {len(run.missing)} missing", data=run)


def prepared_images(root: Path, dag: Dag, recipe: str) -> Path:
    """The folder of the recipe's images, drawn by DVC's stages where they are not up to date."""
    for stage in dag.plan(recipe):
        _run_stage.with_options(task_run_name=stage.address)(root, dag, stage)
        if stage.name == _LAST:
            break
    return dag.out(recipe, _LAST)


def _open(root: Path, recipe: str) -> tuple[Params, Dag]:
    params = read_params(root / "params.yaml")
    params.recipe(recipe)
    return params, Dag(root)


def _never(*_: object) -> bool:
    return False


# As in pipelines.retrain: a failure is told in one line, and DVC and the folders keep results.
_step = task(persist_result=False, cache_policy=None, retries=1, retry_condition_fn=_never)


@_step
def _run_stage(root: Path, dag: Dag, stage: Stage) -> None:
    if dag.unchanged(stage):
        get_run_logger().info("%s: unchanged, skipped", stage.address)
        return
    with alone(root):
        reproduce(root, stage, get_run_logger().info)


def _crossvalidate(
    root: Path, dag: Dag, params: Params, images: Path, run: Crossvalidated, asked: Asked
) -> None:
    recipe, protocol = params.recipe(run.recipe), params.protocol_of(run.recipe)
    over = asked.over or recipe.crossval.over
    by = asked.by or recipe.crossval.by or protocol.split.by
    opened = BeatImages.open(images)
    folds = make_folds(
        opened.beats,
        protocol.labels,
        protocol,
        folds=asked.folds or recipe.crossval.folds,
        by=by,
        over=over,
    )
    plan = library.Crossval(
        images=images,
        folds=folds,
        classes=protocol.labels.names,
        headline=recipe.evaluate.headline,
        model=recipe.model,
        train=recipe.train,
        seeds=asked.seeds or recipe.crossval.seeds or (recipe.train.seed,),
        folder=root / "data/interim" / run.recipe / "crossval" / f"{over}-{by}-{len(folds)}",
    )
    run.parts = [part.name for part in plan.parts()]
    digest = opened.digest()
    name = f"crossval {over} by {by}, {len(folds)} folds"
    logged = {
        "crossval": {"over": over, "by": by, "folds": len(folds), "seeds": list(plan.seeds)},
        **recipe.model_dump(mode="json", include={"image", "model", "train", "protocol"}),
    }
    with tracking.study(run.recipe, plan.identity(digest), name, logged) as study:
        outcomes = _run_folds(plan, digest, study, run, asked)
        if run.missing:
            return
        run.report = root / "reports" / run.recipe / f"crossval-{over}-{by}"
        _report(dag, params, plan, outcomes, run, run.report)
        tracking.log_figures(
            study.run_id,
            {"mean": run.figures["mean"], "spread": run.figures["spread"]},
            report=run.report,
        )


@_step(name="folds")
def _run_folds(
    plan: library.Crossval,
    digest: str,
    study: tracking.Study,
    run: Crossvalidated,
    asked: Asked,
) -> dict[library.Part, Outcome]:
    logger = get_run_logger()
    wanted = plan.parts(asked.only)
    outcomes = library.done_parts(plan, digest)
    for part in outcomes:
        # A flow may have been killed after a fold was done and before it was logged.
        _log_part(plan, part, outcomes[part], study)
    run.before = [part.name for part in wanted if part in outcomes]
    todo = [part for part in wanted if part not in outcomes]
    for name in run.before:
        logger.info("%s: done before", name)
    began = time.monotonic()
    jobs = asked.jobs or slots()
    for count, (part, outcome) in enumerate(library.run_parts(plan, todo, jobs=jobs), start=1):
        outcomes[part] = outcome
        row = _log_part(plan, part, outcome, study)
        left = (time.monotonic() - began) / count * (len(todo) - count)
        logger.info(
            "%s: macro-F1 %s, accuracy %s, trained in %.0f s; %d of %d done, about %.0f s left",
            part.name,
            _figure(row["macro_f1"]),
            _figure(row["accuracy"]),
            outcome.train_seconds,
            len(run.before) + count,
            len(wanted),
            left,
        )
    run.missing = [part.name for part in plan.parts() if part not in outcomes]
    return outcomes


def _log_part(
    plan: library.Crossval, part: library.Part, outcome: Outcome, study: tracking.Study
) -> dict[str, Any]:
    row = library.fold_figures(plan, part, outcome)
    words = ("weights_sha256", "tested_patients")
    tracking.log_part(
        study,
        outcome.fingerprint,
        part.name,
        {
            "seed": part.seed,
            "fold": part.fold,
            "model": plan.model.model_dump(mode="json"),
            "train": plan.train_params(part).model_dump(mode="json"),
            **{key: row[key] for key in words},
        },
        {key: value for key, value in row.items() if key not in (*words, "seed", "fold")},
        history=outcome.folder / MODEL / HISTORY,
        artifacts=[outcome.folder / "outcome.json", outcome.folder / MODEL / "model.json"],
    )
    return row


@_step(name="report")
def _report(
    dag: Dag,
    params: Params,
    plan: library.Crossval,
    outcomes: dict[library.Part, Outcome],
    run: Crossvalidated,
    out: Path,
) -> None:
    manifest = read_description(dag.data(run.recipe))
    run.figures = library.measure(
        plan,
        outcomes,
        params.recipe(run.recipe).evaluate,
        {
            "recipe": run.recipe,
            "dataset": manifest.about(),
            "synthetic": manifest.synthetic,
        },
    )
    library.write_crossval(out, plan, outcomes, run.figures)


def summary(run: Crossvalidated, root: Path) -> str:
    """What a person reads at the end."""
    lines = ["", f"Recipe {run.recipe}: cross-validation"]
    if run.missing:
        lines.append(
            f"  {len(run.parts) - len(run.missing)} of {len(run.parts)} parts done; "
            f"missing: {_some(run.missing)}"
        )
        return "\n".join([*lines, ""])
    figures = run.figures
    protocol, mean, spread = figures["protocol"], figures["mean"], figures["spread"]
    first = next(iter(figures["seeds"].values()))
    if figures["synthetic"]:
        lines.append("  SAMPLE DATA: synthetic recordings; the figures are evidence of nothing.")
    lines += [
        f"  folds       {protocol['folds']} by {protocol['by']}, over "
        f"{'all beats' if protocol['over'] == 'all' else 'the training side alone'}; "
        f"seeds {' '.join(figures['seeds'])}",
        f"  tested      {first['beats']} beats, {first['records']} records, "
        f"{first['patients']} patients",
        f"  macro-F1    {_figure(mean['headline']['macro_f1'], spread['headline']['macro_f1'])}"
        f"  over {' '.join(first['headline']['classes'])}",
        f"  accuracy    {_figure(mean['accuracy'], spread['accuracy'])}",
    ]
    for name in first["headline"]["classes"]:
        row, by_seed = mean["gross"][name], spread["gross"][name]
        lines.append(
            f"  {name:<11} Se {_figure(row['se'], by_seed['se'])}  "
            f"+P {_figure(row['ppv'], by_seed['ppv'])}  F1 {_figure(row['f1'], by_seed['f1'])}"
        )
    if run.before:
        lines.append(f"  done before {len(run.before)} of {len(run.parts)} parts")
    lines.append(f"  training    {figures['train_minutes']:.1f} min in all")
    lines.append(f"  this run    {run.seconds:.0f} s")
    if run.report is not None:
        lines.append(f"  report      {(run.report / library.REPORT).relative_to(root)}")
    return "\n".join([*lines, ""])


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _figure(value: float | None, spread: float | None = None) -> str:
    if value is None:
        return "undefined"
    return f"{value:.3f}" + ("" if spread is None else f" ± {spread:.3f}")
