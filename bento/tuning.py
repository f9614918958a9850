"""How the service runs: in how many processes, which requests it answers where.

Figures of each choice: docs/deployment.md; `python benchmarks/serving` measures the whole.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence

from bento import settings

# One process takes one core; each is 230 MB.
_MOST_WORKERS = 4
WORKERS = settings.whole("WORKERS", min(_MOST_WORKERS, len(os.sched_getaffinity(0))))

_PNG = b"\x89PNG\r\n\x1a\n"
_MOST_BYTES, _MOST_PIXELS, _MOST_CHUNKS = 65_536, 65_536, 64
# None of them unpacks to more than it is, but for the pixels. Compressed text and profiles do.
_PLAIN = frozenset(
    (b"IHDR", b"PLTE", b"tRNS", b"gAMA", b"sRGB", b"pHYs", b"tEXt", b"IDAT", b"IEND")
)


def at_once(files: Sequence[bytes]) -> bool:
    """Whether `files` take less than to hand them to a thread and back: one small PNG.

    Its chunks say so before anything of it is unpacked: the size once and first, then few, of
    kinds that stay as small as they are.
    """
    if len(files) != 1 or not 33 <= len(files[0]) <= _MOST_BYTES:
        return False
    data = files[0]
    if data[:8] != _PNG or data[12:16] != b"IHDR":
        return False
    width, height = struct.unpack(">II", data[16:24])
    return width * height <= _MOST_PIXELS and _plain(data)


def _plain(data: bytes) -> bool:
    at = 8
    for _ in range(_MOST_CHUNKS):
        if at + 8 > len(data):
            return True
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind not in _PLAIN or (kind == b"IHDR") != (at == 8):
            return False
        at += 12 + length
    return False
