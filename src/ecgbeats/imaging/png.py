"""One beat image as a PNG or JPEG file: what is exported, and what is uploaded."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError

from ecgbeats.errors import ImageError
from ecgbeats.imaging import pixels

if TYPE_CHECKING:
    from ecgbeats.imaging.spec import Spec

# Key of the PNG text chunk that carries the spec's id.
SPEC_KEY = "ecgbeats-spec"
# A beat image has thousands of pixels; far larger pictures are refused before decoding, unless
# whoever asks has room for more.
MAX_PIXELS = 4_000_000
# Nor is it a thread of pixels: what is worked out for each row and column would have no bound.
MAX_SIDE = 16_384
# What EXIF's orientation tag says to do before a picture is looked at.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def encode_png(image: np.ndarray, spec_id: str) -> bytes:
    """One beat image, uint8 (rows, columns), as an 8-bit grey PNG that names its spec."""
    text = PngImagePlugin.PngInfo()
    text.add_text(SPEC_KEY, spec_id)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


def decode_image(
    data: bytes,
    shape: tuple[int, int],
    spec_id: str,
    *,
    max_pixels: int = MAX_PIXELS,
    exact: bool = False,
) -> np.ndarray:
    """Pixels of an uploaded PNG or JPEG as the model takes them.

    Parameters
    ----------
    data : bytes
        The file's content. Colour is turned to grey; transparency lies on white.
    shape : (int, int)
        Rows and columns that the model takes; another size is resampled (bilinear).
    spec_id : str
        The model's image spec. A PNG that names another spec is refused.
    max_pixels : int
        Greatest number of pixels that are decoded.
    exact : bool
        Single pixels matter: of another size only an enlargement by a whole number is taken,
        and its pixels are picked.

    Returns
    -------
    ndarray of uint8, shape `shape`

    Raises
    ------
    ImageError
        With code "not_an_image" (no PNG or JPEG), "damaged_image", "too_many_pixels",
        "other_spec" (drawn by another spec) or "other_size" (where it has to be exact).
    """
    with _opened(data, max_pixels) as image:
        _drawn_by(image, spec_id)
        if exact:
            _whole_multiple(image, shape)
        grey = _on_white(image).convert("L")
        if (grey.height, grey.width) != shape:
            way = Image.Resampling.NEAREST if exact else Image.Resampling.BILINEAR
            grey = grey.resize((shape[1], shape[0]), way)
        return np.asarray(grey, np.uint8)


def _whole_multiple(image: Image.Image, shape: tuple[int, int]) -> None:
    rows, columns = shape
    if image.height % rows or image.height // rows * columns != image.width:
        raise ImageError(
            "other_size",
            f"{columns} x {rows} pixels, or a whole multiple: single pixels hold values",
            f"{image.width} x {image.height}",
        )


def decode_upload(data: bytes, spec: Spec, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Pixels of an uploaded PNG or JPEG as a model for images of `spec` takes them.

    A model for plain pictures takes any: of every size, polarity and margin, brought to its
    plane by the rule of `ecgbeats.imaging.pixels`. What we exported for it is taken as it is.

    Raises
    ------
    ImageError
        As `decode_image`; for plain pictures also with code "blank_image".
    """
    if spec.representation != "picture":
        exact = spec.representation == "composite" and spec.values
        return decode_image(data, spec.shape, spec.spec_id, max_pixels=max_pixels, exact=exact)
    with _opened(data, max_pixels) as image:
        ours = _drawn_by(image, spec.spec_id)
        if ours and image.mode == "L" and (image.height, image.width) == spec.shape:
            return np.asarray(image, np.uint8)
        inked = pixels.ink(pixels.flatten(_upright(image))[None])
    if pixels.is_blank(inked[0]):
        raise ImageError("blank_image", "a trace on an even background", "an even picture")
    return np.asarray(pixels.to_plane(inked, spec.shape, crop=spec.crop)[0], np.uint8)


def read_picture(data: bytes) -> tuple[np.ndarray, str]:
    """Pixels of a PNG or JPEG without transparency, uint8 (rows, columns, channels), and mode.

    Raises
    ------
    ImageError
        With code "not_an_image", "damaged_image" or "too_many_pixels".
    """
    with _opened(data) as image:
        mode = image.mode
        return pixels.flatten(_upright(image)), mode


def _upright(image: Image.Image) -> Image.Image:
    """The picture as it is to be looked at: photographs say by a tag which side is up.

    That tag alone is read: Pillow's own function rewrites all of them, and fails where one of
    them is odd.
    """
    try:
        turn = _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception as error:  # whatever its reader of TIFF stumbles over
        raise ImageError("damaged_image", "a whole image", "damaged EXIF") from error
    return image if turn is None else image.transpose(turn)


def _drawn_by(image: Image.Image, spec_id: str) -> bool:
    """Whether we exported `image` for `spec_id`; an export for another spec is refused."""
    drawn_by = image.info.get(SPEC_KEY)
    if drawn_by is not None and drawn_by != spec_id:
        # Not our words: shortened and quoted before they reach an answer or a log.
        raise ImageError(
            "other_spec", f"an image of spec {spec_id}", f"one of spec {drawn_by[:32]!r}"
        )
    return drawn_by is not None


@contextmanager
def _opened(data: bytes, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """The decoded image in `data`; whatever is wrong with it as ImageError."""
    limit = f"at most {max_pixels} pixels, and {MAX_SIDE} a side"
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            if image.width * image.height > max_pixels or max(image.size) > MAX_SIDE:
                raise ImageError("too_many_pixels", limit, f"{image.width} x {image.height}")
            image.load()
            yield image
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(
            "not_an_image", "a PNG or JPEG image", f"{len(data)} other bytes"
        ) from error
    except Image.DecompressionBombError as error:
        raise ImageError("too_many_pixels", limit, "far more") from error
    except (OSError, SyntaxError, ValueError) as error:
        # Pillow reports damage by any of these.
        raise ImageError("damaged_image", "a whole image", f"a damaged one ({error})") from error


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode in ("L", "RGB", "1", "I;16", "I", "F", "CMYK", "YCbCr"):
        if image.mode.startswith("I"):
            # 16-bit grey: keep the upper byte; Pillow's own conversion would clip.
            values = np.asarray(image, np.int64)
            return Image.fromarray((np.clip(values, 0, 65535) >> 8).astype(np.uint8))
        return image
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, rgba).convert("RGB")
