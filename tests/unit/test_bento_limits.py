import runpy
from typing import Any

import pytest

from ecgbeats.errors import ConfigError

pytestmark = pytest.mark.unit


def limits() -> dict[str, Any]:
    # Run aside: other tests unload the package `bento`, so that no imported module
    # can be relied on to be the one in use.
    return runpy.run_module("bento.limits")


def test_limits_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    before = limits()
    monkeypatch.setenv("ECGBEATS_MAX_FILES", "3")
    monkeypatch.setenv("ECGBEATS_MAX_SECONDS", "6e2")
    set_so = limits()
    assert (set_so["MAX_FILES"], set_so["MAX_SECONDS"]) == (3, 600)
    assert set_so["MAX_FILES"] != before["MAX_FILES"]


@pytest.mark.parametrize("wrong", ["0", "-1", "2.5", "inf", "nan", "many", ""])
def test_a_limit_that_is_no_whole_number_is_refused(
    wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECGBEATS_MAX_FILES", wrong)
    with pytest.raises(ConfigError, match="ECGBEATS_MAX_FILES: expected a whole number"):
        limits()
