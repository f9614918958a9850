"""MLflow's model registry: versions of a recipe's models, by their content.

Everything here starts from files that stages wrote and is keyed by their content, so
that registering again what is registered already changes nothing. Who is champion, the
promotion log says (`pipelines.ledger`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecgbeats.config import Recipe
from ecgbeats.errors import ConfigError, ContractError
from ecgbeats.files import read_json, sha256_file
from ecgbeats.inference import CARD, ONNX
from ecgbeats.progress import say
from pipelines import ledger, registered_files
from pipelines.dag import Lineage
from pipelines.promotion_log import ALIASES, CHAMPION
from pipelines.provenance import Code, environment
from pipelines.tracking import (
    TRAINED,
    answered,
    client_of_mlflow,
    experiment_of,
    flat,
    model_name,
    quiet,
    start_run,
    training_ended,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

APPROVED, REJECTED = "approved", "rejected"
# Folders of the run's artifacts: the model as the train stage made it with its golden batch;
# what was measured and judged; below the third, verdicts of later runs.
CLASSIFIER, REPORT, _GATE = "classifier", "report", "gate"
# And what its log is compared with, which decides nothing of the version.
MONITORING, REFERENCE = "monitoring", "reference.json"
_CONTENT = "ecgbeats.content"
TEST_SIDE = "test_side"
_REFERENCE = re.compile(r"(?:models:/)?(?P<name>[^@/]+)(?:@(?P<alias>[^@/]+)|/(?P<version>\d+))")


@dataclass(frozen=True)
class Evidence:
    """What a run of a recipe left behind, all that registration needs.

    Attributes
    ----------
    verdict : Path
        verdict.json; what lies beside it as .md and .xml is logged as well.
    split : Path
        split.json: who was on which side.
    test_side : str
        `pipelines.gating.hash_of_test_side` of the beats that `metrics` are of.
    """

    recipe_name: str
    recipe: Recipe
    lineage: Lineage
    code: Code
    model: Path
    metrics: Path
    verdict: Path
    report: Path
    golden: Path
    split: Path
    test_side: str


@dataclass(frozen=True)
class Registered:
    """A version in the registry.

    Attributes
    ----------
    alias : str or None
        The first of "champion", "challenger" and "previous" that it has.
    approved : bool
        Whether it passed the gate when it was registered, or in a later run.
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

    @property
    def content(self) -> str:
        """Hash over what it was made of (`pipelines.dag.Lineage`)."""
        return self.tags[_CONTENT]


@answered()
def register(evidence: Evidence) -> Registered:
    """Log the run and register its model, approved or rejected; that moves no alias."""
    client = client_of_mlflow()
    name = model_name(evidence.recipe_name)
    found = _version_of(client, name, evidence.lineage.content)
    if found is not None:
        if found.tags["verdict"] == REJECTED and read_json(evidence.verdict)["passed"]:
            # What hangs on the machine or on the champion has changed since.
            # What rejected it stays.
            again = f"{_GATE}/{sha256_file(evidence.verdict)[:12]}"
            _log_verdict(found.run_id, evidence, again)
            client.set_model_version_tag(name, str(found.version), "verdict", APPROVED)
            found = client.get_model_version(name, str(found.version))
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
        **registered_files.tags_of(evidence.model, evidence.golden),
        "spec_id": card["spec_id"],
        "synthetic": str(read_json(evidence.metrics)["synthetic"]).lower(),
        TEST_SIDE: evidence.test_side,
        "verdict": APPROVED if verdict["passed"] else REJECTED,
    }
    model_id = _log_model(run_id, evidence.model, card)
    with quiet():
        _ensure_model(client, name, evidence.recipe_name)
        # A server wants the model's id, and that it is the source's.
        made = client.create_model_version(
            name, source=f"models:/{model_id}", run_id=run_id, tags=tags, model_id=model_id
        )
    return _describe(client, client.get_model_version(name, str(made.version)), created=True)


def champion(recipe: str) -> Registered | None:
    """The version that is champion of `recipe`, or None.

    Raises
    ------
    ContractError
        The registry is not as its promotion log says, or the champion was deleted from it.
    """
    log = ledger.settle(model_name(recipe))
    log.check_champion()
    holder = log.holder(CHAMPION)
    return None if holder is None else version_of(model_name(recipe), holder)


def version_of(name: str, version: int) -> Registered:
    """Version `version` of the model `name`.

    Raises
    ------
    ConfigError
        There is none.
    """
    return _find(f"{name}/{version}", name, None, str(version))


@answered()
def version_of_run(run_id: str) -> Registered:
    """The version that was registered of an MLflow run.

    Raises
    ------
    ConfigError
        There is no such run, or no version came of it.
    """
    client = client_of_mlflow()
    found = client.search_model_versions(f"run_id = '{run_id}'")
    if not found:
        raise ConfigError(
            f"expected an MLflow run of which a model was registered, got {run_id}; one that was "
            "stopped before its verdict, or is a part of a study, has none"
        )
    return _describe(client, found[0], created=False)


