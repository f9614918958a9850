"""DVC's remote behind S3's protocol: what one machine pushes, an empty one pulls."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.projects import Project, tiny_params
from tests.support.servers import BUCKET, CREDENTIALS, s3_server

pytestmark = pytest.mark.pipeline

DATA = "fetch@small"


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with s3_server() as url:
        yield url


def test_what_is_pushed_to_s3_comes_back_to_an_empty_machine(s3: str, tmp_path: Path) -> None:
    params = tiny_params()
    params["datasets"]["small"] |= {"patients": 4, "minutes": 0.6}
    project = Project.create(tmp_path / "here", params)
    project = replace(project, env={**project.env, **CREDENTIALS, "NO_PROXY": "127.0.0.1"})
    project.call("dvc", "repro", DATA, check=True)
    # As docs/remotes.md says it.
    for words in (
        ("add", "--default", "storage", f"s3://{BUCKET}/dvc"),
        ("modify", "storage", "endpointurl", s3),
    ):
        project.call("dvc", "remote", *words, check=True)
    pushed = project.call("dvc", "push", DATA)
    assert pushed.returncode == 0 and "pushed" in pushed.stdout, pushed.stderr
    files = [path for path in (project.root / "data").rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    assert len([path for path in before if path.suffix == ".dat"]) == 4
    for name in ("data", ".dvc/cache", ".dvc/tmp"):
        shutil.rmtree(project.root / name)
    pulled = project.call("dvc", "pull", DATA)
    assert pulled.returncode == 0, pulled.stderr
    assert before == {path: path.read_bytes() for path in before}
    assert "up to date" in project.call("dvc", "status", DATA, check=True).stdout
