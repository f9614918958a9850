"""The search flow: images by DVC, trials on the training patients alone, each in MLflow.

The study and its trials are kept under data/interim/<recipe>/tune, so that a search that was
killed goes on. Nothing here touches params.yaml: what was found is printed, to be taken over.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from ecgbeats import tuning
from ecgbeats.config import Params, read_params
from ecgbeats.datasets import read_description
from ecgbeats.errors import ConfigError, EcgbeatsError, ServiceError
from ecgbeats.folds import make_folds
from ecgbeats.imaging.store import BeatImages
from ecgbeats.parallel import slots
from pipelines import flow_history, tracking
from pipelines.crossval import prepared_images
from pipelines.dag import Dag


@dataclass
class Tuned:
    """What a run of the flow did.

    Attributes
    ----------
    trials : list of int
        Those that this run ended.
    score : float or None
        Macro-F1 of the best trial of all runs.
    best : str
        Its values, as a piece of params.yaml.
    """

    recipe: str
    trials: list[int] = field(default_factory=list)
    ended: int = 0
    pruned: int = 0
    score: float | None = None
    best: str = ""
    synthetic: bool = False
    report: Path | None = None
    seconds: float = 0.0
    error: EcgbeatsError | None = None


def tune(root: Path, recipe: str, *, trials: int | None = None, jobs: int | None = None) -> Tuned:
    """Search for `recipe` of the project at `root`; `error` says what stopped it.

    Parameters
    ----------
    trials : int, optional
        Instead of the recipe's number of trials, which counts those of earlier runs too.
    """
    try:
        _open(root, recipe)
    except EcgbeatsError as error:
        # Before any server is started: most often a slip in params.yaml or a name.
        return Tuned(recipe, error=error)
    flow_history.mend()
    named = tune_flow.with_options(flow_run_name=f"tune {recipe}")
    state = named(str(root), recipe, trials, jobs, return_state=True)
    outcome = state.result(raise_on_failure=False)
    if isinstance(outcome, Tuned):
        return outcome
    return Tuned(recipe, error=ServiceError(f"flow: {state.message}"))


@flow(name="tune", persist_result=False, validate_parameters=False)
def tune_flow(root: str, recipe: str, trials: int | None, jobs: int | None) -> State[Tuned]:
    """Trials until there are as many as wanted, then the report over all of them."""
    run = Tuned(recipe)
    began = time.monotonic()
    try:
        params, dag = _open(Path(root), recipe)
        images = prepared_images(Path(root), dag, recipe)
        what = _search(Path(root), params, recipe, images, trials)
        run.synthetic = read_description(dag.data(recipe)).synthetic
        run.report = Path(root) / "reports" / recipe / "tune"
        _tune(what, run, run.report, jobs or slots())
    except EcgbeatsError as error:
        run.error = error
        return Failed(message=str(error), data=run)
    finally:
        run.seconds = time.monotonic() - began
    return Completed(message=f"{run.ended} trials", data=run)


def _open(root: Path, recipe: str) -> tuple[Params, Dag]:
    params = read_params(root / "params.yaml")
    if params.recipe(recipe).tune is None:
        raise ConfigError(
            f"recipes.{recipe}: expected a section tune with a space to search in, got none"
        )
    return params, Dag(root)


def _search(
    root: Path, params: Params, recipe: str, images: Path, trials: int | None
) -> tuning.Search:
    chosen, protocol = params.recipe(recipe), params.protocol_of(recipe)
    wanted = chosen.tune
    assert wanted is not None
    if trials is not None:
        wanted = wanted.model_copy(update={"trials": trials})
        chosen = chosen.model_copy(update={"tune": wanted})
    opened = BeatImages.open(images)
    folds = make_folds(
        opened.beats,
        protocol.labels,
        protocol,
        folds=wanted.folds,
        by="patient",
        over="training",
    )
    return tuning.Search(
        name=recipe,
        recipe=chosen,
        images=images,
        folds=folds,
        classes=protocol.labels.names,
        folder=root / "data/interim" / recipe / "tune",
        digest=opened.digest(),
    )


def _never(*_: object) -> bool:
    return False


@task(name="trials", persist_result=False, retries=1, retry_condition_fn=_never)
def _tune(what: tuning.Search, run: Tuned, report: Path, jobs: int) -> None:
    logger = get_run_logger()
    logged = {
        "tune": what.params.model_dump(mode="json"),
        **what.recipe.model_dump(mode="json", include={"image", "model", "train", "protocol"}),
    }
    with tracking.study(what.name, what.identity(), f"tune {what.name}", logged) as study:
        # A flow may have been killed after a trial ended and before it was logged.
        for trial in tuning.ended_trials(what, tuning.open_study(what)):
            _log_trial(study, trial)
        began = time.monotonic()
        for trial in tuning.search(what, jobs=jobs):
            run.trials.append(trial.number)
            _log_trial(study, trial)
            logger.info(
                "trial %d: %s after %d folds, macro-F1 %s; %.0f s a trial so far",
                trial.number,
                trial.state,
                len(trial.scores),
                "undefined" if trial.score is None else f"{trial.score:.4f}",
                (time.monotonic() - began) / len(run.trials),
            )
        kept = tuning.open_study(what)
        table = tuning.trial_table(tuning.ended_trials(what, kept))
        run.ended, run.pruned = len(table), int((table["state"] == "pruned").sum())
        run.score, run.best = float(kept.best_value), tuning.best_yaml(what, kept)
        tuning.write_search(report, what, kept, synthetic=run.synthetic)
        tracking.log_figures(
            study.run_id,
            {"best_macro_f1": run.score, "trials": run.ended, "pruned": run.pruned},
            report=report,
        )


def _log_trial(study: tracking.Study, trial: tuning.Trial) -> None:
    tracking.log_part(
        study,
        f"{trial.number}-{trial.key}",
        f"trial {trial.number}",
        {"trial": trial.number, "state": trial.state, **trial.values},
        {
            "macro_f1": trial.score,
            "folds": len(trial.scores),
            "train_seconds": trial.seconds,
        },
        steps={"macro_f1_so_far": trial.scores},
        status="FINISHED" if trial.state == "complete" else "KILLED",
    )


def summary(run: Tuned, root: Path) -> str:
    """What a person reads at the end."""
    lines = ["", f"Recipe {run.recipe}: search on the training patients"]
    if run.synthetic:
        lines.append("  SAMPLE DATA: synthetic recordings; the figures are evidence of nothing.")
    lines += [
        f"  trials      {run.ended}, {run.pruned} of them given up; {len(run.trials)} in this run",
        f"  best        macro-F1 {run.score:.3f}, flattered by being the best of them",
        f"  this run    {run.seconds:.0f} s",
    ]
    if run.report is not None:
        lines.append(f"  report      {(run.report / tuning.REPORT).relative_to(root)}")
    lines += ["", "For params.yaml, under recipes:", ""]
    lines += [f"  {line}" for line in run.best.splitlines()]
    return "\n".join([*lines, ""])
