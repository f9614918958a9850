"""Two bentos behind one address: a share of the clients to the challenger, or copies of it.

What the service is asked changes nothing anywhere, so a try that broke is tried again: nobody
loses an answer to a challenger that fails, or to a champion that is replaced meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ecgbeats.errors import ConfigError
from pipelines.switch_figures import Figures
from pipelines.switch_plan import Plan, compare, is_within, read_plan

CHAMPION, CHALLENGER, NOBODY = "champion", "challenger", "nobody"
# Who answered, told to the client; and by what it may name itself to be always answered by one.
SERVED_BY, KEY = "X-Served-By", "X-Switch-Key"
REQUEST_ID = "X-Request-ID"

Tell = Callable[[dict[str, Any]], None]

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
# Of one connection, not of the message (RFC 9110, 7.6.1); lengths are set anew.
_OF_CONNECTION = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer",
        "transfer-encoding", "upgrade", "content-length", "expect",
    }
)  # fmt: skip
_PROBE_S = 1.0
# Less than the servers keep idle connections, or one would be used as it is closed.
_KEEP_S = 2.0
_CONNECT_S, _ANSWER_S = 5.0, 120.0


@dataclass(frozen=True)
class Limits:
    """What the switch holds in memory, at most."""

    request_bytes: int = 33 * 1024**2
    shadow_requests: int = 256
    shadow_bytes: int = 64 * 1024**2


@dataclass(frozen=True)
class _Copy:
    """A request that the challenger is to answer too, and what the champion answered."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    answered: httpx.Response
    request_id: str


