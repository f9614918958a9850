"""How much there is to decode in a request, from the headers of its images."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image

from bento.limits import MAX_PIXELS, MAX_REQUEST_PIXELS
from bento.uploads import too_large


def check_pixels(files: Sequence[bytes]) -> None:
    """Refuse images that have too many pixels together, before any is decoded.

    Raises
    ------
    Refused
        413, "too_many_pixels".
    """
    together = 0
    for index, data in enumerate(files):
        together += _pixels(data)
        if together > MAX_REQUEST_PIXELS:
            limit = f"at most {MAX_REQUEST_PIXELS} pixels in all images of a request"
            raise too_large("too_many_pixels", limit, "more", index)


def _pixels(data: bytes) -> int:
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            pixels = image.width * image.height
    except Exception:  # what is wrong with it is said where it is decoded
        return 0
    # One that is too large by itself is refused there undecoded.
    return pixels if pixels <= MAX_PIXELS else 0
