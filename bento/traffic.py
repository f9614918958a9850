"""How much is at work at a time, how much may wait, and how long anything may take."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bento.limits import MAX_REQUEST_BYTES
from bento.problems import Refused, refuse
from bento.routes import METRICS, PROBES, STATIC, Routes


@dataclass(frozen=True)
class TrafficLimits:
    """What one worker takes on.

    Attributes
    ----------
    at_work, queue : int
        Requests that are at work at a time, and that wait for it.
    bytes_at_work : int
        Bodies of the requests at work, all together.
    queue_s, body_s, request_s : float
        How long a request may wait, its body may take to arrive, and its answer after that.
    """

    at_work: int
    queue: int
    bytes_at_work: int
    queue_s: float
    body_s: float
    request_s: float


class Overloaded(Exception):
    """There is no room for a request, nor will be in time."""


class Admission:
    """Room for so many requests of so many bytes; the rest waits, in order, or is turned away."""

    def __init__(self, at_work: int, queue: int, room: int) -> None:
        self._slots, self._room, self._queue = at_work, room, queue
        self._all = room
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def enter(self, size: int, patience_s: float) -> Callable[[], None]:
        """Wait for room for a body of `size` bytes.

        Returns
        -------
        callable
            To be called once, when the request is at work no longer.

        Raises
        ------
        Overloaded
            The queue is full, or there was no room in time.
        """
        size = min(size, self._all)  # one that is larger has everything for itself
        if not self._waiting and self._fits(size):
            self._take(size)
        else:
            if len(self._waiting) >= self._queue:
                raise Overloaded
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((turn, size))
            try:
                async with asyncio.timeout(patience_s):
                    await turn
            except (TimeoutError, asyncio.CancelledError) as error:
                if turn.done() and not turn.cancelled():
                    self._leave(size)  # its turn came in the same moment
                else:
                    self._waiting.remove((turn, size))
                    self._next()  # it may have kept smaller ones waiting
                if isinstance(error, TimeoutError):
                    raise Overloaded from error
                raise
        return lambda: self._leave(size)

    def _fits(self, size: int) -> bool:
        return self._slots > 0 and size <= self._room

    def _take(self, size: int) -> None:
        self._slots -= 1
        self._room -= size

    def _leave(self, size: int) -> None:
        self._slots += 1
        self._room += size
        self._next()

    def _next(self) -> None:
        while self._waiting and self._fits(self._waiting[0][1]):
            turn, size = self._waiting.popleft()
            if not turn.done():
                self._take(size)
                turn.set_result(None)


class Traffic:
    """Hold requests to `TrafficLimits`; probes, metrics and static files are free.

    Answers 503 (`overloaded`) where there is no room, 408 (`slow_upload`) where the body does not
    come, 504 (`timed_out`) where the answer does not. What is at work in a thread cannot be ended:
    it keeps its place until it is done.
    """

    def __init__(self, app: ASGIApp, limits: TrafficLimits, routes: Routes) -> None:
        self.app = app
        self._limits, self._routes = limits, routes
        self._free = PROBES | STATIC | {METRICS}
        self._admission = Admission(limits.at_work, limits.queue, limits.bytes_at_work)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._routes.name(scope["path"]) in self._free:
            await self.app(scope, receive, send)
            return
        try:
            leave = await self._admission.enter(_size(scope), self._limits.queue_s)
        except Overloaded:
            await refuse(_OVERLOADED, scope, receive, send, {"Retry-After": "1"})
            return
        await self._work(scope, receive, send, leave)

    async def _work(
        self, scope: Scope, receive: Receive, send: Send, leave: Callable[[], None]
    ) -> None:
        call = _Call(receive, send, self._limits)
        task = asyncio.ensure_future(self.app(scope, call.receive, call.send))
        task.add_done_callback(lambda _: leave())
        try:
            await asyncio.wait({task, call.expired}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done() and call.started:
                # It is being answered, and whoever reads slowly has as long again.
                await asyncio.wait({task}, timeout=self._limits.request_s)
            if task.done():
                task.result()
                return
            call.muted = True
            if not call.started:
                refused = Refused(
                    HTTPStatus.GATEWAY_TIMEOUT,
                    "timed_out",
                    expected=f"an answer within {self._limits.request_s:g} s",
                    got="none yet",
                )
                await refuse(refused, scope, receive, send)
        finally:
            call.close()
            if not task.done():
                task.add_done_callback(_forgotten)
                task.cancel()


class _Call:
    """The two sides of one request, with an eye on the clock."""

    def __init__(self, receive: Receive, send: Send, limits: TrafficLimits) -> None:
        self._receive, self._send, self._limits = receive, send, limits
        self._loop = asyncio.get_running_loop()
        self._body_ends = self._loop.time() + limits.body_s
        self._whole = False
        self.started = self.muted = False
        self.expired: asyncio.Future[None] = self._loop.create_future()
        self._timer = self._loop.call_later(limits.body_s + limits.request_s, self._expire)

    async def receive(self) -> Message:
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._body_ends):
                message = await self._receive()
        except TimeoutError as error:
            raise Refused(
                HTTPStatus.REQUEST_TIMEOUT,
                "slow_upload",
                expected=f"the whole body within {self._limits.body_s:g} s",
                got="a part of it",
            ) from error
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._whole = True
            self._timer.cancel()
            self._timer = self._loop.call_later(self._limits.request_s, self._expire)
        return message

    async def send(self, message: Message) -> None:
        if self.muted:
            return
        self.started = True
        await self._send(message)

    def close(self) -> None:
        self._timer.cancel()

    def _expire(self) -> None:
        if not self.expired.done():
            self.expired.set_result(None)


_OVERLOADED = Refused(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "overloaded",
    expected="room for another request",
    got="as many as are taken on at a time",
)


def _size(scope: Scope) -> int:
    """Bytes that the body may turn out to have."""
    declared = Headers(scope=scope).get("content-length")
    if declared is None:
        chunked = "transfer-encoding" in Headers(scope=scope)
        return MAX_REQUEST_BYTES if chunked else 0
    return min(int(declared), MAX_REQUEST_BYTES) if declared.isdigit() else MAX_REQUEST_BYTES


def _forgotten(task: asyncio.Future[None]) -> None:
    """Look at how an abandoned task ended, for asyncio complains of those that nobody asks."""
    if not task.cancelled():
        task.exception()
