"""What the switch takes from a client, how much of it, and what of it goes on.

Nothing here trusts what a client wrote: headers and path stay the bytes that they were, and nothing
of them is told but what has a known shape.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

# By what a client may name itself, to be always answered by one.
KEY = "X-Switch-Key"
REQUEST_ID = "X-Request-ID"

# As the service has it: a name that is told, or sent on, and nothing else.
_WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Paths that are told by their names; a client can write anything into one.
_TOLD_PATHS = frozenset({"/classify", "/classify_record", "/classify_signal", "/explain"})
# Of one connection, not of the message (RFC 9110, 7.6.1); lengths are set anew.
OF_CONNECTION = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"te",
        b"trailer", b"transfer-encoding", b"upgrade", b"content-length", b"expect",
    }
)  # fmt: skip
_OURS = frozenset({b"x-forwarded-for", b"x-forwarded-proto", REQUEST_ID.lower().encode()})

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Limits:
    """What the switch holds in memory, at most, and for how long it reads a request."""

    request_bytes: int = 33 * 1024**2
    # Of all requests that are being read or answered, and of answers until clients have them.
    bytes_at_work: int = 256 * 1024**2
    body_s: float = 60.0
    shadow_requests: int = 256
    shadow_bytes: int = 64 * 1024**2


@dataclass(frozen=True)
class Asked:
    """A request as it is passed on.

    Attributes
    ----------
    target : bytes
        Path and query, as the client wrote them.
    """

    method: str
    target: bytes
    headers: Headers
    body: bytes
    request_id: str

    @property
    def told_path(self) -> str:
        """The path, where it is one of the service's; else "other"."""
        path = self.target.partition(b"?")[0].decode("latin-1")
        return path if path in _TOLD_PATHS else "other"

    def url(self, base: str) -> httpx.URL:
        """Where it is asked of the bento at `base`.

        Raises
        ------
        httpx.InvalidURL
            The target is none.
        """
        url = httpx.URL(base)
        return url.copy_with(raw_path=url.raw_path.rstrip(b"/") + self.target)


class RefusedError(Exception):
    """A request that is passed on to nobody."""

    def __init__(self, status: int, code: str, expected: str, got: str) -> None:
        super().__init__(code)
        self.status, self.code, self.expected, self.got = status, code, expected, got


class Intake:
    """Reads requests, within limits that hold for all of them together."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._held = 0

    @contextlib.asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[Asked]:
        """The whole request, whose body counts as held until the block ends.

        Raises
        ------
        RefusedError
            It is too large, too slow, or there is no room for it.
        ClientDisconnect
            The client went.
        """
        held, chunks = 0, list[bytes]()
        limits = self._limits
        try:
            try:
                async with asyncio.timeout(limits.body_s):
                    async for chunk in request.stream():
                        held += len(chunk)
                        self._held += len(chunk)
                        if held > limits.request_bytes:
                            most = f"at most {limits.request_bytes} bytes a request"
                            raise RefusedError(413, "request_too_large", most, "more")
                        if self._held > limits.bytes_at_work:
                            most = f"at most {limits.bytes_at_work} bytes of requests at a time"
                            raise RefusedError(503, "overloaded", most, "more")
                        chunks.append(chunk)
            except TimeoutError:
                within = f"the body within {limits.body_s:g} s"
                raise RefusedError(408, "slow_upload", within, f"{held} bytes") from None
            body = b"".join(chunks)
            chunks.clear()
            yield _asked(request, body)
        finally:
            self._held -= held

    @contextlib.contextmanager
    def holding(self, count: int) -> Iterator[None]:
        """Count so many bytes of an answer as held, too, until the block ends."""
        self._held += count
        try:
            yield
        finally:
            self._held -= count


class PassedOn(Response):
    """An answer, which counts as held for as long as a client takes to read it."""

    def __init__(self, content: bytes, status: int, intake: Intake) -> None:
        super().__init__(content, status)
        self._intake = intake

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._intake.holding(len(self.body)):
            await super().__call__(scope, receive, send)


def client_key(request: Request) -> str:
    """What names the client: itself, its API key, else its address."""
    for name in (KEY, "x-api-key", "authorization"):
        if given := request.headers.get(name):
            return given
    return request.client.host if request.client else ""


def problem(refused: RefusedError) -> Response:
    """A refusal in the service's own shape."""
    told = {
        "code": refused.code, "expected": refused.expected, "got": refused.got, "file": None,
    }  # fmt: skip
    headers = {"Retry-After": "1"} if refused.status == 503 else None
    return JSONResponse({"error": told}, refused.status, headers=headers)


def _asked(request: Request, body: bytes) -> Asked:
    given = request.headers.get(REQUEST_ID, "")
    request_id = given if _WELL_FORMED.fullmatch(given) else uuid.uuid4().hex
    # Not `request.url`, which is made of what the client calls our host, and unquotes the path.
    query = request.scope["query_string"]
    target = request.scope["raw_path"] + (b"?" + query if query else b"")
    client = request.client.host if request.client else "unknown"
    kept = [
        (name, value)
        for name, value in request.headers.raw
        if name.lower() not in OF_CONNECTION | _OURS
    ]
    headers = [
        *kept,
        (b"x-forwarded-for", client.encode()),
        (b"x-forwarded-proto", request.scope["scheme"].encode()),
        (REQUEST_ID.lower().encode(), request_id.encode()),
    ]
    return Asked(request.method, target, headers, body, request_id)
