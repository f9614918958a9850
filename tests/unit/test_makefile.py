"""The Makefile: names that other people give, of branches and tags, are words and never code."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

HERE = Path(__file__).parents[2]


@pytest.mark.parametrize("given", ["environment", "argument"])
def test_the_name_of_a_tag_is_not_run_by_the_shell(given: str, tmp_path: Path) -> None:
    told, trap = tmp_path / "told", tmp_path / "trap"
    (tmp_path / "gh").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {told}\n')
    (tmp_path / "gh").chmod(0o755)
    tag = f'v1";touch {trap};"`touch {trap}`'
    env = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    command = ["make", "--file", str(HERE / "Makefile"), "publish"]
    if given == "environment":
        env["TAG"] = tag
    else:
        command.append(f"TAG={tag}")
    subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True, timeout=60)
    assert not trap.exists()
    assert told.read_text().splitlines()[:3] == ["release", "create", tag]
