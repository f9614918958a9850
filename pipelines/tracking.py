"""MLflow's runs: learning curves, studies and their parts, figures. One door with `registry`
and `ledger`, which own its model registry.
"""

from __future__ import annotations

import functools
import logging
import math
import re
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ecgbeats.errors import ServiceError
from ecgbeats.files import read_json
from ecgbeats.inference import CARD

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Hash of the weights that a followed training ended with.
TRAINED = "ecgbeats.weights_sha256"
# What a parent run is of, and what a run nested in it.
_STUDY, _PART = "ecgbeats.study", "ecgbeats.part"


def model_name(recipe: str) -> str:
    """Name of a recipe's models in the registry, and of the experiment that holds its runs."""
    return f"ecgbeats-{recipe}"


@contextmanager
def answered() -> Iterator[None]:
    """What MLflow, its database, its artifact store or the way there fails with, as one of ours.

    Raises
    ------
    ServiceError
    """
    try:
        yield
    except _failures() as error:
        raise ServiceError(f"MLflow: {_in_one_line(error)}") from error


def _failures() -> tuple[type[Exception], ...]:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    # MLflow passes on what its database says while a store is opened, later it wraps it.
    return MlflowException, SQLAlchemyError, OSError


def _in_one_line(error: BaseException) -> str:
    """The words of `error`; of SQLAlchemy's, those of the database itself, without the query."""
    from sqlalchemy.exc import DBAPIError

    cause = error if isinstance(error, DBAPIError) else error.__cause__
    words = cause.orig if isinstance(cause, DBAPIError) else error
    return " ".join(str(words).split())


@contextmanager
def following_training(recipe: str, history: Path, params: Mapping[str, Any]) -> Iterator[str]:
    """An MLflow run that shows the learning curves while another process trains.

    Parameters
    ----------
    history : Path
        The table that training rewrites after each epoch; it may not exist yet.
    """
    with answered():
        client = client_of_mlflow()
        run_id = start_run(client, recipe, params)
    stop = threading.Event()
    follower = threading.Thread(target=_follow, args=(client, run_id, history, stop), daemon=True)
    follower.start()
    try:
        yield run_id
    except BaseException:
        stop.set()
        follower.join()
        _failed(client, run_id)
        raise
    stop.set()
    follower.join()


def _failed(client: MlflowClient, run_id: str) -> None:
    """Say so of a run, if MLflow takes it: why it failed matters more."""
    from mlflow.exceptions import MlflowException

    with suppress(MlflowException, OSError):
        client.set_terminated(run_id, "FAILED")


@answered()
def training_ended(run_id: str, model: Path) -> None:
    """Complete the curves of a followed run and mark it with the weights that came out."""
    client = client_of_mlflow()
    _log_history(client, run_id, model / "history.csv", already=_logged_epochs(client, run_id))
    client.set_tag(run_id, TRAINED, read_json(model / CARD)["weights_sha256"])
    client.set_terminated(run_id)


@dataclass(frozen=True)
class Study:
    """A parent run: a cross-validation or a search, whose parts are runs nested in it."""

    run_id: str
    recipe: str
    experiment: str


@contextmanager
def study(recipe: str, key: str, name: str, params: Mapping[str, Any]) -> Iterator[Study]:
    """The parent run of the study `key`; the same one again when it is gone on with.

    Parameters
    ----------
    key : str
        What the study is of: a hash, say.
    name : str
        What it is called in MLflow.
    """
    with answered():
        client = client_of_mlflow()
        experiment = experiment_of(client, recipe)
        found = client.search_runs([experiment], f"tags.`{_STUDY}` = '{key}'")
        if found:
            run_id = str(found[0].info.run_id)
            client.update_run(run_id, status="RUNNING")
        else:
            run_id = start_run(client, recipe, params, name=name, tags={_STUDY: key})
    try:
        yield Study(run_id, recipe, experiment)
    except BaseException:
        _failed(client, run_id)
        raise
    with answered():
        client.set_terminated(run_id)


@answered()
def log_part(
    study: Study,
    key: str,
    name: str,
    params: Mapping[str, Any],
    metrics: Mapping[str, Any],
    *,
    steps: Mapping[str, Sequence[float | None]] | None = None,
    history: Path | None = None,
    artifacts: Sequence[Path] = (),
    status: str = "FINISHED",
) -> str:
    """Log one part of `study` as a nested run, once for each `key`; return its id.

    Parameters
    ----------
    metrics : mapping
        Numbers; others are left out.
    steps : mapping, optional
        Figures that have a value a step, from 1.
    history : Path, optional
        A history.csv of training.
    artifacts : sequence of Path
        Files.
    status : str
        FINISHED, FAILED or KILLED, as MLflow knows it.
    """
    client = client_of_mlflow()
    query = f"tags.`{_PART}` = '{key}' and tags.`mlflow.parentRunId` = '{study.run_id}'"
    found = client.search_runs([study.experiment], query)
    # One that is still running is of a process that was killed while it logged.
    whole = [run for run in found if run.info.status != "RUNNING"]
    if whole:
        return str(whole[0].info.run_id)
    for run in found:
        client.delete_run(run.info.run_id)
    tags = {"mlflow.parentRunId": study.run_id, _PART: key}
    run_id = start_run(client, study.recipe, params, name=name, tags=tags)
    log_figures(run_id, metrics, artifacts=artifacts)
    for metric, values in (steps or {}).items():
        for step, point in enumerate(values, start=1):
            if point is not None:
                client.log_metric(run_id, metric, float(point), step=step)
    if history is not None:
        _log_history(client, run_id, history, already=0)
    client.set_terminated(run_id, status)
    return run_id


