"""Two bentos behind one address: a share of the clients to the challenger, or copies of it.

What the service is asked changes nothing anywhere, so a try that broke is tried again: nobody
loses an answer to a challenger that fails, or to a champion that is replaced meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
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
from pipelines.switch_plan import Comparison, Plan, compare, is_within, read_plan
from pipelines.switch_requests import (
    OF_CONNECTION,
    REQUEST_ID,
    Asked,
    Intake,
    Limits,
    PassedOn,
    RefusedError,
    client_key,
    problem,
)

CHAMPION, CHALLENGER, NOBODY = "champion", "challenger", "nobody"
# Who answered, told to the client.
SERVED_BY = "X-Served-By"

Tell = Callable[[dict[str, Any]], None]

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_PROBE_S = 1.0
# Missed in a row until a bento counts as down: one that is busy misses one.
_MISSES = 3
# Less than the servers keep idle connections, or one would be used as it is closed.
_KEEP_S = 2.0
# An answer: more than the service's queue and its own time limit together.
_CONNECT_S, ANSWER_S = 5.0, 120.0
# A bento has too much to do, or the request is too much for it: another would be asked in vain, and
# would have as much to do.
_NOT_ELSEWHERE = (503, 504)


@dataclass(frozen=True)
class _Copy:
    """A request that the challenger is to answer too, and what the champion answered."""

    asked: Asked
    answered: httpx.Response

    @property
    def size(self) -> int:
        return len(self.asked.body) + len(self.answered.content)


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
        self._misses: dict[str, int] = {}
        self._intake = Intake(self._limits)
        self._client = httpx.AsyncClient(
            transport=transport,
            # Proxies of the environment are for the outside world.
            trust_env=False,
            timeout=httpx.Timeout(ANSWER_S, connect=_CONNECT_S),
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
            try:
                await self.look()
            except Exception as error:
                # Whatever it was, by the next plan it may be mended.
                self._tell({"event": "look_failed", "reason": type(error).__name__})

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
        self._misses[url] = 0 if ready else self._misses.get(url, 0) + 1
        if 0 < self._misses[url] < _MISSES:
            return
        if self._ready.get(url) is not ready:
            self._tell({"event": "ready" if ready else "not_ready", "url": url})
        self._ready[url] = ready

    # Requests.

    async def _answer(self, request: Request) -> Response:
        began = time.monotonic()
        try:
            async with self._intake.read(request) as asked:
                by, response = await self._passed_on(asked, client_key(request))
        except ClientDisconnect:
            return Response(status_code=400)
        except RefusedError as refused:
            by, response = NOBODY, problem(refused)
        self.figures.requests.labels(by, str(response.status_code)).inc()
        self.figures.seconds.labels(by).observe(time.monotonic() - began)
        return response

    async def _passed_on(self, asked: Asked, key: str) -> tuple[str, Response]:
        chosen = is_within(key, self.plan.share)
        by, found = await self._first_good(asked, chosen)
        if self.plan.shadow and chosen and by == CHAMPION and asked.method == "POST":
            self._copy(_Copy(asked, found))
        response = PassedOn(found.content, found.status_code, self._intake)
        response.raw_headers = [
            (name.lower(), value)
            for name, value in found.headers.raw
            # Its content is unpacked here already.
            if name.lower() not in OF_CONNECTION | {b"content-encoding"}
        ]
        response.headers["content-length"] = str(len(found.content))
        response.headers[SERVED_BY] = by
        response.headers.setdefault(REQUEST_ID, asked.request_id)
        return by, response

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

    async def _first_good(self, asked: Asked, chosen: bool) -> tuple[str, httpx.Response]:
        """Who answered, and what; by the last who did where all answers are failures.

        Raises
        ------
        RefusedError
            Nobody answered, the champion not in time, or the request cannot be passed on.
        """
        last: tuple[str, httpx.Response] | None = None
        late = False
        tries = self._tries(chosen)
        while tries:
            by, url = tries.pop(0)
            others = [(name, other) for name, other in tries if other != url]
            try:
                found = await self._ask(url, asked)
            except (httpx.InvalidURL, httpx.LocalProtocolError, ValueError) as error:
                got = type(error).__name__
                raise RefusedError(
                    400, "bad_request", "a request that can be passed on", got
                ) from error
            except (httpx.ReadTimeout, httpx.WriteTimeout):
                # It may still be busy with it.
                late, tries = True, others if by == CHALLENGER else []
            except httpx.ConnectTimeout:
                tries = others
            except httpx.HTTPError:
                pass
            else:
                if found.status_code < 500:
                    return by, found
                # For the client to see, unless another answers.
                last, tries = (by, found), others
                if by == CHAMPION and found.status_code in _NOT_ELSEWHERE:
                    tries = []
            self.figures.failures.labels(by).inc()
            if by == CHAMPION and self.plan.champion != url:
                # Replaced meanwhile: what is left to try is the new one.
                tries = self._tries(False)
        if last is not None:
            return last
        if late:
            within = f"an answer within {ANSWER_S:g} s"
            raise RefusedError(504, "timed_out", within, "none")
        raise RefusedError(503, "unavailable", "a bento that answers", "none of them answering")

    async def _ask(self, url: str, asked: Asked) -> httpx.Response:
        with self.figures.in_flight.labels(url).track_inprogress():
            return await self._client.request(
                asked.method, asked.url(url), headers=asked.headers, content=asked.body
            )

    # Copies for the challenger.

    def _copy(self, copy: _Copy) -> None:
        if self._copied_bytes + copy.size > self._limits.shadow_bytes or self._copies.full():
            self.figures.shadowed.labels("dropped").inc()
            return
        self._copied_bytes += copy.size
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
                self._copied_bytes -= copy.size
                self._copies.task_done()

    async def _compare(self, copy: _Copy) -> None:
        url = self.plan.challenger
        if url is None or not self.plan.shadow:
            self.figures.shadowed.labels("skipped").inc()
            return
        found = await self._ask(url, copy.asked)
        about = {"request_id": copy.asked.request_id, "path": copy.asked.told_path}
        statuses = {CHAMPION: copy.answered.status_code, CHALLENGER: found.status_code}
        if found.status_code != copy.answered.status_code:
            self.figures.shadowed.labels("status").inc()
            self._tell({"event": "disagreement", **about, "statuses": statuses})
            return
        # Of 12,000 beats each: in a thread, or clients would wait for it.
        compared, models = await asyncio.to_thread(_compared, copy.answered, found)
        if compared is None:
            self.figures.shadowed.labels("skipped").inc()
            return
        self.figures.compared(compared)
        if not compared.agrees:
            self._tell(
                {
                    "event": "disagreement",
                    **about,
                    "models": models,
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


def _compared(
    champion: httpx.Response, challenger: httpx.Response
) -> tuple[Comparison | None, dict[str, str]]:
    """Both answers compared, and the model of each."""
    ours, theirs = _json(champion), _json(challenger)
    return compare(ours, theirs), {CHAMPION: _model(ours), CHALLENGER: _model(theirs)}


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return None


def _model(answer: Any) -> str:
    model = answer.get("model") if isinstance(answer, dict) else None
    return f"{model.get('name')} {model.get('version')}" if isinstance(model, dict) else "unknown"
