"""Class folders of plain beat pictures, or a zip of them, checked file by file.

A picture's class is the folder that it lies in; folders above it may say "train" or "test".
Nothing is extracted by name: files are read one by one, bounded, and kept in one archive.

Every file has a row in the table. Whatever cannot or must not be learnt from is quarantined,
with one of the reasons in `ecgbeats.datasets.REASONS`, and stays in the table:

- Files that are no usable picture.
- Blank pictures, and copies: of identical pictures in one class one stays; in several classes
  none does, since nobody can know which is right.
- Pictures of a published test part that repeat one of the training part.

Pictures that are not identical but show the same beat (another size, compression, polarity)
are put into one group; a split by group cannot part them. They are found by the correlation
of the pictures on the plane of `ecgbeats.imaging.pixels`. The threshold of 0.92 was chosen on
15,336 training pictures of the published six-class set: of copies as JPEG (quality 75) or
enlarged 1.3 to 3 times, 99 % correlate more than that with their original, and of different
beats none more than 0.957. 6 % of beats have a neighbour above it, of the same class and
mostly of the same minutes; they are grouped needlessly, which errs on the safe side. Copies
that were scaled down by a third or more cannot be told from neighbours in this way.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import stat
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from ecgbeats.config import ImageFolderSource
from ecgbeats.datasets import (
    ARCHIVE,
    MANIFEST,
    PICTURES,
    Description,
    ImageManifest,
    read_description,
    read_pictures,
    write_manifest,
)
from ecgbeats.errors import ConfigError, DataError, FetchError, ImageError
from ecgbeats.files import folder_written_aside, written_aside
from ecgbeats.imaging.pixels import ink, is_blank, to_plane
from ecgbeats.imaging.png import read_picture
from ecgbeats.progress import Progress, say

# A beat's picture takes a few kilobytes; these stop archives made to fill a disk.
MAX_FILE_BYTES = 8 * 1024**2
MAX_TOTAL_BYTES = 8 * 1024**3
MAX_FILES = 1_000_000
MIN_SIDE = 16

_PARTS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
# The plane on which pictures are compared, and how many rows of correlations at once.
_PLANE = (64, 96)
_BLOCK = 1024
# DOS time of all members, so that equal pictures give an equal archive.
EPOCH = (1980, 1, 1, 0, 0, 0)

COLUMNS = (
    *("path", "part", "folder", "width", "height", "mode", "pixels_sha"),
    *("status", "reason", "twin", "correlation", "group"),
)


@dataclass
class _Picture:
    """One file: a row of the table in the making."""

    path: str
    part: str = "train"
    folder: str = ""
    width: int | None = None
    height: int | None = None
    mode: str = ""
    pixels_sha: str = ""
    reason: str = ""
    twin: str = ""
    correlation: float | None = None
    group: str = ""
    plane: np.ndarray | None = field(default=None, repr=False)

    def quarantine(self, reason: str, twin: str = "", correlation: float | None = None) -> None:
        self.reason, self.twin, self.correlation = reason, twin, correlation

    def row(self) -> dict[str, object]:
        values = {name: getattr(self, name) for name in COLUMNS if name != "status"}
        if self.correlation is not None:
            values["correlation"] = f"{self.correlation:.4f}"
        return {**values, "status": "quarantined" if self.reason else "kept"}


def fetch_image_folder(
    source: ImageFolderSource, name: str, folder: Path, *, origin: str | None
) -> ImageManifest:
    """Fill `folder` with pictures.zip, pictures.csv and the manifest.

    Files depend on the pictures alone, not on where or in which order they lay.

    Parameters
    ----------
    name : str
        The dataset's name for the manifest.
    origin : str, optional
        A folder of class folders, or a zip of one. Without it, what `folder` already holds
        is checked again.

    Raises
    ------
    FetchError
        There is nothing at `origin`, nothing was given, or the archive is damaged.
    DataError
        There are too many files or bytes, no usable picture, or `folder` holds something
        that is no dataset.
    ConfigError
        `origin` is a URL.
    """
    folder = Path(folder)
    _refuse_to_replace(folder)
    place = _place(origin, name, folder)
    with folder_written_aside(folder) as aside:
        pictures = _copy(place, aside / ARCHIVE)
        if place == folder / ARCHIVE:
            pictures = sorted([*pictures, *_told_before(folder)], key=lambda each: each.path)
        _quarantine_blanks_and_copies(pictures)
        kept = [picture for picture in pictures if not picture.reason]
        if not kept:
            found = Counter(picture.reason for picture in pictures)
            raise DataError(
                f"{place}: expected class folders of PNG or JPEG pictures, found none usable "
                f"among {len(pictures)} files ({_counted(found) or 'empty'})"
            )
        _group(kept, source.twin_correlation)
        kept = [picture for picture in kept if not picture.reason]
        _write_table(aside / PICTURES, pictures)
        manifest = ImageManifest(
            name=name,
            source=source.source,
            version=source.version,
            licence=source.licence,
            citation=source.citation,
            synthetic=False,
            pictures=dict(sorted(Counter(picture.folder for picture in kept).items())),
            quarantined=dict(sorted(Counter(p.reason for p in pictures if p.reason).items())),
            remarks=source.remarks,
            twin_correlation=source.twin_correlation,
            groups=len({picture.group for picture in kept}),
            test_part=any(picture.part == "test" for picture in kept),
        )
        write_manifest(aside, manifest)
    say(
        f"fetch {name}: {len(kept)} pictures in {len(manifest.pictures)} classes and "
        f"{manifest.groups} groups; quarantined: {_counted(manifest.quarantined) or 'none'}"
    )
    return manifest


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{key} {value}" for key, value in sorted(counts.items()))


def _refuse_to_replace(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise DataError(f"{folder}: expected a dataset or an empty folder, found other files")


def _place(origin: str | None, name: str, folder: Path) -> Path:
    if not origin:
        if (folder / ARCHIVE).is_file() and _is_of(name, read_description(folder)):
            return folder / ARCHIVE
        raise FetchError(
            f"dataset {name}: expected the path of a folder or zip of pictures, got none; "
            "for example: make run RECIPE=folder6 MIRROR=<folder or zip>"
        )
    if "://" in origin:
        raise ConfigError(f"dataset {name}: expected a folder or zip on this machine, got a URL")
    place = Path(origin)
    if not place.exists():
        raise FetchError(f"dataset {name}: {origin}: no such folder or zip")
    return place


def _is_of(name: str, found: Description) -> bool:
    return found.name == name


# Reading: what is there, what it is.


@dataclass(frozen=True)
class _Entry:
    """One file of the origin, unread; `refused` says why it must not be."""

    path: str
    refused: str
    read: Path | tuple[zipfile.ZipFile, zipfile.ZipInfo]


@contextmanager
def _entries(place: Path) -> Iterator[list[_Entry]]:
    if place.is_dir():
        yield sorted(_in_folder(place), key=lambda entry: entry.path)
        return
    try:
        with zipfile.ZipFile(place) as archive:
            yield sorted(_in_zip(archive), key=lambda entry: entry.path)
    except zipfile.BadZipFile as error:
        raise FetchError(f"{place}: expected a folder or a whole zip archive: {error}") from error


def _in_folder(root: Path) -> Iterator[_Entry]:
    # Links are not followed: they lead out of the folder, or in circles.
    for here, folders, files in os.walk(root):
        for each in (*folders, *files):
            path = Path(here) / each
            name = path.relative_to(root).as_posix()
            if path.is_symlink():
                yield _Entry(name, "link", path)
            elif path.is_file():
                too_large = path.stat().st_size > MAX_FILE_BYTES
                yield _Entry(name, "too_large" if too_large else "", path)


def _in_zip(archive: zipfile.ZipFile) -> Iterator[_Entry]:
    seen = set()
    for info in archive.infolist():
        if info.is_dir():
            continue
        # Python's zipfile turns backslashes only on Windows.
        name = info.filename.replace("\\", "/")
        path = PurePosixPath(name)
        refused = ""
        if path.is_absolute() or ".." in path.parts or ":" in name.partition("/")[0]:
            refused = "unsafe_path"
        elif stat.S_ISLNK(info.external_attr >> 16):
            refused = "link"
        elif info.flag_bits & 1:
            refused = "encrypted"
        elif info.file_size > MAX_FILE_BYTES:
            refused = "too_large"
        elif name in seen:
            refused = "named_twice"
        seen.add(name)
        yield _Entry(name, refused, (archive, info))


def _bytes_of(entry: _Entry) -> bytes:
    """The file's content, of which no more is unpacked than may be."""
    if isinstance(entry.read, Path):
        return entry.read.read_bytes()
    archive, info = entry.read
    with archive.open(info) as member:
        # A header may lie about the size.
        return member.read(MAX_FILE_BYTES + 1)


