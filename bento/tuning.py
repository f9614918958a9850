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
_MOST_BYTES, _MOST_PIXELS = 65_536, 65_536


def at_once(files: Sequence[bytes]) -> bool:
    """Whether `files` take less than to hand them to a thread and back: one small PNG.

    Its header says how large it is before anything of it is unpacked.
    """
    if len(files) != 1 or not 33 <= len(files[0]) <= _MOST_BYTES:
        return False
    head = files[0][:24]
    if head[:8] != _PNG or head[12:16] != b"IHDR":
        return False
    width, height = struct.unpack(">II", head[16:24])
    return bool(width * height <= _MOST_PIXELS)
