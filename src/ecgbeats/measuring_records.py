"""Any model on anybody's annotated records: what it answers, and what that is worth.

Records come as they are: any sampling frequency, lead names and number of leads. They are
read one at a time; one that cannot be measured is left out with the reason, never silently.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from ecgbeats.additions.checksums import checksum_problem, ends_as_it_should
from ecgbeats.additions.naming import unprefixed
from ecgbeats.answering import answer_beats
from ecgbeats.datasets import MANIFEST, Manifest, read_manifest
from ecgbeats.errors import ConfigError, ContractError, DataError
from ecgbeats.evaluation import (
    CURVES,
    METRICS,
    PER_RECORD,
    PLOTS,
    REPORT,
    confident_mistakes,
    evaluate,
    write_evaluation,
)
from ecgbeats.files import folder_written_aside, read_json, sha256_file, sha256_text, write_text
from ecgbeats.imaging.sheets import contact_sheet
from ecgbeats.inference import HISTORY, Classifier
from ecgbeats.labels import LabelScheme
from ecgbeats.outputs import check_replaceable
from ecgbeats.parallel import parallel_map
from ecgbeats.records import (
    Annotations,
    in_order,
    read_annotations,
    read_recording,
)
from ecgbeats.sources.wfdb_folder import (
    files_of,
    find_records,
    patients_by_rule,
    patients_by_table,
)

# Marks metrics.json as this module's, so that only such a folder is replaced.
KIND = "records"
SKIPPED, RECORDS_TABLE = "skipped.csv", "records.csv"
PREDICTIONS = {"parquet": "predictions.parquet", "csv": "predictions.csv"}

# Annotations of beats that a pacemaker makes, alone or in part.
PACED = frozenset("/f")
# A record with a larger share of them is one that EC57 leaves out.
PACED_SHARE = 0.05

_PACED_WORDS = "of the beats are paced"
# Lines of each kind on the terminal; the files have all.
_WORDS_SHOWN = 12
_SHEET_EACH, _SHEET_PER_RECORD = 36, 4


@dataclass(frozen=True)
class Reading:
    """How records are to be read.

    Attributes
    ----------
    annotator : str or None
        Suffix of the annotation files, with or without its dot; None for the dataset's own,
        else atr.
    lead : str or None
        Name of the lead to draw; None for the model's own choice.
    exclude_paced : bool
        Leave out records with over `PACED_SHARE` of paced beats.
    """

    annotator: str | None = None
    lead: str | None = None
    exclude_paced: bool = False

    def __post_init__(self) -> None:
        if self.annotator is not None:
            object.__setattr__(self, "annotator", self.annotator.removeprefix("."))


@dataclass(frozen=True)
class RecordSet:
    """Records to measure a model on.

    Attributes
    ----------
    folder : Path
    patients : mapping of str to str
        Patient of each record, in the order of the records.
    manifest : Manifest or None
        Where the folder is a dataset of this project.
    patients_assumed : bool
        Nothing names patients: each record is taken for one.
    """

    folder: Path
    patients: Mapping[str, str]
    manifest: Manifest | None
    patients_assumed: bool = False

    @property
    def annotator(self) -> str:
        return self.manifest.annotator if self.manifest is not None else "atr"


@dataclass(frozen=True)
class Measured:
    """One record: the answers of the model, or why there are none.

    Attributes
    ----------
    row : dict
        Its row of records.csv.
    skipped : str or None
        The reason.
    predictions : DataFrame
        See `ecgbeats.evaluation`; empty if skipped.
    images : mapping of int to ndarray
        Some of the beats' images, by row of `predictions`.
    samples_of_class : mapping of int to ndarray
        Rows of `predictions` whose image may stand for the class.
    digest : str
        SHA-256 of the record's files.
    """

    row: dict[str, Any]
    skipped: str | None
    digest: str = ""
    predictions: pd.DataFrame = field(default_factory=pd.DataFrame)
    images: Mapping[int, np.ndarray] = field(default_factory=dict)
    samples_of_class: Mapping[int, Sequence[int]] = field(default_factory=dict)


def choose_records(
    folder: Path, *, patients: str | None = None, exclude: Sequence[str] = ()
) -> RecordSet:
    """The records of `folder` and whose they are.

    Parameters
    ----------
    folder : Path
        See `ecgbeats.sources.wfdb_folder.find_records`; also a dataset folder of this project.
    patients : str, optional
        A CSV file (record,patient), or a regular expression with one group. By default the
        dataset's own patients, else each record is a patient.
    exclude : sequence of str
        Records to leave out.

    Raises
    ------
    DataError
        There is no record.
    ConfigError
        `patients` or `exclude` does not fit the records.
    """
    folder = Path(folder)
    manifest = read_manifest(folder) if (folder / MANIFEST).is_file() else None
    records = manifest.record_names if manifest is not None else find_records(folder)
    absent = sorted(set(exclude) - set(records))
    if absent:
        raise ConfigError(f"exclude: expected records of {folder}, got {', '.join(absent)}")
    records = tuple(record for record in records if record not in exclude)
    if not records:
        raise DataError(f"{folder}: all records are excluded")
    if patients is None:
        named = manifest.patient_of if manifest is not None else {}
        chosen = {record: named.get(record, record) for record in records}
    elif Path(patients).is_file():
        chosen = patients_by_table(records, Path(patients))
    else:
        chosen = patients_by_rule(records, patients)
    return RecordSet(folder, chosen, manifest, patients is None and manifest is None)


def check_out(out: Path) -> None:
    """Make sure that `out` can be written: new, empty, or an earlier output of this module.

    Raises
    ------
    ConfigError
        It holds something else.
    """
    ours = {METRICS, PER_RECORD, PLOTS, CURVES, REPORT, SKIPPED, RECORDS_TABLE}
    ours |= set(PREDICTIONS.values())
    check_replaceable(out, ours.__contains__, lambda folder: _is_ours(folder / METRICS))


def _is_ours(path: Path) -> bool:
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("kind") == KIND


def measure_records(
    model: Path,
    records: RecordSet,
    scheme: LabelScheme,
    out: Path,
    *,
    title: str,
    headline: Sequence[str],
    reading: Reading | None = None,
    about: Mapping[str, Any] | None = None,
    replicates: int = 1000,
    seed: int = 0,
    predictions: Literal["parquet", "csv"] = "parquet",
    workers: int | None = None,
) -> dict[str, Any]:
    """Classify all beats of `records` by `model`, measure the answers and write both.

    Writes the folder `out`, whole or not at all: what `write_evaluation` writes, the
    predictions table, records.csv (how each record was read) and skipped.csv (record, reason).

    Parameters
    ----------
    model : Path
        A model folder.
    scheme : LabelScheme
        Its classes must be the model's.
    title : str
        Head of the page.
    headline : sequence of str
        Classes whose mean F1 is the headline.
    about : mapping, optional
        More to be said about the model, merged into metrics.json.
    replicates, seed : int
        Of the patient-clustered bootstrap.
    workers : int, optional
        Processes; by default one per processor.

    Returns
    -------
    dict
        The content of metrics.json.

    Raises
    ------
    ContractError
        The classes differ.
    DataError
        No record is left, or no beat has a class.
    ConfigError
        `out` holds something that is not ours to replace, or cannot be written.
    """
    reading = reading or Reading()
    reading = replace(reading, annotator=reading.annotator or records.annotator)
    classifier = Classifier.load(model)
    if scheme.of_folders:
        raise ConfigError(
            "labels: expected a scheme of annotation symbols for records, got one of image folders"
        )
    if set(scheme.names) != set(classifier.classes):
        raise ContractError(
            f"the labels have the classes {' '.join(scheme.names)}, "
            f"the model answers {' '.join(classifier.classes)}; "
            "choose the label scheme that the model was trained on"
        )
    check_out(out)
    try:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        with folder_written_aside(out) as aside:
            job = partial(classify_record, Path(model), records, scheme, reading)
            done = parallel_map(job, list(records.patients), job="evaluate", workers=workers)
            table, pictures = _joined(done)
            figures = evaluate(
                table,
                classifier.classes,
                headline,
                replicates=replicates,
                seed=seed,
                about=_about(title, records, scheme, reading, done, classifier, about or {}),
                abstain_below=classifier.abstain_below,
            )
            history = Path(model) / HISTORY
            write_evaluation(
                aside,
                table,
                figures,
                history=pd.read_csv(history) if history.is_file() else None,
                images=lambda rows: np.stack([pictures[int(row)] for row in rows]),
                sheets=_sheets(done, pictures, classifier.classes),
            )
            rows = pd.DataFrame([each.row for each in done])
            write_text(aside / RECORDS_TABLE, rows.to_csv(index=False))
            write_text(aside / SKIPPED, skipped_table(done).to_csv(index=False))
            path = aside / PREDICTIONS[predictions]
            if predictions == "csv":
                write_text(path, table.to_csv(index=False))
            else:
                table.to_parquet(path, index=False)
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written: {error}") from error
    return figures


def in_words(figures: Mapping[str, Any]) -> str:
    """The figures that `measure_records` returned, as a short table for a terminal."""
    data, headline = figures["dataset"], figures["headline"]
    lines = [figures["recipe"]]
    if figures["synthetic"]:
        lines.append("SAMPLE DATA: synthetic recordings; the figures are evidence of nothing.")
    rates = ", ".join(f"{fs:g}" for fs in data["sampling_hz"])
    lines += [
        f"  data        {data['name']} {data['version']}, .{data['annotator']}, {rates} Hz",
        f"  measured    {figures['beats']} beats, {figures['records']} records, "
        f"{figures['patients']} patients",
        f"  leads       {', '.join(data['leads_drawn'])}",
        f"  accuracy    {_with_interval(figures['accuracy'], figures['accuracy_interval'])}",
        f"  macro-F1    {_with_interval(headline['macro_f1'], headline['macro_f1_interval'])}"
        f"  over {' '.join(headline['classes'])}",
        f"  ECE         {_figure(figures['calibration']['ece'])}",
        "  class          beats     Se     +P     F1  Se, mean of records",
    ]
    for name, row in figures["gross"].items():
        mean = figures["average"][name]
        lines.append(
            f"  {name:<11} {row['support']:>8}  {_figure(row['se'])}  {_figure(row['ppv'])}  "
            f"{_figure(row['f1'])}  {_figure(mean['se'])} ({mean['se_records']})"
        )
    for title, rows in (("left out", data["left_out"]), ("remark", data["remarks"])):
        some = list(rows.items())[:_WORDS_SHOWN]
        lines += [f"  {title:<11} {record}: {reason}" for record, reason in some]
        if len(rows) > len(some):
            lines.append(f"  {title:<11} ... and {len(rows) - len(some)} more records")
    if data["patients_assumed"]:
        lines.append(
            "  CAUTION     nothing names patients: each record is taken for one, and intervals are "
            "too narrow if some are of one person (--patients)"
        )
    if data["learnt_from"] is None:
        lines.append("  CAUTION     the model does not say which records it was trained on")
    elif learnt := data["learnt_from"]:
        names = ", ".join(learnt[:_WORDS_SHOWN]) + (", ..." if len(learnt) > _WORDS_SHOWN else "")
        lines.append(f"  CAUTION     training saw records of these names: {names}")
    if any(_PACED_WORDS in remark for remark in data["remarks"].values()):
        lines.append("  EC57 leaves records with paced beats out: --exclude-paced does")
    return "\n".join(lines)


def _figure(value: float | None) -> str:
    return "    –" if value is None else f"{value:.3f}"


def _with_interval(value: float | None, interval: Sequence[float] | None) -> str:
    if interval is None:
        return _figure(value)
    return f"{_figure(value)} (95 % {interval[0]:.3f} to {interval[1]:.3f})"


def skipped_table(done: Sequence[Measured]) -> pd.DataFrame:
    """Records left out and why, columns record and reason."""
    rows = [(each.row["record"], each.skipped) for each in done if each.skipped is not None]
    return pd.DataFrame(rows, columns=["record", "reason"])


def _joined(done: Sequence[Measured]) -> tuple[pd.DataFrame, dict[int, np.ndarray]]:
    """One predictions table of all records, and images by its rows."""
    tables = [each.predictions for each in done if each.skipped is None]
    if not tables:
        reasons = [f"{each.row['record']}: {each.skipped}" for each in done]
        raise DataError(
            f"no record could be measured: {'; '.join(reasons[:5])}"
            + ("; ..." if len(reasons) > 5 else "")
        )
    pictures: dict[int, np.ndarray] = {}
    start = 0
    for each in done:
        pictures |= {start + row: image for row, image in each.images.items()}
        start += len(each.predictions)
    return pd.concat(tables, ignore_index=True), pictures


def _about(
    title: str,
    records: RecordSet,
    scheme: LabelScheme,
    reading: Reading,
    done: Sequence[Measured],
    classifier: Classifier,
    more: Mapping[str, Any],
) -> dict[str, Any]:
    card, manifest = classifier.card, records.manifest
    data = sha256_text("".join(f"{each.row['record']}\0{each.digest}\n" for each in done))
    kept = [each.row for each in done if each.skipped is None]
    # By name: whether these are the same recordings, only the caller knows.
    named = card["training"].get("records")
    learnt = {_last(name) for name in named or ()}
    return {
        "kind": KIND,
        "recipe": title,
        "dataset": {
            "name": manifest.name if manifest is not None else records.folder.resolve().name,
            "version": manifest.version if manifest is not None else f"sha256 {data[:12]}",
            "data_sha256": data,
            "annotator": reading.annotator,
            "sampling_hz": sorted({row["fs"] for row in kept}),
            "leads_drawn": [
                f"{lead} ({count})"
                for lead, count in Counter(r["lead"] for r in kept).most_common()
            ],
            "records_measured": len(kept),
            # Of a single record there is nothing to assume.
            "patients_assumed": records.patients_assumed and len(kept) > 1,
            "records_left_out": len(done) - len(kept),
            "left_out": {e.row["record"]: e.skipped for e in done if e.skipped is not None},
            "remarks": {row["record"]: row["remarks"] for row in kept if row["remarks"]},
            "learnt_from": (
                None
                if named is None
                else [row["record"] for row in kept if _last(row["record"]) in learnt]
            ),
        },
        "synthetic": manifest is not None and manifest.synthetic,
        "protocol": {
            "labels": scheme.source,
            "classes": {name: "".join(group) for name, group in scheme.classes.items()},
        },
        "model": {**card["model"], **more},
        "parameters": card["parameters"],
        "weights_sha256": card["weights_sha256"],
        "onnx_sha256": card["onnx_sha256"],
        "spec_id": card["spec_id"],
        "image": card["image"],
        "training": card["training"],
    }


def _last(record: str) -> str:
    """A record's name without folders, or without the addition that brought it into a union."""
    return unprefixed(record.rpartition("/")[2])