def find(reference: str) -> Registered:
    """The version that `name@alias`, `name/version` or `models:/...` of either names.

    Raises
    ------
    ConfigError
        It is no such reference, or the registry has no such model, alias or version.
    ContractError
        The registry is not as its promotion log says.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise ConfigError(
            "model: expected a folder that is there, or a registered model as <name>@<alias> or "
            f"<name>/<version>, got {reference!r}"
        )
    if match["alias"]:
        ledger.settle(match["name"])
    return _find(reference, match["name"], match["alias"], match["version"])


@answered()
def _find(reference: str, name: str, alias: str | None, number: str) -> Registered:
    from mlflow.exceptions import MlflowException

    client = client_of_mlflow()
    try:
        if alias:
            version = client.get_model_version_by_alias(name, alias)
        else:
            version = client.get_model_version(name, number)
    except MlflowException as error:
        have = sorted(model.name for model in _all_models(client))
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
    """Bring the model folder of a version from the artifact store below `folder`.

    Raises
    ------
    ContractError
        The store keeps another card, network or golden batch than was registered.
    """
    model = fetch_unchecked(registered, folder)
    named = f"{registered.name} version {registered.version}"
    if changed := registered_files.differences(registered.tags, model):
        raise ContractError(f"{named}: not what was registered: {'; '.join(changed)}")
    if unknown := registered_files.untagged(registered.tags):
        say(f"{named}: registered without SHA-256 of {', '.join(unknown)}: not checked")
    return model


@answered()
def fetch_unchecked(registered: Registered, folder: Path) -> Path:
    """The same, whatever the store keeps."""
    import mlflow

    uri = f"runs:/{registered.run_id}/{CLASSIFIER}"
    return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder)))


@answered()
def fetch_report(registered: Registered, folder: Path) -> Path:
    """Bring what was measured and judged of a version below `folder`."""
    import mlflow

    uri = f"runs:/{registered.run_id}/{REPORT}"
    return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder)))


@answered()
def fetch_kept(registered: Registered, under: str, folder: Path) -> Path:
    """Bring what `keep` has put there below `folder`."""
    import mlflow

    uri = f"runs:/{registered.run_id}/{under}"
    return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder)))


@answered()
def fetch_reference(registered: Registered, folder: Path) -> Path | None:
    """Bring what a version learnt on, as monitoring takes it; None where it has none."""
    import mlflow

    name = f"{MONITORING}/{REFERENCE}"
    kept = client_of_mlflow().list_artifacts(registered.run_id, MONITORING)
    if name not in {file.path for file in kept}:
        return None
    uri = f"runs:/{registered.run_id}/{name}"
    return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder)))


@answered()
def keep(registered: Registered, folder: Path, under: str) -> None:
    """Log the files in `folder` with the run of a version, at `under` of its artifacts."""
    client_of_mlflow().log_artifacts(registered.run_id, str(folder), under)


@answered()
def model_names() -> list[str]:
    """All models of ours that the registry has."""
    found = _all_models(client_of_mlflow())
    return sorted(model.name for model in found if model.tags.get("recipe"))


def _all_models(client: MlflowClient) -> Iterator[Any]:
    """MLflow gives them a page at a time, and a token for the next."""
    token = None
    while True:
        page = client.search_registered_models(page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _log_run(client: MlflowClient, evidence: Evidence) -> str:
    """The run of this model: the one that followed its training, else a new one, completed."""
    import mlflow
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.data.sources import LocalArtifactDatasetSource  # type: ignore[attr-defined]

    metrics = read_json(evidence.metrics)
    weights = read_json(evidence.model / CARD)["weights_sha256"]
    experiment = experiment_of(client, evidence.recipe_name)
    content = evidence.lineage.content
    followed = [
        run
        for run in client.search_runs([experiment], f"tags.`{TRAINED}` = '{weights}'")
        # A run with another content is evidence of another version.
        if run.data.tags.get(_CONTENT, content) == content
    ]
    if followed:
        run_id = str(followed[0].info.run_id)
    else:
        run_id = start_run(client, evidence.recipe_name, evidence.recipe.model_dump(mode="json"))
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
            {key: value for key, value in flat(metrics) if isinstance(value, int | float)}
        )
        for path in (evidence.metrics, evidence.split, evidence.report / "index.html"):
            mlflow.log_artifact(str(path), REPORT)
        mlflow.log_artifacts(str(evidence.report / "plots"), f"{REPORT}/plots")
        mlflow.log_artifacts(str(evidence.model), CLASSIFIER)
        mlflow.log_artifact(str(evidence.golden), CLASSIFIER)
    _log_verdict(run_id, evidence, REPORT)
    return run_id


def _log_verdict(run_id: str, evidence: Evidence, folder: str) -> None:
    """The verdict in all the forms that it has."""
    client = client_of_mlflow()
    for suffix in (".json", ".md", ".xml"):
        path = evidence.verdict.with_suffix(suffix)
        if path.is_file():
            client.log_artifact(run_id, str(path), folder)


def _ensure_model(client: MlflowClient, name: str, recipe: str) -> None:
    """Make the registered model, with its log from the first moment on."""
    from mlflow.exceptions import MlflowException

    if client.search_registered_models(f"name = '{name}'"):
        return
    try:
        log = ledger.start_log(client, name)
        client.create_registered_model(name, tags={"recipe": recipe, ledger.LOG: log})
    except MlflowException:
        # Made by another process meanwhile, then; with a log of its own.
        if not client.search_registered_models(f"name = '{name}'"):
            raise


def _log_model(run_id: str, model: Path, card: Mapping[str, Any]) -> str:
    """Log the served network as an MLflow model with its signature; return its id."""
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
    with mlflow.start_run(run_id=run_id, log_system_metrics=False), quiet():
        info = mlflow.onnx.log_model(
            network,
            name="model",
            signature=signature,
            # Inferring them starts the model in another process and takes half a minute.
            pip_requirements=[f"{name}=={versions[name]}" for name in ("onnxruntime", "numpy")],
            metadata={"spec_id": card["spec_id"], "classes": list(card["classes"])},
        )
    return str(info.model_id)


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
        alias=next((alias for alias in ALIASES if alias in mine), None),
        approved=version.tags.get("verdict") == APPROVED,
        created=created,
        run_id=str(version.run_id),
        tags=dict(version.tags),
    )
