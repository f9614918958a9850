"""The report of `make test-faults`: no failure is missed, and nothing that was not met counts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ecgbeats.files import read_json
from tests.support.projects import HERE

pytestmark = pytest.mark.unit

_TESTS = """\
import os, pytest
from tests.support.fault_report import Tried

@pytest.fixture
def tried(request):
    return Tried(request.node.user_properties)

@pytest.fixture
def broken():
    raise RuntimeError

@pytest.fixture
def breaks_after():
    yield
    raise RuntimeError

def test_met(tried):
    with tried("kill"):
        pass
    with tried("kill") as fault:
        fault.met = False

def test_lost(tried):
    with tried("kill"):
        assert False

def test_fails_beside(tried):
    with tried("service"):
        pass
    assert False

def test_setup(tried, broken):
    with tried("kill"):
        pass

def test_teardown(tried, breaks_after):
    with tried("kill"):
        pass

def test_skipped():
    pytest.skip("no root")
"""


def test_each_failure_is_lost_and_what_was_not_met_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(_TESTS)
    (tmp_path / "test_none.py").write_text("import nothing_of_that_name")
    env = os.environ | {"PYTHONPATH": str(HERE), "ECGBEATS_FAULTS_REPORT": str(tmp_path / "report")}
    words = ["-q", "-c", os.devnull, "--rootdir", ".", "--continue-on-collection-errors"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, "-p", "tests.support.fault_report", "."],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stdout
    found = read_json(tmp_path / "report/faults.json")
    assert found["kinds"] == [
        {"kind": "kill", "tried": 3, "survived": 2, "lost": 1, "not_met": 1},
        # Not collected; failed beside its fault; in its setup; in its teardown.
        {"kind": "other", "tried": 4, "survived": 0, "lost": 4, "not_met": 0},
        {"kind": "service", "tried": 1, "survived": 1, "lost": 0, "not_met": 0},
    ]
    assert (found["tried"], found["survived"], found["lost"], found["not_met"]) == (8, 3, 5, 1)
    assert len(found["broken"]) == 5 and "no root" in found["skipped"][0]
    page = (tmp_path / "report/faults.md").read_text()
    assert "8 tried, 3 survived, 5 lost" in page and "| kill | 3 | 2 | 1 | 1 |" in page
