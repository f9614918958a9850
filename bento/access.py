"""A name for each request, and one line in the log about how it was answered."""

from __future__ import annotations

import re
import uuid
from time import perf_counter

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bento.logs import REQUEST_ID, emit, noted
from bento.routes import METRICS, PROBES, Routes, method_name

HEADER = "X-Request-ID"
_WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Every few seconds, and always the same: said only when it is not.
_QUIET = PROBES | {METRICS}


class RequestLog:
    """Take or make a request's id, answer with it, and log one line a request.

    The line holds nothing that the client wrote, but for a well-formed id: the path is named by
    its route, and neither query nor headers nor body are in it.
    """

    def __init__(self, app: ASGIApp, routes: Routes) -> None:
        self.app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = perf_counter()
        given = Headers(scope=scope).get(HEADER, "")
        request_id = given if _WELL_FORMED.fullmatch(given) else uuid.uuid4().hex
        status: int | None = None
        received = answered = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        async def named(message: Message) -> None:
            nonlocal status, answered
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = request_id
            answered += len(message.get("body", b""))
            await send(message)

        token = REQUEST_ID.set(request_id)
        try:
            await self.app(scope, counted, named)
        finally:
            route = self._routes.name(scope["path"])
            if route not in _QUIET or status is None or status >= 400:
                emit(
                    "answered",
                    method=method_name(scope["method"]),
                    route=route,
                    status=status,
                    code=noted(scope).code,
                    key=noted(scope).key,
                    ms=round((perf_counter() - began) * 1000, 1),
                    bytes_in=received,
                    bytes_out=answered,
                )
            REQUEST_ID.reset(token)
