"""An upgrade under load: two real bentos behind the switch, one in the other's place."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines import loopback
from pipelines.packaging import build_bento
from tests.support.bentos import ABOUT, PROJECT, Built
from tests.support.tiny_model import write_tiny_golden, write_tiny_model

# More than it waits for two bentos (120 s each), switch and plan (60 each), and for all to end.
_PATIENCE_S = 480
pytestmark = pytest.mark.service


def test_no_request_fails_while_a_bento_takes_anothers_place(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A store of its own: other tests say what there is in theirs.
    shutil.copytree(built.home, tmp_path / "home")
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "home"))
    classifier = write_tiny_model(tmp_path / "model", seed=3)
    write_tiny_golden(tmp_path / "golden.npz", classifier)
    about = replace(
        ABOUT, name="ecgbeats-tiny-next", version="4", labels={**ABOUT.labels, "model_version": "4"}
    )
    second = build_bento(tmp_path / "model", tmp_path / "golden.npz", about, project=PROJECT)
    script = PROJECT / "benchmarks" / "serving" / "swap.py"
    out, err = tmp_path / "out", tmp_path / "err"
    with out.open("wb") as to, err.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, script, "--first", built.tag, "--second", second, "--clients", "4"],
            cwd=PROJECT,
            stdout=to,
            stderr=log,
        )
        try:
            process.wait(_PATIENCE_S)
        finally:
            # With the bentos and the switch that it started.
            loopback.stop(process, 20)
    assert process.returncode == 0, out.read_text() + err.read_text()
    found = json.loads(out.read_text())
    assert found["failed"] == 0 and found["statuses"] == {"200": found["answers"]}
    assert set(found["by_model"]) == {"ecgbeats-tiny 3", "ecgbeats-tiny-next 4"}
    assert found["last_by"] == "ecgbeats-tiny-next 4"
    # Of both there were enough that a gap between them would have met somebody.
    assert min(found["by_model"].values()) > 20