def _unpacked(entry: _Entry) -> int:
    """Bytes that reading the file unpacks, at most."""
    size = entry.read.stat().st_size if isinstance(entry.read, Path) else entry.read[1].file_size
    return min(size, MAX_FILE_BYTES)


def _told_before(folder: Path) -> list[_Picture]:
    """Rows of files that were refused when `folder` was filled, and so are not in its archive."""
    table = read_pictures(folder)
    refused = table[(table["status"] == "quarantined") & (table["pixels_sha"] == "")]
    told = []
    for row in refused.to_dict("records"):
        picture = _Picture(str(row["path"]), part=str(row["part"]), folder=str(row["folder"]))
        picture.mode, picture.reason = str(row["mode"]), str(row["reason"])
        # NaN where the file was no picture at all.
        if row["width"] == row["width"]:
            picture.width, picture.height = int(row["width"]), int(row["height"])
        told.append(picture)
    return told


def _copy(place: Path, archive: Path) -> list[_Picture]:
    """Read every file of `place`; write those that are pictures to `archive`."""
    pictures = []
    total = 0
    with _entries(place) as entries, zipfile.ZipFile(archive, "w") as out:
        if len(entries) > MAX_FILES:
            raise DataError(f"{place}: expected at most {MAX_FILES:,} files, got {len(entries):,}")
        progress = Progress("pictures", max(len(entries), 1))
        for entry in entries:
            picture = _placed(entry)
            # Counted before it is judged: what is refused is unpacked as well.
            total += 0 if picture.reason else _unpacked(entry)
            if total > MAX_TOTAL_BYTES:
                raise DataError(f"{place}: expected at most {MAX_TOTAL_BYTES >> 30} GiB in all")
            data = b"" if picture.reason else _read(entry, picture)
            if data:
                out.writestr(zipfile.ZipInfo(entry.path, EPOCH), data)
            pictures.append(picture)
            progress.step(entry.path)
    return pictures


