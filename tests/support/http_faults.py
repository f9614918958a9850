"""A real HTTP server on loopback that serves a folder, and fails where it is told to."""

from __future__ import annotations

import socket
import struct
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote, urlsplit

Fault = Callable[["_Handler", bytes], None]


class FaultyServer:
    """Serve `folder` at `url` on a free port; use as a context manager.

    Attributes
    ----------
    url : str
        Of the folder, without a final slash.
    requests : list of str
        Names asked for, in order of arrival.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.requests: list[str] = []
        self.closing = threading.Event()
        self._once: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self._always: dict[str, Fault] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.faulty = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def fail(self, name: str, *faults: Fault) -> None:
        """Answer the next requests for `name` with `faults`, one each, then as it should be."""
        self._once[name].extend(faults)

    def always_fail(self, name: str, fault: Fault) -> None:
        """Answer every request for `name` with `fault`."""
        self._always[name] = fault

    def count(self, name: str) -> int:
        """How often `name` was asked for."""
        return self.requests.count(name)

    def fault_for(self, name: str) -> Fault:
        self.requests.append(name)
        try:
            return self._once[name].popleft()
        except IndexError:
            return self._always.get(name, whole)

    def __enter__(self) -> FaultyServer:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def whole(handler: _Handler, body: bytes) -> None:
    """No fault."""
    handler.start(200, len(body))
    handler.wfile.write(body)


def status(code: int) -> Fault:
    """Refuse with an HTTP status."""

    def fault(handler: _Handler, body: bytes) -> None:
        handler.start(code, 0)

    return fault


def truncated(handler: _Handler, body: bytes) -> None:
    """Promise the whole length, send half, and close in good order."""
    handler.start(200, len(body))
    handler.wfile.write(body[: len(body) // 2])


def short(handler: _Handler, body: bytes) -> None:
    """Send half as if it were all: only a hash can tell."""
    whole(handler, body[: len(body) // 2])


def flipped(handler: _Handler, body: bytes) -> None:
    """Send all, with one bit wrong in the middle."""
    wrong = bytearray(body)
    wrong[len(wrong) // 2] ^= 1
    whole(handler, bytes(wrong))


def reset(handler: _Handler, body: bytes) -> None:
    """Send half, then reset the connection (TCP RST)."""
    truncated(handler, body)
    handler.wfile.flush()
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def stalled(handler: _Handler, body: bytes) -> None:
    """Send half, then nothing, and keep the connection."""
    truncated(handler, body)
    handler.wfile.flush()
    handler.faulty.closing.wait()


class _Handler(BaseHTTPRequestHandler):
    @property
    def faulty(self) -> FaultyServer:
        return self.server.faulty  # type: ignore[attr-defined,no-any-return]

    def do_GET(self) -> None:
        name = unquote(urlsplit(self.path).path).lstrip("/")
        fault = self.faulty.fault_for(name)
        path = self.faulty.folder / name
        if not path.is_file():
            self.start(404, 0)
            return
        with suppress(BrokenPipeError, ConnectionResetError):  # clients may go away
            fault(self, path.read_bytes())

    def start(self, code: int, length: int) -> None:
        """Send the status line and the headers."""
        self.send_response(code)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def finish(self) -> None:
        # After `reset` there is no connection left to flush.
        if self.connection.fileno() != -1:
            super().finish()

    def log_message(self, format: str, *args: object) -> None:
        """The test's output is not the place for an access log."""
