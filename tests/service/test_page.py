"""The page in a real browser, by what a person does with it."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.testclient import TestClient

from bento.keys import ApiKeys, Key, Keyring
from bento.routes import Routes
from ecgbeats.imaging.png import encode_png
from tests.support.bentos import PROJECT
from tests.support.pictures import as_jpeg, picture
from tests.support.tiny_model import CLASSES, SPEC, random_images

pytestmark = [pytest.mark.service, pytest.mark.browser]

SAMPLES = PROJECT / "bento" / "page" / "samples"
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# A browser of a test looks nothing up and reports nothing.
OPTIONS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip
PATIENCE_MS = 20_000


@contextmanager
def listening(app: Any) -> Iterator[str]:
    """The service that other tests ask in this process, on a port of its own besides."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        # BentoML counts for Prometheus by process: a second application would not start.
        config = uvicorn.Config(app, log_level="warning", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            end = time.monotonic() + 60
            while not server.started and thread.is_alive() and time.monotonic() < end:
                time.sleep(0.05)
            assert server.started
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join(30)


@pytest.fixture(scope="module")
def url(client: TestClient) -> Iterator[str]:
    with listening(client.app) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    named = os.environ.get("ECGBEATS_TEST_BROWSER")
    path = named or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(
            "THE PAGE IS NOT TESTED: no Chromium on the path; install one, or name it by "
            "ECGBEATS_TEST_BROWSER"
        )
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=path, args=OPTIONS)
        yield started
        started.close()


@pytest.fixture(params=["desktop"])
def page(request: pytest.FixtureRequest, browser: Any, url: str) -> Iterator[Any]:
    """The page, open; what it complains of, or asks elsewhere for, fails the test."""
    size = {"desktop": (1280, 900), "phone": (360, 740)}[request.param]
    context = browser.new_context(viewport={"width": size[0], "height": size[1]})
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE_MS)
    troubles: list[str] = []
    refusals = "Failed to load resource: the server responded with a status of 4"
    opened.on(
        "console",
        lambda said: (
            troubles.append(said.text)
            if said.type in ("error", "warning") and not said.text.startswith(refusals)
            else None
        ),
    )
    opened.on("pageerror", lambda error: troubles.append(str(error)))
    opened.on(
        "request",
        lambda sent: (
            None if sent.url.startswith((url, "data:", "blob:")) else troubles.append(sent.url)
        ),
    )
    opened.goto(url)
    opened.wait_for_selector("html[data-ready]")
    yield opened
    context.close()
    assert not troubles


def give(page: Any, *files: Path | tuple[str, bytes]) -> None:
    page.set_input_files(
        "#files",
        [
            {"name": file[0], "mimeType": "application/octet-stream", "buffer": file[1]}
            if isinstance(file, tuple)
            else {
                "name": file.name,
                "mimeType": "application/octet-stream",
                "buffer": file.read_bytes(),
            }
            for file in files
        ],
    )


def labels(page: Any) -> list[str]:
    found: list[str] = page.locator("#result .verdict .tag").all_text_contents()
    return found


def shown(page: Any, selector: str) -> bool:
    """Whether an image is there and holds a picture."""
    page.wait_for_selector(selector)
    script = (
        "([s]) => { const i = document.querySelector(s); return i.complete ? i.naturalWidth : 0; }"
    )
    page.wait_for_function(script, arg=[selector])
    return True


def test_a_sample_beat_is_answered_in_one_click_and_explained_on_demand(page: Any) -> None:
    assert page.locator("#sample-beats button").count() == len(CLASSES)
    page.click("#sample-beats button:first-child")
    page.wait_for_selector("#result .bars")
    assert len(labels(page)) == 3 and set(labels(page)) <= set(CLASSES)
    first = page.locator("#result .bars").first
    assert first.locator("li").count() == len(CLASSES)
    assert first.locator(".number").first.inner_text().endswith("%")
    assert shown(page, "#result figure img")
    assert page.locator("#result .saliency img").count() == 0
    page.click("#result .saliency button >> nth=0")
    assert shown(page, "#result .saliency img")
    assert "blue against" in page.locator("#result .saliency figcaption").inner_text()


