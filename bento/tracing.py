"""OpenTelemetry, where the environment names a collector: a span for each request, by OTLP."""

from __future__ import annotations

import math
from typing import Any

from bento import settings
from bento.routes import METRICS, PROBES
from ecgbeats.errors import ConfigError


def tracing() -> dict[str, Any]:
    """BentoML's configuration of tracing.

    Where nobody collects spans none are made: they would be a quarter of an image's time.

    Raises
    ------
    ConfigError
        The endpoint is no address, or the share no share.
    """
    endpoint = settings.text("OTLP_ENDPOINT")
    if endpoint is None:
        return {"excluded_urls": [".*"]}
    if not endpoint.startswith(("http://", "https://")):
        raise ConfigError(
            "ECGBEATS_OTLP_ENDPOINT: expected an address like "
            f"http://collector:4318/v1/traces, got {endpoint[:80]!r}"
        )
    return {
        "exporter_type": "otlp",
        "sample_rate": _share(),
        "timeout": 5,
        "excluded_urls": sorted(f"{path}$" for path in PROBES | {METRICS}),
        "otlp": {"protocol": "http", "endpoint": endpoint},
    }


def _share() -> float:
    given = settings.text("OTLP_SHARE") or "1"
    try:
        share = float(given)
    except ValueError:
        share = math.nan
    if not 0 < share <= 1:
        raise ConfigError(
            f"ECGBEATS_OTLP_SHARE: expected a share, above 0 and at most 1, got {given[:40]!r}"
        )
    return share