def _sheets(
    done: Sequence[Measured], pictures: Mapping[int, np.ndarray], classes: Sequence[str]
) -> dict[str, bytes]:
    """A contact sheet per class: one beat of each record that has it, then a second, ..."""
    starts = np.cumsum([0, *(len(each.predictions) for each in done)])
    sheets = {}
    for k, name in enumerate(classes):
        rows = [
            int(start) + each.samples_of_class[k][turn]
            for turn in range(_SHEET_PER_RECORD)
            for start, each in zip(starts, done, strict=False)
            if turn < len(each.samples_of_class.get(k, ()))
        ]
        if rows:
            chosen = sorted(rows[:_SHEET_EACH])
            sheets[name] = contact_sheet(np.stack([pictures[row] for row in chosen]))
    return sheets


@lru_cache(maxsize=2)
def _classifier(model: Path) -> Classifier:
    # One thread: the map over records has a process for each processor.
    return Classifier.load(model, threads=1)


def classify_record(
    model: Path, records: RecordSet, scheme: LabelScheme, reading: Reading, record: str
) -> Measured:
    """Read, draw and classify one record; what is wrong with it becomes the reason to skip.

    Parameters are as of `measure_records`; `record` is one of `records`.
    """
    row: dict[str, Any] = {"record": record, "patient": records.patients[record]}
    digest = ""
    try:
        files = files_of(records.folder, record, reading.annotator or records.annotator)
        digest = sha256_text("".join(sha256_file(records.folder / file) for file in files.all))
        return replace(_classified(model, records, scheme, reading, record, row), digest=digest)
    except DataError as error:
        reason = str(error).removeprefix(f"record {record.rpartition('/')[2]}: ")
        reason = reason.removeprefix(f"record {record}: ")
    except Exception as error:  # one odd record must not cost the answers on all others
        reason = f"cannot be measured: {type(error).__name__}: {error}"
    return Measured(_row(row, measured=False, remarks=reason), reason, digest)


