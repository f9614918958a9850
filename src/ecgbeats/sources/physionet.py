"""A database in PhysioNet's layout: fetched in parallel, every file checked, resumable.

The layout is one flat folder with RECORDS (one record name a line), SHA256SUMS.txt
(the published hash of every file) and per record a header, its signal files and an
annotation file, e.g. https://physionet.org/files/mitdb/1.0.0/.

pooch was not used: it retries a 404 like a lost connection, with waits that cannot be set,
and has no hash for SHA256SUMS.txt itself, whose content must be checked before it is kept.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote, urlsplit, urlunsplit
from urllib.request import url2pathname

import requests
import wfdb
from requests.adapters import HTTPAdapter

from ecgbeats.datasets import MANIFEST, Manifest, RecordEntry, write_manifest
from ecgbeats.errors import ChecksumError, ConfigError, DataError, FetchError
from ecgbeats.files import sha256_file, written_aside
from ecgbeats.progress import Progress, say

if TYPE_CHECKING:
    from ecgbeats.config import PhysioNetSource

PHYSIONET = "https://physionet.org/files"
RECORDS = "RECORDS"
SUMS = "SHA256SUMS.txt"

_CHUNK = 1 << 16
# Answers of a server that is overloaded or restarting; any other refusal is final.
_PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_RECORD_NAME = re.compile(r"[A-Za-z0-9_-]+")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_SUMS_LINE = re.compile(r"([0-9a-fA-F]{64})[ \t]+\*?(\S.*)")
_PARTIAL = re.compile(r"\..+\.\d+\.partial(\..+)?")  # what files.written_aside leaves when killed


@dataclass(frozen=True)
class Patience:
    """How long to try to get one file.

    Attributes
    ----------
    attempts : int
        Tries in all.
    first_wait : float
        Seconds between the first two tries; it doubles after each.
    connect_timeout, read_timeout : float
        Seconds until a connection stands, and between two pieces of an answer.
    """

    attempts: int = 4
    first_wait: float = 1.0
    connect_timeout: float = 10.0
    read_timeout: float = 30.0


PATIENCE = Patience()


class _Passing(FetchError):
    """A failure that another try may mend."""


class _Unreachable(_Passing):
    """No connection to the host."""


class _Source(Protocol):
    """Where the files come from."""

    attempts: int

    def where(self, name: str) -> str:
        """URL or path of the file, for people."""

    def chunks(self, name: str) -> Iterator[bytes]:
        """The file's content, or a FetchError that names file, place and cause."""


def fetch_physionet(
    params: PhysioNetSource,
    name: str,
    folder: Path,
    *,
    mirror: str | None = None,
    workers: int = 8,
    patience: Patience = PATIENCE,
) -> Manifest:
    """Fetch a database into `folder`: headers, signals and reference annotations.

    Files that are there with their published hash are kept. A file gets its name only
    once its hash is right, and the manifest is written last: its presence says that the
    folder is complete. The folder then holds RECORDS, SHA256SUMS.txt, dataset.json and the
    records' files, nothing else, and the same bytes wherever they came from.

    Parameters
    ----------
    params : PhysioNetSource
        Which database and annotator, its licence and citation, who shares records.
    name : str
        The dataset's name for the manifest.
    folder : Path
        Where to; created if need be.
    mirror : str, optional
        Another place of the same layout: an http, https or file URL, or a folder.
        By default `PHYSIONET`/<database>.
    workers : int
        Files fetched at once.
    patience : Patience
        Tries and time limits per file.

    Raises
    ------
    FetchError
        The host cannot be reached, or a file is missing, refused or breaks off. What has
        arrived stays for the next run.
    ChecksumError
        A file still differs from SHA256SUMS.txt after the last try.
    DataError
        RECORDS or a header is unusable, or `folder` holds files that are not the database's.
    ConfigError
        `mirror` is no usable place, or `params.patients` names an unknown record.
    """
    folder = Path(folder)
    with _opened(params.database, mirror, workers, patience) as source:
        job = _Job(source, folder, patience)
        _make_ready(folder)
        sums = job.fetch_sums()
        # From here on the folder may change, and counts as incomplete until the end.
        (folder / MANIFEST).unlink(missing_ok=True)
        fetched = int(job.fetch(RECORDS, sums))
        records = _record_names(
            (folder / RECORDS).read_text(encoding="utf-8-sig", errors="replace"),
            source.where(RECORDS),
        )
        _check_patients(params, records)
        headers = [f"{record}.hea" for record in records]
        fetched += job.fetch_all(headers, sums, f"fetch {name} headers", workers)
        bodies = list(
            dict.fromkeys(
                file
                for record in records
                for file in (*_signal_files(folder, record), f"{record}.{params.annotator}")
            )
        )
        _refuse_strangers(folder, {RECORDS, SUMS, *headers, *bodies})
        fetched += job.fetch_all(bodies, sums, f"fetch {name}", workers)
        there = 1 + len(headers) + len(bodies) - fetched
        say(f"fetch {name}: {fetched} files fetched from {source.where('')}, {there} already there")
    manifest = Manifest(
        name=name,
        source=params.source,
        version=params.database,
        licence=params.licence,
        citation=params.citation,
        synthetic=False,
        annotator=params.annotator,
        records=tuple(
            RecordEntry(record=record, patient=params.patients.get(record, record))
            for record in records
        ),
    )
    write_manifest(folder, manifest)
    return manifest


