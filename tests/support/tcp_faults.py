"""Proxies on loopback before a real server, which can refuse, break off, delay or answer for it."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Literal
from urllib.parse import urlsplit

Mode = Literal["whole", "slow", "refuse", "reset", "500", "503", "half", "hang"]
# Until a slow server's answer begins: less than any client's patience, which "hang" is for.
_SLOW_S = 0.3
# Of a request; its body may come in further pieces.
_BEGINS = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"PATCH ", b"DELETE ")


class FaultyProxy:
    """Pass on what comes to `url` to the server at `target`; use as a context manager.

    Attributes
    ----------
    requests : list of str
        That came so far, as "GET /path".
    met : list of str
        Those of them that were answered by a fault.
    """

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        assert parts.hostname is not None and parts.port is not None
        self._target = (parts.hostname, parts.port)
        self._mode: Mode = "whole"
        self._healthy_for = 0
        self._where: Callable[[str], bool] = lambda _: True
        self._closing = threading.Event()
        self._counting = threading.Lock()
        self.requests: list[str] = []
        self.met: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}{parts.path}"
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def fail(
        self, mode: Mode, after: int = 0, where: Callable[[str], bool] = lambda _: True
    ) -> None:
        """Answer so, once `after` more requests were answered as they should be.

        Parameters
        ----------
        mode : str
            "refuse": the connection is closed; "reset": by a TCP reset; "500", "503": answered so;
            "half": the server's answer is cut in the middle of its body; "slow": after a wait;
            "hang": never, and the connection is kept; or "whole".
        after : int
        where : callable
            Of a request, as "GET /path": whether it is one that this is about.
        """
        with self._counting:
            self._mode, self._healthy_for, self._where = mode, after, where
            self.requests, self.met = [], []

    def __enter__(self) -> FaultyProxy:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        # Wakes the listener, which closing alone does not.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _now(self, request: str) -> Mode:
        """What becomes of the request that comes now."""
        with self._counting:
            self.requests.append(request)
            if self._mode == "whole" or not self._where(request):
                return "whole"
            if self._healthy_for > 0:
                self._healthy_for -= 1
                return "whole"
            self.met.append(request)
            return self._mode

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(self._target) as server:
            cut = threading.Event()
            down = threading.Thread(target=_answers, args=(server, client, cut), daemon=True)
            down.start()
            while data := client.recv(1 << 16):
                if data.startswith(_BEGINS):
                    mode = self._now(b" ".join(data.split(b" ", 2)[:2]).decode("latin-1"))
                    if mode == "half":
                        cut.set()
                    elif mode == "slow":
                        self._closing.wait(_SLOW_S)
                    elif mode == "hang":
                        self._read_on(client)
                        return
                    elif mode != "whole":
                        _end(client, mode)
                        return
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)
            down.join(10)

    def _read_on(self, client: socket.socket) -> None:
        client.settimeout(0.2)
        while not self._closing.is_set():
            with suppress(TimeoutError):
                if not client.recv(1 << 16):
                    return


class Wire:
    """Pass on bytes of any protocol both ways between those who connect and the server at `target`.

    Use as a context manager. Connections are the server's until `reset` or `hang`.

    Attributes
    ----------
    address : str
        To connect to, as "tcp://host:port".
    """

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        assert parts.hostname is not None and parts.port is not None
        self._target = (parts.hostname, parts.port)
        self._open: list[socket.socket] = []
        self._goes = threading.Event()
        self._goes.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._listen, daemon=True).start()

    def reset(self) -> None:
        """End all connections by a TCP reset, and take no new one."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._open:
            with suppress(OSError):
                _reset(each)

    def hang(self) -> None:
        """Keep all connections, take new ones, and pass nothing on any more."""
        self._goes.clear()

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.reset()
        self._goes.set()

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
            except OSError:
                return
            self._open += [client, server]
            for ends in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                self._goes.wait()
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


def _answers(server: socket.socket, client: socket.socket, cut: threading.Event) -> None:
    with suppress(OSError):
        while data := server.recv(1 << 16):
            if cut.is_set():
                _send_half(data, server, client)
                _reset(client)
                return
            client.sendall(data)
        client.shutdown(socket.SHUT_WR)


def _send_half(data: bytes, server: socket.socket, client: socket.socket) -> None:
    """Send an answer that begins with `data`, up to the middle of its body."""
    while b"\r\n\r\n" not in data and (more := server.recv(1 << 16)):
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    told = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    # One that does not tell its length is cut where its first piece ends.
    half = int(told[0].partition(b":")[2]) // 2 if told else len(body) // 2
    while len(body) < half and (more := server.recv(1 << 16)):
        body += more
    client.sendall(head + b"\r\n\r\n" + body[:half])
    # A reset that follows at once would throw away what the client has not read yet.
    threading.Event().wait(0.2)


def _end(client: socket.socket, mode: Mode) -> None:
    if mode == "reset":
        _reset(client)
    elif mode != "refuse":
        text = f"HTTP/1.1 {mode} Fault\r\nContent-Length: 5\r\nConnection: close\r\n\r\nfault"
        client.sendall(text.encode())


def _reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # Not closed yet for the other thread that waits for it.
    client.shutdown(socket.SHUT_RD)
    client.close()
