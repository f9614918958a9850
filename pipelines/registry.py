"""The one door to MLflow: runs, the model registry and its aliases.

Everything here starts from files that stages wrote and is keyed by their content, so
that registering again what is registered already changes nothing.
"""

from __future__ import annotations

import logging
import math
import re
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ecgbeats.config import Recipe
from ecgbeats.errors import ConfigError, ServiceError
from ecgbeats.files import read_json
from ecgbeats.inference import CARD, ONNX
from pipelines.dag import Lineage
from pipelines.provenance import Code, environment

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION, CHALLENGER = "champion", "challenger"
APPROVED, REJECTED = "approved", "rejected"
# Folder of the run's artifacts that holds the model folder as the train stage made it.
CLASSIFIER = "classifier"
_CONTENT = "ecgbeats.content"
_TRAINED = "ecgbeats.weights_sha256"
# What a parent run is of, and what a run nested in it.
_STUDY, _PART = "ecgbeats.study", "ecgbeats.part"
_REFERENCE = re.compile(r"(?:models:/)?(?P<name>[^@/]+)(?:@(?P<alias>[^@/]+)|/(?P<version>\d+))")


@dataclass(frozen=True)
class Evidence:
    """What a run of a recipe left behind, all that registration needs."""

    recipe_name: str
    recipe: Recipe
    lineage: Lineage
    code: Code
    model: Path
    metrics: Path
    verdict: Path
    report: Path
    golden: Path


@dataclass(frozen=True)
class Registered:
    """A version in the registry.

    Attributes
    ----------
    alias : str or None
        "champion" or "challenger"; None for a rejected model.
    created : bool
        False when this content was registered before.
    """

    name: str
    version: int
    alias: str | None
    approved: bool
    created: bool
    run_id: str
    tags: Mapping[str, str]


def model_name(recipe: str) -> str:
    """Name of a recipe's models in the registry."""
    return f"ecgbeats-{recipe}"


@contextmanager
def following_training(recipe: str, history: Path, params: Mapping[str, Any]) -> Iterator[str]:
    """An MLflow run that shows the learning curves while another process trains.

    Parameters
    ----------
    history : Path
        The table that training rewrites after each epoch; it may not exist yet.
    """
    client = _client()
    run_id = _start_run(client, recipe, params)
    stop = threading.Event()
    follower = threading.Thread(target=_follow, args=(client, run_id, history, stop), daemon=True)
    follower.start()
    try:
        yield run_id
    except BaseException:
        stop.set()
        follower.join()
        client.set_terminated(run_id, "FAILED")
        raise
    stop.set()
    follower.join()


def training_ended(run_id: str, model: Path) -> None:
    """Complete the curves of a followed run and mark it with the weights that came out."""
    client = _client()
    _log_history(client, run_id, model / "history.csv", already=_logged_epochs(client, run_id))
    client.set_tag(run_id, _TRAINED, read_json(model / CARD)["weights_sha256"])
    client.set_terminated(run_id)


def register(evidence: Evidence) -> Registered:
    """Log the run and register its model; approved models get an alias, rejected ones none.

    The first approved version of a recipe becomes champion, a later one challenger.
    """
    client = _client()
    name = model_name(evidence.recipe_name)
    found = _version_of(client, name, evidence.lineage.content)
    if found is not None:
        if found.tags["verdict"] == APPROVED and not _aliases(client, name).get(CHAMPION):
            # The run that registered it died before it came to this.
            _give_alias(client, name, str(found.version))
        return _describe(client, found, created=False)
    verdict = read_json(evidence.verdict)
    run_id = _log_run(client, evidence)
    card = read_json(evidence.model / CARD)
    tags = {
        _CONTENT: evidence.lineage.content,
        "recipe": evidence.recipe_name,
        "data_hash": evidence.lineage.data,
        "images_hash": evidence.lineage.images,
        "git_commit": evidence.code.commit,
        "git_dirty": str(evidence.code.dirty).lower(),
        "weights_sha256": card["weights_sha256"],
        "spec_id": card["spec_id"],
        "synthetic": str(read_json(evidence.metrics)["synthetic"]).lower(),
        "verdict": APPROVED if verdict["passed"] else REJECTED,
    }
    uri = _log_model(run_id, evidence.model, card)
    with _quiet():
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name, tags={"recipe": evidence.recipe_name})
        made = client.create_model_version(name, source=uri, run_id=run_id, tags=tags)
    if verdict["passed"]:
        _give_alias(client, name, str(made.version))
    return _describe(client, client.get_model_version(name, str(made.version)), created=True)


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
    client = _client()
    experiment = _experiment(client, recipe)
    found = client.search_runs([experiment], f"tags.`{_STUDY}` = '{key}'")
    if found:
        run_id = str(found[0].info.run_id)
        client.update_run(run_id, status="RUNNING")
    else:
        run_id = _start_run(client, recipe, params, name=name, tags={_STUDY: key})
    try:
        yield Study(run_id, recipe, experiment)
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id)


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
    client = _client()
    query = f"tags.`{_PART}` = '{key}' and tags.`mlflow.parentRunId` = '{study.run_id}'"
    found = client.search_runs([study.experiment], query)
    # One that is still running is of a process that was killed while it logged.
    whole = [run for run in found if run.info.status != "RUNNING"]
    if whole:
        return str(whole[0].info.run_id)
    for run in found:
        client.delete_run(run.info.run_id)
    tags = {"mlflow.parentRunId": study.run_id, _PART: key}
    run_id = _start_run(client, study.recipe, params, name=name, tags=tags)
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
    client = _client()
    for key, value in _flat(metrics):
        if isinstance(value, int | float) and math.isfinite(value):
            client.log_metric(run_id, key, float(value))
    for path in artifacts:
        client.log_artifact(run_id, str(path))
    if report is not None:
        client.log_artifacts(run_id, str(report), "report")


