"""Anybody's annotated WFDB records in a folder: found, verified and copied.

Records are those that a file RECORDS in the folder names, else every header below it, also in
subfolders. Any sampling frequency, lead names and number of leads will do.
"""

from __future__ import annotations

import csv
import glob
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import wfdb

from ecgbeats.datasets import MANIFEST, Manifest, RecordEntry, read_manifest, write_manifest
from ecgbeats.errors import ConfigError, DataError
from ecgbeats.files import folder_written_aside, sha256_file, sha256_text
from ecgbeats.progress import Progress, say

if TYPE_CHECKING:
    from ecgbeats.config import WfdbFolderSource

RECORDS = "RECORDS"
# What WFDB allows in a record's name; names of records in subfolders are joined by "_".
_RECORD_NAME = re.compile(r"[A-Za-z0-9_-]+")
_ANNOTATOR = re.compile(r"\.[A-Za-z0-9_-]+")
_SHOWN = 20


@dataclass(frozen=True)
class RecordFiles:
    """The files of one record, relative to its folder of records.

    Attributes
    ----------
    headers : tuple of str
        The record's own, then those of its segments.
    signals : tuple of str
    annotations : str
    """

    headers: tuple[str, ...]
    signals: tuple[str, ...]
    annotations: str

    @property
    def all(self) -> tuple[str, ...]:
        return (*self.headers, *self.signals, self.annotations)


