"""Hostile files: spoilt ones, crafted ones, and bombs."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from PIL import Image

from ecgbeats.imaging.png import encode_png
from ecgbeats.imaging.render import render
from ecgbeats.imaging.spec import CompositeSpec
from tests.support.bentos import PROJECT
from tests.support.pictures import as_jpeg, as_png, exif, picture
from tests.support.recordings import bumps, recording, regular

# Images of the bento's first model. It is asked as it is in earnest, not by what takes any image.
COMPOSITE = CompositeSpec(representation="composite")
# Stands in names, texts and fields of what is sent, and must be found nowhere afterwards.
MARK = "jane-doe"
_SAMPLES = PROJECT / "bento" / "page" / "samples"
_WORDS = (
    b"nan", b"inf", b"-inf", b"-1", b"1e999", b"9" * 40, b"0", b"\xff\xfe", b"../", b"[", b'"',
    b"\0", b"1e-320", b"\xe2\x80\xa8", b"0x10", b"/", b"\r\n", b",", b":",
)  # fmt: skip
Random = np.random.Generator


@dataclass(frozen=True)
class Seeds:
    """Good files that bad ones are made of."""

    images: list[bytes]
    record: dict[str, bytes]
    table: bytes
    document: bytes = field(repr=False)


def seeds() -> Seeds:
    samples = regular(8)
    (drawn,) = render(recording(bumps(samples, 4000, seed=1)), samples[4:5], COMPOSITE)
    images = [encode_png(drawn, COMPOSITE.spec_id)]
    plain = Image.fromarray(picture("Wide", 3))
    for form, mode in (("JPEG", "L"), ("JPEG", "RGB"), ("PNG", "P"), ("PNG", "RGBA"), ("PNG", "1")):
        buffer = io.BytesIO()
        plain.convert(mode).resize((90, 70)).save(buffer, form)
        images.append(buffer.getvalue())
    # As photographs say how they are turned, and threads of pixels, of which the last is too long.
    odd = [(0x011A, 2, 1, 0), (0x010E, 5, 1, 0), (0x8769, 4, 1, 26)]
    images += [as_jpeg(picture("Normal", 4), exif=exif(1, tag)) for tag in odd]
    images += [as_png(thread(rows)) for rows in (200, 16_384, 400_000)]
    images.append(as_png(thread(16_384).T))
    record = {f"s002.{k}": (_SAMPLES / f"s002.{k}").read_bytes() for k in ("hea", "dat", "atr")}
    table = "time,MLII\n" + "".join(f"{k / 360:.4f},{np.sin(k / 9):.3f}\n" for k in range(1100))
    document = json.dumps({"samples": [k % 7 for k in range(1100)], "fs": 360, "beats": [9, 99]})
    return Seeds(images, record, table.encode(), document.encode())


def thread(rows: int) -> np.ndarray:
    """A picture of few columns, with ink in all of it."""
    return np.tile(np.arange(8, dtype=np.uint8) * 30, (rows, 1))


# Bytes.


def spoilt(rng: Random, content: bytes) -> bytes:
    """`content` with bits flipped, words put in, or its end cut off."""
    out = bytearray(content)
    for _ in range(int(rng.integers(1, 6))):
        at = int(rng.integers(max(1, len(out))))
        how = rng.random()
        if how < 0.3:
            word = pick(rng, _WORDS)
            out[at : at + int(rng.integers(0, 1 + len(word)))] = word
        elif how < 0.7 and out:
            out[at] ^= 1 << int(rng.integers(8))
        elif out:
            out[at] = int(rng.integers(256))
    if rng.random() < 0.3 and len(out) > 1:
        del out[int(rng.integers(len(out))) :]
    return bytes(out)


def noise(rng: Random, most: int = 5000) -> bytes:
    start = pick(rng, (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"PK\x03\x04", b"\x1f\x8b"))
    return start + rng.bytes(int(rng.integers(most)))


def pick(rng: Random, choices: Sequence) -> object:  # type: ignore[type-arg]
    return choices[int(rng.integers(len(choices)))]


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


@cache
def small_bombs() -> tuple[bytes, ...]:
    """PNGs of a small file and a small size, as their first chunk has it, that take long."""
    small, large = (struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0) for side in (16, 2000))
    pixels, end = _chunk(b"IDAT", _zeros(2000 * 2001)), _chunk(b"IEND", b"")
    begin = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", small)
    texts = b"".join(_chunk(b"zTXt", b"%d\0\0" % k + _zeros(1_000_000)) for k in range(58))
    return (
        begin + texts + pixels + end,
        begin + pixels + texts + end,
        begin + _chunk(b"IHDR", large) + pixels + end,
        begin + _chunk(b"tEXt", b"") * 4000 + pixels + end,
    )


def crafted_png(rng: Random) -> bytes:
    if rng.random() < 0.1:
        return bytes(pick(rng, small_bombs()))  # type: ignore[call-overload]
    sizes = (0, 1, 16, 90, 2000, 30_000, 2**31 - 1, 2**32 - 1)
    width, height = int(pick(rng, sizes)), int(pick(rng, sizes))
    depth, colour = int(pick(rng, (1, 8, 16, 3, 255))), int(pick(rng, (0, 2, 3, 4, 6, 9)))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(rng.integers(3)))
    pixels = _zeros(int(pick(rng, (0, 100, 5000, 20_000_000))))
    extra = {
        "text": _chunk(b"tEXt", b"ecgbeats-spec\0" + rng.bytes(int(rng.integers(3000)))),
        "bomb": _chunk(b"zTXt", b"ecgbeats-spec\0\0" + _zeros(30_000_000)),
        "colour": _chunk(b"iCCP", b"x\0\0" + _zeros(30_000_000)),
        "itxt": _chunk(b"iTXt", b"ecgbeats-spec\0\1\0\0\0" + _zeros(9_000_000)),
        "moving": _chunk(b"acTL", struct.pack(">II", 2**31, 0)),
        "palette": _chunk(b"PLTE", rng.bytes(int(rng.integers(1000)))),
        "none": b"",
    }
    between = extra[str(pick(rng, list(extra)))]
    whole = _chunk(b"IHDR", header) + between + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + whole


def crafted_jpeg(rng: Random, good: Seeds) -> bytes:
    content = bytearray(good.images[int(rng.integers(1, 3))])
    at = content.find(b"\xff\xc0")
    size = pick(rng, ((65535, 65535), (0, 0), (1, 65535), (2001, 2000)))
    content[at + 5 : at + 9] = struct.pack(">HH", *size)
    return bytes(content)


def crafted_header(rng: Random) -> bytes:
    number = ("2", "0", "-1", "1000", "99999999999", "nan", "1e9", "")
    rate = ("360", "0", "-1", "nan", "inf", "1e9", "1e-9", "250/360(0)", "")
    long = ("21600", "0", "999999999999", "-5", "", "1e7")
    name = ("s002.dat", "../../etc/passwd", "/etc/passwd", "~", "-", "s002.hea", "", f"{MARK}.dat")
    kind = ("212", "16", "8", "61", "80", "160", "24", "32", "310", "311", "508", "0", "16x9999",
            "212:99999999", "16+99999999", "212x0", "")  # fmt: skip
    gain = ("200", "0", "inf", "nan", "-1", "1e308", "200(99999999999)/mV", "1e-308(-1)/kg", "")
    lines = [f"s002 {pick(rng, number)} {pick(rng, rate)} {pick(rng, long)}"]
    for _ in range(int(pick(rng, (0, 1, 2, 2, 3, 300)))):
        words = (pick(rng, name), pick(rng, kind), pick(rng, gain), "11", "1024", "995")
        lines.append(" ".join(map(str, words)) + " 0 0 MLII")
    if rng.random() < 0.2:
        lines[0] = lines[0].replace("s002 ", f"s002/{pick(rng, ('3', '0', '99999'))} ", 1)
    return ("\n".join(lines) + "\n").encode()


def _put(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    """Without the time of day, so that the bytes are the same each time."""
    entry = zipfile.ZipInfo(name)
    archive.writestr(entry, content, compress_type=archive.compression)


def bomb(rng: Random, good: Seeds) -> bytes:
    out = io.BytesIO()
    how = str(pick(rng, ("zeros", "many", "nested", "names", "spoilt", "claims", "locked")))
    method = int(pick(rng, (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)))
    method = method if rng.random() < 0.2 else zipfile.ZIP_DEFLATED
    if how == "zeros":
        return _zipped_zeros(method)
    with zipfile.ZipFile(out, "w", method) as archive:
        if how == "many":
            for k in range(300):
                _put(archive, f"{k}.dat", b"x")
        elif how == "nested":
            _put(archive, "inner.zip", _plain_zip({f"{k}.dat": bytes(10**6) for k in range(9)}))
        else:
            for name, content in good.record.items():
                prefix = pick(rng, ("", "../", "/", "a/../../", "..\\", f"{MARK}/", "C:\\"))
                _put(archive, f"{prefix}{name}" if how == "names" else name, content)
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
            _put(archive, name, content)
    return out.getvalue()


@cache
def gzipped_zeros(count: int) -> bytes:
    return gzip.compress(bytes(count), mtime=0)


@cache
def _zipped_zeros(method: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        _put(archive, "s002.dat", bytes(40_000_000))
    return out.getvalue()


def odd_table(rng: Random) -> bytes:
    rows = 1100
    odd = {
        "nan": "x\n" + "nan\n" * rows,
        "mixed": "x\n"
        + "".join(f"{pick(rng, ('nan', 'inf', '1', '-1e308'))}\n" for _ in range(rows)),
        "huge": "x\n" + "1e308\n-1e308\n" * (rows // 2),
        "tiny": "x\n" + "1e-320\n" * rows,
        "flat": "x\n" + "0\n" * rows,
        "wide": ",".join(map(str, range(20_000))) + "\n" + ",".join("1" * 20_000) + "\n",
        "long": "x" * 300_000,
        "one line": "1" + str(pick(rng, (";1", ",1", " 1", "\t1"))) * 3_000_000,
        "semicolons": "t;I;II\n" + "".join(f"{k / 360:.4f};{k % 7},5;\n" for k in range(rows)),
        "late commas": "I;II\n" + "0;0\n" * 60 + "0,5;0,5\n" * rows,
        "decimal commas": "".join(f"-0,{k % 997}\n" for k in range(rows)),
        "preamble": f"Name,{MARK}\nSample Rate,360 hertz\nUnit,uV\n\n" + "-20,5\n10,0\n" * rows,
        "ragged": "\n".join("1," * int(rng.integers(9)) for _ in range(rows)),
        "quoted": '"' + f"{MARK},\n" * 500,
        "commas": "," * 50_000,
        "none": "",
        "words": f"{MARK}\n" * rows,
        "nul": "x\n" + "1\0\n" * rows,
        "formula": "=cmd|' /C calc'!A0\n" + "1\n" * rows,
    }
    text = odd[str(pick(rng, list(odd)))]
    return text.encode(str(pick(rng, ("utf-8", "utf-8", "utf-16", "utf-8-sig"))))


def odd_json(rng: Random) -> bytes:
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
    text = odd[str(pick(rng, list(odd)))]
    return text if isinstance(text, bytes) else text.encode()
