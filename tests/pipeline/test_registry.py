"""The model registry, on a real MLflow store: versions by content, runs. See test_promotion.py."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow.entities.model_registry import RegisteredModel, RegisteredModelTag
from mlflow.store.entities import PagedList

from ecgbeats.config import Params
from ecgbeats.errors import ContractError, ServiceError
from ecgbeats.files import read_json, sha256_file, write_json, write_text
from pipelines import registry, tracking
from pipelines.dag import Lineage
from pipelines.provenance import Code
from pipelines.registry import Evidence, register
from tests.support.projects import tiny_params
from tests.support.tiny_model import CLASSES, SPEC, forge, write_tiny_golden, write_tiny_model

pytestmark = pytest.mark.pipeline

CODE = Code("8e6c9d1" + "0" * 33, "")
HISTORY = "phase,epoch,loss,validation_macro_f1\nselect,1,0.9,0.4\nselect,2,0.5,0.7\n"


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[mlflow.MlflowClient]:
    """One store for all tests here: making its tables takes seconds. Each has its own recipe."""
    root = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root / 'mlflow.db'}")
        yield mlflow.MlflowClient()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stages leave behind, of a model that needs no training."""
    root = tmp_path_factory.mktemp("evidence")
    classifier = write_tiny_model(root / "model")
    write_text(root / "model" / "history.csv", HISTORY)
    write_tiny_golden(root / "golden.npz", classifier)
    write_json(root / "metrics.json", {"accuracy": 0.9, "synthetic": True})
    for word, passed in (("yes", True), ("no", False)):
        write_json(root / f"{word}.json", {"passed": passed})
        write_text(root / f"{word}.xml", "<testsuites/>")
    write_json(root / "split.json", {"patients": {}})
    write_text(root / "report" / "index.html", "<p>A report.</p>")
    write_text(root / "report" / "plots" / "roc.svg", "<svg/>")
    return root


@pytest.fixture
def evidence(files: Path, request: pytest.FixtureRequest) -> Evidence:
    name = request.node.name.removeprefix("test_").replace("_", "-")
    return Evidence(
        recipe_name=name,
        recipe=Params.model_validate(tiny_params()).recipe("tiny"),
        lineage=Lineage(name, content="c1", data="d1", images="i1", model="m1"),
        code=CODE,
        model=files / "model",
        metrics=files / "metrics.json",
        verdict=files / "yes.json",
        report=files / "report",
        golden=files / "golden.npz",
        split=files / "split.json",
        test_side="t1",
    )


def other(evidence: Evidence, content: str, **changes: Any) -> Evidence:
    """The evidence of a run with another content."""
    return replace(evidence, lineage=replace(evidence.lineage, content=content), **changes)


def versions(evidence: Evidence) -> list[int]:
    name = tracking.model_name(evidence.recipe_name)
    found = mlflow.MlflowClient().search_model_versions(f"name = '{name}'")
    return sorted(int(version.version) for version in found)


def runs(evidence: Evidence) -> list[Any]:
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name(tracking.model_name(evidence.recipe_name))
    return list(client.search_runs([experiment.experiment_id])) if experiment else []


def test_a_version_says_what_it_is_made_of(evidence: Evidence) -> None:
    made = register(evidence)
    # Who is champion is another question.
    assert (made.version, made.alias, made.approved, made.created) == (1, None, True, True)
    card = read_json(evidence.model / "model.json")
    assert made.tags == {
        "ecgbeats.content": "c1",
        "recipe": evidence.recipe_name,
        "data_hash": "d1",
        "images_hash": "i1",
        "git_commit": CODE.commit,
        "git_dirty": "false",
        "weights_sha256": card["weights_sha256"],
        "card_sha256": sha256_file(evidence.model / "model.json"),
        "onnx_sha256": card["onnx_sha256"],
        "golden_sha256": sha256_file(evidence.golden),
        "spec_id": SPEC.spec_id,
        "synthetic": "true",
        "test_side": "t1",
        "verdict": "approved",
    }
    assert registry.version_of(made.name, 1) == replace(made, created=False)
    assert registry.champion(evidence.recipe_name) is None
    assert made.name in registry.model_names()


def test_equal_content_is_one_version(evidence: Evidence) -> None:
    made = register(evidence)
    again = register(evidence)
    assert again == replace(made, created=False)
    # Code that no stage names, such as the flow's own, changes no content.
    committed = register(replace(evidence, code=Code("f" * 40, "5a5a5a5")))
    assert committed == again
    assert committed.tags["git_commit"] == CODE.commit
    assert versions(evidence) == [1]
    assert len(runs(evidence)) == 1


