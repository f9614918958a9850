"""The weekly job: it tries what the bounds forbid, and is heard when it fails or hangs."""

from __future__ import annotations

import runpy
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
lift = runpy.run_path(str(ROOT / ".ci" / "newest.py"))["lift"]


def requirements(pyproject: dict[str, Any]) -> list[Requirement]:
    """All that is installed; groups name groups, too."""
    groups = pyproject["dependency-groups"].values()
    found = [*pyproject["project"]["dependencies"], *(each for group in groups for each in group)]
    return [Requirement(each) for each in found if isinstance(each, str)]


def test_only_upper_bounds_are_lifted() -> None:
    text = """
[project]
requires-python = ">=3.11,<3.12"
dependencies = [
    "a>=1.2,<1.3",  # <- why
    "b[x, y] >= 1, < 2, != 1.5 ; python_version < '3.12'",
    "c<3", "d", "e==2.1.*", "f~=1.4",
]
[dependency-groups]
more = ["g-h>=1,<=2", {include-group = "rest"}]
rest = ["i"]
[tool.uv]
constraint-dependencies = ["a<1.3"]
"""
    lifted = lift(text)
    assert lifted.partition("[tool.")[2] == text.partition("[tool.")[2]
    assert 'requires-python = ">=3.11,<3.12"' in lifted and "# <- why" in lifted
    assert [str(each) for each in requirements(tomllib.loads(lifted))] == [
        "a>=1.2",
        'b[x,y]!=1.5,>=1; python_version < "3.12"',
        *("c", "d", "e>=2.1", "f>=1.4", "g-h>=1", "i"),
    ]


def test_of_ours_none_is_left() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    before, after = tomllib.loads(text), tomllib.loads(lift(text))
    assert before["tool"] == after["tool"]
    assert before["project"]["requires-python"] == after["project"]["requires-python"]
    named = [[(each.name, each.extras) for each in requirements(of)] for of in (before, after)]
    assert named[0] == named[1]
    operators = {one.operator for each in requirements(after) for one in each.specifier}
    assert operators <= {">=", ">", "!="}


@pytest.mark.parametrize("name", ["newest", "audit"])
def test_a_step_that_hangs_ends_before_its_job(name: str) -> None:
    job = yaml.safe_load((ROOT / ".github/workflows/upkeep.yml").read_text())["jobs"][name]
    # A job that runs out of time is cancelled, whatever its steps would tell.
    assert sum(step["timeout-minutes"] for step in job["steps"]) <= job["timeout-minutes"]
    assert any("tell-broken" in step.get("run", "") for step in job["steps"])