@dataclass(frozen=True)
class _Job:
    """Fetching from one source into one folder."""

    source: _Source
    folder: Path
    patience: Patience
    stop: threading.Event = field(default_factory=threading.Event)

    def fetch_sums(self) -> dict[str, str]:
        """Fetch SHA256SUMS.txt, which no hash vouches for, and read it before it is kept."""
        sums: dict[str, str] = {}

        def read(aside: Path) -> None:
            sums.update(
                _sums(aside.read_text(encoding="utf-8", errors="replace"), self.source.where(SUMS))
            )

        try:
            self._obtain(SUMS, read)
        except FetchError as error:
            if not isinstance(error.__cause__, _Unreachable):
                raise
            raise FetchError(
                f"{error}. The host could not be reached. "
                "Without a network, give a copy of the database, for example: "
                "make run RECIPE=mitdb-aami5 MIRROR=<folder or URL of the same layout>"
            ) from error
        return sums

    def fetch(self, name: str, sums: dict[str, str]) -> bool:
        """Fetch one file unless it is there and right; tell whether it was fetched."""
        expected = sums.get(name)
        if expected is None:
            raise FetchError(f"{self.source.where(SUMS)}: expected a line for {name}, found none")
        path = self.folder / name
        if path.is_file():
            if sha256_file(path) == expected:
                return False
            path.unlink()

        def compare(aside: Path) -> None:
            found = sha256_file(aside)
            if found != expected:
                raise ChecksumError(
                    f"{name}: {self.source.where(name)}: expected SHA-256 {expected}, "
                    f"got {found} ({aside.stat().st_size} bytes)"
                )

        self._obtain(name, compare)
        return True

    def fetch_all(
        self, names: Sequence[str], sums: dict[str, str], title: str, workers: int
    ) -> int:
        """Fetch many at once and return how many were not there; the first failure ends it."""
        progress = Progress(title, len(names))
        fetched = 0
        with ThreadPoolExecutor(workers, thread_name_prefix="fetch") as pool:
            try:
                futures = {pool.submit(self.fetch, name, sums): name for name in names}
                for future in as_completed(futures):
                    fetched += future.result()
                    progress.step(futures[future])
            except BaseException:
                self.stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return fetched

    def _obtain(self, name: str, check: Callable[[Path], None]) -> None:
        """Give `name` its place in the folder once `check` accepts what came."""
        attempts = self.source.attempts
        wait = self.patience.first_wait
        for attempt in range(1, attempts + 1):
            try:
                with written_aside(self.folder / name) as aside:
                    self._save(name, aside)
                    check(aside)
                return
            except (_Passing, ChecksumError) as error:
                final = attempt == attempts or self.stop.is_set()
                if not final:
                    say(f"{error}; trying again in {wait:g} s ({attempt} of {attempts} failed)")
                    final = self.stop.wait(wait)
                if final:
                    tries = f" (tried {attempt} times)" if attempt > 1 else ""
                    kind = ChecksumError if isinstance(error, ChecksumError) else FetchError
                    raise kind(f"{error}{tries}") from error
                wait *= 2
            except OSError as error:
                raise FetchError(
                    f"{name}: cannot be written to {self.folder}: {error.strerror or error}"
                ) from error

    def _save(self, name: str, path: Path) -> None:
        with path.open("wb") as out:
            for chunk in self.source.chunks(name):
                if self.stop.is_set():
                    raise FetchError(f"{name}: stopped because another file failed")
                out.write(chunk)


