"""What the service writes to its log: one JSON object a line, on standard output.

No pixel, no sample, no name of a file and nothing else that came with a request goes in.
"""

from __future__ import annotations

import json
import sys
from contextvars import ContextVar
from datetime import UTC, datetime

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)


def emit(event: str, **fields: object) -> None:
    """Write one line: the time (UTC, ISO 8601), the event, the request's id, and `fields`."""
    line = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "event": event,
        "request_id": REQUEST_ID.get(),
        **fields,
    }
    # One write a line: workers share the stream.
    sys.stdout.write(json.dumps(line, separators=(",", ":"), allow_nan=False) + "\n")
    sys.stdout.flush()