def _row(row: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    blank = dict.fromkeys(
        ("record", "patient", "measured", "fs", "seconds", "leads", "lead", "beats", "remarks")
    )
    return {**blank, **row, **more}


def _classified(
    model: Path,
    records: RecordSet,
    scheme: LabelScheme,
    reading: Reading,
    record: str,
    row: dict[str, Any],
) -> Measured:
    classifier = _classifier(model)
    path = records.folder / record
    recording = read_recording(path)
    row |= {
        "fs": recording.fs,
        "seconds": round(recording.seconds, 3),
        "leads": " ".join(recording.leads),
    }
    annotator = reading.annotator or records.annotator
    read = read_annotations(path, annotator)
    beats, remarks = in_order(read.only(scheme.beats), len(recording.signal))
    remarks += _damages(path, annotator)
    labelled = np.isin(beats.symbol, sorted(scheme.symbols))
    _refuse_without_beats(read, beats, labelled, annotator)
    paced = float(np.isin(beats.symbol, sorted(PACED)).mean())
    if paced > PACED_SHARE:
        words = f"{100 * paced:.0f} % {_PACED_WORDS}"
        if reading.exclude_paced:
            raise DataError(f"{words}; such records are excluded (EC57)")
        remarks.append(f"{words}; EC57 leaves such records out")
    if not labelled.all():
        others = " ".join(sorted(set(beats.symbol[~labelled])))
        remarks.append(f"{int((~labelled).sum())} beats without a class ({others})")
    code = {name: k for k, name in enumerate(classifier.classes)}
    own = np.array([code[name] for name in scheme.names])
    samples, symbols = beats.sample[labelled], beats.symbol[labelled]
    reference = pd.DataFrame(
        {
            "record": record,
            "patient": records.patients[record],
            "sample": samples,
            "time_s": samples / recording.fs,
            "symbol": symbols.astype(object),
            "label": own[scheme.encode(symbols)],
        }
    )
    shown = {k: _spread(reference["label"].to_numpy(), k) for k in code.values()}
    beat_of_row = np.flatnonzero(labelled)

    def predictions(probabilities: np.ndarray) -> pd.DataFrame:
        """The table of the first beats, as many as have probabilities."""
        known = beat_of_row[: np.searchsorted(beat_of_row, len(probabilities))]
        columns = {f"p_{name}": probabilities[known, k] for name, k in code.items()}
        return reference.iloc[: len(known)].assign(**columns)

    def wanted(probabilities: np.ndarray) -> list[int]:
        """Of the first beats those whose images the report may show.

        What is among the surest mistakes of all beats is so among the first ones, too.
        """
        table = predictions(probabilities)
        rows = {row for of_class in shown.values() for row in of_class if row < len(table)}
        rows |= set(confident_mistakes(table, classifier.classes)["row"])
        return [int(beat_of_row[row]) for row in rows]

    # The rhythm needs every beat, also those that have no class here.
    answered = answer_beats(classifier, recording, beats.sample, lead=reading.lead, wanted=wanted)
    remarks += answered.remarks
    rows = np.searchsorted(beat_of_row, answered.kept).tolist()
    table = predictions(answered.probabilities)
    return Measured(
        _row(
            row,
            measured=True,
            lead=answered.recording.leads[answered.lead],
            beats=len(table),
            remarks="; ".join(remarks),
        ),
        None,
        predictions=table,
        images=dict(zip(rows, answered.images, strict=True)),
        samples_of_class=shown,
    )


def _damages(path: Path, annotator: str) -> list[str]:
    """What tells that a record is not as it was written; it is measured as it is."""
    remarks = []
    differs = checksum_problem(path)
    if differs is not None:
        remarks.append(f"not the header's checksum: {differs}")
    if not ends_as_it_should(path.with_name(f"{path.name}.{annotator}")):
        remarks.append(f".{annotator} has no end: beats may be missing")
    return remarks


def _refuse_without_beats(
    read: Annotations, beats: Annotations, labelled: np.ndarray, annotator: str
) -> None:
    if len(read.sample) == 0:
        raise DataError(f"expected beats, .{annotator} holds no annotation")
    if len(beats.sample) == 0:
        found = " ".join(sorted(set(read.symbol))[:10])
        raise DataError(
            f"expected beats inside the recording, .{annotator} holds {len(read.sample)} "
            f"annotations ({found}) and none is one"
        )
    if not labelled.any():
        raise DataError(
            f"expected beats of this label scheme, found only {' '.join(sorted(set(beats.symbol)))}"
        )


def _spread(labels: np.ndarray, k: int) -> list[int]:
    """Some rows of class `k`, evenly spread."""
    rows = np.flatnonzero(labels == k)
    if len(rows) > _SHEET_PER_RECORD:
        rows = rows[np.linspace(0, len(rows) - 1, _SHEET_PER_RECORD).astype(int)]
    return [int(row) for row in rows]
