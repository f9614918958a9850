"""A proxy on loopback before a real server, which can refuse, break off, delay or answer for it."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from types import TracebackType
from typing import Literal
from urllib.parse import urlsplit

Mode = Literal["whole", "slow", "refuse", "reset", "500", "503", "half"]
# Until a slow server's answer begins.
_SLOW_S = 0.3
# Of a request; its body may come in further pieces.
_BEGINS = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"PATCH ", b"DELETE ")


class FaultyProxy:
    """Pass on what comes to `url` to the server at `target`; use as a context manager.

    Attributes
    ----------
    requests : int
        That came so far.
    """

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        assert parts.hostname is not None and parts.port is not None
        self._target = (parts.hostname, parts.port)
        self._mode: Mode = "whole"
        self._healthy_for = 0
        self.requests = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}{parts.path}"
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def fail(self, mode: Mode, after: int = 0) -> None:
        """Answer so, once `after` more requests were answered as they should be.

        Parameters
        ----------
        mode : str
            "refuse": the connection is closed; "reset": by a TCP reset; "500", "503": answered so;
            "half": the server's answer is cut in its middle; "slow": after a wait; or "whole".
        """
        self._mode, self._healthy_for = mode, after

    def __enter__(self) -> FaultyProxy:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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

    def _now(self) -> Mode:
        """What becomes of the request that comes now."""
        self.requests += 1
        if self._mode != "whole" and self._healthy_for > 0:
            self._healthy_for -= 1
            return "whole"
        return self._mode

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(self._target) as server:
            cut = threading.Event()
            down = threading.Thread(target=_answers, args=(server, client, cut), daemon=True)
            down.start()
            while data := client.recv(1 << 16):
                if data.startswith(_BEGINS):
                    mode = self._now()
                    if mode == "half":
                        cut.set()
                    elif mode == "slow":
                        threading.Event().wait(_SLOW_S)
                    elif mode != "whole":
                        _end(client, mode)
                        return
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)
            down.join(10)


def _answers(server: socket.socket, client: socket.socket, cut: threading.Event) -> None:
    with suppress(OSError):
        while data := server.recv(1 << 16):
            if cut.is_set():
                client.sendall(data[: len(data) // 2])
                _reset(client)
                return
            client.sendall(data)
        client.shutdown(socket.SHUT_WR)


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
