"""Load on an HTTP server: clients that ask, wait for the whole answer, and ask again.

One thread over raw sockets and epoll, with requests made beforehand, so that two cores are left
to who answers. A client keeps its connection where the server lets it, as HTTP clients do, and
opens another where not. `ceiling` says what this generator itself can do.
"""

from __future__ import annotations

import multiprocessing
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_BOUNDARY = b"4f1d2a7c9be3"
_CHUNK = 256 * 1024
_PATIENCE_S = 60.0


@dataclass
class Answered:
    """What came of one load.

    Attributes
    ----------
    seconds : list of float
        From a request's first byte to its answer's last, of those answered with 200; the time
        to connect included where the server had closed the connection.
    statuses : Counter
        Answers by status; 0 where a connection broke.
    bodies : list of bytes
        Of all answers with 200, in the order of their coming, where they were asked for.
    took_s : float
    """

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    bodies: list[bytes] = field(default_factory=list)
    took_s: float = 0.0

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return len(self.seconds) / self.took_s if self.took_s else 0.0

    @property
    def failed(self) -> int:
        return sum(count for status, count in self.statuses.items() if status != 200)


def form_request(url: str, image: bytes, name: str = "beat.png") -> bytes:
    """The bytes of a POST of one PNG as the field `file` of a multipart form."""
    parts = urlsplit(url)
    disposition = f'Content-Disposition: form-data; name="file"; filename="{name}"'
    head = f"{disposition}\r\nContent-Type: image/png\r\n\r\n".encode()
    body = b"--%s\r\n%s%s\r\n--%s--\r\n" % (_BOUNDARY, head, image, _BOUNDARY)
    lines = (
        f"POST {parts.path} HTTP/1.1",
        f"Host: {parts.netloc}",
        f"Content-Type: multipart/form-data; boundary={_BOUNDARY.decode()}",
        f"Content-Length: {len(body)}",
        "Accept: */*",
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class _Client:
    """One client: a connection, the request under way and what has come of its answer."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.socket: socket.socket | None = None
        self.used = False
        self.buffer = bytearray()
        self.began = 0.0

    def ask(self, request: bytes, poll: select.epoll, of: dict[int, _Client]) -> None:
        self.began = time.perf_counter()
        self.buffer.clear()
        if self.socket is None:
            self.socket = socket.create_connection(self.address, timeout=_PATIENCE_S)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            poll.register(self.socket.fileno(), select.EPOLLIN)
            of[self.socket.fileno()] = self
        # A request of some kB fits what the kernel buffers; sendall does not wait.
        self.socket.sendall(request)

    def close(self, poll: select.epoll, of: dict[int, _Client]) -> None:
        if self.socket is not None:
            poll.unregister(self.socket.fileno())
            del of[self.socket.fileno()]
            self.socket.close()
            self.socket = None

    def read(self) -> tuple[int, bytes, bool] | None:
        """Status, body and whether the connection stays, once all has come; else None."""
        assert self.socket is not None
        data = self.socket.recv(_CHUNK)
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return (0, b"", False) if not data else None
        head = bytes(self.buffer[:end])
        lower = head.lower()
        place = lower.find(b"\r\ncontent-length:")
        status = int(head[9:12])
        if place < 0:
            # Its end is that of the connection; none of the two sides answers in chunks.
            return None if data else (status, bytes(self.buffer[end + 4 :]), False)
        length = int(lower[place + 17 :].split(b"\r\n", 1)[0])
        if len(self.buffer) < end + 4 + length:
            return (0, b"", False) if not data else None
        stays = head.startswith(b"HTTP/1.1") and b"\r\nconnection: close" not in lower
        return status, bytes(self.buffer[end + 4 : end + 4 + length]), stays


def load(
    url: str,
    requests: Sequence[bytes],
    *,
    clients: int,
    seconds: float,
    keep_bodies: bool = False,
    ended: threading.Event | None = None,
) -> Answered:
    """Let `clients` ask the server of `url` for that long, each one request after another.

    Or until `ended` is set; what is under way then is waited for.
    A broken connection counts as an answer of status 0; the client goes on with a new one.
    """
    parts = urlsplit(url)
    address = (parts.hostname or "127.0.0.1", parts.port or 80)
    poll = select.epoll()
    of: dict[int, _Client] = {}
    everybody = [_Client(address) for _ in range(clients)]
    answered = Answered()
    turn = 0
    began = time.perf_counter()
    end = began + seconds
    last = began
    waiting = 0
    try:
        for client in everybody:
            client.ask(requests[turn % len(requests)], poll, of)
            turn, waiting = turn + 1, waiting + 1
        while waiting:
            events = poll.poll(_PATIENCE_S)
            if not events:
                answered.statuses[0] += waiting
                break
            for descriptor, _ in events:
                client = of[descriptor]
                try:
                    found = client.read()
                except OSError:
                    found = (0, b"", False)
                if found is None:
                    continue
                now = time.perf_counter()
                status, body, stays = found
                answered.statuses[status] += 1
                if status == 200:
                    answered.seconds.append(now - client.began)
                    if keep_bodies:
                        answered.bodies.append(body)
                last = now
                if not stays:
                    client.close(poll, of)
                if now < end and not (ended is not None and ended.is_set()):
                    client.ask(requests[turn % len(requests)], poll, of)
                    turn += 1
                else:
                    waiting -= 1
    finally:
        for client in everybody:
            client.close(poll, of)
        poll.close()
    answered.took_s = last - began
    return answered


def ceiling(requests: Sequence[bytes], answer_bytes: int, *, clients: int, seconds: float) -> float:
    """Requests a second against a server that reads them and answers at once, on this machine.

    A lower bound of what the generator can do, for that server is of Python too.
    """
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/classify"
    server = multiprocessing.get_context("fork").Process(
        target=_answer_at_once, args=(listener, answer_bytes), daemon=True
    )
    server.start()
    listener.close()
    try:
        return load(url, requests, clients=clients, seconds=seconds).rate
    finally:
        server.terminate()
        server.join()


def _answer_at_once(listener: socket.socket, answer_bytes: int) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % answer_bytes + b"x" * answer_bytes
    poll = select.epoll()
    poll.register(listener.fileno(), select.EPOLLIN)
    others: dict[int, socket.socket] = {}
    tail = b"--%s--\r\n" % _BOUNDARY
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == listener.fileno():
                client, _ = listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                others[client.fileno()] = client
                poll.register(client.fileno(), select.EPOLLIN)
                continue
            data = others[descriptor].recv(_CHUNK)
            if not data:
                poll.unregister(descriptor)
                others.pop(descriptor).close()
            elif data.endswith(tail):
                others[descriptor].sendall(answer)
