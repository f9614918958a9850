"""Hostile requests, each settled by its number: files, forms, heads and manners."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from PIL import Image

from ecgbeats.imaging.png import encode_png
from tests.support.bentos import PROJECT
from tests.support.tiny_model import SPEC, random_images

# Stands in names, texts and fields of what is sent, and must be found nowhere afterwards.
MARK = "jane-doe"
_SAMPLES = PROJECT / "bento" / "page" / "samples"
_WORDS = (
    b"nan", b"inf", b"-inf", b"-1", b"1e999", b"9" * 40, b"0", b"\xff\xfe", b"../", b"[", b'"',
    b"\0", b"1e-320", b"\xe2\x80\xa8", b"0x10", b"/", b"\r\n", b",", b":",
)  # fmt: skip
Random = np.random.Generator


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


@dataclass(frozen=True)
class Seeds:
    """Good files that bad ones are made of."""

    images: list[bytes]
    record: dict[str, bytes]
    table: bytes
    document: bytes = field(repr=False)


def seeds() -> Seeds:
    images = [encode_png(random_images(1)[0], SPEC.spec_id)]
    plain = Image.fromarray(random_images(1, seed=3)[0])
    for form, mode in (("JPEG", "L"), ("JPEG", "RGB"), ("PNG", "P"), ("PNG", "RGBA"), ("PNG", "1")):
        buffer = io.BytesIO()
        plain.convert(mode).resize((90, 70)).save(buffer, form)
        images.append(buffer.getvalue())
    record = {f"s002.{k}": (_SAMPLES / f"s002.{k}").read_bytes() for k in ("hea", "dat", "atr")}
    table = "time,MLII\n" + "".join(f"{k / 360:.4f},{np.sin(k / 9):.3f}\n" for k in range(1100))
    document = json.dumps({"samples": [k % 7 for k in range(1100)], "fs": 360, "beats": [9, 99]})
    return Seeds(images, record, table.encode(), document.encode())


def attack(number: int, seed: int, good: Seeds) -> Attack:
    """The request of this number."""
    rng = np.random.default_rng((seed, number))
    kinds = list(_KINDS)
    weights = np.array([weight for _, weight in _KINDS.values()], float)
    kind = kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))]
    return _KINDS[kind][0](rng, good)


# Bytes.


def spoilt(rng: Random, content: bytes) -> bytes:
    """`content` with bits flipped, words put in, or its end cut off."""
    out = bytearray(content)
    for _ in range(int(rng.integers(1, 6))):
        at = int(rng.integers(max(1, len(out))))
        how = rng.random()
        if how < 0.3:
            word = _pick(rng, _WORDS)
            out[at : at + int(rng.integers(0, 1 + len(word)))] = word
        elif how < 0.7 and out:
            out[at] ^= 1 << int(rng.integers(8))
        elif out:
            out[at] = int(rng.integers(256))
    if rng.random() < 0.3 and len(out) > 1:
        del out[int(rng.integers(len(out))) :]
    return bytes(out)


def _noise(rng: Random, most: int = 5000) -> bytes:
    start = _pick(rng, (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"PK\x03\x04", b"\x1f\x8b"))
    return start + rng.bytes(int(rng.integers(most)))


def _pick(rng: Random, choices: Sequence) -> object:  # type: ignore[type-arg]
    return choices[int(rng.integers(len(choices)))]


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


# Images.


@cache
def _zeros(count: int) -> bytes:
    return zlib.compress(bytes(count))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def _crafted_png(rng: Random) -> bytes:
    sizes = (0, 1, 16, 90, 2000, 30_000, 2**31 - 1, 2**32 - 1)
    width, height = int(_pick(rng, sizes)), int(_pick(rng, sizes))
    depth, colour = int(_pick(rng, (1, 8, 16, 3, 255))), int(_pick(rng, (0, 2, 3, 4, 6, 9)))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(rng.integers(3)))
    pixels = _zeros(int(_pick(rng, (0, 100, 5000, 20_000_000))))
    extra = {
        "text": _chunk(b"tEXt", b"ecgbeats-spec\0" + rng.bytes(int(rng.integers(3000)))),
        "bomb": _chunk(b"zTXt", b"ecgbeats-spec\0\0" + _zeros(30_000_000)),
        "colour": _chunk(b"iCCP", b"x\0\0" + _zeros(30_000_000)),
        "itxt": _chunk(b"iTXt", b"ecgbeats-spec\0\1\0\0\0" + _zeros(9_000_000)),
        "moving": _chunk(b"acTL", struct.pack(">II", 2**31, 0)),
        "palette": _chunk(b"PLTE", rng.bytes(int(rng.integers(1000)))),
        "none": b"",
    }
    between = extra[str(_pick(rng, list(extra)))]
    whole = _chunk(b"IHDR", header) + between + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + whole


def _crafted_jpeg(rng: Random, good: Seeds) -> bytes:
    content = bytearray(good.images[int(rng.integers(1, 3))])
    at = content.find(b"\xff\xc0")
    size = _pick(rng, ((65535, 65535), (0, 0), (1, 65535), (2001, 2000)))
    content[at + 5 : at + 9] = struct.pack(">HH", *size)
    return bytes(content)


def _image(rng: Random, good: Seeds) -> Attack:
    def one() -> bytes:
        how = rng.random()
        if how < 0.55:
            return spoilt(rng, _pick(rng, good.images))  # type: ignore[arg-type]
        if how < 0.75:
            return _crafted_png(rng)
        return _crafted_jpeg(rng, good) if how < 0.9 else _noise(rng)

    files = [(str(_pick(rng, _NAMES)), one()) for _ in range(int(_pick(rng, (1, 1, 1, 2, 5))))]
    if rng.random() < 0.25:
        label = str(_pick(rng, ("V", "N", "", MARK, "[", "null", '"V"')))
        return Attack("image", form_post("/explain", files[:1], {"label": label}))
    return Attack("image", form_post("/classify", files))


# Recordings.


def _crafted_header(rng: Random) -> bytes:
    number = ("2", "0", "-1", "1000", "99999999999", "nan", "1e9", "")
    rate = ("360", "0", "-1", "nan", "inf", "1e9", "1e-9", "250/360(0)", "")
    long = ("21600", "0", "999999999999", "-5", "", "1e7")
    name = ("s002.dat", "../../etc/passwd", "/etc/passwd", "~", "-", "s002.hea", "", f"{MARK}.dat")
    kind = ("212", "16", "8", "61", "80", "160", "24", "32", "310", "311", "508", "0", "16x9999",
            "212:99999999", "16+99999999", "212x0", "")  # fmt: skip
    gain = ("200", "0", "inf", "nan", "-1", "1e308", "200(99999999999)/mV", "1e-308(-1)/kg", "")
    lines = [f"s002 {_pick(rng, number)} {_pick(rng, rate)} {_pick(rng, long)}"]
    for _ in range(int(_pick(rng, (0, 1, 2, 2, 3, 300)))):
        words = (_pick(rng, name), _pick(rng, kind), _pick(rng, gain), "11", "1024", "995")
        lines.append(" ".join(map(str, words)) + " 0 0 MLII")
    if rng.random() < 0.2:
        lines[0] = lines[0].replace("s002 ", f"s002/{_pick(rng, ('3', '0', '99999'))} ", 1)
    return ("\n".join(lines) + "\n").encode()


def _record(rng: Random, good: Seeds) -> Attack:
    files = dict(good.record)
    if rng.random() < 0.4:
        files["s002.hea"] = _crafted_header(rng)
    else:
        for name in ("s002.hea", "s002.atr", "s002.dat"):
            if rng.random() < (0.7 if name.endswith("hea") else 0.35):
                files[name] = spoilt(rng, files[name])
    if rng.random() < 0.2:
        del files[str(_pick(rng, list(files)))]
    sent = list(files.items())
    if rng.random() < 0.15:
        sent.append((str(_pick(rng, _NAMES)), _noise(rng)))
    fields = {}
    if rng.random() < 0.3:
        fields = {
            "beats": str(_pick(rng, ("annotated", "detected", "all", MARK))),
            "annotator": str(_pick(rng, ("atr", "../atr", "qrs", "", "x" * 99))),
            "lead": str(_pick(rng, ("MLII", "", MARK, "\u202e", "V1" * 60))),
            "trace": str(_pick(rng, ("true", "maybe", "1"))),
            "pictures": str(_pick(rng, ("0,5", "[1,2]", "-1", "9" * 30, "0," * 80, "x", "99999"))),
        }
    return Attack("record", form_post("/classify_record", sent, fields))


def _bomb(rng: Random, good: Seeds) -> bytes:
    out = io.BytesIO()
    how = str(_pick(rng, ("zeros", "many", "nested", "names", "spoilt", "claims", "locked")))
    method = int(_pick(rng, (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)))
    method = method if rng.random() < 0.2 else zipfile.ZIP_DEFLATED
    if how == "zeros":
        return _zipped_zeros(method)
    with zipfile.ZipFile(out, "w", method) as archive:
        if how == "many":
            for k in range(300):
                archive.writestr(f"{k}.dat", b"x")
        elif how == "nested":
            archive.writestr("inner.zip", _plain_zip({f"{k}.dat": bytes(10**6) for k in range(9)}))
        else:
            for name, content in good.record.items():
                prefix = _pick(rng, ("", "../", "/", "a/../../", "..\\", f"{MARK}/", "C:\\"))
                archive.writestr(f"{prefix}{name}" if how == "names" else name, content)
    content = bytearray(out.getvalue())
    if how == "spoilt":
        return spoilt(rng, bytes(content))
    at = content.rfind(b"PK\x01\x02")
    if how == "claims":
        content[at + 20 : at + 28] = struct.pack("<II", *rng.integers(0, 2**32, 2, dtype=np.uint64))
    elif how == "locked":
        content[at + 8] |= 1
    return bytes(content)


def _plain_zip(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


@cache
def _gzipped_zeros(count: int) -> bytes:
    return gzip.compress(bytes(count))


@cache
def _zipped_zeros(method: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr("s002.dat", bytes(40_000_000))
    return out.getvalue()


def _archive(rng: Random, good: Seeds) -> Attack:
    if rng.random() < 0.25:
        content = _gzipped_zeros(int(_pick(rng, (1000, 40_000_000))))
        if rng.random() < 0.5:
            content = spoilt(rng, content)
        path = str(_pick(rng, ("/classify_signal", "/classify_record")))
        return Attack("archive", form_post(path, [(f"{MARK}.csv.gz", content)]))
    return Attack("archive", form_post("/classify_record", [(f"{MARK}.zip", _bomb(rng, good))]))


# Samples.


def _odd_table(rng: Random) -> bytes:
    rows = 1100
    odd = {
        "nan": "x\n" + "nan\n" * rows,
        "mixed": "x\n"
        + "".join(f"{_pick(rng, ('nan', 'inf', '1', '-1e308'))}\n" for _ in range(rows)),
        "huge": "x\n" + "1e308\n-1e308\n" * (rows // 2),
        "tiny": "x\n" + "1e-320\n" * rows,
        "flat": "x\n" + "0\n" * rows,
        "wide": ",".join(map(str, range(20_000))) + "\n" + ",".join("1" * 20_000) + "\n",
        "long": "x" * 300_000,
        "ragged": "\n".join("1," * int(rng.integers(9)) for _ in range(rows)),
        "quoted": '"' + f"{MARK},\n" * 500,
        "commas": "," * 50_000,
        "none": "",
        "words": f"{MARK}\n" * rows,
        "nul": "x\n" + "1\0\n" * rows,
        "formula": "=cmd|' /C calc'!A0\n" + "1\n" * rows,
    }
    text = odd[str(_pick(rng, list(odd)))]
    return text.encode(str(_pick(rng, ("utf-8", "utf-8", "utf-16", "utf-8-sig"))))


def _odd_json(rng: Random) -> bytes:
    odd: dict[str, str | bytes] = {
        "deep": "[" * 100_000,
        "deep whole": "[" * 5000 + "]" * 5000,
        "objects": '{"samples":' * 20_000,
        "nan": '{"samples": [NaN, Infinity, -Infinity], "fs": NaN}',
        "big": '{"samples": [1%s], "fs": 360}' % ("0" * 5000),
        "twice": '{"fs": 1, "fs": 360, "samples": [1], "samples": [2]}',
        "types": json.dumps({"samples": {MARK: [1]}, "fs": [360], "beats": "all"}),
        "leads": json.dumps({"samples": [[1] * 1100] * 300, "fs": 360}),
        "ragged": json.dumps({"samples": [[1] * 1100, [1]], "fs": 360}),
        "beats": json.dumps({"samples": [0, 1] * 999, "fs": 360, "beats": [-1, 10**30, 1e99, 0]}),
        "null": "null",
        "texts": json.dumps({"samples": [MARK] * 999, "fs": "360"}),
        "units": json.dumps({"samples": [0, 1] * 999, "fs": 360, "units": MARK, "gain": -1}),
        "bytes": b'{"samples": "\xff\xfe"}',
        "lonely": '{"samples": [1], "lead": "\\ud800"}',
    }
    text = odd[str(_pick(rng, list(odd)))]
    return text if isinstance(text, bytes) else text.encode()


def _signal(rng: Random, good: Seeds) -> Attack:
    as_json = rng.random() < 0.5
    if as_json:
        content = spoilt(rng, good.document) if rng.random() < 0.5 else _odd_json(rng)
    else:
        content = spoilt(rng, good.table) if rng.random() < 0.5 else _odd_table(rng)
    rates = ("360", "", "0", "-1", "nan", "inf", "1e999", "0.5", "9999", "10001", "3 60", "0x10")
    fs = "360" if rng.random() < 0.6 else str(_pick(rng, rates))
    units = str(_pick(rng, ("", "", "mV", "mV", "adu", MARK)))
    if rng.random() < 0.5:
        media_type = "application/json" if as_json else "text/csv"
        query = f"?fs={fs}&units={units}".replace(" ", "+")
        return Attack("signal", _post(f"/classify_signal{query}", content, media_type))
    name = f"{MARK}.json" if as_json else f"{MARK}.csv"
    fields = {"fs": fs, "units": units, "gain": str(_pick(rng, ("", "0", "nan", "200")))}
    return Attack("signal", form_post("/classify_signal", [(name, content)], fields))


# Forms, heads, manners.


def _form(rng: Random, good: Seeds) -> Attack:
    path = str(_pick(rng, ("/classify", "/classify_signal", "/classify_record", "/explain")))
    image = good.images[0]
    how = int(rng.integers(8))
    body, media_type = form_of([(f"{MARK}.png", image)])
    if how == 0:
        body = spoilt(rng, body)
    elif how == 1:
        media_type = str(_pick(rng, (
            "multipart/form-data", "multipart/form-data; boundary=",
            "multipart/form-data; boundary=x",
            "multipart/mixed; boundary=b0", f"multipart/form-data; boundary={'b' * 3000}",
            "multipart/form-data; boundary=\x01", "multipart/form-data; boundary=b0; charset=utf-7",
        )))  # fmt: skip
    elif how == 2:
        body = body.replace(b"form-data;", b"form-data" + b"; x=y" * int(rng.integers(3000)))
    elif how == 3:
        body = form_of([(f"{MARK}.png", b"x")] * int(_pick(rng, (257, 600))))[0]
    elif how == 4:
        body = form_of([], {f"{MARK}{k}": "x" for k in range(int(_pick(rng, (1, 400))))})[0]
    elif how == 5:
        body = form_of([], {"file": MARK * int(_pick(rng, (1, 1000))), "label": MARK})[0]
    elif how == 6:
        body = b"--b0\r\n" + b"X-Y: z\r\n" * int(rng.integers(3000)) + b"\r\n" + rng.bytes(99)
    else:
        body = form_of([(str(_pick(rng, _NAMES)), _noise(rng))], name=str(_pick(rng, _NAMES)))[0]
    return Attack("form", _post(path, body, media_type))


def _type(rng: Random, good: Seeds) -> Attack:
    path = str(_pick(rng, ("/classify", "/classify_signal", "/classify_record", "/explain")))
    media_type = _pick(rng, (
        "application/json", "text/csv", "application/vnd.bentoml+pickle", "image/png", "",
        "application/x-www-form-urlencoded", "text/plain", MARK, "application/octet-stream",
        "application/vnd.bentoml.stream", "multipart", ";;;", b"\xff\xfe", "a/b" * 500,
    ))  # fmt: skip
    body = _pick(rng, (b"\x80\x04cos\nsystem\n.", b"", b"{}", good.images[0], _noise(rng)))
    return Attack("type", _post(path, body, media_type))  # type: ignore[arg-type]


def _target(rng: Random, _: Seeds) -> Attack:
    method = str(_pick(rng, ("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "JANE")))
    path = str(_pick(rng, (
        "/classify", "/model", "/nowhere", "/page/../service.py", "/page/%2e%2e/service.py",
        "/page/..%2f..%2fbundle.json", "//etc/passwd", "/page/samples/%00", f"/{MARK}",
        f"/{'x' * 5000}", "/model?" + "a=b&" * 2000, "/page//////app.js", "/docs.json", "/%ff%fe",
        "/explain/", "/classify?file=/etc/passwd", "/page/samples/", "/static_content/../x", "*",
        "/page/app.js%0d%0aX-Evil: 1", f"http://evil.example/{MARK}", "/metrics", "/schema.json",
    )))  # fmt: skip
    headers: list[tuple[str, str | bytes]] = [("Content-Length", "0")]
    odd: tuple[list[tuple[str, str | bytes]], ...] = (
        [],
        [(f"X-{k}", MARK) for k in range(int(_pick(rng, (3, 90, 400))))],
        [("X-Long", "x" * int(_pick(rng, (5000, 60_000, 300_000))))],
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
    shape = str(_pick(rng, list(shapes)))
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
    pieces = int(_pick(rng, (3, 40)))
    step = max(1, len(body) // pieces)
    parts = [body[i : i + step] for i in range(0, len(body), step)]
    return Attack("slow", [head, *parts], pause_s=0.1)


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
    "slow": (_slow, 1),
}
