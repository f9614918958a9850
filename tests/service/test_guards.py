"""What a request passes before it reaches an endpoint, around small applications of our own."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from bento import guards as guarding
from bento import keys, rates, traffic
from bento.metrics import Metrics
from bento.problems import Refused
from bento.routes import Routes
from ecgbeats.errors import ConfigError
from pipelines.cli import main

pytestmark = pytest.mark.service

DIGEST = hashlib.sha256(b"open sesame").hexdigest()
ROUTES = Routes.of(["/echo", "/fails", "/slow"])


async def echo(request: Request) -> Response:
    return PlainTextResponse(await request.body())


async def fails(_: Request) -> Response:
    raise ValueError("jane-doe")


def serving(**settings: str) -> TestClient:
    """An application behind all guards, as these settings have it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("ECGBEATS_")]:
            patch.delenv(name)
        for name, value in settings.items():
            patch.setenv(f"ECGBEATS_{name}", value)
        middleware = [Middleware(cls, **options) for cls, options in guarding.guards(ROUTES.known)]
    routes = [
        Route("/echo", echo, methods=["GET", "POST"]),
        Route("/fails", fails),
        Route("/", echo),
        Route("/readyz", echo),
        Route("/metrics", echo),
    ]
    return TestClient(Starlette(routes=routes, middleware=middleware))


def code_of(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"code", "expected", "got", "file"} and error["expected"]
    return str(error["code"])


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


# Ids and the log.


def test_a_well_formed_request_id_is_kept_and_any_other_replaced(
    capsys: pytest.CaptureFixture[str],
) -> None:
    client = serving()
    kept = client.get("/echo", headers={"X-Request-ID": "job-7.a_B"}).headers["x-request-id"]
    forged = client.get("/echo", headers={"X-Request-ID": 'x"} {"event'}).headers["x-request-id"]
    assert kept == "job-7.a_B" and len(forged) == 32 and forged.isalnum()
    assert [line["request_id"] for line in lines(capsys)] == [kept, forged]


def test_each_request_is_one_line_that_holds_nothing_of_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    client = serving()
    client.post("/echo?who=jane-doe", content=b"jane-doe", headers={"X-Name": "jane-doe"})
    client.get("/jane-doe")
    client.get("/readyz")
    written = capsys.readouterr().out
    assert "jane-doe" not in written
    first, second = map(json.loads, written.splitlines())  # a probe that is well is not worth one
    assert first | {"ms": 0, "time": "", "request_id": ""} == {
        "time": "", "event": "answered", "request_id": "", "method": "POST", "route": "/echo",
        "status": 200, "code": None, "key": None, "ms": 0, "bytes_in": 8, "bytes_out": 8,
    }  # fmt: skip
    assert (second["route"], second["status"], second["code"]) == ("other", 404, "not_found")


def test_an_error_of_ours_is_a_problem_and_its_words_reach_no_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert code_of(serving().get("/fails"), 500) == "internal_server_error"
    failed, answered = lines(capsys)
    assert failed["error"] == "ValueError" and "jane-doe" not in json.dumps(failed)
    assert failed["where"][-1].endswith(" fails")
    assert answered["status"] == 500 and failed["request_id"] == answered["request_id"]


# Keys.


def test_without_a_key_only_probes_and_the_page_are_answered() -> None:
    client = serving(API_KEYS=f"ward:{DIGEST}")
    refused = client.get("/echo")
    assert code_of(refused, 401) == "no_key"
    assert refused.headers["www-authenticate"].startswith("Bearer")
    assert client.get("/readyz").is_success and client.get("/").is_success
    assert code_of(client.get("/metrics"), 401) == code_of(client.get("/nowhere"), 401) == "no_key"
    assert serving(API_KEYS=f"ward:{DIGEST}", METRICS_OPEN="true").get("/metrics").is_success


