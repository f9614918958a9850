"""What a watch does where retraining was started before for the same reason."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.states import Crashed, Failed, Running, State

from pipelines import deployments

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


def test_what_failed_three_times_fails_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    state, made = started(monkeypatch, [Failed(message="no disk")] * 3)
    assert (state.is_failed(), made) == (True, 3)
    assert "failed 3 times" in str(state.message) and "no disk" in str(state.message)
