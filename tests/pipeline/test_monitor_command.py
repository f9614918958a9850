"""`ecgbeats monitor` and what the Prefect server does with its answer."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from ecgbeats.errors import ConfigError
from ecgbeats.files import read_json, write_json
from ecgbeats.monitoring.reference import read_reference
from pipelines import deployments, monitor_cli, monitoring, registry
from pipelines.monitoring import Watched, find_reference
from tests.support.logs import WEIGHTS, line, lines, nothing, taller, write_reference, written
from tests.support.projects import HERE, tiny_params

pytestmark = pytest.mark.pipeline


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of which nothing has run, and no registry."""
    params = tiny_params()
    params["recipes"]["tiny"]["monitor"] = {"window_beats": 256, "resamples": 1000}
    write_json(tmp_path / "params.yaml", params)
    monkeypatch.setattr(monitor_cli, "enter", lambda: tmp_path)
    monkeypatch.setattr(deployments, "enter", lambda: tmp_path)
    monkeypatch.setattr(registry, "champion", lambda _: None)
    return tmp_path


def test_persistent_drift_has_an_exit_status_of_its_own(
    root: Path,
) -> None:
    # As `ecgbeats carry` leaves it.
    carried = root / "bento" / "carried"
    write_json(carried / "origin.json", {"recipe": "tiny"})
    source = carried / "reference.json"
    write_reference(source)
    written(root / "log", lines([nothing, taller(3), taller(3)]))
    asked = CliRunner().invoke(monitor_cli.monitor, ["tiny", "--log", str(root / "log")])
    assert asked.exit_code == monitor_cli.ASKS_FOR_RETRAINING == 3, asked.output
    assert "2 of the last 3 windows drifted: retraining is asked for" in asked.output
    assert read_json(root / "reports/tiny/monitoring/drift.json")["retrain"]
    written(root / "log", lines([nothing, taller(3)])[:12])
    calm = CliRunner().invoke(
        monitor_cli.monitor,
        ["tiny", "--log", str(root / "log"), "--model", str(source), "--out", str(root / "out")],
    )
    assert calm.exit_code == 0, calm.output
    assert "still filling" in calm.output and (root / "out" / "index.html").is_file()


def test_without_a_champion_or_a_carried_model_of_it_there_is_nothing_to_compare_with(
    root: Path,
) -> None:
    write_json(root / "bento" / "carried" / "origin.json", {"recipe": "other"})
    with pytest.raises(ConfigError, match="tiny: expected a champion, or a carried model of it"):
        find_reference(root, "tiny")


def test_the_carried_model_has_its_reference() -> None:
    found = read_reference(HERE / "bento" / "carried" / "reference.json")
    assert found.weights == read_json(HERE / "bento" / "carried" / "model.json")["weights_sha256"]
    assert len(found.inputs["amplitude_mv"]) == len(found.shares) == 22


@pytest.mark.parametrize("retrain", [True, False])
def test_only_persistent_drift_starts_retraining(
    retrain: bool, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(root / "logs.jsonl", [])
    watched = Watched(retrain, {"words": "as told"}, "here", WEIGHTS, root)
    begun: list[tuple[str, dict[str, Any], str]] = []

    def begin(*asked: Any) -> Any:
        begun.append(asked)
        return SimpleNamespace(name="a run", created=None, state=None)

    monkeypatch.setattr(monitoring, "watch", lambda *_: watched)
    monkeypatch.setattr(deployments, "_begin", begin)
    monkeypatch.setattr(deployments, "create_markdown_artifact", lambda *_, **__: None)
    monkeypatch.setattr(deployments, "get_run_logger", lambda: logging.getLogger("none"))
    state = deployments.watch_drift.fn("tiny", ["*.jsonl"], promotion="ask")
    assert state.type == "COMPLETED"
    parameters = {"recipe": "tiny", "promotion": "ask"}
    assert [(name, given) for name, given, _ in begun] == (
        [(deployments.RETRAIN, parameters)] if retrain else []
    )
    if retrain:
        # For the same model, in the same week, it is the same reason.
        deployments.watch_drift.fn("tiny", ["*.jsonl"], promotion="ask")
        assert begun[0] == begun[1] and WEIGHTS in begun[0][2]


def test_without_a_log_or_a_request_yet_nothing_has_failed(root: Path) -> None:
    carried = root / "bento" / "carried"
    write_json(carried / "origin.json", {"recipe": "tiny"})
    write_reference(carried / "reference.json")
    none = deployments.watch_drift.fn("tiny", ["logs/*.jsonl"])
    assert none.type == "COMPLETED" and "logs/*.jsonl: no log yet" in str(none.message)
    # Of the champion before, all of them.
    written(root / "a.jsonl", [line(0, weights="cd" * 32)])
    early = deployments.watch_drift.fn("tiny", ["*.jsonl*"])
    assert early.type == "COMPLETED" and "nothing to compare yet: log: " in str(early.message)
    (root / "a.jsonl.gz").write_bytes(b"no gzip")
    unreadable = deployments.watch_drift.fn("tiny", ["*.jsonl*"])
    assert unreadable.type == "FAILED" and "cannot be read" in str(unreadable.message)
    (carried / "reference.json").unlink()
    without = deployments.watch_drift.fn("tiny", ["*.jsonl"])
    assert without.type == "FAILED" and "expected a champion" in str(without.message)
