"""Beat images for people: contact sheets and class folders of PNGs."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ecgbeats.errors import ConfigError
from ecgbeats.files import folder_written_aside, write_json
from ecgbeats.imaging.png import encode_png
from ecgbeats.imaging.store import SPEC, BeatImages
from ecgbeats.labels import LabelScheme


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
    images: BeatImages,
    labels: np.ndarray,
    classes: Sequence[str],
    *,
    each: int = 36,
    seed: int = 0,
) -> dict[str, bytes]:
    """A contact sheet per class, its beats spread over the records that have them.

    Parameters
    ----------
    labels : ndarray of str, shape (beats,)
        Class name of every beat of `images`.
    """
    rng = np.random.default_rng(seed)
    records = images.beats["record"].to_numpy()
    sheets = {}
    for name in classes:
        index = rng.permutation(np.flatnonzero(labels == name))
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
