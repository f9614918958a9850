"""One beat image as a PNG or JPEG file: what is exported, and what is uploaded."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from ecgbeats.errors import ImageError

# Key of the PNG text chunk that carries the spec's id.
SPEC_KEY = "ecgbeats-spec"
# A beat image has thousands of pixels; far larger pictures are refused before decoding.
MAX_PIXELS = 4_000_000


def encode_png(image: np.ndarray, spec_id: str) -> bytes:
    """One beat image, uint8 (rows, columns), as an 8-bit grey PNG that names its spec."""
    text = PngImagePlugin.PngInfo()
    text.add_text(SPEC_KEY, spec_id)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


def decode_image(data: bytes, shape: tuple[int, int], spec_id: str) -> np.ndarray:
    """Pixels of an uploaded PNG or JPEG as the model takes them.

    Parameters
    ----------
    data : bytes
        The file's content. Colour is turned to grey; transparency lies on white.
    shape : (int, int)
        Rows and columns that the model takes; another size is resampled (bilinear).
    spec_id : str
        The model's image spec. A PNG that names another spec is refused.

    Returns
    -------
    ndarray of uint8, shape `shape`

    Raises
    ------
    ImageError
        With code "not_an_image" (no PNG or JPEG), "damaged_image", "too_many_pixels" or
        "other_spec" (drawn by another spec).
    """
    limit = f"at most {MAX_PIXELS} pixels"
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ImageError("too_many_pixels", limit, f"{image.width} x {image.height}")
            image.load()
            drawn_by = image.info.get(SPEC_KEY)
            if drawn_by is not None and drawn_by != spec_id:
                # Not our words: shortened and quoted before they reach an answer or a log.
                raise ImageError(
                    "other_spec", f"an image of spec {spec_id}", f"one of spec {drawn_by[:32]!r}"
                )
            grey = _on_white(image).convert("L")
            if (grey.height, grey.width) != shape:
                grey = grey.resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
            return np.asarray(grey, np.uint8)
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
