"""The context of the image, served as the Dockerfile has it, without an engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ecgbeats.errors import DataError, ServiceError
from ecgbeats.files import sha256_tree
from ecgbeats.golden import read_golden
from ecgbeats.imaging.png import encode_png
from pipelines import dockerfile, loopback, packaging
from pipelines.container import write_context
from tests.support.bentos import PROJECT, Built

pytestmark = pytest.mark.service


def command(context: Path, port: int) -> list[str]:
    """CMD of the Dockerfile, at another address."""
    lines = (context / dockerfile.DOCKERFILE).read_text("utf-8").splitlines()
    (found,) = [line.removeprefix("CMD ") for line in lines if line.startswith("CMD ")]
    words = json.loads(found)
    assert words[0] == "bentoml" and words[-1] == "3000" and "0.0.0.0" in words
    words = ["127.0.0.1" if word == "0.0.0.0" else word for word in words[1:-1]]
    return [sys.executable, "-P", "-m", "bentoml", *words, str(port)]


def test_the_context_serves_by_itself_and_nothing_is_written_into_it(
    built: Built, tmp_path: Path
) -> None:
    context = write_context(PROJECT, built.tag, tmp_path / "context")
    for path in (context, *context.rglob("*")):
        # By whom it does not belong to.
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644)
    # What the image installs: the bento's own packages, each with the hashes of its wheels.
    hashed = (context / "src" / packaging.HASHED).read_text("utf-8").replace("\\\n", "")
    lines = hashed.splitlines()
    assert lines and all("--hash=sha256:" in line for line in lines)
    plain = (context / "src" / packaging.REQUIREMENTS).read_text("utf-8")
    assert [line.partition(" --hash=")[0].split() for line in lines] == [
        line.split() for line in plain.splitlines()
    ]
    before = sha256_tree(context)
    port = loopback.free_port()
    # Of the machine's store it knows nothing, as in a container.
    env = {**os.environ, "BENTOML_HOME": str(tmp_path / "home"), "BENTOML_DO_NOT_TRACK": "True"}
    env["PYTHONDONTWRITEBYTECODE"] = "1"
    log = (tmp_path / "log").open("wb")
    process = subprocess.Popen(command(context, port), cwd=context, env=env, stdout=log, stderr=log)
    try:
        with loopback.session() as session:
            url = f"http://127.0.0.1:{port}"
            packaging._wait_until_ready("context", url, process, tmp_path / "log", 120)
            golden = read_golden(built.golden)
            png = encode_png(golden.images[0], golden.spec_id)
            answer = session.post(f"{url}/classify", files={"file": png}, timeout=30)
            assert answer.status_code == 200
            beside = session.get(f"{url}/model", timeout=30).json()["beside"]
            assert [card["name"] for card in beside] == [built.beside.about.name]
            time.sleep(1)  # what it imports later, it imports now
    finally:
        loopback.stop(process, 20)
        log.close()
    assert sha256_tree(context) == before


def test_the_image_that_bentoml_makes_has_the_same_base(built: Built) -> None:
    text = (built.folder / "env" / "docker" / "Dockerfile").read_text("utf-8")
    assert f"FROM {dockerfile.base_image(PROJECT)} AS" in text
    assert "\nUSER bentoml" in text


def test_no_other_folder_is_overwritten_and_no_other_bento_made_up(
    built: Built, tmp_path: Path
) -> None:
    (tmp_path / "diary.txt").write_text("dear")
    with pytest.raises(DataError, match="found other files"):
        write_context(PROJECT, built.tag, tmp_path)
    with pytest.raises(ServiceError, match="ecgbeats-none:1: expected a bento of the store"):
        write_context(PROJECT, "ecgbeats-none:1", tmp_path / "new")