def _placed(entry: _Entry) -> _Picture:
    """The row of a file by its path alone."""
    parts = PurePosixPath(entry.path).parts
    picture = _Picture(entry.path, reason=entry.refused)
    named = [_PARTS[part.lower()] for part in parts[:-2] if part.lower() in _PARTS]
    if named:
        picture.part = named[0]
    if len(parts) > 1 and parts[-2].lower() not in _PARTS:
        picture.folder = parts[-2]
    elif not picture.reason:
        picture.reason = "no_class_folder"
    return picture


def _read(entry: _Entry, picture: _Picture) -> bytes:
    """The content of a picture, its row filled in; empty, with a reason, of anything else."""
    try:
        data = _bytes_of(entry)
        if len(data) > MAX_FILE_BYTES:
            picture.quarantine("too_large")
            return b""
        pixels, picture.mode = read_picture(data)
    except ImageError as error:
        picture.quarantine(error.code)
        return b""
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, OSError):
        # Of this member alone: its checksum is wrong, its compression unknown or broken.
        picture.quarantine("damaged_image")
        return b""
    picture.height, picture.width = pixels.shape[:2]
    if min(pixels.shape[:2]) < MIN_SIDE:
        picture.quarantine("too_small")
        return b""
    picture.pixels_sha = _pixels_sha(pixels)
    inked = ink(pixels[None])
    if is_blank(inked[0]):
        picture.quarantine("blank")
    else:
        picture.plane = to_plane(inked, _PLANE)[0]
    return data