@pytest.mark.parametrize(
    ("header", "value", "code"),
    [
        ("Authorization", "Bearer open sesame", None),
        ("X-API-Key", "open sesame", None),
        ("Authorization", "Bearer open sesam", "bad_key"),
        ("Authorization", f"Bearer {DIGEST}", "bad_key"),
        ("X-API-Key", "x" * 5000, "bad_key"),
        ("X-API-Key", b"\xff\xfe", "bad_key"),
        ("Authorization", "Basic open sesame", "no_key"),
        ("Authorization", "Bearer", "no_key"),
    ],
)
def test_keys_come_in_either_header(
    header: str, value: str, code: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    client = serving(API_KEYS=f"lab:{'0' * 64}, ward:{DIGEST}")
    answer = client.get("/echo", headers={header: value})
    if code is None:
        assert answer.is_success
    else:
        assert code_of(answer, 401) == code
    assert lines(capsys)[-1]["key"] == ("ward" if code is None else None)


def test_every_key_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    monkeypatch.setattr(keys.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or a == b)
    ring = keys.Keyring([keys.Key("ward", DIGEST), keys.Key("lab", "0" * 64)])
    assert ring.name_of("open sesame") == "ward"
    assert compared == [(DIGEST, DIGEST), ("0" * 64, DIGEST)]


def test_a_key_is_made_and_revoked_while_the_service_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = CliRunner().invoke(main, ["api-key", "ward"]).output.split()
    key, line = next(w for w in made if w.startswith("ecgb_")), made[-1]
    assert line == f"ward:{hashlib.sha256(key.encode()).hexdigest()}"
    file = tmp_path / "keys"
    file.write_text(f"# who may ask\n{line}\n")
    ring = keys.Keyring((), file)
    assert ring.name_of(key) == "ward" and ring.name_of("open sesame") is None
    (tmp_path / "new").write_text(f"lab:{DIGEST}\nnonsense\n")
    (tmp_path / "new").replace(file)
    assert ring.name_of(key) is None and ring.name_of("open sesame") == "lab"
    file.unlink()
    assert ring.name_of("open sesame") is None
    first, second = lines(capsys)
    assert (first["event"], first["keys"], first["not_understood"]) == ("api_keys_read", 1, 1)
    assert second["event"] == "api_keys_unreadable"


def test_the_command_does_not_take_a_name_that_would_not_be_read() -> None:
    assert CliRunner().invoke(main, ["api-key", "a b"]).exit_code == 2


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("API_KEYS", "open sesame"),
        ("API_KEYS", f"ward:{DIGEST[:-1]}"),
        ("API_KEYS", " , "),
        ("API_KEYS_FILE", ""),
        ("API_KEYS_FILE", "/nonexistent/keys"),
        ("METRICS_OPEN", "perhaps"),
        ("CORS_ORIGINS", "example.org"),
        ("CORS_ORIGINS", "https://example.org/path"),
        ("RATE_PER_MINUTE", "-1"),
        ("REQUEST_SECONDS", "0"),
        ("QUEUE_SECONDS", "nan"),
    ],
)
def test_a_wrong_setting_stops_the_start_and_quotes_no_key(setting: str, value: str) -> None:
    settings = {"API_KEYS": f"ward:{DIGEST}"} | {setting: value}
    with pytest.raises(ConfigError, match=setting if value != "/nonexistent/keys" else value) as e:
        serving(**settings)
    assert "sesame" not in str(e.value) and DIGEST[:-1] not in str(e.value)


# Other origins.


