"""Beat images as PNG: exports, what is uploaded, and sheets for people to look at."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from ecgbeats.errors import ConfigError, ImageError
from ecgbeats.files import folder_written_aside, write_json
from ecgbeats.imaging.store import SPEC, BeatImages
from ecgbeats.labels import LabelScheme

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
        No PNG or JPEG, damaged, too large, or drawn by another spec.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ImageError(
                    f"expected at most {MAX_PIXELS} pixels, got {image.width} x {image.height}"
                )
            image.load()
            drawn_by = image.info.get(SPEC_KEY)
            if drawn_by is not None and drawn_by != spec_id:
                raise ImageError(f"expected an image of spec {spec_id}, got one of spec {drawn_by}")
            grey = _on_white(image).convert("L")
            if (grey.height, grey.width) != shape:
                grey = grey.resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
            return np.asarray(grey, np.uint8)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"expected a PNG or JPEG image, got {len(data)} other bytes") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # Pillow reports damage by any of these.
        raise ImageError(f"the image is damaged: {error}") from error


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


def contact_sheet(images: np.ndarray, columns: int = 12, scale: int = 2) -> bytes:
    """A grid of beat images, uint8 (n, rows, columns), as one PNG."""
    count, height, width = images.shape
    rows = -(-count // columns)
    gap = 2
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap), 200, np.uint8)
    for i, image in enumerate(images):
        top = gap + (i // columns) * (height + gap)
        left = gap + (i % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = image
    picture = Image.fromarray(sheet)
    buffer = io.BytesIO()
    enlarged = (picture.width * scale, picture.height * scale)
    picture.resize(enlarged, Image.Resampling.NEAREST).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def class_sheets(
    images: BeatImages, scheme: LabelScheme, *, each: int = 36, seed: int = 0
) -> dict[str, bytes]:
    """A contact sheet per class, its beats spread over the records that have them."""
    rng = np.random.default_rng(seed)
    labels = scheme.encode(images.beats["symbol"].to_numpy())
    records = images.beats["record"].to_numpy()
    sheets = {}
    for k, name in enumerate(scheme.names):
        index = rng.permutation(np.flatnonzero(labels == k))
        if not len(index):
            continue
        # First one of each record, then the second of each, and so on.
        turn = np.zeros(len(index), int)
        for record in np.unique(records[index]):
            here = records[index] == record
            turn[here] = np.arange(here.sum())
        chosen = index[np.argsort(turn, kind="stable")][:each]
        sheets[name] = contact_sheet(images.take(np.sort(chosen)))
    return sheets


def export_pngs(
    images: BeatImages,
    scheme: LabelScheme,
    out: Path,
    *,
    records: Sequence[str] = (),
    each: int | None = None,
) -> dict[str, int]:
    """Write class folders of PNGs, `<class>/<record>_<sample>.png`, as image projects use.

    Parameters
    ----------
    records : sequence of str
        Only these records; all when empty.
    each : int, optional
        At most so many images a class, evenly spread; all by default.

    Returns
    -------
    dict of str to int
        Images written per class.

    Raises
    ------
    ConfigError
        A record is not among the images, or `out` is there already.
    """
    have = set(images.beats["record"])
    unknown = sorted(set(records) - have)
    if unknown:
        raise ConfigError(f"records: not among these images: {', '.join(unknown)}")
    if Path(out).exists():
        raise ConfigError(f"{out}: is there already; give a new folder")
    labels = scheme.encode(images.beats["symbol"].to_numpy())
    chosen = np.ones(len(labels), bool)
    if records:
        chosen = images.beats["record"].isin(list(records)).to_numpy()
    counts = {}
    with folder_written_aside(out) as aside:
        for k, name in enumerate(scheme.names):
            index = np.flatnonzero(chosen & (labels == k))
            if each is not None and len(index) > each:
                index = index[np.linspace(0, len(index) - 1, each).astype(int)]
            folder = aside / name
            folder.mkdir()
            for part in np.array_split(index, max(1, len(index) // 1024)):
                beats = images.beats.iloc[part]
                for image, record, sample in zip(
                    images.take(part), beats["record"], beats["sample"], strict=True
                ):
                    path = folder / f"{record}_{sample:08d}.png"
                    path.write_bytes(encode_png(image, images.spec.spec_id))
            counts[name] = len(index)
        spec = {"spec_id": images.spec.spec_id, **images.spec.model_dump(mode="json")}
        write_json(aside / SPEC, spec)
    return counts