def test_a_rejected_one_is_approved_once_its_gate_passes(evidence: Evidence, files: Path) -> None:
    made = register(replace(evidence, verdict=files / "no.json"))
    assert (made.version, made.approved, made.tags["verdict"]) == (1, False, "rejected")
    # Latency, say, on a machine that is less busy. What has passed once is not taken back.
    for verdict in ("yes", "no"):
        again = register(replace(evidence, verdict=files / f"{verdict}.json"))
        assert (again.version, again.approved, again.tags["verdict"]) == (1, True, "approved")
    # Both verdicts are kept, that of the rejection where it was.
    client = mlflow.MlflowClient()
    (later,) = client.list_artifacts(made.run_id, "gate")
    assert {Path(item.path).name for item in client.list_artifacts(made.run_id, later.path)} == {
        "yes.json",
        "yes.xml",
    }
    first = {Path(item.path).name for item in client.list_artifacts(made.run_id, "report")}
    assert "no.json" in first and "yes.json" not in first


def test_recipes_do_not_meet(evidence: Evidence) -> None:
    register(evidence)
    elsewhere = replace(evidence, recipe_name=evidence.recipe_name + "-too")
    assert register(elsewhere).version == 1
    assert versions(replace(evidence, recipe_name=evidence.recipe_name + "-to")) == []


def test_a_version_gives_back_what_was_registered(evidence: Evidence, tmp_path: Path) -> None:
    fetched = registry.fetch_model(register(evidence), tmp_path)
    wanted = {path.name: path.read_bytes() for path in [*evidence.model.iterdir(), evidence.golden]}
    assert {path.name: path.read_bytes() for path in fetched.iterdir()} == wanted