def test_only_listed_origins_may_ask() -> None:
    client = serving(CORS_ORIGINS="https://ward.example", API_KEYS=f"ward:{DIGEST}")
    asked = {
        "Origin": "https://ward.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    before = client.options("/echo", headers=asked)
    assert before.is_success
    assert before.headers["access-control-allow-origin"] == "https://ward.example"
    refused = client.get("/echo", headers={"Origin": "https://ward.example"})
    assert code_of(refused, 401) == "no_key"
    assert refused.headers["access-control-allow-origin"] == "https://ward.example"
    other = client.options("/echo", headers=asked | {"Origin": "https://evil.example"})
    assert code_of(other, 400) == "bad_request"
    assert "access-control-allow-origin" not in other.headers
    assert "access-control-allow-origin" not in serving().get("/echo", headers=asked).headers


# Rates.


def test_a_client_that_asks_too_often_is_told_when_to_come_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = hashlib.sha256(b"close sesame").hexdigest()
    client = serving(RATE_PER_MINUTE="6", RATE_BURST="2", API_KEYS=f"a:{DIGEST} b:{other}")
    key = {"X-API-Key": "open sesame"}
    assert [client.get("/echo", headers=key).status_code for _ in range(2)] == [200, 200]
    refused = client.get("/echo", headers=key)
    assert code_of(refused, 429) == "too_many_requests"
    assert 1 <= int(refused.headers["retry-after"]) <= 10
    said = lines(capsys)[-1]
    assert (said["code"], said["key"]) == ("too_many_requests", "a")
    assert client.get("/echo", headers={"X-API-Key": "close sesame"}).is_success
    # Probes ask without end, and from the same address.
    assert all(client.get("/readyz").is_success for _ in range(9))


def test_keys_cannot_be_tried_without_end_and_who_has_one_is_not_kept_from_it() -> None:
    client = serving(RATE_PER_MINUTE="6", RATE_BURST="2", API_KEYS=f"a:{DIGEST}")
    tried = [client.get("/echo", headers={"X-API-Key": f"key {k}"}) for k in range(4)]
    assert [answer.status_code for answer in tried] == [401, 401, 429, 429]
    assert int(tried[-1].headers["retry-after"]) >= 1
    assert client.get("/echo", headers={"X-API-Key": "open sesame"}).is_success


def test_buckets_fill_again_apart_and_take_bounded_memory() -> None:
    now = [0.0]
    buckets = rates.Buckets(60, 3, most=100, clock=lambda: now[0])
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 1]
    assert buckets.take("b") == 0
    now[0] = 0.5
    assert buckets.take("a") == pytest.approx(0.5)
    now[0] = 1.0
    assert buckets.take("a") == 0 and buckets.take("a") == 1
    now[0] = 1e6
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 1]
    for k in range(1000):
        buckets.take(f"other {k}")
    assert len(buckets) == 100


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        (None, "not an address", True),
    ],
)
def test_addresses_of_one_ipv6_network_count_as_one(
    first: str | None, second: str | None, same: bool
) -> None:
    names = [rates._client({"client": (host, 1) if host else None}) for host in (first, second)]
    assert (names[0] == names[1]) is same


# Traffic.


def limits(**changed: float) -> traffic.TrafficLimits:
    usual = {"at_work": 2, "queue": 1, "bytes_at_work": 100, "queue_s": 30, "body_s": 30}
    return traffic.TrafficLimits(**{**usual, "request_s": 30, **changed})  # type: ignore[arg-type]


class Slow:
    """An application that answers once it is released, and counts who is in it."""

    def __init__(self) -> None:
        self.release, self.inside = asyncio.Event(), 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        try:
            while True:
                message = await receive()
                body += message["body"]
                if not message["more_body"]:
                    break
        except Refused as error:
            await PlainTextResponse("", int(error.error_code))(scope, receive, send)
            return
        self.inside += 1
        await self.release.wait()
        self.inside -= 1
        await PlainTextResponse(body)(scope, receive, send)


async def _settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def _asking(slow: Slow, limited: traffic.TrafficLimits) -> httpx.AsyncClient:
    app = traffic.Traffic(slow, limited, ROUTES)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


def test_beyond_what_may_work_and_wait_requests_are_turned_away() -> None:
    async def scene() -> None:
        slow = Slow()
        async with _asking(slow, limits()) as client:
            asked = [asyncio.create_task(client.post("/slow", content=b"x")) for _ in range(3)]
            await _settled()
            assert slow.inside == 2
            refused = await client.post("/slow", content=b"x")
            assert code_of(refused, 503) == "overloaded" and refused.headers["retry-after"]
            slow.release.set()
            assert [answer.status_code for answer in await asyncio.gather(*asked)] == [200] * 3
            assert (await client.post("/slow", content=b"x")).is_success

    asyncio.run(scene())


