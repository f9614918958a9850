"""The switch: whom it asks, what a challenger may cost nobody, and what it tells."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from ecgbeats.errors import ConfigError
from pipelines.switch import ANSWER_S, Switch
from pipelines.switch_plan import Plan, compare, is_within, make_plan, read_plan
from pipelines.switch_requests import Limits
from pipelines.switch_server import ENDS_IN_S

pytestmark = pytest.mark.unit

CHAMPION, CHALLENGER = "http://champion:1", "http://challenger:2"
Answer = Callable[[httpx.Request], Awaitable[httpx.Response]]


def classified(label: str, probability: float = 0.9, version: str = "1") -> dict[str, Any]:
    beat = {"file": 0, "label": label, "probabilities": {label: probability}}
    return {"model": {"name": "m", "version": version}, "results": [beat]}


class Bentos(httpx.AsyncBaseTransport):
    """Two pretended bentos, and what each was asked."""

    def __init__(self, **answers: Answer) -> None:
        self.answers = {"champion": says("N"), "challenger": says("V"), **answers}
        self.asked: Counter[str] = Counter()
        self.seen: list[httpx.Request] = []
        # Who leaves /readyz unanswered.
        self.busy: Counter[str] = Counter()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/readyz":
            if self.busy[request.url.host]:
                raise httpx.ReadTimeout("busy", request=request)
            return httpx.Response(200)
        await request.aread()
        self.asked[request.url.host] += 1
        self.seen.append(request)
        return await self.answers[request.url.host](request)


def says(label: str, status: int = 200, probability: float = 0.9) -> Answer:
    async def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, json=classified(label, probability))

    return answer


async def breaks(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


async def never(_: httpx.Request) -> httpx.Response:
    await asyncio.sleep(3600)
    raise AssertionError


def run(
    plan: Plan,
    bentos: Bentos,
    ask: Callable[[httpx.AsyncClient, Switch], Awaitable[None]],
    **options: Any,
) -> list[dict[str, Any]]:
    """Let `ask` use a switch over `bentos`; return what the switch told."""
    told: list[dict[str, Any]] = []

    async def main() -> None:
        switch = Switch(plan, tell=told.append, transport=bentos, **options)
        async with switch.app.router.lifespan_context(switch.app):
            asgi = httpx.ASGITransport(switch.app)
            async with httpx.AsyncClient(transport=asgi, base_url="http://switch") as client:
                await ask(client, switch)

    asyncio.run(main())
    return told


def count(switch: Switch, name: str, **labels: str) -> float:
    return switch.figures.registry.get_sample_value(f"ecgbeats_switch_{name}", labels) or 0.0


async def post(client: httpx.AsyncClient, key: str = "me", content: bytes = b"x") -> httpx.Response:
    headers = {"X-Switch-Key": key, "Connection": "keep-alive"}
    return await client.post("/classify?lead=II", content=content, headers=headers)


# Whom it asks.


def test_a_share_is_of_clients_and_the_same_ones_when_it_grows() -> None:
    keys = [f"client {k}" for k in range(4000)]
    tenth, half = ({key for key in keys if is_within(key, share)} for share in (0.1, 0.5))
    assert 320 < len(tenth) < 480 and 1850 < len(half) < 2150
    assert tenth < half
    assert not any(is_within(key, 0.0) for key in keys)
    assert all(is_within(key, 1.0) for key in keys)


def test_each_client_is_answered_by_the_same_bento_and_told_by_which() -> None:
    bentos = Bentos()

    async def ask(client: httpx.AsyncClient, switch: Switch) -> None:
        for _ in range(2):
            for k in range(40):
                answer = await post(client, f"client {k}")
                expected = "challenger" if is_within(f"client {k}", 0.3) else "champion"
                assert answer.headers["X-Served-By"] == expected
                assert answer.json() == classified("V" if expected == "challenger" else "N")
        assert count(switch, "requests_total", by="challenger", status="200") > 0

    run(Plan(champion=CHAMPION, challenger=CHALLENGER, share=0.3), bentos, ask)
    request = bentos.seen[0]
    assert (request.url.path, request.url.query, request.content) == ("/classify", b"lead=II", b"x")
    assert request.headers["x-forwarded-for"] == "127.0.0.1" and request.headers["x-request-id"]


# What a challenger may cost nobody.


@pytest.mark.parametrize("challenger", [breaks, says("V", 500), says("V", 503)])
def test_a_failing_challenger_costs_no_client_an_answer(challenger: Answer) -> None:
    async def ask(client: httpx.AsyncClient, switch: Switch) -> None:
        answer = await post(client)
        assert (answer.status_code, answer.headers["X-Served-By"]) == (200, "champion")
        assert count(switch, "upstream_failures_total", by="challenger") == 1

    run(
        Plan(champion=CHAMPION, challenger=CHALLENGER, share=1.0),
        Bentos(challenger=challenger),
        ask,
    )


def test_where_the_champion_breaks_the_challenger_answers() -> None:
    async def ask(client: httpx.AsyncClient, _: Switch) -> None:
        answer = await post(client)
        assert (answer.status_code, answer.headers["X-Served-By"]) == (200, "challenger")

    run(Plan(champion=CHAMPION, challenger=CHALLENGER, share=1e-9), Bentos(champion=breaks), ask)


def test_in_shadow_the_challenger_never_answers_not_even_for_a_champion_that_is_down() -> None:
    async def ask(client: httpx.AsyncClient, _: Switch) -> None:
        answer = await post(client)
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "unavailable"

    bentos = Bentos(champion=breaks)
    run(Plan(champion=CHAMPION, challenger=CHALLENGER, share=1.0, shadow=True), bentos, ask)
    assert not bentos.asked["challenger"]


def test_a_connection_that_is_closed_as_it_is_used_is_tried_once_more() -> None:
    broken = [True]

    async def closes_once(request: httpx.Request) -> httpx.Response:
        if broken.pop() if broken else False:
            raise httpx.RemoteProtocolError("disconnected", request=request)
        return await says("N")(request)

    async def ask(client: httpx.AsyncClient, _: Switch) -> None:
        assert (await post(client)).status_code == 200

    bentos = Bentos(champion=closes_once)
    run(Plan(champion=CHAMPION), bentos, ask)
    assert bentos.asked["champion"] == 2


CANARY = Plan(champion=CHAMPION, challenger=CHALLENGER, share=1e-9)


def test_a_champion_that_misses_a_probe_keeps_its_clients_and_one_that_is_gone_does_not() -> None:
    bentos = Bentos()

    async def ask(client: httpx.AsyncClient, switch: Switch) -> None:
        bentos.busy["champion"] = 1
        for by in ("champion", "champion", "challenger"):
            await switch.look()
            assert (await post(client)).headers["X-Served-By"] == by
        bentos.busy["champion"] = 0
        await switch.look()
        assert (await post(client)).headers["X-Served-By"] == "champion"

    told = run(CANARY, bentos, ask, probe_s=3600)
    assert Counter(line["event"] for line in told) == {"ready": 3, "not_ready": 1}


async def late(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("late", request=request)


@pytest.mark.parametrize(("champion", "status"), [(says("N", 503), 503), (late, 504)])
def test_what_a_busy_champion_does_not_answer_is_asked_of_nobody_else(
    champion: Answer, status: int
) -> None:
    async def ask(client: httpx.AsyncClient, _: Switch) -> None:
        assert (await post(client)).status_code == status

    bentos = Bentos(champion=champion)
    run(CANARY, bentos, ask)
    assert bentos.asked == {"champion": 1}


def test_bytes_of_headers_and_path_go_on_as_they_are_and_bad_ids_do_not() -> None:
    async def ask(client: httpx.AsyncClient, _: Switch) -> None:
        headers = [(b"x-name", b"\xff\xe4"), (b"x-request-id", b"a\xffb"), (b"host", b"[")]
        answer = await client.get("http://switch/a%2Fb%ff?c=%20", headers=headers)
        assert (answer.status_code, len(answer.headers["X-Request-ID"])) == (200, 32)
        kept = await client.get("/model", headers={"X-Request-ID": "ward-7.a"})
        assert kept.headers["X-Request-ID"] == "ward-7.a"

    bentos = Bentos()
    run(Plan(champion=CHAMPION), bentos, ask)
    request = bentos.seen[0]
    assert request.url.raw_path == b"/a%2Fb%ff?c=%20"
    assert (b"x-name", b"\xff\xe4") in request.headers.raw


def test_a_request_that_cannot_be_passed_on_is_the_clients_fault() -> None:
    async def unsendable(request: httpx.Request) -> httpx.Response:
        raise httpx.LocalProtocolError("illegal header", request=request)

    async def ask(client: httpx.AsyncClient, _: Switch) -> None:
        answer = await post(client)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request")

    run(CANARY, Bentos(champion=unsendable), ask)


def test_refusals_of_the_service_go_through_as_they_are() -> None:
    async def ask(client: httpx.AsyncClient, _: Switch) -> None:
        assert (await post(client)).status_code == 422

    bentos = Bentos(champion=says("N", 422))
    run(Plan(champion=CHAMPION), bentos, ask)
    assert bentos.asked["champion"] == 1


def test_a_body_too_large_is_refused_and_passed_on_to_nobody() -> None:
    async def ask(client: httpx.AsyncClient, _: Switch) -> None:
        answer = await post(client, content=b"x" * 101)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")

    bentos = Bentos()
    run(Plan(champion=CHAMPION), bentos, ask, limits=Limits(request_bytes=100))
    assert not bentos.asked


def test_a_body_that_does_not_come_is_given_up() -> None:
    async def dripped() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(3600)

    async def ask(client: httpx.AsyncClient, _: Switch) -> None:
        answer = await client.post("/classify", content=dripped())
        assert (answer.status_code, answer.json()["error"]["code"]) == (408, "slow_upload")

    run(Plan(champion=CHAMPION), Bentos(), ask, limits=Limits(body_s=0.05))


def test_bodies_are_bounded_together_and_make_room_when_they_are_answered() -> None:
    answered = asyncio.Event()

    async def waits(request: httpx.Request) -> httpx.Response:
        await answered.wait()
        return await says("N")(request)

    async def ask(client: httpx.AsyncClient, _: Switch) -> None:
        first = asyncio.create_task(post(client, content=b"x" * 80))
        while not bentos.asked:
            await asyncio.sleep(0.001)
        refused = await post(client, content=b"x" * 80)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
        answered.set()
        assert (await first).status_code == 200
        assert (await post(client, content=b"x" * 80)).status_code == 200

    bentos = Bentos(champion=waits)
    run(Plan(champion=CHAMPION), bentos, ask, limits=Limits(bytes_at_work=100))


def test_answers_count_until_their_clients_have_them() -> None:
    async def ask(client: httpx.AsyncClient, switch: Switch) -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b""}

        async def send(_: Any) -> None:
            begun.set()
            await go_on.wait()

        scope = {
            "type": "http", "method": "GET", "path": "/model", "raw_path": b"/model",
            "query_string": b"", "headers": [], "scheme": "http", "client": None, "app": switch.app,
        }  # fmt: skip
        slow = asyncio.create_task(switch.app(scope, receive, send))
        await begun.wait()
        refused = await post(client, content=b"x" * 60)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
        go_on.set()
        await slow
        assert (await post(client, content=b"x" * 60)).is_success

    size = len(json.dumps(classified("N")))
    run(make_plan({"champion": CHAMPION}, "plan"), Bentos(), ask, limits=Limits(bytes_at_work=size))


def test_when_it_ends_it_waits_as_long_as_an_answer_may_take() -> None:
    assert Limits().body_s + ANSWER_S <= ENDS_IN_S


# Shadow.


def test_a_path_that_a_client_made_up_is_not_told() -> None:
    async def ask(client: httpx.AsyncClient, switch: Switch) -> None:
        await client.post("/john-doe", content=b"x")
        await switch.compared_all()

    told = run(SHADOW, Bentos(challenger=says("V", 404)), ask)
    assert [line["path"] for line in told if line["event"] == "disagreement"] == ["other"]


SHADOW = Plan(champion=CHAMPION, challenger=CHALLENGER, share=1.0, shadow=True)


def test_in_shadow_the_champion_answers_and_disagreements_are_told() -> None:
    async def ask(client: httpx.AsyncClient, switch: Switch) -> None:
        answer = await post(client, content=b"secret pixels")
        assert answer.headers["X-Served-By"] == "champion"
        await switch.compared_all()
        assert count(switch, "shadow_total", outcome="different") == 1
        assert count(switch, "shadow_beats_total", champion="N", challenger="V") == 1
        assert not count(switch, "requests_total", by="challenger", status="200")

    bentos = Bentos()
    told = run(SHADOW, bentos, ask)
    (found,) = [line for line in told if line["event"] == "disagreement"]
    assert found["first"] == [
        {
            "place": 0,
            "champion": {"label": "N", "confidence": 0.9},
            "challenger": {"label": "V", "confidence": 0.9},
        }
    ]
    assert found["path"] == "/classify" and "secret" not in json.dumps(told)
    assert bentos.seen[-1].url.host == "challenger" and bentos.seen[-1].content == b"secret pixels"


def test_agreement_is_counted_and_told_to_nobody() -> None:
    async def ask(client: httpx.AsyncClient, switch: Switch) -> None:
        await post(client)
        await switch.compared_all()
        assert count(switch, "shadow_total", outcome="same") == 1
        assert count(switch, "shadow_difference_sum") == pytest.approx(0.2)

    told = run(SHADOW, Bentos(challenger=says("N", probability=0.7)), ask)
    assert "disagreement" not in {line["event"] for line in told}


def test_a_challenger_that_hangs_delays_nobody_and_its_queue_is_bounded() -> None:
    async def ask(client: httpx.AsyncClient, switch: Switch) -> None:
        for _ in range(8):
            answer = await asyncio.wait_for(post(client), 5)
            assert answer.headers["X-Served-By"] == "champion"
        # One is with the challenger, three wait.
        assert count(switch, "shadow_total", outcome="dropped") == 4

    run(SHADOW, Bentos(challenger=never), ask, limits=Limits(shadow_requests=3))


def test_after_a_copy_that_broke_the_next_one_is_compared() -> None:
    broken = [True]

    async def breaks_once(request: httpx.Request) -> httpx.Response:
        return await (breaks if broken and broken.pop() else says("V"))(request)

    async def ask(client: httpx.AsyncClient, switch: Switch) -> None:
        for outcome in ("failed", "different"):
            await post(client)
            await switch.compared_all()
            assert count(switch, "shadow_total", outcome=outcome) == 1

    run(SHADOW, Bentos(challenger=breaks_once), ask)


def test_answers_are_compared_beat_by_beat() -> None:
    def recorded(**labels: str) -> dict[str, Any]:
        beats = [
            {"sample": int(at[1:]), "label": label, "probabilities": {"N": 0.5, "V": 0.5}}
            for at, label in labels.items()
        ]
        return {"beats": beats}

    found = compare(recorded(s10="N", s20="V", s30="N"), recorded(s10="N", s20="N", s40="N"))
    assert found is not None
    assert (found.beats, found.different, found.largest_difference) == (4, 3, 1.0)
    assert found.pairs == {("N", "N"): 1, ("V", "N"): 1, ("N", "none"): 1, ("none", "N"): 1}
    for other in ({"error": {}}, None, [], {"results": [{"no": "place"}]}):
        assert compare(recorded(s10="N"), other) is None


# The plan.


def test_a_changed_control_file_takes_effect_and_a_bad_one_does_not(tmp_path: Path) -> None:
    control = tmp_path / "switch.yaml"
    control.write_text(f"champion: {CHAMPION}\n")

    async def ask(client: httpx.AsyncClient, switch: Switch) -> None:
        assert (await post(client)).json() == classified("N")
        control.write_text(f"champion: {CHALLENGER}\n")
        await switch.look()
        assert (await post(client)).json() == classified("V")
        for _ in range(2):
            control.write_text("champion: [")
            await switch.look()
        assert (await post(client)).json() == classified("V")

    told = run(read_plan(control), Bentos(), ask, control=control)
    events = Counter(line["event"] for line in told)
    assert (events["plan"], events["plan_refused"]) == (1, 1)


def test_whatever_breaks_one_look_it_looks_again() -> None:
    bentos, looked = Bentos(), asyncio.Event()

    async def ask(_: httpx.AsyncClient, switch: Switch) -> None:
        async def breaks_once() -> None:
            switch.look = looks  # type: ignore[method-assign]
            raise httpx.InvalidURL("as no plan should be able to name")

        async def looks() -> None:
            looked.set()

        switch.look = breaks_once  # type: ignore[method-assign]
        await asyncio.wait_for(looked.wait(), 10)

    told = run(make_plan({"champion": CHAMPION}, "plan"), bentos, ask, probe_s=0.01)
    assert {"event": "look_failed", "reason": "InvalidURL"} in told


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "champion: Field required"),
        ({"champion": "ftp://x"}, "expected an address"),
        ({"champion": "http://a:1O0"}, "expected an address .*port"),
        ({"champion": "http://"}, "expected an address"),
        ({"champion": CHAMPION + "/?x=1"}, "expected an address"),
        ({"champion": CHAMPION, "share": 0.1}, "need a challenger"),
        ({"champion": CHAMPION, "challenger": CHAMPION + "/"}, "the same address"),
        ({"champion": CHAMPION, "challenger": CHALLENGER, "share": 1.5}, "share: .*less than"),
        ({"champion": CHAMPION, "shaer": 0.1}, "shaer: Extra inputs"),
    ],
)
def test_an_impossible_plan_is_refused_in_words(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=f"^plan.yaml: .*{said}"):
        make_plan(values, "plan.yaml")
