"""What a dataset folder under data/raw/ is: WFDB files and one manifest, dataset.json."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from ecgbeats.errors import ConfigError, DataError
from ecgbeats.files import read_json, write_text

MANIFEST = "dataset.json"


class RecordEntry(BaseModel):
    """One record of a dataset and the person it was taken from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    record: str
    patient: str


class Manifest(BaseModel):
    """What every source writes beside the records that it provides."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    source: str
    version: str
    licence: str
    citation: str
    synthetic: bool
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


def write_manifest(folder: Path, manifest: Manifest) -> None:
    write_text(Path(folder) / MANIFEST, manifest.model_dump_json(indent=2) + "\n")


def read_manifest(folder: Path) -> Manifest:
    """Read `folder`/dataset.json.

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
        return Manifest.model_validate(read_json(path))
    except (ValueError, ValidationError) as error:
        raise DataError(f"{path}: not a dataset manifest: {error}") from error
