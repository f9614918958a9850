import importlib

import pytest

from bento import limits
from ecgbeats.errors import ConfigError

pytestmark = pytest.mark.unit


def test_limits_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    before = limits.MAX_FILES
    try:
        monkeypatch.setenv("ECGBEATS_MAX_FILES", "3")
        monkeypatch.setenv("ECGBEATS_MAX_SECONDS", "6e2")
        again = importlib.reload(limits)
        assert (again.MAX_FILES, again.MAX_SECONDS) == (3, 600)
        for wrong in ("0", "-1", "2.5", "inf", "nan", "many", ""):
            monkeypatch.setenv("ECGBEATS_MAX_FILES", wrong)
            with pytest.raises(ConfigError, match="ECGBEATS_MAX_FILES: expected a whole number"):
                importlib.reload(limits)
    finally:
        monkeypatch.undo()
        importlib.reload(limits)
    assert before == limits.MAX_FILES