def test_artifacts_that_were_exchanged_together_are_refused(
    evidence: Evidence, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = register(evidence)
    artifacts = mlflow.MlflowClient().get_run(made.run_id).info.artifact_uri
    kept = Path(artifacts.removeprefix("file://")) / registry.CLASSIFIER
    forge(kept, tmp_path / "other")
    assert read_json(kept / "model.json")["weights_sha256"] == made.tags["weights_sha256"]
    with pytest.raises(ContractError, match=rf"{made.name} version 1: not what was") as error:
        registry.fetch_model(made, tmp_path / "fetched")
    for name, tag in (("model.onnx", "onnx_sha256"), ("golden.npz", "golden_sha256")):
        got = sha256_file(kept / name)
        assert f"{name}: expected SHA-256 {made.tags[tag]}, got {got}" in str(error.value)
    assert "not checked" not in capfd.readouterr().err
    # A version of before has no such tags: it can be fetched, and what is not checked is said.
    old = replace(made, tags={k: v for k, v in made.tags.items() if not k.endswith("_sha256")})
    registry.fetch_model(old, tmp_path / "old")
    said = capfd.readouterr().err
    assert "version 1: registered without SHA-256 of model.json, model.onnx, golden.npz" in said


def test_the_logged_model_states_its_signature_and_answers(evidence: Evidence) -> None:
    made = register(evidence)
    uri = f"models:/{made.name}/{made.version}"
    signature = mlflow.models.get_model_info(uri).signature
    assert signature is not None
    (image,), (label,) = signature.inputs.inputs, signature.outputs.inputs
    assert (image.name, image.shape, image.type) == ("image", (-1, *SPEC.shape, 1), np.float32)
    assert (label.shape, label.type) == ((-1, len(CLASSES)), np.float32)
    # As MLflow's own users load it.
    model = mlflow.pyfunc.load_model(uri)
    (answer,) = model.predict(np.zeros((2, *SPEC.shape, 1), np.float32)).values()
    np.testing.assert_allclose(answer, 1 / len(CLASSES), atol=1e-6)


def test_a_run_shows_data_figures_and_report(evidence: Evidence) -> None:
    made = register(evidence)
    run = mlflow.MlflowClient().get_run(made.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["train.learning_rate"] == str(evidence.recipe.train.learning_rate)
    assert run.data.metrics["accuracy"] == 0.9
    (data,) = run.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("small", "d1")
    report = mlflow.MlflowClient().list_artifacts(made.run_id, "report")
    assert {Path(item.path).name for item in report} == {
        "index.html",
        "metrics.json",
        "plots",
        "split.json",
        "yes.json",
        "yes.xml",
    }


def test_curves_appear_while_training_goes_on(evidence: Evidence, tmp_path: Path) -> None:
    client = mlflow.MlflowClient()
    history = tmp_path / "history.csv"
    head, first, second = HISTORY.splitlines(keepends=True)
    params = evidence.recipe.model_dump(mode="json")
    # Left by a training that was given up.
    write_text(history, head + first.replace("0.9", "7.7"))
    os.utime(history, (0, 0))
    with tracking.following_training(evidence.recipe_name, history, params) as run_id:
        time.sleep(1.5)
        assert client.get_run(run_id).info.status == "RUNNING"
        assert not client.get_metric_history(run_id, "select/loss")
        write_text(history, head + first)
        patience = time.monotonic() + 60
        while not client.get_metric_history(run_id, "select/loss"):
            assert time.monotonic() < patience, "the first epoch does not show"
            time.sleep(0.05)
    # The last epoch ended with the training, too late to be followed.
    write_text(history, head + first + second)
    tracking.training_ended(run_id, evidence.model)
    curve = client.get_metric_history(run_id, "select/loss")
    assert [(point.step, point.value) for point in curve] == [(1, 0.9), (2, 0.5)]
    assert client.get_run(run_id).info.status == "FINISHED"
    # The model that came out belongs to that run, and to no second one.
    assert register(evidence).run_id == run_id
    assert len(runs(evidence)) == 1


def test_another_evaluation_of_the_same_weights_leaves_the_first_run_alone(
    evidence: Evidence, files: Path, tmp_path: Path
) -> None:
    first = register(evidence)
    write_json(tmp_path / "metrics.json", {"accuracy": 0.8, "synthetic": True})
    second = register(other(evidence, "c2", metrics=tmp_path / "metrics.json"))
    client = mlflow.MlflowClient()
    accuracy = [client.get_run(made.run_id).data.metrics["accuracy"] for made in (first, second)]
    assert accuracy == [0.9, 0.8]


def test_a_training_that_fails_leaves_a_failed_run(evidence: Evidence, tmp_path: Path) -> None:
    with (
        pytest.raises(KeyError, match="spoilt"),
        tracking.following_training(evidence.recipe_name, tmp_path / "none.csv", {}),
    ):
        raise KeyError("spoilt")
    (run,) = runs(evidence)
    assert run.info.status == "FAILED"
    # Evidence of nothing: the model that is then trained gets a run of its own.
    assert register(evidence).run_id != run.info.run_id


def test_no_champion_where_nothing_is_registered() -> None:
    assert registry.champion("nobody-knows-it") is None


def test_models_of_all_pages_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [RegisteredModel(f"ecgbeats-r{k}", tags=[RegisteredModelTag("recipe", "r")])
            for k in range(3)]  # fmt: skip
    pages = {None: PagedList(made[:2], "more"), "more": PagedList(made[2:], None)}
    client = SimpleNamespace(search_registered_models=lambda page_token: pages[page_token])
    monkeypatch.setattr(registry, "client_of_mlflow", lambda: client)
    assert registry.model_names() == ["ecgbeats-r0", "ecgbeats-r1", "ecgbeats-r2"]


@pytest.mark.parametrize("content", ["cut", "none"])
def test_a_damaged_database_is_named_in_one_line(
    store: mlflow.MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    path = Path(mlflow.get_tracking_uri().removeprefix("sqlite:///"))
    whole = path.read_bytes()
    (tmp_path / "mlflow.db").write_bytes(
        whole[:30_000] if content == "cut" else b"no database" * 99
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    with pytest.raises(ServiceError, match=rf"MLflow at sqlite:///{tmp_path}/mlflow.db: ") as said:
        registry.champion("tiny")
    assert "\n" not in str(said.value) and "SQL:" not in str(said.value)


def test_a_database_that_refuses_is_named_at_once_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("psycopg2")
    with socket.socket() as closed:
        # Bound, but nobody listens.
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}/mlflow"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql://ada:secret@{address}")
        monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("tried again and again"))
        with pytest.raises(ServiceError) as said:
            registry.champion("tiny")
    assert str(said.value).startswith(f"MLflow at postgresql://ada:***@{address}: connection to")
    assert "refused" in str(said.value) and "\n" not in str(said.value)


def test_a_tracking_server_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "carrier-pigeon://loft")
    with pytest.raises(ServiceError, match=r"MLflow at carrier-pigeon://loft: "):
        registry.champion("tiny")