def test_a_sample_recording_is_looked_through_beat_by_beat(page: Any) -> None:
    page.click("[data-record=s002]")
    page.wait_for_selector("#chosen h3")
    counts = page.locator("#result .counts li").all_text_contents()
    assert len(counts) == len(CLASSES)
    inked = page.evaluate(
        """() => { const c = document.querySelector("#detail");
        const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
        const seen = new Set();
        for (let i = 0; i < d.length; i += 4) seen.add(d[i] << 16 | d[i + 1] << 8 | d[i + 2]);
        return seen.size; }"""
    )
    assert inked > 20
    before = page.inner_text("#chosen h3")
    page.click("#next")
    page.wait_for_function("h => document.querySelector('#chosen h3').innerText !== h", arg=before)
    second = page.inner_text("#chosen h3")
    page.click("#previous")
    page.wait_for_function("h => document.querySelector('#chosen h3').innerText !== h", arg=second)
    assert page.inner_text("#chosen h3") == before
    # The same by keyboard.
    page.focus("#detail")
    page.keyboard.press("End")
    last = page.inner_text("#chosen h3")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#chosen h3") != last
    page.click("#show-picture")
    assert shown(page, "#chosen figure img")
    page.click("#chosen .saliency button")
    assert shown(page, "#chosen .saliency img")
    with page.expect_download() as download:
        page.click("#download")
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text())))
    assert download.value.suggested_filename == "beats.csv"
    total = sum(int(text.split()[1].replace(",", "")) for text in counts)
    assert len(rows) == total and {row["label"] for row in rows} <= set(CLASSES)
    assert "Against the annotations" in page.inner_text("#result")


def test_ones_own_pictures_samples_and_records_are_taken(page: Any) -> None:
    give(page, ("mine.png", encode_png(random_images(1)[0], SPEC.spec_id)))
    page.wait_for_selector("#result .bars")
    assert "mine.png" in page.inner_text("#result")
    # One from elsewhere is shown beside what the model was given of it.
    give(page, ("theirs.jpg", as_jpeg(picture("Wide", 3))))
    page.wait_for_function("() => document.querySelector('#result').innerText.includes('theirs')")
    assert shown(page, "#result .seen img")
    assert "As the model saw it" in page.inner_text("#result .seen")
    sizes = page.eval_on_selector_all("#result figure img", "all => all.map(i => i.naturalWidth)")
    assert sizes == [144, SPEC.width]
    give(page, *(SAMPLES / f"s006.{suffix}" for suffix in ("hea", "dat")))
    page.wait_for_selector("#chosen")
    assert page.inner_text("#result h2") == "s006"
    assert "Against the annotations" not in page.inner_text("#result")
    give(page, SAMPLES / "one-lead.csv")
    page.wait_for_function(
        "n => document.querySelector('#result h2')?.innerText === n", arg="one-lead.csv"
    )
    assert "found in the signal" in page.inner_text("#result")


