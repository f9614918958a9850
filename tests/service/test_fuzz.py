"""A served bento under hostile requests: nothing fails, grows, is kept or is told.

`make fuzz` asks 5,000 of them; the tests a few hundred, of the same kinds.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest

from pipelines.packaging import build_bento
from tests.support.bentos import ABOUT, PROJECT, Built
from tests.support.fuzzing import Attack, attack, form_post
from tests.support.hostile_files import COMPOSITE, MARK, seeds
from tests.support.serving import Running, running
from tests.support.tiny_model import write_tiny_golden, write_tiny_model

pytestmark = pytest.mark.service

COUNT = int(os.environ.get("ECGBEATS_FUZZ_REQUESTS", "300"))
SEED = int(os.environ.get("ECGBEATS_FUZZ_SEED", "1"))
BATCH = 100
# Of what uvicorn itself answers, before any application is asked.
NOT_HTTP = b"Invalid HTTP request received."
# Two recordings and their answers at work, an unpacked archive, decoded pictures.
GROWTH_MB = 250


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


def sent(port: int, what: Attack, patience_s: float = 20) -> Answer | None:
    """What came back; None where the connection was closed without an answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=patience_s) as connection:
        # Who is refused early is answered before all is written.
        with suppress(ConnectionError):
            for part in what.parts:
                connection.sendall(part)
                if what.pause_s:
                    time.sleep(what.pause_s)
        if what.leaves:
            return None
        # Nothing more to come: what waits for the rest of a body is told so.
        if what.kind == "wire":
            with suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
        answer = http.client.HTTPResponse(
            connection, method="HEAD" if what.parts[0].startswith(b"HEAD") else "POST"
        )
        try:
            answer.begin()
            body = answer.read()
        except TimeoutError:
            return Answer(0, {}, b"no answer in time")
        except (http.client.HTTPException, ConnectionError):
            return None
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, headers, body)


def code_of(what: Attack, answer: Answer | None) -> str:
    """How it was answered, in a word; anything but a good answer or a problem fails the test."""
    if answer is None:
        assert what.may_hang_up or what.leaves, f"{what.kind}: hung up"
        return "no answer"
    assert 100 <= answer.status < 500, (what.kind, what.parts[0][:300], answer)
    if answer.status < 400:
        return "ok"
    if answer.body == NOT_HTTP:
        assert what.may_hang_up
        return "not HTTP"
    if what.parts[0].startswith(b"HEAD"):
        return "HEAD"
    assert answer.headers["content-type"] == "application/json", (what.kind, answer)
    assert "x-request-id" in answer.headers
    problem = json.loads(answer.body)["error"]
    assert set(problem) == {"code", "expected", "got", "file"}
    assert problem["expected"] and problem["got"].isprintable() and len(answer.body) < 1200
    return str(problem["code"])


@pytest.fixture(scope="module")
def both(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A bento as they are in earnest: of composite images, and of plain pictures beside."""
    root = tmp_path_factory.mktemp("both")
    classifier = write_tiny_model(root / "model", COMPOSITE)
    write_tiny_golden(root / "golden.npz", classifier)
    about = replace(ABOUT, name="ecgbeats-tiny-composite")
    tag = build_bento(
        root / "model", root / "golden.npz", about, project=PROJECT, beside=built.beside
    )
    return replace(
        built, model=root / "model", golden=root / "golden.npz", tag=tag, classifier=classifier
    )


@pytest.fixture(scope="module")
def service(both: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("fuzz") / "service"
    with running(both, folder, ECGBEATS_BODY_SECONDS="10") as found:
        yield found


def test_whatever_comes_the_service_answers_and_the_next_good_request_too(
    service: Running, record_property: Any
) -> None:
    good = seeds()
    usual = [
        Attack("good", form_post("/classify", [("beat.png", good.images[0])])),
        Attack("good", form_post("/classify", [("picture.jpg", good.images[1])])),
        Attack("good", form_post("/classify_record", [*good.record.items()])),
    ]

    def well() -> list[bytes]:
        answers = [sent(service.port, each) for each in usual]
        assert all(answer is not None and answer.status == 200 for answer in answers), answers
        return [answer.body for answer in answers if answer is not None]

    first = well()
    workers = [each.pid for each in service.workers()]
    before, resident = len(service.written()), [service.resident_mb()]
    codes: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    failures: list[str] = []
    began = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        for start in range(0, COUNT, BATCH):
            attacks = [attack(n, SEED, good) for n in range(start, min(start + BATCH, COUNT))]
            answers = pool.map(lambda each: sent(service.port, each), attacks)
            for number, (what, answer) in enumerate(zip(attacks, answers, strict=True), start):
                kinds[what.kind] += 1
                try:
                    codes[code_of(what, answer)] += 1
                except AssertionError as error:
                    failures.append(f"request {number} of seed {SEED}: {error}")
            assert well() == first
            resident.append(service.resident_mb())
    took = time.monotonic() - began
    assert not failures, "\n".join(failures[:20])
    assert [each.pid for each in service.workers()] == workers, "a worker was started anew"
    # Figures for Prometheus lie in files that are mapped; nothing else is ever written.
    written = [
        line for line in service.written()[before:] if "prometheus_multiproc_dir" not in line
    ]
    assert written == []
    assert MARK not in service.log and "Traceback" not in service.log
    assert not [line for line in service.answered if (line["status"] or 0) >= 500]
    assert max(resident) - resident[0] < GROWTH_MB, resident
    every = max(1, len(resident) // 12)
    print(
        f"\n{COUNT} requests in {took:.0f} s, seed {SEED}; resident MB, highest "
        f"{max(resident):.0f}, in between {[round(mb) for mb in resident[::every]]}\n"
        f"kinds: {dict(kinds.most_common())}\nanswers: {dict(codes.most_common())}"
    )
