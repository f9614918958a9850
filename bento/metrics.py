"""What Prometheus reads at /metrics: the requests, and what the model answered.

BentoML's own middleware labels its figures by the path as the client wrote it, so that each
made-up path costs memory for ever. Its figures on requests are therefore made here, by its names,
with the path named by its route. All workers write into files of PROMETHEUS_MULTIPROC_DIR, which
BentoML sets; whichever is asked answers for all.
"""

from __future__ import annotations

import os
from collections import Counter as Tally
from collections.abc import Mapping, Sequence
from functools import lru_cache
from time import perf_counter
from typing import Protocol

import prometheus_client
from bentoml._internal.context import server_context
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bento.logs import noted
from bento.routes import METRICS, Routes

_WHERE = ("service_name", "service_version", "runner_name")
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
_SHARES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_RECORDED_S = (10, 30, 60, 300, 600, 1800, 3600, 7200, 10_800)


class Answered(Protocol):
    """A beat with its answer."""

    @property
    def label(self) -> str: ...
    @property
    def most_probable(self) -> str: ...
    @property
    def probabilities(self) -> Mapping[str, float]: ...


class Metrics:
    """The figures of one worker."""

    def __init__(self) -> None:
        # Its own: the process may hold another service's.
        self._registry = registry = CollectorRegistry()
        of_request = ("endpoint", *_WHERE)
        self._requests = Counter(
            "bentoml_service_request_total",
            "Requests.",
            (*of_request, "http_response_code"),
            registry=registry,
        )
        self._seconds = Histogram(
            "bentoml_service_request_duration_seconds",
            "From a request's head to the end of its answer.",
            (*of_request, "http_response_code"),
            buckets=_SECONDS,
            registry=registry,
        )
        self._in_progress = Gauge(
            "bentoml_service_request_in_progress",
            "Requests at work or waiting for it.",
            of_request,
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._refusals = Counter(
            "ecgbeats_refusals_total", "Refused requests by code.", ("code",), registry=registry
        )
        self._beats = Counter(
            "ecgbeats_beats_total",
            'Classified beats by label, "uncertain" among them.',
            ("model", "source", "label"),
            registry=registry,
        )
        self._abstentions = Counter(
            "ecgbeats_abstentions_total",
            "Beats that were too uncertain to be given a class.",
            ("model", "source"),
            registry=registry,
        )
        self._confidence = Histogram(
            "ecgbeats_confidence",
            "Probability of the most probable class of each beat.",
            ("model", "source"),
            buckets=_SHARES,
            registry=registry,
        )
        self._batch = Histogram(
            "ecgbeats_batch_size",
            "Images that went through the network at a time.",
            ("model",),
            buckets=_IMAGES,
            registry=registry,
        )
        self._recorded = Histogram(
            "ecgbeats_recording_seconds",
            "Duration of the classified recordings.",
            ("model",),
            buckets=_RECORDED_S,
            registry=registry,
        )

    def batch(self, model: str, images: int) -> None:
        self._batch.labels(model).observe(images)

    def beats(self, model: str, source: str, beats: Sequence[Answered]) -> None:
        """Count answers; `source` is "image" or "recording"."""
        confidence = self._confidence.labels(model, source)
        for beat in beats:
            confidence.observe(beat.probabilities[beat.most_probable])
        for label, count in Tally(beat.label for beat in beats).items():
            self._beats.labels(model, source, label).inc(count)
        unsure = sum(beat.label != beat.most_probable for beat in beats)
        self._abstentions.labels(model, source).inc(unsure)

    def recording(self, model: str, seconds: float, beats: Sequence[Answered]) -> None:
        self._recorded.labels(model).observe(seconds)
        self.beats(model, "recording", beats)

    def began(self, route: str) -> None:
        self._in_progress.labels(route, *_here()).inc()

    def ended(self, route: str, status: int, code: str | None, seconds: float) -> None:
        self._in_progress.labels(route, *_here()).dec()
        labels = (route, *_here(), str(status))
        self._requests.labels(*labels).inc()
        self._seconds.labels(*labels).observe(seconds)
        if code is not None:
            self._refusals.labels(code).inc()

    def exposed(self) -> bytes:
        """The figures of all workers, as Prometheus reads them."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return prometheus_client.generate_latest(self._registry)
        merged = CollectorRegistry()
        MultiProcessCollector(merged)  # type: ignore[no-untyped-call]
        return prometheus_client.generate_latest(merged)


@lru_cache(maxsize=1)
def metrics() -> Metrics:
    """The figures of this process, from when they are first asked for."""
    return Metrics()


class RequestMetrics:
    """Count requests, and answer /metrics."""

    def __init__(self, app: ASGIApp, routes: Routes) -> None:
        self.app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == METRICS:
            await self.app(scope, receive, send)
            return
        began = perf_counter()
        route, status = self._routes.name(scope["path"]), 499  # as nginx has it: the client left

        async def seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        metrics().began(route)
        try:
            await self.app(scope, receive, seen)
        finally:
            metrics().ended(route, status, noted(scope).code, perf_counter() - began)


def answer() -> Response:
    return Response(metrics().exposed(), media_type=prometheus_client.CONTENT_TYPE_LATEST)


def _here() -> tuple[str, str, str]:
    return (
        server_context.bento_name or "",
        server_context.bento_version or "",
        server_context.service_name or "",
    )
