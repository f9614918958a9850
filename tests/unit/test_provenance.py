"""Which code is said to have run, who to have decided, and which verdict a CI job shows."""

from __future__ import annotations

import getpass
import os
import subprocess
from pathlib import Path

import pytest

from ecgbeats.files import write_text
from pipelines import provenance
from pipelines.promotion_log import NAME_LENGTH, check_words

pytestmark = pytest.mark.unit

MAKEFILE = Path(__file__).parents[2] / "Makefile"


def test_whoever_runs_has_a_name_that_the_log_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"name": "Ada" * 40}
    monkeypatch.setattr(provenance, "_git", lambda *_: names["name"])
    check_words(provenance.user_of(tmp_path), None)
    assert provenance.user_of(tmp_path) == ("Ada" * 40)[:NAME_LENGTH]

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    names["name"] = ""
    monkeypatch.setattr(getpass, "getuser", nobody)
    assert provenance.user_of(tmp_path) == f"uid {os.getuid()}"


def test_whatever_lies_about_in_a_checkout_its_code_has_a_hash(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=Ada", "-c", "user.email=ada@localhost"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True)

    def changed() -> bool:
        found.append(provenance.code_of(tmp_path))
        return found[-1].dirty and found[-1] not in found[:-1]

    found: list[provenance.Code] = []
    (tmp_path / "tracked").write_text("a")
    git("init", "--quiet")
    git("add", "tracked")
    git("commit", "--quiet", "--message", "first")
    assert not provenance.code_of(tmp_path).dirty
    (tmp_path / "tracked").write_bytes(b"caf\xe9")
    assert changed(), "Latin-1 in a tracked file"
    for name in ("\u00dcbersicht", "two\nlines", os.fsdecode(b"caf\xe9")):
        (tmp_path / name).write_text("one")
        assert changed(), name
        (tmp_path / name).write_text("other")
        assert changed(), f"content of {name}"
    link = tmp_path / "link"
    for target in ("nowhere", "elsewhere", "."):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        assert changed(), f"link to {target}"
    git("init", "--quiet", "nested")
    (tmp_path / "nested" / "file").touch()
    assert changed(), "a repository within"

    with (tmp_path / ".git" / "config").open("ab") as config:
        config.write(b"[user]\n\tname = Andr\xe9\n")
    check_words(provenance.user_of(tmp_path), None)


def test_a_verdict_of_files_that_came_later_is_the_one_shown(tmp_path: Path) -> None:
    def shown() -> str:
        env = {key: value for key, value in os.environ.items() if key != "GITHUB_STEP_SUMMARY"}
        command = ["make", "-s", "-f", str(MAKEFILE), "job-summary", "RECIPE=tiny"]
        done = subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert shown().startswith("no verdict on tiny")
    files, whole = (tmp_path / "reports/tiny" / name for name in ("verdict.md", "gate/verdict.md"))
    write_text(files, "FAILED")
    assert shown() == "FAILED"
    write_text(whole, "passed")
    for path, age in ((files, 100), (whole, 50)):
        os.utime(path, (1e9 - age, 1e9 - age))
    assert shown() == "passed"
    os.utime(files, (1e9, 1e9))
    assert shown() == "FAILED"
