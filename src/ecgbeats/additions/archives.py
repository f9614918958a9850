"""A folder, or a zip of one: unpacked beside, bounded, and nothing outside of it."""

from __future__ import annotations

import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from ecgbeats.errors import DataError

# These stop archives made to fill a disk; a day of twelve leads takes 250 MB.
MAX_FILES = 200_000
MAX_BYTES = 64 * 1024**3


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """Yield `path` itself if it is a folder; of a zip, a temporary folder with its files.

    Raises
    ------
    DataError
        It is neither; or the archive is damaged, encrypted, too large, or names files
        outside of it.
    """
    path = Path(path)
    if path.is_dir():
        yield path
        return
    if not path.is_file() or not zipfile.is_zipfile(path):
        raise DataError(f"{path}: expected a folder or a zip archive")
    with tempfile.TemporaryDirectory(prefix="ecgbeats-zip-") as scratch:
        _unpack(path, Path(scratch))
        yield Path(scratch)


def _unpack(path: Path, target: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
            if len(members) > MAX_FILES or sum(info.file_size for info in members) > MAX_BYTES:
                raise DataError(
                    f"{path}: expected at most {MAX_FILES:,} files of {MAX_BYTES / 1e9:.0f} GB "
                    f"in all, got {len(members):,} files"
                )
            for info in members:
                place = target / _safe(path, info)
                place.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(info) as member, place.open("wb") as out:
                    # zipfile itself stops at the size that was announced, and checks the CRC.
                    shutil.copyfileobj(member, out)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise DataError(f"{path}: cannot be unpacked: {error}") from error


def _safe(path: Path, info: zipfile.ZipInfo) -> PurePosixPath:
    inside = PurePosixPath(info.filename.replace("\\", "/"))
    if inside.is_absolute() or ".." in inside.parts or ":" in inside.parts[0]:
        raise DataError(f"{path}: expected files inside the archive, got {info.filename!r}")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise DataError(f"{path}: expected files, {info.filename!r} is a link")
    return inside
