"""What a dataset folder under data/raw/ is: WFDB files or pictures, and a manifest."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ecgbeats.errors import ConfigError, DataError
from ecgbeats.files import read_json, write_text

if TYPE_CHECKING:
    import pandas as pd

MANIFEST = "dataset.json"
# Of pictures: the table of all files, and their bytes.
PICTURES, ARCHIVE = "pictures.csv", "pictures.zip"

# Why a file of a dataset of pictures is set aside.
REASONS = {
    "not_an_image": "no PNG or JPEG",
    "damaged_image": "a picture that breaks off or is broken",
    "too_many_pixels": "more than four million pixels",
    "too_small": "fewer than 16 pixels high or wide",
    "too_large": "a file of more than 8 MiB",
    "unsafe_path": "a path that leads out of the folder",
    "link": "a link, not a file",
    "encrypted": "encrypted",
    "no_class_folder": "in no folder that could be its class",
    "named_twice": "a second file of the same path in the archive",
    "blank": "no trace to see",
    "duplicate": "pixel by pixel another picture of its class, which is kept",
    "contradictory": "pixel by pixel a picture of another class; none of them is kept",
    "twin_of_training": "a test picture that shows a beat of the training part",
}


class RecordEntry(BaseModel):
    """One record of a dataset and the person it was taken from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    record: str
    patient: str


class Description(BaseModel):
    """What is said of every dataset."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    source: str
    version: str
    licence: str
    citation: str
    synthetic: bool

    def about(self) -> dict[str, Any]:
        """What metrics.json says of the data."""
        return {"name": self.name, "version": self.version, "licence": self.licence}


class Manifest(Description):
    """What every source of recordings writes beside the records that it provides."""

    annotator: str
    records: tuple[RecordEntry, ...]

    @property
    def record_names(self) -> tuple[str, ...]:
        return tuple(entry.record for entry in self.records)

    @property
    def patient_of(self) -> dict[str, str]:
        return {entry.record: entry.patient for entry in self.records}

    def without(self, exclude: Collection[str]) -> tuple[RecordEntry, ...]:
        """The records that `exclude` does not name.

        Raises
        ------
        ConfigError
            It names a record that is not there.
        """
        absent = sorted(set(exclude) - set(self.record_names))
        if absent:
            raise ConfigError(
                f"exclude_records: expected records of {self.name} "
                f"({', '.join(self.record_names)}), got {', '.join(absent)}"
            )
        return tuple(entry for entry in self.records if entry.record not in exclude)


class ImageManifest(Description):
    """What a source of pictures writes beside them.

    Attributes
    ----------
    pictures : mapping of str to int
        Number of usable pictures of each class folder.
    quarantined : mapping of str to int
        Number of files that were set aside, by reason (`REASONS`).
    twin_correlation : float
        From which correlation on two pictures count as one beat.
    groups : int
        Usable pictures, twins counted once.
    test_part : bool
        Whether the publisher set pictures aside for testing.
    remarks : tuple of str
        What a reader must know, e.g. about wrong labels.
    """

    pictures: Mapping[str, int]
    quarantined: Mapping[str, int]
    twin_correlation: float
    groups: int
    test_part: bool
    remarks: tuple[str, ...] = ()

    def about(self) -> dict[str, Any]:
        return {
            **super().about(),
            "pictures": sum(self.pictures.values()),
            "groups": self.groups,
            "twin_correlation": self.twin_correlation,
            "quarantined": dict(self.quarantined),
            "remarks": list(self.remarks),
        }


def write_manifest(folder: Path, manifest: Description) -> None:
    write_text(Path(folder) / MANIFEST, manifest.model_dump_json(indent=2) + "\n")


def read_description(folder: Path) -> Manifest | ImageManifest:
    """Read `folder`/dataset.json, of recordings or of pictures.

    Raises
    ------
    DataError
        There is none, or it is not a manifest.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise DataError(
            f"{folder}: expected a dataset folder with a {MANIFEST}; found none. "
            "Run `make run` (or `dvc repro`) first."
        )
    try:
        values = read_json(path)
        kind = ImageManifest if "pictures" in values else Manifest
        return kind.model_validate(values)
    except (ValueError, TypeError, ValidationError) as error:
        raise DataError(f"{path}: not a dataset manifest: {error}") from error


def read_manifest(folder: Path) -> Manifest:
    """Read `folder`/dataset.json of recordings.

    Raises
    ------
    DataError
        There is none, it is not a manifest, or the dataset is one of pictures.
    """
    found = read_description(folder)
    if not isinstance(found, Manifest):
        raise DataError(f"{folder}: expected a dataset of recordings, found one of pictures")
    return found


def read_pictures(folder: Path) -> pd.DataFrame:
    """The table of all files of a dataset of pictures, one row each; text columns as text.

    Columns: path, part ("train" or "test"), folder, width, height, mode, pixels_sha, status
    ("kept" or "quarantined"), reason, twin (another path), correlation, group.
    """
    import pandas as pd

    numbers = {"width", "height", "correlation"}
    table = pd.read_csv(Path(folder) / PICTURES, dtype=str, keep_default_na=False)
    for name in numbers:
        table[name] = pd.to_numeric(table[name])
    return table