def _pixels_sha(pixels: np.ndarray) -> str:
    """Hash of what is to be seen: grey pictures are the same in one channel and in three."""
    if (pixels == pixels[:, :, :1]).all():
        pixels = pixels[:, :, :1]
    digest = hashlib.sha256(f"{pixels.shape}".encode())
    digest.update(np.ascontiguousarray(pixels).tobytes())
    return digest.hexdigest()[:24]


# Judging: copies, contradictions, twins.


def _quarantine_blanks_and_copies(pictures: list[_Picture]) -> None:
    same: dict[str, list[_Picture]] = defaultdict(list)
    for picture in pictures:
        if not picture.reason:
            same[picture.pixels_sha].append(picture)
    for copies in same.values():
        if len({picture.folder for picture in copies}) > 1:
            for picture in copies:
                other = next(each for each in copies if each.folder != picture.folder)
                picture.quarantine("contradictory", other.path, 1.0)
            continue
        # The training part first: what it holds must not test.
        first, *others = sorted(copies, key=lambda each: (each.part != "train", each.path))
        for picture in others:
            apart = picture.part != first.part
            picture.quarantine("twin_of_training" if apart else "duplicate", first.path, 1.0)


def _group(pictures: list[_Picture], least: float) -> None:
    """Give twins one group, named after the picture with the smallest hash.

    Twins of twins are in the group as well. Test pictures in a group with training pictures
    are quarantined.
    """
    pairs = twins(np.stack([p.plane for p in pictures if p.plane is not None]), least)
    leader = list(range(len(pictures)))

    def find(i: int) -> int:
        while leader[i] != i:
            leader[i] = leader[leader[i]]
            i = leader[i]
        return i

    nearest: dict[int, tuple[float, int]] = {}
    for i, j, correlation in pairs:
        leader[find(j)] = find(i)
        for one, other in ((i, j), (j, i)):
            nearest[one] = max(nearest.get(one, (0.0, other)), (correlation, other))
    members: dict[int, list[int]] = defaultdict(list)
    for i in range(len(pictures)):
        members[find(i)].append(i)
    for indices in members.values():
        name = min(pictures[i].pixels_sha for i in indices)[:16]
        parts = {pictures[i].part for i in indices}
        for i in indices:
            pictures[i].group = name
            if i in nearest:
                pictures[i].correlation, twin = nearest[i]
                pictures[i].twin = pictures[twin].path
            if len(parts) > 1 and pictures[i].part == "test":
                pictures[i].reason = "twin_of_training"


def twins(planes: np.ndarray, least: float) -> list[tuple[int, int, float]]:
    """Pairs of planes, uint8 (n, rows, columns), that correlate at least by `least`.

    Pearson's correlation over all pixels. Work grows with the square of n: 15,000 planes of
    64 x 96 take half a minute on one core.
    """
    return [(i, j, found) for i, j, found in twins_between(planes, planes, least) if i < j]


def twins_between(
    planes: np.ndarray, others: np.ndarray, least: float
) -> list[tuple[int, int, float]]:
    """Pairs of a plane and one of `others` that correlate at least by `least`, as `twins`."""
    flat, theirs = planes.reshape(len(planes), -1), others.reshape(len(others), -1)
    within = planes is others
    pairs = []
    for i in range(0, len(flat), _BLOCK):
        rows = _unit(flat[i : i + _BLOCK])
        # Within one set every pair is met once.
        for j in range(i if within else 0, len(theirs), _BLOCK):
            found = rows @ _unit(theirs[j : j + _BLOCK]).T
            pairs += [
                (int(i + a), int(j + b), float(min(found[a, b], 1.0)))
                for a, b in np.argwhere(found >= least)
            ]
    return pairs


def plane_of(pixels: np.ndarray) -> np.ndarray:
    """A picture, uint8 (rows, columns, channels), on the plane on which pictures are compared."""
    return np.asarray(to_plane(ink(pixels[None]), _PLANE)[0])


def _unit(flat: np.ndarray) -> np.ndarray:
    values = flat.astype(np.float32)
    values -= values.mean(axis=1, keepdims=True)
    values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6)
    return values


def _write_table(path: Path, pictures: list[_Picture]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(picture.row() for picture in pictures)
    with written_aside(path) as aside:
        aside.write_text(text.getvalue(), encoding="utf-8")
