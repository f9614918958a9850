"""docs/faults.md names checks and tests: all of them are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.fault_report import ELSEWHERE
from tests.support.projects import HERE

pytestmark = pytest.mark.unit

TEXT = (HERE / "docs/faults.md").read_text("utf-8")


def sources(folder: str) -> str:
    return "".join(path.read_text("utf-8") for path in sorted((HERE / folder).rglob("*.py")))


def test_each_test_that_the_page_names_is_there() -> None:
    tests = sources("tests")
    named = set(re.findall(r"`(test_\w+)`", TEXT))
    assert len(named) > 20
    assert not {name for name in named if f"def {name}(" not in tests}
    files = set(re.findall(r"`((?:tests|pipelines)/[\w/]+\.\w+)`", TEXT))
    assert not {name for name in files if not Path(HERE / name).is_file()}


def test_each_test_that_the_page_names_is_run_for_it() -> None:
    opening = TEXT.partition("\n## ")[0]
    alone = set(re.findall(r"`(test_\w+)`", opening.partition("`make test` alone")[2]))
    assert alone
    here = sources("tests/faults")
    there = {name.partition("::")[2] for name in ELSEWHERE}
    named = set(re.findall(r"`(test_\w+)`", TEXT))
    assert {name for name in named if f"def {name}(" not in here} - alone == named & there
    for name in ELSEWHERE:
        file, _, test = name.partition("::")
        assert f"def {test}(" in (HERE / file).read_text("utf-8"), name


def test_each_check_that_the_page_names_is_there() -> None:
    rows = TEXT.partition("## Data")[2].partition("## Services")[0]
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", rows)) - set(
        re.findall(r"`(test_\w+)`", rows)
    )
    assert len(named) >= 12
    checks = sources("src/ecgbeats/validation") + sources("src/ecgbeats/additions")
    assert not {name for name in named if f'"{name}"' not in checks}