class Switch:
    """An ASGI application that passes requests on by a plan, which may change at any time.

    Parameters
    ----------
    plan : Plan
    control : Path, optional
        The file that the plan is read from again and again.
    tell : callable
        Is given what happens as JSON objects: changes of plan and health, disagreements.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        control: Path | None = None,
        tell: Tell | None = None,
        limits: Limits | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        probe_s: float = _PROBE_S,
    ) -> None:
        self.plan, self.control = plan, control
        self.figures = Figures()
        self._tell = tell or say
        self._limits = limits or Limits()
        self._probe_s = probe_s
        self._ready: dict[str, bool] = {}
        self._client = httpx.AsyncClient(
            transport=transport,
            # Proxies of the environment are for the outside world.
            trust_env=False,
            timeout=httpx.Timeout(_ANSWER_S, connect=_CONNECT_S),
            limits=httpx.Limits(max_connections=None, keepalive_expiry=_KEEP_S),
        )
        self._copies: asyncio.Queue[_Copy] = asyncio.Queue(self._limits.shadow_requests)
        self._copied_bytes = 0
        self._refused: str | None = None
        self.app = Starlette(
            routes=[Route("/{path:path}", self._answer, methods=_METHODS)], lifespan=self._running
        )
        self.admin = Starlette(
            routes=[
                Route("/livez", lambda _: Response("")),
                Route("/metrics", self._metrics),
                Route("/status", self._status),
            ]
        )

    # What runs beside the requests.

    @contextlib.asynccontextmanager
    async def _running(self, _: Starlette) -> AsyncIterator[None]:
        await self.look()
        tasks = [asyncio.create_task(self._keep_looking()), asyncio.create_task(self._shadow())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._client.aclose()

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(self._probe_s)
            await self.look()

    async def look(self) -> None:
        """Read the plan anew, and ask both bentos whether they are ready."""
        self._read()
        plan = self.plan
        names = {plan.champion: CHAMPION}
        if plan.challenger is not None:
            names[plan.challenger] = CHALLENGER
        for url, ready in zip(
            names, await asyncio.gather(*map(self._is_ready, names)), strict=True
        ):
            self._mark(url, ready)
            self.figures.ready.labels(names[url]).set(ready)
        for mode, share in (("canary", 0.0), ("shadow", 0.0)):
            of_plan = plan.shadow == (mode == "shadow")
            self.figures.share.labels(mode).set(plan.share if of_plan else share)

    def _read(self) -> None:
        if self.control is None:
            return
        try:
            plan = read_plan(self.control)
        except ConfigError as error:
            # It goes on by the last good one, and says so once.
            if str(error) != self._refused:
                self._tell({"event": "plan_refused", "reason": str(error)})
            self._refused = str(error)
            return
        self._refused = None
        if plan != self.plan:
            self._tell({"event": "plan", **plan.model_dump()})
            self.plan = plan

    async def _is_ready(self, url: str) -> bool:
        try:
            found = await self._client.get(f"{url}/readyz", timeout=2 * _PROBE_S)
        except httpx.HTTPError:
            return False
        return found.status_code == 200

    def _mark(self, url: str, ready: bool) -> None:
        if self._ready.get(url) is not ready:
            self._tell({"event": "ready" if ready else "not_ready", "url": url})
        self._ready[url] = ready

    # Requests.

    async def _answer(self, request: Request) -> Response:
        began = time.monotonic()
        request_id = request.headers.get(REQUEST_ID) or uuid.uuid4().hex
        try:
            body = await _read_body(request, self._limits.request_bytes)
        except ClientDisconnect:
            return Response(status_code=400)
        if body is None:
            most = f"at most {self._limits.request_bytes} bytes a request"
            return self._counted(NOBODY, _problem(413, "request_too_large", most, "more"), began)
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        headers = _forwarded(request, request_id)
        chosen = is_within(_key(request), self.plan.share)
        by, found = await self._first_good(request.method, path, headers, body, chosen)
        if found is None:
            got = "none of them answering"
            return self._counted(
                NOBODY, _problem(503, "unavailable", "a bento that answers", got), began
            )
        if self.plan.shadow and chosen and by == CHAMPION and request.method == "POST":
            self._copy(_Copy(request.method, path, headers, body, found, request_id))
        response = Response(found.content, found.status_code)
        response.raw_headers = [
            (name.lower(), value)
            for name, value in found.headers.raw
            # Its content is unpacked here already.
            if name.decode("latin-1").lower() not in (*_OF_CONNECTION, "content-encoding")
        ]
        response.headers["content-length"] = str(len(found.content))
        response.headers[SERVED_BY] = by
        response.headers[REQUEST_ID] = found.headers.get(REQUEST_ID, request_id)
        return self._counted(by, response, began)

    def _tries(self, chosen: bool) -> list[tuple[str, str]]:
        """Whom to ask, one after another, by the plan as it is now."""
        plan = self.plan
        champion = (CHAMPION, plan.champion)
        # Twice: its connection may have been closed as it was used.
        tries = [champion, champion]
        if plan.challenger is not None and not plan.shadow and plan.share:
            challenger = (CHALLENGER, plan.challenger)
            if not self._ready.get(plan.challenger, True):
                return tries
            champion_down = not self._ready.get(plan.champion, True)
            return [challenger, *tries] if chosen or champion_down else [*tries, challenger]
        return tries

    async def _first_good(
        self, method: str, path: str, headers: list[tuple[str, str]], body: bytes, chosen: bool
    ) -> tuple[str, httpx.Response | None]:
        last: tuple[str, httpx.Response | None] = (NOBODY, None)
        tries = self._tries(chosen)
        while tries:
            by, url = tries.pop(0)
            try:
                found = await self._ask(method, url, path, headers, body)
            except httpx.HTTPError as error:
                if isinstance(error, httpx.ConnectError):
                    self._mark(url, False)
            else:
                if found.status_code < 500:
                    return by, found
                # For the client to see, unless another answers.
                last = (by, found)
                tries = [(name, other) for name, other in tries if other != url]
            self.figures.failures.labels(by).inc()
            if by == CHAMPION and self.plan.champion != url:
                # Replaced meanwhile: what is left to try is the new one.
                tries = self._tries(False)
        return last

    async def _ask(
        self, method: str, url: str, path: str, headers: list[tuple[str, str]], body: bytes
    ) -> httpx.Response:
        with self.figures.in_flight.labels(url).track_inprogress():
            return await self._client.request(method, url + path, headers=headers, content=body)

    def _counted(self, by: str, response: Response, began: float) -> Response:
        self.figures.requests.labels(by, str(response.status_code)).inc()
        self.figures.seconds.labels(by).observe(time.monotonic() - began)
        return response

    # Copies for the challenger.

    def _copy(self, copy: _Copy) -> None:
        size = len(copy.body) + len(copy.answered.content)
        if self._copied_bytes + size > self._limits.shadow_bytes or self._copies.full():
            self.figures.shadowed.labels("dropped").inc()
            return
        self._copied_bytes += size
        self._copies.put_nowait(copy)

    async def _shadow(self) -> None:
        while True:
            copy = await self._copies.get()
            try:
                await self._compare(copy)
            except Exception as error:
                # Whatever the challenger answers, the next copy is compared too.
                self.figures.shadowed.labels("failed").inc()
                self._tell({"event": "shadow_failed", "reason": type(error).__name__})
            finally:
                self._copied_bytes -= len(copy.body) + len(copy.answered.content)
                self._copies.task_done()

    async def _compare(self, copy: _Copy) -> None:
        url = self.plan.challenger
        if url is None or not self.plan.shadow:
            self.figures.shadowed.labels("skipped").inc()
            return
        found = await self._ask(copy.method, url, copy.path, copy.headers, copy.body)
        about = {"request_id": copy.request_id, "path": copy.path.partition("?")[0]}
        statuses = {CHAMPION: copy.answered.status_code, CHALLENGER: found.status_code}
        if found.status_code != copy.answered.status_code:
            self.figures.shadowed.labels("status").inc()
            self._tell({"event": "disagreement", **about, "statuses": statuses})
            return
        ours, theirs = _json(copy.answered), _json(found)
        compared = compare(ours, theirs)
        if compared is None:
            self.figures.shadowed.labels("skipped").inc()
            return
        self.figures.compared(compared)
        if not compared.agrees:
            self._tell(
                {
                    "event": "disagreement",
                    **about,
                    "models": {CHAMPION: _model(ours), CHALLENGER: _model(theirs)},
                    "beats": compared.beats,
                    "different": compared.different,
                    "largest_difference": round(compared.largest_difference, 6),
                    "first": compared.told,
                }
            )

    async def compared_all(self) -> None:
        """Wait until every copy that was taken has been compared."""
        await self._copies.join()

    # For those who run it.

    async def _metrics(self, _: Request) -> Response:
        return Response(
            generate_latest(self.figures.registry), headers={"content-type": CONTENT_TYPE_LATEST}
        )

    async def _status(self, _: Request) -> Response:
        return JSONResponse(
            {"plan": self.plan.model_dump(), "ready": self._ready, "refused": self._refused}
        )


def say(what: dict[str, Any]) -> None:
    """One line of JSON on standard output."""
    line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **what}
    print(json.dumps(line, separators=(",", ":")), flush=True)


async def _read_body(request: Request, most: int) -> bytes | None:
    """The whole body; None where there is more of it."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            return None
    return bytes(body)


def _forwarded(request: Request, request_id: str) -> list[tuple[str, str]]:
    """The client's headers as they go on."""
    ours = {*_OF_CONNECTION, "x-forwarded-for", "x-forwarded-proto", REQUEST_ID.lower()}
    kept = [(name, value) for name, value in request.headers.items() if name not in ours]
    client = request.client.host if request.client else "unknown"
    return [
        *kept,
        ("x-forwarded-for", client),
        ("x-forwarded-proto", request.url.scheme),
        (REQUEST_ID.lower(), request_id),
    ]


def _key(request: Request) -> str:
    """What names the client: itself, its API key, else its address."""
    for name in (KEY, "x-api-key", "authorization"):
        if given := request.headers.get(name):
            return given
    return request.client.host if request.client else ""


def _problem(status: int, code: str, expected: str, got: str) -> Response:
    """A refusal in the service's own shape."""
    problem = {"code": code, "expected": expected, "got": got, "file": None}
    return JSONResponse({"error": problem}, status)


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return None


def _model(answer: Any) -> str:
    model = answer.get("model") if isinstance(answer, dict) else None
    return f"{model.get('name')} {model.get('version')}" if isinstance(model, dict) else "unknown"
