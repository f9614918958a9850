"""What every request passes on its way to an endpoint, in this order, as the settings have it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from starlette.middleware.cors import CORSMiddleware
from uvicorn.protocols.websockets import auto

from bento import settings
from bento.access import HEADER, RequestLog
from bento.described import DescribedMiddleware
from bento.headers import SecurityHeaders
from bento.keys import ApiKeys, from_environment
from bento.metrics import RequestMetrics
from bento.problems import ProblemMiddleware
from bento.rates import Buckets, RateLimit
from bento.routes import Routes
from bento.traffic import Traffic, TrafficLimits
from ecgbeats.errors import ConfigError

Middleware = tuple[type, dict[str, Any]]
# Set for the workers where nothing else is.
WORKERS = {
    # uvicorn by itself believes whatever X-Forwarded-For comes from this machine.
    "FORWARDED_ALLOW_IPS": "none",
    # ONNX Runtime (since 1.29) by itself reports to its maker, and keeps what it will report in
    # a file in HOME.
    "ORT_DISABLE_TELEMETRY": "1",
    "BENTOML_DO_NOT_TRACK": "True",
    # Memory of large uploads goes back. By itself the C library learns from each large block that
    # is freed to take the next one from its heaps, which then stay as large as they ever were.
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": "1048576",
}


def guards(paths: Iterable[str]) -> list[Middleware]:
    """Middleware around the endpoints at `paths`, the outermost first, with their options.

    Raises
    ------
    ConfigError
        A setting is not what it should be.
    """
    routes = Routes.of(paths)
    found: list[Middleware] = [
        (RequestMetrics, {"routes": routes}),
        (RequestLog, {"routes": routes}),
        (SecurityHeaders, {}),
        (ProblemMiddleware, {}),
    ]
    origins = allowed_origins()
    if origins:
        found.append((CORSMiddleware, _cors(origins)))
    per_minute = settings.whole("RATE_PER_MINUTE", 0, least=0)
    burst = settings.whole("RATE_BURST", max(1, per_minute))
    buckets = Buckets(per_minute, burst) if per_minute else None
    keys = from_environment()
    if keys is not None:
        open_metrics = settings.flag("METRICS_OPEN")
        options = {"keys": keys, "open_metrics": open_metrics, "buckets": buckets}
        found.append((ApiKeys, {**options, "routes": routes}))
    if buckets is not None:
        found.append((RateLimit, {"buckets": buckets, "routes": routes}))
    found.append((Traffic, {"limits": _traffic(), "routes": routes}))
    found.append((DescribedMiddleware, {}))
    return found


def refuse_upgrades() -> None:
    """Have uvicorn take requests for a WebSocket as requests of HTTP, before it starts.

    There is none here. With the library that comes with BentoML, uvicorn leaves such a request
    unanswered for ever where its method is not GET.
    """
    auto.AutoWebSocketsProtocol = None


def allowed_origins() -> tuple[str, ...]:
    """The origins whose pages may ask.

    Raises
    ------
    ConfigError
        One is no origin.
    """
    origins = settings.words("CORS_ORIGINS") or ()
    for origin in origins:
        parts = urlsplit(origin)
        whole = parts.scheme in ("http", "https") and parts.netloc
        if origin != "*" and not (whole and origin == f"{parts.scheme}://{parts.netloc}"):
            raise ConfigError(
                "ECGBEATS_CORS_ORIGINS: expected origins like https://example.org, or *, "
                f"got {origin[:80]!r}"
            )
    return origins


def _cors(origins: tuple[str, ...]) -> dict[str, Any]:
    # A key goes in a header: no cookies, so no credentials.
    return {
        "allow_origins": list(origins),
        "allow_methods": ["GET", "POST"],
        "allow_headers": ["Authorization", "X-API-Key", "Content-Type", HEADER],
        "expose_headers": [HEADER, "Retry-After"],
        "max_age": 600,
    }


def _traffic() -> TrafficLimits:
    return TrafficLimits(
        at_work=settings.whole("MAX_AT_WORK", 64),
        queue=settings.whole("MAX_QUEUE", 256, least=0),
        bytes_at_work=settings.whole("MAX_BYTES_AT_WORK", 128 * 1024**2),
        queue_s=settings.seconds("QUEUE_SECONDS", 30),
        body_s=settings.seconds("BODY_SECONDS", 60),
        request_s=settings.seconds("REQUEST_SECONDS", 60),
    )
