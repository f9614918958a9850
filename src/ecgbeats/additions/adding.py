"""A folder of anybody's annotated records: checked, parted into usable and not, copied.

A record that fails an expectation about records is quarantined, with the expectation and what
was found; the rest goes on. A batch that fails an expectation about batches is refused whole.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from ecgbeats.additions.agreement import measure_agreement
from ecgbeats.additions.archives import left_out
from ecgbeats.additions.checksums import checksum_problems, ends_as_it_should
from ecgbeats.additions.findings import Quarantined, findings
from ecgbeats.additions.fingerprints import NOBODY, Fingerprints, find_twins, fingerprints_of
from ecgbeats.additions.order import measure_order
from ecgbeats.additions.suites import (
    AMONG_US,
    ORDERS,
    agreement_suite,
    checksum_suite,
    file_suite,
    label_suite,
    twin_suite,
)
from ecgbeats.config import WfdbFolderSource
from ecgbeats.datasets import Manifest, read_manifest
from ecgbeats.errors import ConfigError, DataError
from ecgbeats.files import write_text
from ecgbeats.labels import LabelScheme
from ecgbeats.measuring_records import PACED, PACED_SHARE
from ecgbeats.records import BEAT_SYMBOLS, read_annotations
from ecgbeats.sources.wfdb_folder import (
    fetch_wfdb_folder,
    files_of,
    find_records,
    patients_by_rule,
    patients_by_table,
)
from ecgbeats.validation.engine import judge
from ecgbeats.validation.facts import Facts, measure
from ecgbeats.validation.report import Outcome
from ecgbeats.validation.suites import Limits, dataset_suites

QUARANTINE = "quarantine.csv"
_QUARANTINE_COLUMNS = ("record", "expectation", "found")
# Told of records that are sound otherwise.
_LATER = AMONG_US | ORDERS.keys()
_RECORD_NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Request:
    """What is to be added, and what is said of it.

    Attributes
    ----------
    name : str
        The dataset's name.
    folder : Path
        Where the records are.
    version : str
        Counter of versions of this dataset; the manifest's version adds a hash.
    annotator, licence, citation : str
    patients : Path or str or None
        A CSV file (record,patient) or a rule with one group; None: each record is a patient.
    exclude_paced : bool
        Leave out records with more than `PACED_SHARE` of paced beats (EC57).
    """

    name: str
    folder: Path
    version: str = "1"
    annotator: str = "atr"
    licence: str = "not stated"
    citation: str = "not stated"
    patients: Path | str | None = None
    exclude_paced: bool = False


@dataclass(frozen=True)
class Judges:
    """By what new data are judged.

    Attributes
    ----------
    scheme : LabelScheme
        Whose classes are counted.
    known : Fingerprints
        Of the records that are here already.
    model : Path or None
        A model folder whose agreement with the labels is asked.
    floors : mapping of str to float
        Least agreement by class.
    limits : Limits
    labels_trusted : str or None
        Why expectations about labels do not stop this batch; they are warnings then.
    patients : mapping of str to frozenset of str or None, optional
        Patients of each dataset that a patient map may name; None for a dataset whose patients
        are not known. Without it, names are not checked.
    """

    scheme: LabelScheme
    known: Fingerprints = NOBODY
    model: Path | None = None
    floors: Mapping[str, float] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    labels_trusted: str | None = None
    patients: Mapping[str, frozenset[str] | None] | None = None


@dataclass(frozen=True)
class Examined:
    """What came of looking at new data.

    Attributes
    ----------
    manifest : Manifest or None
        Of what is usable; None where nothing is.
    quarantine : tuple of Quarantined
    outcomes : tuple of Outcome
        Of what is usable; where a batch is refused, of what it was refused for.
    facts : Facts or None
    order, agreement, confusion : DataFrame or None
        See `ecgbeats.additions.order` and `agreement`.
    """

    manifest: Manifest | None
    quarantine: tuple[Quarantined, ...]
    outcomes: tuple[Outcome, ...]
    facts: Facts | None = None
    order: pd.DataFrame | None = None
    agreement: pd.DataFrame | None = None
    confusion: pd.DataFrame | None = None

    @property
    def refused(self) -> tuple[Outcome, ...]:
        """Critical expectations that fail for the batch."""
        return tuple(o for o in self.outcomes if not o.success and o.severity == "critical")

    @property
    def usable(self) -> bool:
        return self.manifest is not None and not self.refused


def examine(
    request: Request,
    judges: Judges,
    out: Path,
    *,
    docs: Path | None = None,
    workers: int | None = None,
) -> Examined:
    """Check the records of `request` and copy those that can be used into the folder `out`.

    Parameters
    ----------
    out : Path
        A new folder. Filled with the records, dataset.json and quarantine.csv; of no use
        unless the result is `usable`.
    docs : Path, optional
        Folder for Great Expectations' Data Docs.

    Raises
    ------
    DataError
        There are no records at all.
    ConfigError
        The patient map does not fit the records, or names a dataset or patient that there is
        not; or the model does not fit the label scheme.
    """
    records = find_records(request.folder)
    patients = _patients(request, records)
    if judges.patients is not None:
        _check_patients(patients, judges.patients)
    files = _look_at_files(request, records)
    of_files = [file_suite(files)]
    outcomes = judge(of_files)
    bad = findings(of_files, outcomes)
    staged, gone = out, {each.record for each in bad}
    if not _left(records, gone):
        return Examined(None, tuple(bad), outcomes)
    manifest = _copy(request, records, patients, gone, staged)
    # What is refused by these is found once the rest can be read. Each round leaves out what
    # was found, for what remains must pass as a whole.
    while True:
        facts = measure(staged, manifest, judges.scheme, workers=workers)
        twins = _twins(staged, manifest, judges.known)
        order = measure_order(staged, manifest, workers=workers)
        suites = [
            *dataset_suites(facts, judges.limits),
            checksum_suite(checksum_problems(staged, manifest)),
            twin_suite(twins),
            label_suite(order, enforced=judges.labels_trusted is None),
        ]
        outcomes = judge(suites)
        found = findings(suites, outcomes, trusted=judges.labels_trusted is not None)
        if not found:
            break
        # Who is broken goes first: of two twins the sound one stays, and what is no signal has no
        # order of labels.
        found = [each for each in found if each.expectation not in _LATER] or found
        bad += [_as_given(each, records) for each in found]
        gone = {each.record for each in bad}
        if not _left(records, gone):
            return Examined(None, tuple(bad), outcomes, facts, order)
        manifest = _copy(request, records, patients, gone, staged)
    agreement, confusion = None, None
    if judges.model is not None and not _refusing(outcomes):
        _check_floors(judges)
        agreement, confusion = measure_agreement(
            judges.model, staged, manifest, judges.scheme, workers=workers
        )
        enforced = judges.labels_trusted is None
        suites = [*suites, agreement_suite(agreement, judges.floors, enforced=enforced)]
    if docs is not None or agreement is not None:
        outcomes = judge(suites, docs=docs)
    write_text(staged / QUARANTINE, quarantine_csv(bad))
    return Examined(manifest, tuple(bad), outcomes, facts, order, agreement, confusion)


def quarantine_csv(rows: Sequence[Quarantined]) -> str:
    """The list of what was left out, by record."""
    values = sorted({(each.record, each.expectation, each.found) for each in rows})
    return pd.DataFrame(values, columns=list(_QUARANTINE_COLUMNS)).to_csv(index=False)


def _patients(request: Request, records: Sequence[str]) -> dict[str, str]:
    if request.patients is None:
        return {}
    if isinstance(request.patients, Path):
        return patients_by_table(records, request.patients)
    return patients_by_rule(records, request.patients)


def _check_patients(
    patients: Mapping[str, str], known: Mapping[str, frozenset[str] | None]
) -> None:
    """Make sure that `<dataset>/<patient>` is somebody: a stranger may be one who is tested."""
    for record, whole in patients.items():
        dataset, slash, patient = whole.partition("/")
        if not slash:
            continue
        if dataset not in known:
            raise ConfigError(
                f"patients: expected a patient, or one of the datasets {', '.join(sorted(known))} "
                f"and its patient, got {whole!r} of record {record}"
            )
        there = known[dataset]
        if there is not None and patient not in there:
            near = difflib.get_close_matches(patient, there, n=3) or sorted(there)[:3]
            raise ConfigError(
                f"patients: expected a patient of {dataset}, such as {', '.join(near)}; got "
                f"{whole!r} of record {record}"
            )


def _look_at_files(request: Request, records: Sequence[str]) -> pd.DataFrame:
    """One row a record: what is wrong with its name, files and annotations; null where nothing."""
    rows, names = [], set[str]()
    lost = left_out(request.folder)
    for record in records:
        row: dict[str, str | None] = {"record": record}
        flat = record.replace("/", "_")
        if not _RECORD_NAME.fullmatch(flat):
            row["name_problem"] = "expected letters, digits, _ and -"
        elif flat in names:
            row["name_problem"] = f"another record would be called {flat} too"
        names.add(flat)
        try:
            files_of(request.folder, record, request.annotator)
        except DataError as error:
            words = _bare(record, error)
            lacks_labels = f".{request.annotator} is missing" in words
            words = _why_lost(record, words, lost)
            row["labels_problem" if lacks_labels else "files_problem"] = words
        else:
            row |= _labels_problems(request, record)
        rows.append(row)
    columns = ["record", "name_problem", "files_problem", "labels_problem", "paced_problem"]
    return pd.DataFrame(rows, columns=columns)


def _labels_problems(request: Request, record: str) -> dict[str, str | None]:
    try:
        found = read_annotations(request.folder / record, request.annotator)
    except DataError as error:
        return {"labels_problem": _bare(record, error)}
    if not len(found.sample):
        return {"labels_problem": "no annotation"}
    if not ends_as_it_should(request.folder / f"{record}.{request.annotator}"):
        return {"labels_problem": f".{request.annotator} lacks its end mark: it was cut off"}
    beats = found.only(BEAT_SYMBOLS).symbol
    paced = float(np.isin(beats, sorted(PACED)).mean()) if len(beats) else 0.0
    if request.exclude_paced and paced > PACED_SHARE:
        return {"paced_problem": f"{100 * paced:.0f} % of the beats"}
    return {}


def _bare(record: str, error: DataError) -> str:
    for name in (record, record.rpartition("/")[2]):
        error_words = str(error)
        if error_words.startswith(f"record {name}: "):
            return error_words.removeprefix(f"record {name}: ")
    return str(error)


def _why_lost(record: str, words: str, lost: Mapping[str, str]) -> str:
    """`words` on a file that is missing or empty; of one that an archive has lost, why."""
    for path, why in lost.items():
        file = PurePosixPath(path)
        here = file.parent == PurePosixPath(record).parent
        if here and words.startswith((f"{file.name} is missing", f"{file.name} cannot be read")):
            return f"{file.name} {why}"
    return words


def _left(records: Sequence[str], gone: set[str]) -> bool:
    return any(record not in gone for record in records)


def _copy(
    request: Request,
    records: Sequence[str],
    patients: Mapping[str, str],
    gone: set[str],
    folder: Path,
) -> Manifest:
    source = WfdbFolderSource(
        source="wfdb-folder",
        folder=str(request.folder.absolute()),
        annotator=request.annotator,
        version=request.version,
        licence=request.licence,
        citation=request.citation,
        patients={record: who for record, who in patients.items() if record not in gone},
        skip_records=tuple(record for record in records if record in gone),
    )
    fetch_wfdb_folder(source, request.name, folder)
    return read_manifest(folder)


def _twins(folder: Path, manifest: Manifest, known: Fingerprints) -> pd.DataFrame:
    """Columns record, copy_of, twin_of, foreign_copy, foreign_twin; a record in one of each pair.

    Records that cannot be read have no row: other expectations say why.
    """
    found = find_twins(fingerprints_of(folder, manifest, name=manifest.name), known)
    own = f"{manifest.name}/"
    table = pd.DataFrame({"record": found["name"].str.removeprefix(own)})
    for column in ("copy_of", "twin_of"):
        at_home = found[column].str.startswith(own).fillna(False).astype(bool)
        table[column] = found[column].where(at_home).str.removeprefix(own)
        table[f"foreign_{column.removesuffix('_of')}"] = found[column].where(~at_home)
    return table


def _as_given(each: Quarantined, records: Sequence[str]) -> Quarantined:
    """With the record's name as in the source, subfolders included."""
    given = next(record for record in records if record.replace("/", "_") == each.record)
    return Quarantined(given, each.expectation, each.found)


def _refusing(outcomes: Sequence[Outcome]) -> bool:
    return any(not o.success and o.severity == "critical" for o in outcomes)


def _check_floors(judges: Judges) -> None:
    absent = sorted(set(judges.floors) - set(judges.scheme.names))
    if absent:
        raise ConfigError(
            f"additions.agreement: expected classes of the label scheme "
            f"({', '.join(judges.scheme.names)}), got {', '.join(absent)}"
        )
