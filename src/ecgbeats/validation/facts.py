"""What a dataset is like: plain measurements, no judgement.

Records are read one at a time, in parallel; only numbers about them are kept. What
cannot be read becomes a fact too, so that one run reports every bad record.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import wfdb

from ecgbeats.blocks import Blocks, BlockWriter
from ecgbeats.datasets import Manifest, RecordEntry
from ecgbeats.errors import DataError
from ecgbeats.labels import LabelScheme
from ecgbeats.parallel import parallel_results
from ecgbeats.records import (
    SAMPLE_BITS,
    Annotations,
    Recording,
    read_annotations,
    read_recording,
)

# A live electrode shows noise within a second; shorter constant stretches are quantisation.
SHORTEST_FLAT_S = 1.0

# Formats that pack samples fill up their last group, which is at most one 32-bit word.
_PADDING_BITS = 32


@dataclass(frozen=True)
class Facts:
    """Measurements of one dataset, as four tables; the longest of them is not in memory.

    Attributes
    ----------
    records : DataFrame
        One row per record of the manifest: files, header, length, leads, beats, RR.
        A problem column is null where there is no problem, else says which.
    leads : DataFrame
        One row per record and lead: amplitudes in mV, missing, flat, saturated.
    annotations : Blocks of DataFrame
        One row per annotation, in file order: position, symbol, RR interval in s.
        These three tables say in `excluded` whether a protocol leaves the record out.
    classes : DataFrame
        One row per class of the label scheme: beats, records, patients. Excluded
        records do not count.
    """

    records: pd.DataFrame
    leads: pd.DataFrame
    annotations: Blocks
    classes: pd.DataFrame


def class_column(name: str) -> str:
    """Column of `Facts.records` that counts the beats of class `name`."""
    return f"beats_{name}"


def measure(
    folder: Path,
    manifest: Manifest,
    scheme: LabelScheme,
    *,
    exclude: Collection[str] = (),
    workers: int | None = None,
) -> Facts:
    """Measure every record that `manifest` names.

    Parameters
    ----------
    folder : Path
        Where the WFDB files are.
    exclude : collection of str
        Records that a protocol leaves out: measured, but not counted for classes.

    Raises
    ------
    ConfigError
        `exclude` names a record that is not there.
    """
    manifest.without(exclude)
    tasks = [_Task(Path(folder), entry, manifest.annotator, scheme) for entry in manifest.records]
    measured = parallel_results(
        _measure_record, tasks, job="validate", name=lambda t: t.entry.record, workers=workers
    )
    rows, lead_rows = [], []
    file = tempfile.TemporaryFile()  # noqa: SIM115 (as long as the facts)
    with BlockWriter(file, _EXAMPLE.assign(excluded=False)) as annotations:
        for each in measured:
            rows.append(each.record)
            lead_rows += each.leads
            out = each.record["record"] in exclude
            annotations.append(each.annotations.assign(excluded=out))
    records = pd.DataFrame(rows, columns=_record_columns(scheme))
    records.insert(2, "excluded", records["record"].isin(list(exclude)))
    records["labelled_beats"] = records["labelled_beats"].mask(records["excluded"])
    leads = pd.DataFrame(lead_rows, columns=list(_LEAD_COLUMNS))
    leads["excluded"] = leads["record"].isin(list(exclude))
    return Facts(
        records=records,
        leads=leads,
        annotations=Blocks(file),
        classes=_count_classes(records, scheme),
    )


@dataclass(frozen=True)
class _Task:
    folder: Path
    entry: RecordEntry
    annotator: str
    scheme: LabelScheme


@dataclass(frozen=True)
class _Measured:
    record: dict[str, Any]
    leads: list[dict[str, Any]]
    annotations: pd.DataFrame


_LEAD_COLUMNS = (
    "record",
    "lead",
    "nan_share",
    "flat_s",
    "flat_share",
    "saturated_share",
    "low_mv",
    "median_mv",
    "high_mv",
    "span_mv",
)
# Of annotations, a row.
_EXAMPLE = pd.DataFrame(
    {
        "record": "",
        "sample": np.zeros(1, np.int64),
        "symbol": "",
        "is_beat": False,
        "outside_s": 0.0,
        "step": 0.0,
        "rr_before_s": 0.0,
    }
)


def _record_columns(scheme: LabelScheme) -> list[str]:
    return [
        "record",
        "patient",
        "missing_files",
        "signal_problem",
        "annotation_problem",
        "length_difference",
        "fs",
        "duration_s",
        "n_leads",
        "leads",
        "first_lead",
        "repeated_leads",
        "n_annotations",
        "annotated_share",
        "beats",
        "labelled_beats",
        "rr_low_s",
        "rr_median_s",
        "rr_high_s",
        *(class_column(name) for name in scheme.names),
    ]


def _measure_record(task: _Task) -> _Measured:
    path = task.folder / task.entry.record
    row: dict[str, Any] = {"record": task.entry.record, "patient": task.entry.patient}
    header = _read_header(path)
    missing = _missing_files(path, task.annotator, header)
    row["missing_files"] = ", ".join(missing) or None
    row |= _header_facts(path, header)

    leads: list[dict[str, Any]] = []
    # A file that is not there has been named; that it cannot be read adds nothing.
    if not any(not name.endswith(f".{task.annotator}") for name in missing):
        try:
            recording = read_recording(path)
        except DataError as error:
            row["signal_problem"] = _problem(path, error)
        else:
            row |= {"fs": recording.fs, "duration_s": recording.seconds}
            row |= _lead_names(recording.leads)
            leads = _lead_facts(task.entry.record, recording)

    annotations = _EXAMPLE[:0]
    if f"{path.name}.{task.annotator}" not in missing:
        try:
            read = read_annotations(path, task.annotator)
        except DataError as error:
            row["annotation_problem"] = _problem(path, error)
        else:
            fs, seconds = row.get("fs", np.nan), row.get("duration_s", np.nan)
            annotations = _annotation_facts(task.entry.record, read, task.scheme, fs, seconds)
            row |= _beat_facts(annotations, task.scheme, fs, seconds)
    return _Measured(row, leads, annotations)


def _problem(path: Path, error: DataError) -> str:
    return str(error).removeprefix(f"record {path.name}: ")


def _read_header(path: Path) -> Any | None:
    """The WFDB header, or None: why it cannot be read comes from `read_recording`."""
    try:
        return wfdb.rdheader(str(path))
    except Exception:  # wfdb raises whatever its parsing meets
        return None


def _missing_files(path: Path, annotator: str, header: Any | None) -> list[str]:
    signal_files = getattr(header, "file_name", None) or []
    expected = [f"{path.name}.hea", *dict.fromkeys(signal_files), f"{path.name}.{annotator}"]
    return [name for name in expected if not (path.parent / name).is_file()]


def _header_facts(path: Path, header: Any | None) -> dict[str, Any]:
    if header is None or not header.fs:
        return {}
    facts: dict[str, Any] = {"fs": float(header.fs)}
    if header.sig_len:
        facts["duration_s"] = header.sig_len / float(header.fs)
    if getattr(header, "sig_name", None):
        facts |= _lead_names(tuple(header.sig_name))
    facts["length_difference"] = _length_difference(path.parent, header)
    return facts


def _length_difference(folder: Path, header: Any) -> float:
    """Samples per lead that a signal file holds beyond (below: negative) the header's number.

    The worst of the record's files; NaN where the header gives no length or a file's
    size does not tell it.
    """
    names = getattr(header, "file_name", None)
    if not names or not header.sig_len:
        return np.nan
    differences = []
    for name in dict.fromkeys(names):
        columns = [i for i, other in enumerate(names) if other == name]
        if any(header.fmt[i] not in SAMPLE_BITS for i in columns) or not (folder / name).is_file():
            continue
        frame_bits = sum(
            SAMPLE_BITS[header.fmt[i]] * (header.samps_per_frame[i] or 1) for i in columns
        )
        offset = header.byte_offset[columns[0]] or 0
        bits = ((folder / name).stat().st_size - offset) * 8 - frame_bits * header.sig_len
        padding = 0 <= bits < _PADDING_BITS
        differences.append(0.0 if padding else float(np.floor(bits / frame_bits)))
    return max(differences, key=abs, default=np.nan)


def _lead_names(leads: tuple[str, ...]) -> dict[str, Any]:
    repeated = sorted({lead for lead in leads if leads.count(lead) > 1})
    return {
        "n_leads": len(leads),
        "leads": ", ".join(leads),
        "first_lead": leads[0],
        "repeated_leads": ", ".join(repeated) or None,
    }


def _lead_facts(record: str, recording: Recording) -> list[dict[str, Any]]:
    rows = []
    for lead, column, (lowest, highest) in zip(
        recording.leads, recording.signal.T, recording.adc_limits, strict=True
    ):
        missing = np.isnan(column)
        present = column[~missing]
        with np.errstate(invalid="ignore"):
            saturated = (column <= lowest) | (column >= highest)
        flat = _stretches((np.diff(column) == 0) & ~saturated[1:]) / recording.fs
        low, median, high = (
            np.percentile(present, [0.1, 50, 99.9]) if len(present) else (np.nan,) * 3
        )
        rows.append(
            {
                "record": record,
                "lead": lead,
                "nan_share": float(missing.mean()),
                "flat_s": float(flat.max(initial=0)),
                "flat_share": float(flat[flat >= SHORTEST_FLAT_S].sum() / recording.seconds),
                "saturated_share": float(saturated.mean()),
                "low_mv": float(low),
                "median_mv": float(median),
                "high_mv": float(high),
                "span_mv": float(high - low),
            }
        )
    return rows


def _stretches(mask: np.ndarray) -> np.ndarray:
    """Lengths of the runs of True in `mask`, shape (runs,)."""
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0))
    return edges[1::2] - edges[::2]


def _annotation_facts(
    record: str, annotations: Annotations, scheme: LabelScheme, fs: float, seconds: float
) -> pd.DataFrame:
    sample = annotations.sample
    beats = np.flatnonzero(np.isin(annotations.symbol, sorted(scheme.beats)))
    # In order of time: a file in disorder is one finding (step), not odd RR intervals too.
    in_time = beats[np.argsort(sample[beats], kind="stable")]
    rr_before = np.full(len(sample), np.nan)
    rr_before[in_time[1:]] = np.diff(sample[in_time]) / fs
    is_beat = np.zeros(len(sample), bool)
    is_beat[beats] = True
    last = np.round(seconds * fs) - 1
    return pd.DataFrame(
        {
            "record": record,
            "sample": sample,
            "symbol": annotations.symbol,
            "is_beat": is_beat,
            "outside_s": (np.minimum(sample, 0) + np.maximum(sample - last, 0)) / fs,
            "step": np.r_[np.nan, np.diff(sample)][: len(sample)],
            "rr_before_s": rr_before,
        }
    )


def _beat_facts(
    annotations: pd.DataFrame, scheme: LabelScheme, fs: float, seconds: float
) -> dict[str, Any]:
    codes = scheme.encode(annotations["symbol"].to_numpy())
    counts = np.bincount(codes[codes >= 0], minlength=len(scheme.names))
    rr = annotations["rr_before_s"].dropna().to_numpy()
    low, median, high = np.percentile(rr, [1, 50, 99]) if len(rr) else (np.nan,) * 3
    sample = annotations["sample"]
    return {
        "n_annotations": len(annotations),
        "annotated_share": (
            float(sample.max() - sample.min()) / fs / seconds if len(sample) else np.nan
        ),
        "beats": int(annotations["is_beat"].sum()),
        "labelled_beats": int(counts.sum()),
        "rr_low_s": float(low),
        "rr_median_s": float(median),
        "rr_high_s": float(high),
    } | {class_column(name): int(n) for name, n in zip(scheme.names, counts, strict=True)}


def _count_classes(records: pd.DataFrame, scheme: LabelScheme) -> pd.DataFrame:
    counted = records[~records["excluded"].astype(bool)]
    rows = []
    for name in scheme.names:
        beats = counted[class_column(name)].fillna(0)
        having = counted[beats > 0]
        rows.append(
            {
                "label": name,
                "beats": int(beats.sum()),
                "records": len(having),
                "patients": having["patient"].nunique(),
            }
        )
    return pd.DataFrame(rows)
