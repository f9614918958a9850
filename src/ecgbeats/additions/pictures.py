"""Class folders of pictures as new data: what the image source and its suite make of them."""

from __future__ import annotations

from pathlib import Path

from ecgbeats.config import ImageFolderSource
from ecgbeats.datasets import ImageManifest, read_pictures
from ecgbeats.labels import LabelScheme
from ecgbeats.sources.image_folder import fetch_image_folder
from ecgbeats.validation.pictures import validate_pictures
from ecgbeats.validation.report import Summary


def examine_pictures(
    name: str,
    place: Path,
    scheme: LabelScheme,
    out: Path,
    page: Path,
    *,
    licence: str,
    citation: str,
    docs: Path | None = None,
) -> tuple[ImageManifest, Summary]:
    """Check the pictures of a folder or zip and copy those that can be used into `out`.

    Writes the page with its list of what was set aside to the folder `page`. Single pictures
    are quarantined (`ecgbeats.sources.image_folder`); a critical finding of the summary is about
    the whole.

    Raises
    ------
    DataError
        There is no usable picture.
    """
    source = ImageFolderSource(
        source="image-folder", version="pictures", licence=licence, citation=citation
    )
    manifest = fetch_image_folder(source, name, out, origin=str(place))
    return manifest, validate_pictures(out, scheme, page, docs=docs)


def counts_of(folder: Path, scheme: LabelScheme) -> dict[str, int]:
    """Usable pictures by class."""
    table = read_pictures(folder)
    kept = table[table["status"] == "kept"]["folder"]
    return {name: int(kept.isin(list(group)).sum()) for name, group in scheme.classes.items()}