class _WebSource:
    """An HTTP server; proxies and .netrc are honoured as requests does."""

    def __init__(self, base: str, session: requests.Session, patience: Patience) -> None:
        self.attempts = patience.attempts
        self._base = base.rstrip("/") + "/"
        self._session = session
        self._timeout = (patience.connect_timeout, patience.read_timeout)

    def where(self, name: str) -> str:
        # A password in the mirror's URL belongs into no log.
        parts = urlsplit(self._base + quote(name))
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

    def chunks(self, name: str) -> Iterator[bytes]:
        with self._answer(name) as answer:
            try:
                # Raises if less comes than Content-Length says.
                yield from answer.iter_content(_CHUNK)
            except requests.RequestException as error:
                raise _Passing(
                    f"{name}: {self.where(name)}: the answer broke off: {_cause(error)}"
                ) from error

    def _answer(self, name: str) -> requests.Response:
        try:
            answer = self._session.get(self._base + quote(name), stream=True, timeout=self._timeout)
        except requests.ConnectionError as error:
            raise _Unreachable(
                f"{name}: {self.where(name)}: no connection: {_cause(error)}"
            ) from error
        except requests.Timeout as error:
            raise _Passing(f"{name}: {self.where(name)}: no answer: {_cause(error)}") from error
        except requests.RequestException as error:
            raise FetchError(f"{name}: {self.where(name)}: {_cause(error)}") from error
        if answer.status_code == requests.codes.ok:
            return answer
        answer.close()
        kind = _Passing if answer.status_code in _PASSING_STATUS else FetchError
        raise kind(
            f"{name}: {self.where(name)}: expected HTTP status 200, "
            f"got {answer.status_code} {answer.reason}"
        )


class _FolderSource:
    """A folder on this machine: what is wrong there stays wrong, so one try."""

    attempts = 1

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ConfigError(
                f"mirror: expected a folder with {RECORDS} and {SUMS}, or an http, https or "
                f"file URL of one; {str(folder)!r} is no folder"
            )
        self._folder = folder

    def where(self, name: str) -> str:
        return str(self._folder / name)

    def chunks(self, name: str) -> Iterator[bytes]:
        try:
            with (self._folder / name).open("rb") as handle:
                while chunk := handle.read(_CHUNK):
                    yield chunk
        except FileNotFoundError as error:
            raise FetchError(
                f"{name}: expected in the mirror {self._folder}, it is not there"
            ) from error
        except OSError as error:
            raise FetchError(
                f"{name}: cannot be read from the mirror {self._folder}: {error.strerror or error}"
            ) from error


@contextmanager
def _opened(
    database: str, mirror: str | None, workers: int, patience: Patience
) -> Iterator[_Source]:
    place = mirror or f"{PHYSIONET}/{database}"
    scheme = place.partition("://")[0].lower() if "://" in place else ""
    if not scheme:
        yield _FolderSource(Path(place).expanduser())
    elif scheme == "file":
        parts = urlsplit(place)
        if parts.netloc not in ("", "localhost"):
            raise ConfigError(f"mirror: expected file:///<folder>, got {place!r}")
        yield _FolderSource(Path(url2pathname(parts.path)))
    elif scheme in ("http", "https"):
        with requests.Session() as session:
            # Published hashes are of the plain bytes, and so are lengths.
            session.headers["Accept-Encoding"] = "identity"
            for prefix in ("http://", "https://"):
                session.mount(prefix, HTTPAdapter(pool_maxsize=workers))
            yield _WebSource(place, session, patience)
    else:
        raise ConfigError(
            f"mirror: expected a folder or an http, https or file URL, got {scheme}://..."
        )