def test_large_bodies_wait_for_room_and_keep_their_turn() -> None:
    async def scene() -> None:
        slow = Slow()
        async with _asking(slow, limits(at_work=9, queue=9)) as client:
            sizes = (60, 60, 1, 1000)
            asked = [
                asyncio.create_task(client.post("/slow", content=b"x" * size)) for size in sizes
            ]
            await _settled()
            assert slow.inside == 1
            slow.release.set()
            assert [len((await each).content) for each in asked] == list(sizes)

    asyncio.run(scene())


def test_who_leaves_or_tires_of_the_queue_blocks_nobody() -> None:
    async def scene() -> None:
        admission = traffic.Admission(1, 5, 100)
        leave = await admission.enter(1, 1)
        gone = asyncio.create_task(admission.enter(1, 30))
        tired = asyncio.create_task(admission.enter(1, 0.01))
        stays = asyncio.create_task(admission.enter(1, 30))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(traffic.Overloaded):
            await tired
        assert admission.waiting == 1
        leave()
        (await stays)()
        (await admission.enter(100, 1))()
        assert admission.waiting == 0

    asyncio.run(scene())


def test_an_answer_that_does_not_come_is_given_up() -> None:
    async def scene() -> None:
        slow = Slow()
        async with _asking(slow, limits(request_s=0.05)) as client:
            assert code_of(await client.post("/slow", content=b"x"), 504) == "timed_out"
            slow.release.set()
            assert (await client.post("/slow", content=b"x")).is_success

    asyncio.run(scene())


def test_a_body_that_does_not_come_is_given_up() -> None:
    async def scene() -> None:
        slow = Slow()

        async def dripping() -> Any:
            for _ in range(1000):
                yield b"x"
                await asyncio.sleep(0.01)

        # httpx's transport asks for the whole body; a bare call does not.
        said: list[Any] = []
        stream = dripping()

        async def receive() -> Any:
            return {"type": "http.request", "body": await anext(stream), "more_body": True}

        async def send(message: Any) -> None:
            said.append(message)

        app = traffic.Traffic(slow, limits(body_s=0.05), ROUTES)
        scope = {"type": "http", "path": "/slow", "method": "POST", "headers": []}
        await app(scope, receive, send)
        assert said[0]["status"] == 408 and slow.inside == 0

    asyncio.run(scene())


# Figures.


def test_figures_count_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)

    class Beat:
        def __init__(self, label: str, sure: float) -> None:
            self.label, self.most_probable = label, "N"
            self.probabilities = {"N": sure, "V": 1 - sure}

    figures = Metrics()
    figures.beats("m", "image", [Beat("N", 0.9), Beat("uncertain", 0.55), Beat("N", 0.99)])
    figures.recording("m", 1800, [Beat("N", 0.8)])
    figures.batch("m", 3)
    figures.began("/classify")
    figures.ended("/classify", 422, "not_an_image", 0.01)
    found = {
        (sample.name, sample.labels.get("source"), sample.labels.get("label")): sample.value
        for family in text_string_to_metric_families(figures.exposed().decode())
        for sample in family.samples
        if not sample.name.endswith(("_bucket", "_created"))
    }
    assert found["ecgbeats_beats_total", "image", "N"] == 2
    assert found["ecgbeats_beats_total", "image", "uncertain"] == 1
    assert found["ecgbeats_beats_total", "recording", "N"] == 1
    assert found["ecgbeats_abstentions_total", "image", None] == 1
    assert found["ecgbeats_confidence_sum", "image", None] == pytest.approx(2.44)
    assert found["ecgbeats_batch_size_sum", None, None] == 3
    assert found["ecgbeats_recording_seconds_sum", None, None] == 1800
    assert found["ecgbeats_refusals_total", None, None] == 1
    assert found["bentoml_service_request_total", None, None] == 1
    assert found["bentoml_service_request_in_progress", None, None] == 0


def test_paths_that_nobody_knows_are_one_label() -> None:
    names = [ROUTES.name(path) for path in ("/echo", "/echo/", "/page/app.js", "/x\u2028y", "")]
    assert names == ["/echo", "other", "/page", "other", "other"]
