"""Beat images on disk: one array a record, one table of beats, one spec."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from ecgbeats.beats import windows
from ecgbeats.blocks import BlockWriter
from ecgbeats.datasets import ARCHIVE, Manifest, RecordEntry, read_manifest, read_pictures
from ecgbeats.errors import ConfigError, ContractError, DataError
from ecgbeats.files import folder_written_aside, read_json, sha256_tree, write_json
from ecgbeats.imaging.pixels import ink, to_plane
from ecgbeats.imaging.png import read_picture
from ecgbeats.imaging.render import render
from ecgbeats.imaging.spec import PictureSpec, Spec, spec_from_json
from ecgbeats.labels import LabelScheme
from ecgbeats.parallel import parallel_map, parallel_results
from ecgbeats.records import Recording, read_annotations, read_recording

SPEC, BEATS = "spec.json", "beats.parquet"

# Pictures in one array.
_SHARD = 1024

# Two beats are twins when all leads agree, sample by sample, this far around R.
_TWIN_S = 0.25


def render_dataset(
    dataset: Path,
    spec: Spec,
    scheme: LabelScheme,
    out: Path,
    *,
    exclude: Collection[str] = (),
    workers: int | None = None,
) -> None:
    """Draw every beat of `dataset` that `scheme` has a class for into the folder `out`.

    Writes `<record>.npy` (uint8, shape (beats, rows, columns)), `beats.parquet` (one row
    a beat, in the order of `BeatImages`) and `spec.json`. All or nothing; one record at a time is
    in memory, and a block of the table.

    Columns of the table: record, patient, row (index into the record's array), sample, time_s,
    symbol, window_sha (hash of the raw window around R, all leads; null where every lead stands
    still, which makes no two beats the same).

    Raises
    ------
    ConfigError
        `exclude` names a record that is not there.
    DataError
        A record cannot be read, or there is nothing to draw.
    """
    manifest = read_manifest(dataset)
    entries = manifest.without(exclude)
    if not entries:
        raise DataError(f"{dataset}: no record left to render; all are excluded")
    with folder_written_aside(out) as aside:
        job = partial(_render_record, Path(dataset), manifest, spec, scheme, aside)
        example = _table("", "", np.zeros(1, np.int64), 1.0, [""], [""])
        with BlockWriter(aside / BEATS, example) as writer:
            for table in parallel_results(
                job, entries, job="render", name=lambda entry: entry.record, workers=workers
            ):
                writer.append(table)
        if not writer.rows:
            raise DataError(
                f"{dataset}: expected beats with one of the symbols "
                f"{' '.join(sorted(scheme.symbols))}; found none"
            )
        write_json(aside / SPEC, {"spec_id": spec.spec_id, **spec.model_dump(mode="json")})


def store_pictures(
    dataset: Path, spec: Spec, scheme: LabelScheme, out: Path, *, workers: int | None = None
) -> pd.DataFrame:
    """Bring the usable pictures of `dataset` that have a class to the plane of `spec`.

    Writes what `render_dataset` writes. A shard of pictures stands for a record: it says
    nothing about the class. A group of pictures of one beat stands for a patient.

    Returns
    -------
    DataFrame
        As `render_dataset`; symbol is the class folder, sample the place in the shard,
        time_s is null and window_sha a hash of the pixels. With two more columns: part
        ("train" or "test", as published) and file (in pictures.zip).

    Raises
    ------
    ConfigError
        `spec` is no spec of pictures, or `scheme` one of annotation symbols.
    DataError
        There is no picture with a class, or one cannot be read any more.
    """
    if not isinstance(spec, PictureSpec):
        raise ConfigError(
            f"image.representation: expected picture for a dataset of pictures, "
            f"got {spec.representation}"
        )
    if not scheme.of_folders:
        raise ConfigError("labels.classes: expected lists of folders for a dataset of pictures")
    table = read_pictures(dataset)
    table = table[(table["status"] == "kept") & table["folder"].isin(scheme.symbols)]
    if table.empty:
        raise DataError(
            f"{dataset}: expected pictures in one of the folders "
            f"{', '.join(sorted(scheme.symbols))}; found none"
        )
    # In the order of their hashes: neither class nor the order of files can be told from it.
    table = table.sort_values(["part", "pixels_sha"], ascending=[False, True])
    row = table.groupby("part").cumcount()
    beats = pd.DataFrame(
        {
            "record": table["part"] + (row // _SHARD).map("-{:04d}".format),
            "patient": table["group"],
            "row": row % _SHARD,
            "sample": row % _SHARD,
            "time_s": np.nan,
            "symbol": table["folder"].astype(object),
            "window_sha": table["pixels_sha"].astype(object),
            "part": table["part"],
            "file": table["path"],
        }
    ).reset_index(drop=True)
    with folder_written_aside(out) as aside:
        job = partial(_store_shard, Path(dataset) / ARCHIVE, spec, aside)
        shards = [(str(name), list(part["file"])) for name, part in beats.groupby("record")]
        parallel_map(job, shards, job="render", name=lambda shard: shard[0], workers=workers)
        beats.to_parquet(aside / BEATS, index=False)
        write_json(aside / SPEC, {"spec_id": spec.spec_id, **spec.model_dump(mode="json")})
    return beats


def _store_shard(archive: Path, spec: PictureSpec, out: Path, shard: tuple[str, list[str]]) -> None:
    name, files = shard
    images = np.empty((len(files), *spec.shape), np.uint8)
    with zipfile.ZipFile(archive) as members:
        for i, file in enumerate(files):
            pixels, _ = read_picture(members.read(file))
            images[i] = to_plane(ink(pixels[None]), spec.shape, crop=spec.crop)[0]
    np.save(out / f"{name}.npy", images)


def _render_record(
    dataset: Path,
    manifest: Manifest,
    spec: Spec,
    scheme: LabelScheme,
    out: Path,
    entry: RecordEntry,
) -> pd.DataFrame:
    recording = read_recording(dataset / entry.record)
    annotations = read_annotations(dataset / entry.record, manifest.annotator).only(scheme.beats)
    labelled = np.isin(annotations.symbol, sorted(scheme.symbols))
    # The rhythm needs every beat, also those that have no class here.
    images = render(recording, annotations.sample, spec)[labelled]
    np.save(out / f"{entry.record}.npy", images)
    samples = annotations.sample[labelled]
    hashes = _window_hashes(recording, samples)
    symbols = annotations.symbol[labelled]
    return _table(entry.record, entry.patient, samples, recording.fs, symbols, hashes)


def _table(
    record: str,
    patient: str,
    samples: np.ndarray,
    fs: float,
    symbols: Sequence[str] | np.ndarray,
    hashes: Sequence[str | None],
) -> pd.DataFrame:
    """A record's part of the table of beats."""
    return pd.DataFrame(
        {
            "record": record,
            "patient": patient,
            "row": np.arange(len(samples)),
            "sample": samples,
            "time_s": samples / fs,
            "symbol": np.asarray(symbols, object),
            # As object: a record whose hashes are all null would have another type.
            "window_sha": pd.Series(np.asarray(hashes, object), dtype=object),
        }
    )


def _window_hashes(recording: Recording, samples: np.ndarray) -> list[str | None]:
    reach = round(_TWIN_S * recording.fs)
    return [
        None
        if _stands_still(window)
        else hashlib.blake2b(window.tobytes(), digest_size=12).hexdigest()
        for window in windows(recording.signal, samples, reach, reach)
    ]


def _stands_still(window: np.ndarray) -> bool:
    """Whether every lead of `window`, shape (samples, leads), has one value or none at all."""
    first = window[0]
    return bool(((window == first) | (np.isnan(window) & np.isnan(first))).all())


@dataclass(frozen=True)
class BeatImages:
    """Read access to what `render_dataset` wrote; images are mapped, not loaded.

    Attributes
    ----------
    spec : Spec
    beats : DataFrame
        One row a beat; the row number is the index that `take` wants.
    """

    folder: Path
    spec: Spec
    beats: pd.DataFrame
    _shards: dict[str, np.ndarray]

    @classmethod
    def open(cls, folder: Path) -> BeatImages:
        """Open a folder of images.

        Raises
        ------
        DataError
            It is not such a folder.
        ContractError
            Its images were drawn by another version of the renderer, or a shard does not
            fit its table or spec.
        """
        folder = Path(folder)
        if not (folder / SPEC).is_file() or not (folder / BEATS).is_file():
            raise DataError(f"{folder}: expected {SPEC} and {BEATS}; run the render stage first")
        stored = read_json(folder / SPEC)
        spec_id = stored.pop("spec_id")
        spec = spec_from_json(stored)
        if spec.spec_id != spec_id:
            raise ContractError(
                f"{folder}: images of spec {spec_id}, this renderer draws {spec.spec_id} "
                "for the same settings; render again"
            )
        beats = pd.read_parquet(folder / BEATS)
        shards = {}
        for record, count in beats.groupby("record", sort=False).size().items():
            shard = np.load(folder / f"{record}.npy", mmap_mode="r")
            if shard.shape != (count, *spec.shape) or shard.dtype != np.uint8:
                raise ContractError(
                    f"{folder}/{record}.npy: expected uint8 {(count, *spec.shape)}, "
                    f"found {shard.dtype} {shard.shape}"
                )
            shards[str(record)] = shard
        return cls(folder, spec, beats, shards)

    def take(self, index: np.ndarray) -> np.ndarray:
        """Images of the beats `index`, in that order: uint8, shape (n, rows, columns)."""
        index = np.asarray(index)
        out = np.empty((len(index), *self.spec.shape), np.uint8)
        records = self.beats["record"].to_numpy()[index]
        rows = self.beats["row"].to_numpy()[index]
        for record in np.unique(records):
            here = np.flatnonzero(records == record)
            out[here] = self._shards[record][rows[here]]
        return out

    def digest(self) -> str:
        """SHA-256 over spec, table and all shards."""
        return sha256_tree(self.folder)
