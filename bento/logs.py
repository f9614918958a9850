"""What the service writes to its log: one JSON object a line, on standard output.

No pixel, no sample, no name of a file and nothing else that came with a request goes in.
"""

from __future__ import annotations

import json
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)


@dataclass
class Noted:
    """What is found out about a request on its way, for its line in the log.

    Attributes
    ----------
    code : str or None
        Of the refusal.
    key : str or None
        The name of the API key.
    """

    code: str | None = None
    key: str | None = None


def noted(scope: MutableMapping[str, Any]) -> Noted:
    """What is noted of the request whose ASGI scope this is."""
    found = scope.setdefault("ecgbeats", Noted())
    assert isinstance(found, Noted)
    return found


def emit(event: str, **fields: object) -> None:
    """Write one line: the time (UTC, ISO 8601), the event, the request's id, and `fields`.

    A stream that takes nothing (a full disk, a reader that has gone, a closed file) loses the line:
    requests are answered without a log.

    Raises
    ------
    ValueError
        A field is NaN or infinite.
    """
    line = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "event": event,
        "request_id": REQUEST_ID.get(),
        **fields,
    }
    text = json.dumps(line, separators=(",", ":"), allow_nan=False) + "\n"
    with suppress(OSError, ValueError):
        # One write a line: workers share the stream.
        sys.stdout.write(text)
        sys.stdout.flush()
