"""Zip and gzip files unpacked in memory, within bounds and without trusting what they claim."""

from __future__ import annotations

import io
import zipfile
import zlib
from http import HTTPStatus

from bento.limits import MAX_UNPACKED_BYTES, MAX_UNPACKED_FILES
from bento.problems import Refused
from bento.uploads import Upload, too_large

_CHUNK = 64 * 1024
_ENCRYPTED = 0x1
# What everybody's zip makes. The others unpack slowly, or without bound on memory.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def unpacked(files: list[Upload]) -> list[Upload]:
    """`files` with what lies in archives among them in place of these.

    Folders inside an archive do not count: a file is known by the last part of its name.

    Raises
    ------
    Refused
        With code "bad_archive", "unsafe_name", "archive_too_large" or "too_many_files".
    """
    room = _Room()
    found: list[Upload] = []
    for place, file in enumerate(files):
        if file.content.startswith(b"PK"):
            found += _from_zip(file, place, room)
        elif file.content.startswith(b"\x1f\x8b"):
            name = _last(file.name).removesuffix(".gz")
            found.append(Upload(name, _gunzip(file.content, place, room)))
        else:
            found.append(Upload(_last(file.name), file.content))
    return found


class _Room:
    """What archives may still unpack, all together."""

    def __init__(self) -> None:
        self.bytes = MAX_UNPACKED_BYTES
        self.files = MAX_UNPACKED_FILES

    def take(self, count: int, place: int) -> None:
        self.bytes -= count
        if self.bytes < 0:
            raise too_large(
                "archive_too_large", f"at most {MAX_UNPACKED_BYTES} bytes unpacked", "more", place
            )


def _from_zip(file: Upload, place: int, room: _Room) -> list[Upload]:
    try:
        archive = zipfile.ZipFile(io.BytesIO(file.content))
        entries = [entry for entry in archive.infolist() if not _is_aside(entry)]
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, OSError) as error:
        raise _bad(place, "a whole zip file", "a damaged one") from error
    room.files -= len(entries)
    if room.files < 0:
        raise too_large("too_many_files", f"at most {MAX_UNPACKED_FILES} files", "more", place)
    found = []
    for entry in entries:
        name = entry.filename
        if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/"):
            raise Refused(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "unsafe_name",
                expected="names inside the archive's own folders",
                got="one that leads out of them",
                file=place,
            )
        if entry.flag_bits & _ENCRYPTED:
            raise _bad(place, "files without a password", "an encrypted one")
        if entry.compress_type not in _METHODS:
            raise _bad(place, "stored or deflated files", f"method {entry.compress_type}")
        # Before unpacking by what it claims, while unpacking by what comes.
        if entry.file_size > room.bytes:
            room.take(entry.file_size, place)
        found.append(Upload(_last(name), _read(archive, entry, place, room)))
    return found


def _is_aside(entry: zipfile.ZipInfo) -> bool:
    """Whether it is a folder, or what a Mac packs beside each file by a similar name."""
    parts = entry.filename.split("/")
    return entry.is_dir() or "__MACOSX" in parts or parts[-1].startswith("._")


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, place: int, room: _Room) -> bytes:
    content = bytearray()
    try:
        with archive.open(entry) as stream:
            while chunk := stream.read(_CHUNK):
                room.take(len(chunk), place)
                content += chunk
    except Refused:
        raise
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        ValueError,
        OSError,
    ) as error:
        raise _bad(place, "a whole zip file", "a damaged one") from error
    return bytes(content)


def _gunzip(data: bytes, place: int, room: _Room) -> bytes:
    content = bytearray()
    while data:
        unpacker = zlib.decompressobj(wbits=31)
        try:
            while data and not unpacker.eof:
                chunk = unpacker.decompress(data, _CHUNK)
                room.take(len(chunk), place)
                content += chunk
                data = unpacker.unconsumed_tail
                if not chunk and not data:
                    break
        except zlib.error as error:
            raise _bad(place, "a whole gzip file", "a damaged one") from error
        if not unpacker.eof:
            raise _bad(place, "a whole gzip file", "one that is cut off")
        # Members may follow one another; zeros may follow them all.
        data = unpacker.unused_data.lstrip(b"\0")
    return bytes(content)


def _last(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]


def _bad(place: int, expected: str, got: str) -> Refused:
    return Refused(
        HTTPStatus.UNPROCESSABLE_ENTITY, "bad_archive", expected=expected, got=got, file=place
    )