def find_records(folder: Path) -> tuple[str, ...]:
    """Names of the records in `folder`: paths relative to it, without suffix, with "/".

    Parts of a record of several segments are no records of their own.

    Raises
    ------
    DataError
        It is no folder, has no record, or RECORDS names something outside it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: expected a folder of WFDB records, there is none")
    listed = folder / RECORDS
    names = _listed(listed) if listed.is_file() else _headers_below(folder)
    if not names:
        raise DataError(
            f"{folder}: expected WFDB records, found neither names in {RECORDS} nor a header (.hea)"
        )
    return names


def _listed(path: Path) -> tuple[str, ...]:
    """Records of a RECORDS file; a line that ends with "/" is a folder with one of its own."""
    names: list[str] = []
    for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines():
        name = line.strip().removesuffix(".hea")
        if not name or name.startswith("#"):
            continue
        inside = PurePosixPath(name)
        if inside.is_absolute() or ".." in inside.parts or "\\" in name:
            raise DataError(f"{path}: expected names of records below it, got {name!r}")
        if name.endswith("/"):
            below = path.parent / name / RECORDS
            found = _listed(below) if below.is_file() else _headers_below(path.parent / name)
            names += [f"{inside}/{each}" for each in found]
        else:
            names.append(str(inside))
    return tuple(dict.fromkeys(names))


def _headers_below(folder: Path) -> tuple[str, ...]:
    headers = [
        path.relative_to(folder).with_suffix("")
        for path in sorted(folder.rglob("*.hea"))
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    segments = {
        (header.parent / name).as_posix()
        for header in headers
        for name in _segment_names(folder / header)
    }
    return tuple(name for header in headers if (name := header.as_posix()) not in segments)


def _segment_names(record: Path) -> tuple[str, ...]:
    """Segments of `record`; none where its header is of one segment or unreadable."""
    try:
        header = wfdb.rdheader(str(record))
    except Exception:  # reported where the record is read
        return ()
    if not isinstance(header, wfdb.MultiRecord):
        return ()
    return tuple(name for name in header.seg_name if name != "~")


def files_of(folder: Path, record: str, annotator: str) -> RecordFiles:
    """The files that `record` needs, all of them there.

    Raises
    ------
    DataError
        One is missing, or a header cannot be read.
    """
    parent = PurePosixPath(record).parent
    headers, signals = [f"{record}.hea"], []
    todo = [record]
    while todo:
        name = todo.pop(0)
        header = _header(folder, record, name)
        if isinstance(header, wfdb.MultiRecord):
            segments = [str(parent / part) for part in header.seg_name if part != "~"]
            if name != record:
                raise DataError(f"record {record}: segment {name} has segments itself")
            headers += [f"{part}.hea" for part in dict.fromkeys(segments)]
            todo += list(dict.fromkeys(segments))
            continue
        # "~" stands for a signal that is in no file.
        signals += [str(parent / file) for file in header.file_name or () if file != "~"]
    files = RecordFiles(tuple(headers), tuple(dict.fromkeys(signals)), f"{record}.{annotator}")
    if not files.signals:
        raise DataError(f"record {record}: expected signals, the header names none")
    for file in files.all:
        if not (folder / file).is_file():
            found = _annotators(folder, record, files) if file == files.annotations else []
            raise DataError(f"record {record}: {PurePosixPath(file).name} is missing{_hint(found)}")
    return files


def _annotators(folder: Path, record: str, files: RecordFiles) -> list[str]:
    """Suffixes of what lies beside the header and reads as annotations."""
    path = folder / record
    others = [
        other
        for other in sorted(path.parent.glob(f"{glob.escape(path.name)}.*"))
        if _ANNOTATOR.fullmatch(other.suffix) and other.stem == path.name and other.is_file()
    ]
    own = {PurePosixPath(file).name for file in files.all}
    return [
        other.suffix[1:]
        for other in others
        if other.name not in own and _holds_annotations(path, other.suffix[1:])
    ]


def _holds_annotations(path: Path, annotator: str) -> bool:
    # Any bytes read as annotations of some kind; whole files of them end with a word of zero, and
    # go on in time.
    if not path.with_name(f"{path.name}.{annotator}").read_bytes().endswith(b"\0\0"):
        return False
    try:
        samples = wfdb.rdann(str(path), annotator).sample
    except Exception:  # wfdb raises whatever its parsing meets
        return False
    return len(samples) > 0 and bool((np.diff(samples) >= 0).all())


def _hint(annotators: Sequence[str]) -> str:
    if not annotators:
        return ""
    suffixes = ", ".join(f".{each}" for each in annotators)
    return (
        f"; found {suffixes}: --annotator {annotators[0]} "
        f"(in params.yaml, annotator: {annotators[0]})"
    )


def _header(folder: Path, record: str, name: str) -> wfdb.Record | wfdb.MultiRecord:
    try:
        return wfdb.rdheader(str(folder / name))
    except FileNotFoundError as error:
        missing = f"{PurePosixPath(name).name}.hea"
        raise DataError(f"record {record}: {missing} is missing") from error
    except Exception as error:  # wfdb raises whatever its parsing meets
        raise DataError(
            f"record {record}: {PurePosixPath(name).name}.hea cannot be read as a WFDB header: "
            f"{type(error).__name__}: {error}"
        ) from error


def patients_by_rule(records: Sequence[str], rule: str) -> dict[str, str]:
    """Patient of each record by a regular expression whose one group is the patient.

    It is searched for in the record's name, subfolders included (`p01/rec3`).

    Raises
    ------
    ConfigError
        It is no such expression, or does not fit every record.
    """
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise ConfigError(
            f"patients: {rule!r} is neither a file nor a regular expression: {error}"
        ) from error
    if pattern.groups != 1:
        raise ConfigError(
            f"patients: expected a regular expression with one group (or a CSV file), "
            f"{rule!r} has {pattern.groups}"
        )
    found = {record: pattern.search(record) for record in records}
    patients = {record: match[1] for record, match in found.items() if match and match[1]}
    _every_record_named(records, patients, f"the rule {rule!r}")
    return patients


def patients_by_table(records: Sequence[str], table: Path) -> dict[str, str]:
    """Patient of each record by a CSV file with the columns record and patient.

    Raises
    ------
    ConfigError
        It is no such file, names a record twice, or lacks one of `records`.
    """
    try:
        with Path(table).open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            columns = reader.fieldnames or []
            if not {"record", "patient"} <= set(columns):
                raise ConfigError(
                    f"{table}: expected the columns record and patient, got {', '.join(columns)}"
                )
            rows = [(row["record"] or "", row["patient"] or "") for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{table}: cannot be read as a CSV file: {error}") from error
    patients: dict[str, str] = {}
    for record, patient in ((record.strip(), patient.strip()) for record, patient in rows):
        if patients.setdefault(record, patient) != patient:
            raise ConfigError(
                f"{table}: record {record} has the patients {patients[record]} and {patient}"
            )
    _every_record_named(records, patients, str(table))
    return {record: patients[record] for record in records}


def _every_record_named(records: Sequence[str], patients: Mapping[str, str], source: str) -> None:
    # Taking the rest for patients of their own could part one person's records unseen.
    unnamed = [record for record in records if not patients.get(record)]
    if unnamed:
        raise ConfigError(
            f"patients: {source} gives no patient for {len(unnamed)} of {len(records)} records: "
            f"{_some(unnamed)}"
        )


def fetch_wfdb_folder(
    params: WfdbFolderSource, name: str, folder: Path, *, base: Path | None = None
) -> Manifest:
    """Copy the records of a folder into the dataset folder `folder`, with a manifest.

    Only what belongs to the records is taken: headers, signal files, one annotation file
    each. They end up in one flat folder: `p01/rec3` is called `p01_rec3`, in its header too.
    Files are copied, not linked: DVC makes what it keeps read-only, and a link would do that
    to the original. The dataset is replaced whole, or stays as it was.

    Parameters
    ----------
    params : WfdbFolderSource
    name : str
        The dataset's name for the manifest.
    folder : Path
        The dataset's folder.
    base : Path, optional
        What `params.folder` and `params.patients_file` are relative to.

    Returns
    -------
    Manifest
        Its version ends with a hash of the files.

    Raises
    ------
    DataError
        There are no records, or some cannot be used: all of them are named.
    ConfigError
        The patients, or the records to skip, do not fit the records.
    """
    source = (base or Path()) / Path(params.folder).expanduser()
    folder = Path(folder)
    _refuse_to_replace(folder)
    records = _without(find_records(source), params.skip_records, source)
    patients = _patients(params, records, base or Path())
    flat = _flat_names(records)
    files: dict[str, RecordFiles] = {}
    unusable: list[tuple[str, DataError]] = []
    for record in records:
        try:
            files[record] = files_of(source, record, params.annotator)
            _check_annotations(source, record, params.annotator)
        except DataError as error:
            unusable.append((record, error))
    if unusable:
        raise DataError(
            f"{source}: {len(unusable)} of {len(records)} records cannot be used: "
            + "; ".join(str(error) for _, error in unusable[:_SHOWN])
            + ("; ..." if len(unusable) > _SHOWN else "")
            + ". Mend them, or leave them out by skip_records: ["
            + ", ".join(f'"{record}"' for record, _ in unusable)
            + "]"
        )
    progress = Progress(f"fetch {name}", len(records))
    with folder_written_aside(folder) as aside:
        for record in records:
            _copy(source, files[record], aside)
            progress.step(record)
        copied = sorted(path for path in aside.iterdir())
        digest = sha256_text("".join(f"{p.name}\0{sha256_file(p)}\n" for p in copied))
        manifest = Manifest(
            name=name,
            source=params.source,
            version=f"{params.version}-{digest[:12]}",
            licence=params.licence,
            citation=params.citation,
            # A copy of generated recordings is generated too, whatever the parameters say.
            synthetic=params.synthetic or _says_synthetic(source),
            annotator=params.annotator,
            records=tuple(
                RecordEntry(record=flat[record], patient=patients.get(record, flat[record]))
                for record in records
            ),
        )
        write_manifest(aside, manifest)
    people = len({entry.patient for entry in manifest.records})
    say(f"fetch {name}: {len(records)} records of {people} patients copied from {source}")
    return manifest


def _refuse_to_replace(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise DataError(
            f"{folder}: expected an empty folder or a dataset to replace; "
            f"found files without a {MANIFEST}"
        )


def _says_synthetic(source: Path) -> bool:
    return (source / MANIFEST).is_file() and read_manifest(source).synthetic


def _without(records: Sequence[str], skip: Sequence[str], where: Path) -> tuple[str, ...]:
    absent = sorted(set(skip) - set(records))
    if absent:
        raise ConfigError(f"skip_records: expected records of {where}, got {_some(absent)}")
    kept = tuple(record for record in records if record not in skip)
    if not kept:
        raise ConfigError(f"skip_records: no record of {where} is left")
    return kept


def _patients(params: WfdbFolderSource, records: Sequence[str], base: Path) -> Mapping[str, str]:
    if params.patients_file is not None:
        return patients_by_table(records, base / Path(params.patients_file).expanduser())
    if params.patients_rule is not None:
        return patients_by_rule(records, params.patients_rule)
    unknown = sorted(set(params.patients) - set(records))
    if unknown:
        raise ConfigError(f"patients: expected records of {params.folder}, got {_some(unknown)}")
    return params.patients


def _flat(path: str) -> str:
    return path.replace("/", "_")


def _flat_names(records: Sequence[str]) -> dict[str, str]:
    flat = {record: _flat(record) for record in records}
    by_name: dict[str, str] = {}
    for record, name in flat.items():
        if not _RECORD_NAME.fullmatch(name):
            raise DataError(
                f"record {record}: expected a name of letters, digits, _ and - (WFDB's rule)"
            )
        if name in by_name:
            raise DataError(f"records {by_name[name]} and {record} would both be called {name}")
        by_name[name] = record
    return flat


def _check_annotations(folder: Path, record: str, annotator: str) -> None:
    try:
        count = len(wfdb.rdann(str(folder / record), annotator).sample)
    except Exception as error:  # wfdb raises whatever its parsing meets
        raise DataError(
            f"record {record}: annotations .{annotator} cannot be read: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not count:
        raise DataError(f"record {record}: .{annotator} holds no annotation")


def _copy(source: Path, files: RecordFiles, target: Path) -> None:
    for file in files.headers:
        content = (source / file).read_bytes()
        folders = PurePosixPath(file).parent.parts
        if folders:
            content = prefixed_header(content, "".join(f"{part}_" for part in folders).encode())
        (target / _flat(file)).write_bytes(content)
    for file in (*files.signals, files.annotations):
        shutil.copyfile(source / file, target / _flat(file))


def prefixed_header(header: bytes, prefix: bytes) -> bytes:
    """A header whose record, segments and signal files have `prefix` before their names.

    In each line that is no comment the first word is such a name.
    """
    lines = []
    for line in header.splitlines(keepends=True):
        words = line.lstrip()
        if words and not words.startswith((b"#", b"~")):
            line = prefix + words
        lines.append(line)
    return b"".join(lines)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
