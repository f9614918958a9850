"""An upgrade under load: two real bentos behind the switch, one in the other's place."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.packaging import build_bento
from tests.support.bentos import ABOUT, PROJECT, Built
from tests.support.tiny_model import write_tiny_golden, write_tiny_model

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
    done = subprocess.run(
        [sys.executable, str(script), "--first", built.tag, "--second", second, "--clients", "4"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["failed"] == 0 and found["statuses"] == {"200": found["answers"]}
    assert set(found["by_model"]) == {"ecgbeats-tiny 3", "ecgbeats-tiny-next 4"}
    assert found["last_by"] == "ecgbeats-tiny-next 4"
    # Of both there were enough that a gap between them would have met somebody.
    assert min(found["by_model"].values()) > 20
