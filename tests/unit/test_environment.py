"""Settings of the project's tools: defaults, which only what somebody has set replaces."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipelines.environment import prepare

pytestmark = pytest.mark.unit


def test_what_is_set_wins_and_an_empty_setting_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As CI gives a secret that is not there.
    given = {"MLFLOW_TRACKING_URI": "", "PREFECT_HOME": "/elsewhere", "PATH": os.defpath}
    given["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "300"
    monkeypatch.setattr(os, "environ", given)
    prepare(tmp_path)
    assert given["MLFLOW_TRACKING_URI"] == f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert given["PREFECT_HOME"] == "/elsewhere"
    assert given["BENTOML_HOME"] == str(tmp_path / ".bentoml")
    assert given["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "300"
    assert given["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "2"