def log_figures(
    run_id: str,
    metrics: Mapping[str, Any],
    *,
    artifacts: Sequence[Path] = (),
    report: Path | None = None,
) -> None:
    """Add numbers, files and a report folder to a run; what is no finite number is left out."""
    client = client_of_mlflow()
    for key, value in flat(metrics):
        if isinstance(value, int | float) and math.isfinite(value):
            client.log_metric(run_id, key, float(value))
    for path in artifacts:
        client.log_artifact(run_id, str(path))
    if report is not None:
        client.log_artifacts(run_id, str(report), "report")


def client_of_mlflow() -> MlflowClient:
    """A client of the server that MLFLOW_TRACKING_URI names.

    Raises
    ------
    ServiceError
        It does not answer.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    import mlflow

    address = mlflow.get_tracking_uri()
    try:
        _reach(address)
        client = mlflow.MlflowClient()
        client.search_experiments(max_results=1)
    except _failures() as error:
        where = re.sub(r"(//[^/@:]*):[^@]*@", r"\1:***@", address)
        raise ServiceError(f"MLflow at {where}: {_in_one_line(error)}") from error
    return client


@functools.cache
def _reach(address: str) -> None:
    """Connect once to the database at `address`, if it is one that is a server.

    For MLflow tries one that refuses ten times, for two minutes, and has no setting for it.
    """
    from mlflow.store.db.db_types import DATABASE_ENGINES, SQLITE

    kind = address.partition(":")[0].partition("+")[0]
    if kind in DATABASE_ENGINES and kind != SQLITE:
        from mlflow.store.db.utils import create_sqlalchemy_engine

        engine = create_sqlalchemy_engine(address)  # type: ignore[no-untyped-call]
        engine.connect().close()
        engine.dispose()


def logged_json(run_id: str, path: str) -> dict[str, Any] | None:
    """What was logged with a run as the JSON file `path`; None where it cannot be had."""
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        found: dict[str, Any] = mlflow.artifacts.load_dict(f"runs:/{run_id}/{path}")
    except (MlflowException, OSError):
        return None
    return found


def experiment_of(client: MlflowClient, recipe: str) -> str:
    return experiment_named(client, model_name(recipe))


def experiment_named(client: MlflowClient, name: str) -> str:
    """The id of that experiment, which is made where there is none."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException:
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
            # Another process was quicker.
    return str(found.experiment_id)


def start_run(
    client: MlflowClient,
    recipe: str,
    params: Mapping[str, Any],
    *,
    name: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> str:
    """Create a run; it is known by its tags from the first moment, whenever it is killed."""
    run = client.create_run(
        experiment_of(client, recipe), tags={"recipe": recipe, **(tags or {})}, run_name=name
    )
    _log_params(client, run.info.run_id, params)
    return str(run.info.run_id)


def _log_params(client: MlflowClient, run_id: str, params: Mapping[str, Any]) -> None:
    for key, value in flat(params):
        client.log_param(run_id, key, value)


def _follow(client: MlflowClient, run_id: str, history: Path, stop: threading.Event) -> None:
    from mlflow.exceptions import MlflowException

    # An older file is of a training that was given up. Its own time is asked, not the clock, which
    # may be set meanwhile.
    before = _written(history)
    seen = 0
    while not stop.wait(1.0):
        if _written(history) != before:
            # The end of the training logs what MLflow does not take now.
            with suppress(MlflowException, OSError):
                seen = _log_history(client, run_id, history, already=seen)


def _written(path: Path) -> int | None:
    """When `path` was written, in nanoseconds; None where it is not there."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _log_history(client: MlflowClient, run_id: str, history: Path, *, already: int) -> int:
    """Log the rows of the history that are not logged yet; return how many are now."""
    try:
        rows = pd.read_csv(history)
    except (OSError, pd.errors.EmptyDataError):
        return already
    for step, row in enumerate(rows.iloc[already:].to_dict("records"), start=already + 1):
        for key, value in row.items():
            if key not in ("phase", "epoch") and pd.notna(value):
                client.log_metric(run_id, f"{row['phase']}/{key}", float(value), step=step)
    return max(already, len(rows))


def _logged_epochs(client: MlflowClient, run_id: str) -> int:
    metrics = client.get_run(run_id).data.metrics
    steps = [
        point.step
        for key in metrics
        if key.endswith("/loss")
        for point in client.get_metric_history(run_id, key)
    ]
    return max(steps, default=0)


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested mappings as dotted names; other values as they are."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@contextmanager
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