def _make_ready(folder: Path) -> None:
    """Create the folder, and remove what a killed run was writing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FetchError(f"{folder}: cannot be created: {error.strerror}") from error
    for path in folder.iterdir():
        if _PARTIAL.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _sums(text: str, where: str) -> dict[str, str]:
    """File name to hash, from the text of a SHA256SUMS.txt."""
    sums: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        match = _SUMS_LINE.fullmatch(line.strip())
        if not match:
            raise ChecksumError(
                f"{where}: line {number}: expected a SHA-256 and a file name, got {line[:80]!r}"
            )
        path = PurePosixPath(match[2])
        if path.is_absolute() or ".." in path.parts or "\\" in match[2]:
            raise DataError(
                f"{where}: line {number}: expected a path inside the database, got {match[2]!r}"
            )
        sums[str(path)] = match[1].lower()
    if not sums:
        raise ChecksumError(f"{where}: expected lines of SHA-256 and file name, the file is empty")
    return sums


def _record_names(text: str, where: str) -> tuple[str, ...]:
    """Record names, from the text of a RECORDS file."""
    names = tuple(stripped for line in text.splitlines() if (stripped := line.strip()))
    for name in names:
        if not _RECORD_NAME.fullmatch(name):
            raise DataError(
                f"{where}: expected plain record names (letters, digits, _ and -; records in "
                f"subfolders are not supported), got {name!r}"
            )
        if names.count(name) > 1:
            raise DataError(f"{where}: expected each record once, {name} is there more often")
    if not names:
        raise DataError(f"{where}: expected record names, the file is empty")
    return names


def _check_patients(params: PhysioNetSource, records: Sequence[str]) -> None:
    unknown = sorted(set(params.patients) - set(records))
    if unknown:
        raise ConfigError(
            f"patients: expected records of {params.database}, got {', '.join(unknown)}"
        )


def _signal_files(folder: Path, record: str) -> tuple[str, ...]:
    """Names of the signal files that `record`.hea lists."""
    try:
        header = wfdb.rdheader(str(folder / record))
    except Exception as error:  # wfdb raises whatever its parsing meets
        raise DataError(f"{record}.hea: cannot be read as a WFDB header: {error}") from error
    if isinstance(header, wfdb.MultiRecord):
        raise DataError(f"{record}.hea: expected one segment, records of several are not supported")
    files = tuple(dict.fromkeys(header.file_name or ()))
    if not files:
        raise DataError(f"{record}.hea: expected signal files, the header names none")
    for file in files:
        if not _FILE_NAME.fullmatch(file) or file in (RECORDS, SUMS, MANIFEST):
            raise DataError(f"{record}.hea: expected plain names of signal files, got {file!r}")
    return files


def _refuse_strangers(folder: Path, own: set[str]) -> None:
    """Other people's files are not ours to remove, and would change what is built from these."""
    names = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir())
    strangers = sorted(name for name in names if name not in own)
    if strangers:
        shown = ", ".join(strangers[:5]) + (", ..." if len(strangers) > 5 else "")
        raise DataError(
            f"{folder}: expected files of this database alone, found {len(strangers)} others "
            f"({shown}); move them away or empty the folder"
        )


def _cause(error: BaseException) -> str:
    """The innermost reason: requests wraps urllib3's error, which wraps the system's."""
    while True:
        inner = getattr(error, "reason", None) or (error.args[0] if error.args else None)
        if not isinstance(inner, BaseException):
            return f"{error}" or type(error).__name__
        error = inner
