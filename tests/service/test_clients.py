"""The code of docs/clients.md, as it stands there, against a served bento.

Only the address is another. Node and a browser are asked where they are at hand.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ecgbeats.golden import read_golden
from ecgbeats.imaging.png import encode_png
from pipelines.packaging import served
from tests.support.bentos import PROJECT, Built
from tests.support.tiny_model import CLASSES

pytestmark = pytest.mark.service

PAGE = PROJECT / "docs" / "clients.md"
WRITTEN = "http://127.0.0.1:3000"
SAMPLES = PROJECT / "bento" / "page" / "samples"


def snippet(heading: str) -> str:
    """The one block of code under a heading of the page."""
    section = PAGE.read_text("utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    (code,) = re.findall(r"^```\w+\n(.*?)^```", section, re.M | re.S)
    assert WRITTEN in code
    return str(code)


@pytest.fixture(scope="module")
def url(built: Built) -> Iterator[str]:
    with served(built.tag, workers=2) as (address, _):
        yield address


@pytest.fixture
def folder(built: Built, tmp_path: Path) -> Path:
    """What the page says lies beside the code."""
    golden = read_golden(built.golden)
    (tmp_path / "beat.png").write_bytes(encode_png(golden.images[0], golden.spec_id))
    for name in ("s002.hea", "s002.dat", "one-lead.csv"):
        shutil.copyfile(SAMPLES / name, tmp_path / name)
    return tmp_path


def run(command: list[str], folder: Path) -> str:
    """What `command` prints, run in `folder`, past whatever proxy there is."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "NO_PROXY": "127.0.0.1", "BENTOML_DO_NOT_TRACK": "True"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_curl(url: str, folder: Path, built: Built) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not on the path")
    code = snippet("Shell").replace(WRITTEN, url)
    answer = json.loads(run(["bash", "-eo", "pipefail", "-c", code], folder))
    given = answer["results"][0]["probabilities"]
    np.testing.assert_allclose(
        list(given.values()), read_golden(built.golden).probabilities[0], atol=1e-5
    )
    of_file, of_body = (json.loads((folder / f"{k}.json").read_text()) for k in ("signal", "body"))
    assert of_file["beats"] == of_body["beats"] and len(of_file["beats"]) > 30
    assert len(json.loads((folder / "record.json").read_text())["beats"]) > 30
    assert (folder / "why.png").read_bytes().startswith(b"\x89PNG")


def test_bentomls_client(url: str, folder: Path) -> None:
    code = snippet("Python, by BentoML").replace(WRITTEN, url)
    lines = run([sys.executable, "-c", code], folder).splitlines()
    assert lines[0].split()[0] in (*CLASSES, "uncertain") and int(lines[2]) > 30
    assert (folder / "why.png").read_bytes().startswith(b"\x89PNG")


def test_requests(url: str, folder: Path) -> None:
    code = snippet("Python, by requests").replace(WRITTEN, url)
    assert run([sys.executable, "-c", code], folder).split()[0] in (*CLASSES, "uncertain")
    (folder / "beat.png").write_bytes(b"no image")
    with pytest.raises(AssertionError, match="not_an_image: expected a PNG or JPEG image"):
        run([sys.executable, "-c", code], folder)


def test_node(url: str, folder: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("THE SNIPPET FOR NODE IS NOT TESTED: no node on the path")
    (folder / "client.mjs").write_text(snippet("JavaScript, Node 18 and later"))
    script = folder / "client.mjs"
    script.write_text(script.read_text().replace(WRITTEN, url))
    lines = run([node, script.name], folder).splitlines()
    assert len(lines) == 4 and lines[0].startswith("{")
    assert all(line.split()[1] in (*CLASSES, "uncertain") for line in lines[1:])


@pytest.mark.browser
def test_a_browser(url: str, folder: Path) -> None:
    named = os.environ.get("ECGBEATS_TEST_BROWSER")
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    path = named or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("THE SNIPPET FOR BROWSERS IS NOT TESTED: no Chromium on the path")
    from playwright.sync_api import sync_playwright

    code = snippet("JavaScript, in a browser").replace(WRITTEN, url)
    image = list((folder / "beat.png").read_bytes())
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            page = browser.new_page()
            page.goto(url)
            found = page.evaluate(
                f"bytes => {{ {code}\n"
                'return classify(new File([new Uint8Array(bytes)], "beat.png")); }',
                image,
            )
        finally:
            browser.close()
    assert found["label"] in (*CLASSES, "uncertain")
