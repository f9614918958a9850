"""How often one client may ask: a token bucket for each key, or for each address without one."""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus
from time import monotonic

from starlette.types import ASGIApp, Receive, Scope, Send

from bento.logs import noted
from bento.problems import Refused, refuse
from bento.routes import METRICS, PROBES, STATIC, Routes

# Buckets that are kept at a time. Beyond that, whoever asked longest ago is forgotten, which
# at worst fills his bucket.
MOST = 10_000


class Buckets:
    """Token buckets by client.

    Parameters
    ----------
    per_minute : int
        Requests that come back to a bucket in a minute.
    burst : int
        Requests that a full bucket holds.
    """

    def __init__(
        self,
        per_minute: int,
        burst: int,
        *,
        most: int = MOST,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._per_s, self._burst = per_minute / 60, float(burst)
        self._most, self._clock = most, clock
        # By client: tokens, and when they were counted. In order of last use.
        self._of: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._of)

    def take(self, client: str) -> float:
        """Take one request from the client's bucket.

        Returns
        -------
        float
            Seconds until there is one; zero if there was.
        """
        now = self._clock()
        tokens, then = self._of.pop(client, (self._burst, now))
        tokens = min(self._burst, tokens + (now - then) * self._per_s)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / self._per_s
        self._of[client] = (tokens - 1 if tokens >= 1 else tokens, now)
        if len(self._of) > self._most:
            self._of.popitem(last=False)
        return wait


class RateLimit:
    """Answer 429, with Retry-After, to a client that asks too often; probes and static files not.

    The address is that of the connection. Behind proxies it is theirs, unless uvicorn is told to
    trust their X-Forwarded-For (FORWARDED_ALLOW_IPS).
    """

    def __init__(self, app: ASGIApp, buckets: Buckets, routes: Routes) -> None:
        self.app = app
        self._buckets, self._routes = buckets, routes
        self._free = PROBES | STATIC | {METRICS}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._routes.name(scope["path"]) in self._free:
            await self.app(scope, receive, send)
            return
        if not await too_often(self._buckets, scope, receive, send):
            await self.app(scope, receive, send)


async def too_often(buckets: Buckets, scope: Scope, receive: Receive, send: Send) -> bool:
    """Take one request from the client's bucket; answer 429 where there is none."""
    wait = math.ceil(buckets.take(_client(scope)))
    if not wait:
        return False
    refused = Refused(
        HTTPStatus.TOO_MANY_REQUESTS,
        "too_many_requests",
        expected=f"the next request in {wait} s",
        got="one before",
    )
    await refuse(refused, scope, receive, send, {"Retry-After": str(wait)})
    return True


def _client(scope: Scope) -> str:
    key = noted(scope).key
    if key is not None:
        return f"key {key}"
    host = scope["client"][0] if scope.get("client") else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "unknown"
    if address.version == 6:
        # One customer's network: he has 2 ** 64 addresses in it.
        return str(ipaddress.ip_network((address, 64), strict=False))
    return host