def test_a_dropped_file_is_taken_as_a_chosen_one(page: Any) -> None:
    content = list(encode_png(random_images(1, seed=2)[0], SPEC.spec_id))
    data = page.evaluate_handle(
        """bytes => { const d = new DataTransfer();
        d.items.add(new File([new Uint8Array(bytes)], "dropped.png", {type: "image/png"}));
        return d; }""",
        content,
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": data})
    page.wait_for_selector("#result .bars")
    assert "dropped.png" in page.inner_text("#result")


def test_what_cannot_be_taken_is_said_in_words_and_can_be_mended(page: Any) -> None:
    values = "\n".join((SAMPLES / "one-lead.csv").read_text().split("\n")[1:])
    column = "\n".join(line.split(",")[1] for line in values.strip().split("\n"))
    give(page, ("mine.csv", f"whatever\n{column}\n".encode()))
    page.wait_for_selector("#error:not([hidden])")
    assert "how many samples a second" in page.inner_text("#error")
    assert page.evaluate("document.activeElement.id") == "fs"
    page.keyboard.type("360")
    give(page, ("mine.csv", f"whatever\n{column}\n".encode()))
    page.wait_for_selector("#chosen")
    assert page.locator("#error").is_hidden()
    for file, words in (
        (("a.png", b"no picture"), "no PNG or JPEG"),
        (("a.csv", b"heart,of\ngold\n"), "table of numbers"),
        (("a.json", json.dumps({"fs": 360}).encode()), "no recording"),
        (("a.dat", b"123"), "header (.hea)"),
        (("a.zip", b"PK\x03\x04"), "archive is damaged"),
        (("a.doc", b"123"), "Please give pictures"),
    ):
        give(page, file)
        page.wait_for_function(
            "w => document.querySelector('#error:not([hidden])')?.innerText.includes(w)", arg=words
        )
    assert page.locator("#status").is_hidden()


def test_classes_and_model_are_read_without_a_mouse(page: Any) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(3):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("#view-classes:not([hidden]) article")
    assert page.locator("#class-cards article").count() == len(CLASSES)
    assert page.locator("#class-cards figure svg").count() == 3 * len(CLASSES)
    assert page.inner_text("nav [aria-current]") == "Classes"
    page.click("nav >> text=Model")
    page.wait_for_selector("#view-model:not([hidden]) article")
    text = page.inner_text("#model-cards")
    assert "ecgbeats-tiny, version 3" in text and "8e6c9d1" in text
    assert "No medical device" in page.inner_text("[role=note]")
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, a, input, select, img, canvas")].filter(
        e => !(e.innerText || e.ariaLabel || e.labels?.length || e.hasAttribute("alt")
        || e.ariaHidden || e.hidden)).length"""
    )
    assert nameless == 0


@pytest.mark.parametrize("page", ["phone"], indirect=True)
def test_on_a_phone_nothing_lies_beside_the_screen(page: Any) -> None:
    def width() -> int:
        return int(page.evaluate("document.documentElement.scrollWidth"))

    assert width() == 360
    give(page, ("theirs.jpg", as_jpeg(picture("Wide", 3))))
    assert shown(page, "#result .seen img")
    assert width() == 360
    page.click("[data-record=s006]")
    page.wait_for_selector("#chosen h3")
    page.click("#show-picture")
    assert shown(page, "#chosen figure img")
    assert width() == 360
    for view in ("classes", "model"):
        page.click(f"nav a[href='#{view}']")
        page.wait_for_selector(f"#view-{view}:not([hidden]) article")
        assert width() == 360
    small = page.evaluate(
        """() => [...document.querySelectorAll("#view-try button, nav a")].filter(e => {
        const b = e.getBoundingClientRect(); return b.height && b.height < 40; }).length"""
    )
    assert small == 0


def test_where_a_key_is_wanted_the_page_asks_for_it_once(browser: Any, client: TestClient) -> None:
    known = Keyring([Key("ward", hashlib.sha256(b"open-sesame").hexdigest())])
    routes = Routes.of(["/model", "/classes", "/classify", "/classify_record"])
    with listening(ApiKeys(client.app, known, routes)) as address:
        page = browser.new_context().new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(address)
        page.wait_for_selector("#key-dialog[open]")
        assert "wants a key" in page.inner_text("#key-words")
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        page.wait_for_function(
            "() => document.getElementById('key-words').textContent.includes('not known')"
        )
        page.fill("#key", "open-sesame")
        page.click("#key-dialog button.primary")
        page.wait_for_selector("html[data-ready]")
        give(page, ("beat.png", encode_png(random_images(1)[0], SPEC.spec_id)))
        page.wait_for_selector("#result .verdict")
        # Kept in this tab alone, and in no address, cookie or lasting store.
        assert page.evaluate("Object.values(sessionStorage)") == ["open-sesame"]
        assert page.evaluate("localStorage.length + document.cookie.length") == 0
        assert "sesame" not in page.url
        page.reload()
        page.wait_for_selector("html[data-ready]")
        assert page.evaluate("document.querySelector('dialog[open]')") is None
        page.context.close()
        stranger = browser.new_context().new_page()
        stranger.goto(address)
        stranger.wait_for_selector("#key-dialog[open]")
        stranger.click("#key-cancel")
        stranger.wait_for_selector("#error:not([hidden])")
        assert "wants a key" in stranger.inner_text("#error")
        stranger.context.close()