def champion(recipe: str) -> Registered | None:
    """The version that is champion of `recipe`, or None."""
    client = _client()
    aliases = _aliases(client, model_name(recipe))
    if CHAMPION not in aliases:
        return None
    version = client.get_model_version(model_name(recipe), aliases[CHAMPION])
    return _describe(client, version, created=False)


def find(reference: str) -> Registered:
    """The version that `name@alias`, `name/version` or `models:/...` of either names.

    Raises
    ------
    ConfigError
        It is no such reference, or the registry has no such model, alias or version.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise ConfigError(
            "model: expected a folder that is there, or a registered model as <name>@<alias> or "
            f"<name>/<version>, got {reference!r}"
        )
    from mlflow.exceptions import MlflowException

    client = _client()
    name = match["name"]
    try:
        if match["alias"]:
            version = client.get_model_version_by_alias(name, match["alias"])
        else:
            version = client.get_model_version(name, match["version"])
    except MlflowException as error:
        have = sorted(model.name for model in client.search_registered_models())
        held = ", ".join(f"@{alias}" for alias in sorted(_aliases(client, name)))
        raise ConfigError(
            f"model: {reference!r} is not in the registry; "
            + (
                f"{name} has the aliases {held or 'none'}"
                if name in have
                else f"it has {', '.join(have) or 'no model'}"
            )
        ) from error
    return _describe(client, version, created=False)


def fetch_model(registered: Registered, folder: Path) -> Path:
    """Bring the model folder of a version from the artifact store below `folder`."""
    import mlflow

    uri = f"runs:/{registered.run_id}/{CLASSIFIER}"
    return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder)))


def tag_version(registered: Registered, key: str, value: str) -> None:
    _client().set_model_version_tag(registered.name, str(registered.version), key, value)


def _client() -> MlflowClient:
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        client = mlflow.MlflowClient()
        client.search_experiments(max_results=1)
    except MlflowException as error:
        raise ServiceError(f"MLflow at {mlflow.get_tracking_uri()}: {error}") from error
    return client


def _experiment(client: MlflowClient, recipe: str) -> str:
    name = model_name(recipe)
    found = client.get_experiment_by_name(name)
    return str(found.experiment_id if found else client.create_experiment(name))


def _start_run(
    client: MlflowClient,
    recipe: str,
    params: Mapping[str, Any],
    *,
    name: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> str:
    """Create a run; it is known by its tags from the first moment, whenever it is killed."""
    run = client.create_run(
        _experiment(client, recipe), tags={"recipe": recipe, **(tags or {})}, run_name=name
    )
    _log_params(client, run.info.run_id, params)
    return str(run.info.run_id)


def _log_params(client: MlflowClient, run_id: str, params: Mapping[str, Any]) -> None:
    for key, value in _flat(params):
        client.log_param(run_id, key, value)


def _follow(client: MlflowClient, run_id: str, history: Path, stop: threading.Event) -> None:
    seen, began = 0, time.time()
    while not stop.wait(1.0):
        # An older file is of a training that was given up.
        if history.is_file() and history.stat().st_mtime >= began:
            seen = _log_history(client, run_id, history, already=seen)


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


def _log_run(client: MlflowClient, evidence: Evidence) -> str:
    """The run of this model: the one that followed its training, else a new one, completed."""
    import mlflow
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.data.sources import LocalArtifactDatasetSource

    metrics = read_json(evidence.metrics)
    weights = read_json(evidence.model / CARD)["weights_sha256"]
    experiment = _experiment(client, evidence.recipe_name)
    content = evidence.lineage.content
    followed = [
        run
        for run in client.search_runs([experiment], f"tags.`{_TRAINED}` = '{weights}'")
        # A run with another content is evidence of another version.
        if run.data.tags.get(_CONTENT, content) == content
    ]
    if followed:
        run_id = str(followed[0].info.run_id)
    else:
        run_id = _start_run(client, evidence.recipe_name, evidence.recipe.model_dump(mode="json"))
        training_ended(run_id, evidence.model)
    with mlflow.start_run(run_id=run_id, log_system_metrics=False):
        mlflow.set_tags(
            {
                "recipe": evidence.recipe_name,
                "git_commit": evidence.code.commit,
                "git_dirty": str(evidence.code.dirty).lower(),
                _CONTENT: content,
            }
        )
        mlflow.log_dict(environment(), "environment.json")
        source = LocalArtifactDatasetSource(f"data/raw/{evidence.recipe.dataset}")
        dataset = MetaDataset(source, name=evidence.recipe.dataset, digest=evidence.lineage.data)
        mlflow.log_input(dataset, context="training and test")
        mlflow.log_metrics(
            {key: value for key, value in _flat(metrics) if isinstance(value, int | float)}
        )
        mlflow.log_artifact(str(evidence.metrics), "report")
        mlflow.log_artifact(str(evidence.verdict), "report")
        mlflow.log_artifact(str(evidence.report / "index.html"), "report")
        mlflow.log_artifacts(str(evidence.report / "plots"), "report/plots")
        mlflow.log_artifacts(str(evidence.model), CLASSIFIER)
        mlflow.log_artifact(str(evidence.golden), CLASSIFIER)
    return run_id


def _log_model(run_id: str, model: Path, card: Mapping[str, Any]) -> str:
    """Log the served network as an MLflow model with its signature; return its URI."""
    import mlflow
    import numpy as np
    import onnx
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    network = onnx.load(model / ONNX)
    image = network.graph.input[0].type.tensor_type.shape.dim
    shape = (-1, *(int(dim.dim_value) for dim in image[1:]))
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype("float32"), shape, network.graph.input[0].name)]),
        outputs=Schema(
            [
                TensorSpec(
                    np.dtype("float32"), (-1, len(card["classes"])), network.graph.output[0].name
                )
            ]
        ),
    )
    versions = environment()
    with mlflow.start_run(run_id=run_id, log_system_metrics=False), _quiet():
        info = mlflow.onnx.log_model(
            network,
            name="model",
            signature=signature,
            # Inferring them starts the model in another process and takes half a minute.
            pip_requirements=[f"{name}=={versions[name]}" for name in ("onnxruntime", "numpy")],
            metadata={"spec_id": card["spec_id"], "classes": list(card["classes"])},
        )
    return str(info.model_uri)


def _give_alias(client: MlflowClient, name: str, version: str) -> None:
    taken = CHAMPION in _aliases(client, name)
    client.set_registered_model_alias(name, CHALLENGER if taken else CHAMPION, version)


def _aliases(client: MlflowClient, name: str) -> dict[str, str]:
    found = client.search_registered_models(f"name = '{name}'")
    return {alias: str(v) for alias, v in found[0].aliases.items()} if found else {}


def _version_of(client: MlflowClient, name: str, content: str) -> Any:
    query = f"name = '{name}' and tags.`{_CONTENT}` = '{content}'"
    found = client.search_model_versions(query)
    return found[0] if found else None


def _describe(client: MlflowClient, version: Any, *, created: bool) -> Registered:
    aliases = _aliases(client, version.name)
    mine = [alias for alias, held in aliases.items() if held == str(version.version)]
    return Registered(
        name=version.name,
        version=int(version.version),
        # A champion that is challenger too is champion.
        alias=CHAMPION if CHAMPION in mine else next(iter(sorted(mine)), None),
        approved=version.tags.get("verdict") == APPROVED,
        created=created,
        run_id=str(version.run_id),
        tags=dict(version.tags),
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested mappings as dotted names; other values as they are."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
