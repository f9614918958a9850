"""How retraining starts: once for one reason, alone in its folder, from the data that are there."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.states import Crashed, Failed, Running, State

from ecgbeats.errors import ConfigError, ServiceError
from pipelines import deployments
from pipelines.alone import alone
from pipelines.retrain import Run, _run_stage, retrain

pytestmark = pytest.mark.unit

REJECTED = Failed(name="Rejected", message="the gate says no")


def started(monkeypatch: pytest.MonkeyPatch, before: list[State[Any]]) -> tuple[State[Any], int]:
    """The watch's state, and how many runs there are then; `before` are those of earlier looks."""
    held = {f"key-{k}" if k else "key": state for k, state in enumerate(before)}

    def begin(deployment: str, parameters: dict[str, Any], key: str) -> Any:
        created = datetime(2026, 1, 1, tzinfo=UTC) if key in held else datetime.now(UTC)
        state = held.setdefault(key, Running())
        return SimpleNamespace(name=key, state=state, created=created)

    monkeypatch.setattr(deployments, "_begin", begin)
    monkeypatch.setattr(deployments, "get_run_logger", lambda: logging.getLogger("tests"))
    return deployments._start({"recipe": "tiny"}, "key", "new data"), len(held)


@pytest.mark.parametrize(
    ("before", "runs", "says"),
    [
        ([], 1, "is started: flow run key"),
        ([Running()], 1, "was started before: flow run key"),
        ([Failed(message="no disk")], 2, "is started: flow run key-1"),
        ([Failed(), Crashed()], 3, "is started: flow run key-2"),
        ([REJECTED], 1, "was started before: flow run key"),
    ],
)
def test_what_failed_is_started_again_and_nothing_else(
    before: list[State[Any]], runs: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, made = started(monkeypatch, before)
    assert (state.is_completed(), made) == (True, runs)
    assert says in str(state.message)


def test_additions_of_a_retraining_wait_for_the_run_that_is_at_work(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("whoever reads it fails")
    with alone(tmp_path):
        run = retrain(tmp_path, "tiny", with_=("ward",))
    assert isinstance(run.error, ServiceError) and "another run is at work" in str(run.error)
    # Then it is read.
    assert isinstance(retrain(tmp_path, "tiny", with_=("ward",)).error, ConfigError)


def test_data_that_are_there_are_said_to_be_taken_instead_of_the_mirror(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    log = logging.getLogger("tests")
    monkeypatch.setattr("pipelines.retrain.get_run_logger", lambda: log)
    dag: Any = SimpleNamespace(unchanged=lambda _: True)
    said = {}
    for mirror in ("", "/pictures"):
        monkeypatch.setenv("ECGBEATS_MIRROR", mirror)
        for name in ("fetch", "render"):
            stage: Any = SimpleNamespace(name=name, address=f"{name}@p", outs=("data/raw/p",))
            caplog.clear()
            with caplog.at_level(logging.INFO):
                _run_stage.fn(tmp_path, dag, None, Run("tiny"), stage)
            said[name, mirror] = caplog.messages
    assert said["fetch", "/pictures"] == [
        "fetch@p: unchanged, skipped",
        "fetch@p: the mirror was not read, for data/raw/p is there; remove it to take the mirror's",
    ]
    assert all(len(said[key]) == 1 for key in said if key != ("fetch", "/pictures"))


def test_a_period_of_no_days_is_refused() -> None:
    for days in (0, -1, float("nan")):
        state = deployments.watch_drift.fn("tiny", [], again_after_days=days)
        assert state.is_failed() and "expected more than 0" in str(state.message)


def test_what_failed_three_times_fails_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    state, made = started(monkeypatch, [Failed(message="no disk")] * 3)
    assert (state.is_failed(), made) == (True, 3)
    assert "failed 3 times" in str(state.message) and "no disk" in str(state.message)
