"""A folder, or a zip of one: unpacked beside, bounded, and nothing outside of it."""

from __future__ import annotations

import lzma
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from ecgbeats.errors import DataError
from ecgbeats.files import read_json, write_json

# These stop archives made to fill a disk; a day of twelve leads takes 250 MB.
MAX_FILES = 200_000
MAX_BYTES = 64 * 1024**3


# Beside the folder of what was unpacked: what was not, and why.
_LEFT_OUT = ".left-out.json"
_ENCRYPTED = 0x1


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """Yield `path` itself if it is a folder; of a zip, a temporary folder with its files.

    A file of the archive that is damaged, encrypted or a link is left out, and told by
    `left_out`; a header (.hea) among them is there, and empty, so that its record is missed.

    Raises
    ------
    DataError
        It is neither; or the archive is too large, names files outside of it, or has no file
        that can be unpacked.
    """
    path = Path(path)
    if path.is_dir():
        yield path
        return
    if not path.is_file() or not zipfile.is_zipfile(path):
        raise DataError(f"{path}: expected a folder or a zip archive")
    with tempfile.TemporaryDirectory(prefix="ecgbeats-zip-") as scratch:
        target = Path(scratch) / "files"
        target.mkdir()
        write_json(_told_at(target), _unpack(path, target))
        yield target


def left_out(folder: Path) -> dict[str, str]:
    """Of a folder that `opened` yields: files that were left out, relative to it, and why."""
    told = _told_at(Path(folder))
    return dict(read_json(told)) if told.is_file() else {}


def _told_at(folder: Path) -> Path:
    return folder.with_name(folder.name + _LEFT_OUT)


def _unpack(path: Path, target: Path) -> dict[str, str]:
    bad: dict[str, str] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
            if len(members) > MAX_FILES or sum(info.file_size for info in members) > MAX_BYTES:
                raise DataError(
                    f"{path}: expected at most {MAX_FILES:,} files of {MAX_BYTES / 1e9:.0f} GB "
                    f"in all, got {len(members):,} files"
                )
            for info in members:
                inside = _safe(path, info)
                place = target / inside
                place.parent.mkdir(parents=True, exist_ok=True)
                why = _unpack_one(archive, info, place)
                if why:
                    bad[str(inside)] = why
                    place.unlink(missing_ok=True)
                    if place.suffix == ".hea":
                        place.touch()
    except (zipfile.BadZipFile, NotImplementedError, OSError) as error:
        raise DataError(f"{path}: cannot be unpacked: {error}") from error
    if bad and len(bad) == len(members):
        name, why = next(iter(bad.items()))
        raise DataError(f"{path}: cannot be unpacked: none of its files: {name}: {why}")
    return bad


def _unpack_one(archive: zipfile.ZipFile, info: zipfile.ZipInfo, place: Path) -> str:
    """Write one member to `place`; return why it cannot be, or nothing."""
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is a link in the archive"
    if info.flag_bits & _ENCRYPTED:
        return "is encrypted in the archive"
    try:
        with archive.open(info) as member, place.open("wb") as out:
            # zipfile itself stops at the size that was announced, and checks the CRC.
            shutil.copyfileobj(member, out)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError) as error:
        return f"is damaged in the archive: {error}"
    except OSError as error:
        # bz2 raises one for what it cannot unpack; those of the disk have a number.
        if error.errno is not None:
            raise
        return f"is damaged in the archive: {error}"
    return ""


def _safe(path: Path, info: zipfile.ZipInfo) -> PurePosixPath:
    inside = PurePosixPath(info.filename.replace("\\", "/"))
    if inside.is_absolute() or ".." in inside.parts or ":" in inside.parts[0]:
        raise DataError(f"{path}: expected files inside the archive, got {info.filename!r}")
    return inside
