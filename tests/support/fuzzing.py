"""Hostile requests, each settled by its number: forms, heads and manners around hostile files."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tests.support.hostile_files import (
    MARK,
    Random,
    Seeds,
    bomb,
    crafted_header,
    crafted_jpeg,
    crafted_png,
    gzipped_zeros,
    noise,
    odd_json,
    odd_table,
    pick,
    spoilt,
)


@dataclass(frozen=True)
class Attack:
    """One request, as bytes on a socket.

    Attributes
    ----------
    parts : list of bytes
        Written one after another, with `pause_s` in between.
    may_hang_up : bool
        Whether it is so far from HTTP that no answer is an answer too.
    leaves : bool
        Whether the client closes without waiting.
    """

    kind: str
    parts: list[bytes]
    pause_s: float = 0.0
    may_hang_up: bool = False
    leaves: bool = False


def attack(number: int, seed: int, good: Seeds) -> Attack:
    """The request of this number."""
    rng = np.random.default_rng((seed, number))
    kinds = list(_KINDS)
    weights = np.array([weight for _, weight in _KINDS.values()], float)
    kind = kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))]
    return _KINDS[kind][0](rng, good)


# Requests.


def _head(method: str, path: str, headers: Sequence[tuple[str, str | bytes]]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1".encode(), b"Host: localhost", b"Connection: close"]
    for name, value in headers:
        lines.append(
            name.encode() + b": " + (value if isinstance(value, bytes) else value.encode())
        )
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _post(path: str, body: bytes, media_type: str | bytes) -> list[bytes]:
    headers = [("Content-Type", media_type), ("Content-Length", str(len(body)))]
    return [_head("POST", path, headers), body]


def form_of(
    files: Sequence[tuple[str, bytes]], fields: dict[str, str] | None = None, name: str = "file"
) -> tuple[bytes, str]:
    """A multipart form and its type."""
    out = io.BytesIO()
    for key, value in (fields or {}).items():
        out.write(f'--b0\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n'.encode())
        out.write(value.encode() + b"\r\n")
    for filename, content in files:
        out.write(
            b'--b0\r\nContent-Disposition: form-data; name="%s"; filename="%s"\r\n'
            % (name.encode(), filename.encode("utf-8", "surrogateescape"))
        )
        out.write(b"Content-Type: application/octet-stream\r\n\r\n" + content + b"\r\n")
    out.write(b"--b0--\r\n")
    return out.getvalue(), "multipart/form-data; boundary=b0"


def form_post(
    path: str, files: Sequence[tuple[str, bytes]], fields: dict[str, str] | None = None
) -> list[bytes]:
    return _post(path, *form_of(files, fields))


_NAMES = (
    f"{MARK}.png", "../../../../tmp/jane-doe", "/etc/jane-doe", "..\\..\\jane-doe", "",
    "jane-doe\0.png", "C:\\jane-doe", "jane-doe" * 200, "jane-doe\u202egnp.", "%2e%2e%2fjane-doe",
)  # fmt: skip


def _image(rng: Random, good: Seeds) -> Attack:
    def one() -> bytes:
        how = rng.random()
        if how < 0.55:
            return spoilt(rng, pick(rng, good.images))  # type: ignore[arg-type]
        if how < 0.75:
            return crafted_png(rng)
        return crafted_jpeg(rng, good) if how < 0.9 else noise(rng)

    files = [(str(pick(rng, _NAMES)), one()) for _ in range(int(pick(rng, (1, 1, 1, 2, 5))))]
    if rng.random() < 0.25:
        label = str(pick(rng, ("V", "N", "", MARK, "[", "null", '"V"')))
        return Attack("image", form_post("/explain", files[:1], {"label": label}))
    return Attack("image", form_post("/classify", files))


# Recordings.


def _record(rng: Random, good: Seeds) -> Attack:
    files = dict(good.record)
    if rng.random() < 0.4:
        files["s002.hea"] = crafted_header(rng)
    else:
        for name in ("s002.hea", "s002.atr", "s002.dat"):
            if rng.random() < (0.7 if name.endswith("hea") else 0.35):
                files[name] = spoilt(rng, files[name])
    if rng.random() < 0.2:
        del files[str(pick(rng, list(files)))]
    sent = list(files.items())
    if rng.random() < 0.15:
        sent.append((str(pick(rng, _NAMES)), noise(rng)))
    fields = {}
    if rng.random() < 0.3:
        fields = {
            "beats": str(pick(rng, ("annotated", "detected", "all", MARK))),
            "annotator": str(pick(rng, ("atr", "../atr", "qrs", "", "x" * 99))),
            "lead": str(pick(rng, ("MLII", "", MARK, "\u202e", "V1" * 60))),
            "trace": str(pick(rng, ("true", "maybe", "1"))),
            "pictures": str(pick(rng, ("0,5", "[1,2]", "-1", "9" * 30, "0," * 80, "x", "99999"))),
        }
    return Attack("record", form_post("/classify_record", sent, fields))


def _archive(rng: Random, good: Seeds) -> Attack:
    if rng.random() < 0.25:
        content = gzipped_zeros(int(pick(rng, (1000, 40_000_000))))
        if rng.random() < 0.5:
            content = spoilt(rng, content)
        path = str(pick(rng, ("/classify_signal", "/classify_record")))
        return Attack("archive", form_post(path, [(f"{MARK}.csv.gz", content)]))
    return Attack("archive", form_post("/classify_record", [(f"{MARK}.zip", bomb(rng, good))]))


# Samples.


def _signal(rng: Random, good: Seeds) -> Attack:
    as_json = rng.random() < 0.5
    if as_json:
        content = spoilt(rng, good.document) if rng.random() < 0.5 else odd_json(rng)
    else:
        content = spoilt(rng, good.table) if rng.random() < 0.5 else odd_table(rng)
    rates = ("360", "", "0", "-1", "nan", "inf", "1e999", "0.5", "9999", "10001", "3 60", "0x10")
    fs = "360" if rng.random() < 0.6 else str(pick(rng, rates))
    units = str(pick(rng, ("", "", "mV", "mV", "adu", MARK)))
    if rng.random() < 0.5:
        media_type = "application/json" if as_json else "text/csv"
        query = f"?fs={fs}&units={units}".replace(" ", "+")
        return Attack("signal", _post(f"/classify_signal{query}", content, media_type))
    name = f"{MARK}.json" if as_json else f"{MARK}.csv"
    fields = {"fs": fs, "units": units, "gain": str(pick(rng, ("", "0", "nan", "200")))}
    return Attack("signal", form_post("/classify_signal", [(name, content)], fields))


# Forms, heads, manners.


def _form(rng: Random, good: Seeds) -> Attack:
    path = str(pick(rng, ("/classify", "/classify_signal", "/classify_record", "/explain")))
    image = good.images[0]
    how = int(rng.integers(8))
    body, media_type = form_of([(f"{MARK}.png", image)])
    if how == 0:
        body = spoilt(rng, body)
    elif how == 1:
        media_type = str(pick(rng, (
            "multipart/form-data", "multipart/form-data; boundary=",
            "multipart/form-data; boundary=x",
            "multipart/mixed; boundary=b0", f"multipart/form-data; boundary={'b' * 3000}",
            "multipart/form-data; boundary=\x01", "multipart/form-data; boundary=b0; charset=utf-7",
        )))  # fmt: skip
    elif how == 2:
        body = body.replace(b"form-data;", b"form-data" + b"; x=y" * int(rng.integers(3000)))
    elif how == 3:
        body = form_of([(f"{MARK}.png", b"x")] * int(pick(rng, (257, 600))))[0]
    elif how == 4:
        body = form_of([], {f"{MARK}{k}": "x" for k in range(int(pick(rng, (1, 400))))})[0]
    elif how == 5:
        body = form_of([], {"file": MARK * int(pick(rng, (1, 1000))), "label": MARK})[0]
    elif how == 6:
        body = b"--b0\r\n" + b"X-Y: z\r\n" * int(rng.integers(3000)) + b"\r\n" + rng.bytes(99)
    else:
        body = form_of([(str(pick(rng, _NAMES)), noise(rng))], name=str(pick(rng, _NAMES)))[0]
    return Attack("form", _post(path, body, media_type))


def _type(rng: Random, good: Seeds) -> Attack:
    path = str(pick(rng, ("/classify", "/classify_signal", "/classify_record", "/explain")))
    media_type = pick(rng, (
        "application/json", "text/csv", "application/vnd.bentoml+pickle", "image/png", "",
        "application/x-www-form-urlencoded", "text/plain", MARK, "application/octet-stream",
        "application/vnd.bentoml.stream", "multipart", ";;;", b"\xff\xfe", "a/b" * 500,
    ))  # fmt: skip
    body = pick(rng, (b"\x80\x04cos\nsystem\n.", b"", b"{}", good.images[0], noise(rng)))
    return Attack("type", _post(path, body, media_type))  # type: ignore[arg-type]


def _target(rng: Random, _: Seeds) -> Attack:
    method = str(pick(rng, ("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "JANE")))
    path = str(pick(rng, (
        "/classify", "/model", "/nowhere", "/page/../service.py", "/page/%2e%2e/service.py",
        "/page/..%2f..%2fbundle.json", "//etc/passwd", "/page/samples/%00", f"/{MARK}",
        f"/{'x' * 5000}", "/model?" + "a=b&" * 2000, "/page//////app.js", "/docs.json", "/%ff%fe",
        "/explain/", "/classify?file=/etc/passwd", "/page/samples/", "/static_content/../x", "*",
        "/page/app.js%0d%0aX-Evil: 1", f"http://evil.example/{MARK}", "/metrics", "/schema.json",
    )))  # fmt: skip
    headers: list[tuple[str, str | bytes]] = [("Content-Length", "0")]
    odd: tuple[list[tuple[str, str | bytes]], ...] = (
        [],
        [(f"X-{k}", MARK) for k in range(int(pick(rng, (3, 90, 400))))],
        [("X-Long", "x" * int(pick(rng, (5000, 60_000, 300_000))))],
        [("X-Request-ID", f'{MARK}"}} {{"event":"forged"')],
        [("X-Forwarded-For", "127.0.0.1, ::1, x"), ("X-Forwarded-Proto", "javascript")],
        [("Authorization", b"Bearer \xff\xfe"), ("Cookie", "x=" + "y" * 3000)],
        [("Range", "bytes=0-1,5-2,-9999999999,0-0" + ",1-2" * 500)],
        [("If-Modified-Since", "yesterday"), ("If-None-Match", "*")],
        [("Accept-Encoding", "br;q=nan"), ("Accept", "\x07")],
        [("Traceparent", "00-zz-zz-zz"), ("Baggage", "a=b," * 3000)],
        [("Expect", "100-continue"), ("Upgrade", "websocket"), ("Connection", "Upgrade"),
         ("Sec-WebSocket-Key", "AAAA"), ("Sec-WebSocket-Version", "13")],
        [("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABkAAQAAP__")],
    )  # fmt: skip
    headers += odd[int(rng.integers(len(odd)))]
    return Attack("target", [_head(method, path, headers)], may_hang_up=True)


def _wire(rng: Random, good: Seeds) -> Attack:
    """What is HTTP no longer, or only nearly."""
    body, media_type = form_of([(f"{MARK}.png", good.images[0])])
    typed = f"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: {media_type}\r\n".encode()
    close = b"Connection: close\r\n"
    chunked = typed + close + b"Transfer-Encoding: chunked\r\n"
    length = b"Content-Length: %d\r\n" % len(body)
    whole = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    shapes: dict[str, list[bytes]] = {
        "noise": [rng.bytes(int(rng.integers(1, 3000))) + b"\r\n\r\n"],
        "tls": [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.bytes(200)],
        "two lengths": [typed + length + b"Content-Length: 5\r\n\r\n", body],
        "both": [chunked + length + b"\r\n", whole],
        "negative": [typed + close + b"Content-Length: -5\r\n\r\n", body],
        "word": [typed + close + b"Content-Length: 0x10\r\n\r\n", body],
        "enormous": [typed + close + b"Content-Length: 99999999999999999999\r\n\r\n", body],
        "chunked": [chunked + b"\r\n", whole],
        "bad chunk": [chunked + b"\r\n", b"zz\r\n" + body],
        "huge chunk": [chunked + b"\r\n", b"ffffffffffffffff\r\n" + body],
        "trailers": [chunked + b"\r\n", whole[:-2] + b"X: y\r\n" * 2000 + b"\r\n"],
        "old": [typed.replace(b"HTTP/1.1", b"HTTP/1.0") + length + b"\r\n", body],
        "new": [typed.replace(b"HTTP/1.1", b"HTTP/9.9") + length + b"\r\n", body],
        "bare": [b"GET /model\r\n\r\n"],
        "folded": [b"GET /model HTTP/1.1\r\nHost: x\r\n folded\r\n" + close + b"\r\n"],
        "no host": [b"GET /model HTTP/1.1\r\n" + close + b"\r\n"],
        "nul": [b"GET /mo\0del HTTP/1.1\r\nHost: x\r\nX: \0\r\n" + close + b"\r\n"],
        "spaces": [b"GET  /model  HTTP/1.1\r\nHost : x\r\n" + close + b"\r\n"],
    }
    shape = str(pick(rng, list(shapes)))
    return Attack("wire", shapes[shape], may_hang_up=True)


def _leaves(rng: Random, good: Seeds) -> Attack:
    """A client that goes in the middle of its upload, or before the answer."""
    if rng.random() < 0.5:
        head, body = form_post("/classify", [(f"{MARK}.png", good.images[0])])
        return Attack("leaves", [head, body[: int(rng.integers(len(body)))]], leaves=True)
    return Attack("leaves", form_post("/classify_record", [*good.record.items()]), leaves=True)


def _slow(rng: Random, good: Seeds) -> Attack:
    """A client that drips: some come to an end in time, some do not."""
    head, body = form_post("/classify", [(f"{MARK}.png", good.images[0])])
    # Of the service under test, a body has ten seconds.
    pieces, pause = ((3, 0.1), (40, 0.3))[int(rng.integers(2))]
    step = max(1, len(body) // pieces)
    parts = [body[i : i + step] for i in range(0, len(body), step)]
    return Attack("slow", [head, *parts], pause_s=pause)


_KINDS: dict[str, tuple[Callable[[Random, Seeds], Attack], float]] = {
    "image": (_image, 24),
    "record": (_record, 18),
    "archive": (_archive, 10),
    "signal": (_signal, 16),
    "form": (_form, 10),
    "type": (_type, 6),
    "target": (_target, 8),
    "wire": (_wire, 5),
    "leaves": (_leaves, 2),
    "slow": (_slow, 2),
}
