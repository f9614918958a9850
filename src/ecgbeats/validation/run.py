"""Validation from folder or table to verdict: measure, judge, write for machines and people."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Literal

import pandas as pd

from ecgbeats.datasets import Manifest, read_manifest
from ecgbeats.files import write_json, write_text
from ecgbeats.labels import LabelScheme
from ecgbeats.validation.engine import judge
from ecgbeats.validation.facts import Facts, class_column, measure
from ecgbeats.validation.page import render_page
from ecgbeats.validation.report import Summary, Table, format_value
from ecgbeats.validation.sides import SIDES, SplitFacts, measure_split
from ecgbeats.validation.suites import Limits, dataset_suites, split_suites

RESULT = "validation.json"
PAGE = "index.html"


def validate_dataset(
    folder: Path,
    scheme: LabelScheme,
    out: Path,
    *,
    exclude: Collection[str] = (),
    docs: Path | None = None,
    limits: Limits | None = None,
    workers: int | None = None,
) -> Summary:
    """Check the recordings and annotations of a dataset.

    Writes `out`/validation.json and `out`/index.html, which depend on the data alone,
    and then returns, whatever they say: `Summary.raise_if_critical` enforces it.

    Parameters
    ----------
    folder : Path
        A dataset folder: WFDB files and dataset.json.
    scheme : LabelScheme
        Whose classes are counted.
    out : Path
        Folder for the two files.
    exclude : collection of str
        Records that the protocol leaves out: checked, but not counted for classes, and
        what is critical elsewhere is a warning there.
    docs : Path, optional
        Folder for Great Expectations' Data Docs; replaced. Its file names hold times.
    limits : Limits, optional
        Where plausible ends; by default for surface ECG.
    workers : int, optional
        Processes that measure records; by default one per processor.

    Raises
    ------
    ConfigError
        `exclude` names a record that is not there.
    DataError
        `folder` holds no manifest.
    """
    manifest = read_manifest(folder)
    facts = measure(folder, manifest, scheme, exclude=exclude, workers=workers)
    summary = Summary(
        title=f"dataset {manifest.name}",
        about=_about_dataset(manifest, facts),
        outcomes=judge(dataset_suites(facts, limits or Limits()), docs=docs),
        tables=(_class_table(facts), _record_table(facts, scheme)),
    )
    _write(summary, out)
    return summary


def validate_split(
    beats: pd.DataFrame,
    out: Path,
    *,
    headline: Sequence[str],
    allowed_patients: Collection[str],
    by: Literal["patient", "beat"],
    name: str = "split",
    docs: Path | None = None,
) -> Summary:
    """Check that nothing which a model is tested on was there to learn from.

    Writes the same two files as `validate_dataset`.

    Parameters
    ----------
    beats : DataFrame
        One row per beat: record, patient, sample, symbol, label (class name or ""), side
        (train, validation, test, or unused: on neither side of a published split, and left
        out here), window_sha (hash of the beat's raw window; null for a flat one).
    headline : sequence of str
        Classes that each side needs.
    allowed_patients : collection of str
        Patients whom the published split puts on both sides: a warning.
    by : {"patient", "beat"}
        What the protocol parts. Where it parts beats, patients are on both sides by
        design, which is a warning.
    name : str
        What messages and the page call this split.

    Raises
    ------
    DataError
        `beats` lacks a column.
    """
    facts = measure_split(beats, headline=headline, allowed_patients=allowed_patients)
    summary = Summary(
        title=name,
        about=_about_split(facts, by, headline, allowed_patients),
        outcomes=judge(split_suites(facts, by), docs=docs),
        tables=(_side_table(facts),),
    )
    _write(summary, out)
    return summary


def _write(summary: Summary, out: Path) -> None:
    write_json(Path(out) / RESULT, summary.as_dict())
    write_text(Path(out) / PAGE, render_page(summary))


def _about_dataset(manifest: Manifest, facts: Facts) -> tuple[tuple[str, str], ...]:
    records = facts.records
    hours = records["duration_s"].sum() / 3600
    about = (
        ("dataset", f"{manifest.name} {manifest.version}"),
        ("source", manifest.source),
        ("licence", manifest.licence),
        ("citation", manifest.citation),
        ("records", format_value(len(records))),
        ("patients", format_value(records["patient"].nunique())),
        ("length", f"{hours:.1f} h"),
        ("annotations", format_value(len(facts.annotations))),
        ("beats", format_value(int(records["beats"].sum()))),
    )
    return (
        (("data", "sample: synthetic, says nothing about patients"), *about)
        if manifest.synthetic
        else about
    )


def _class_table(facts: Facts) -> Table:
    return _table(
        "Classes",
        "Excluded records do not count.",
        ("class", "beats", "records", "patients"),
        [
            (str(row["label"]), *(_count(row[of]) for of in ("beats", "records", "patients")))
            for row in facts.classes.to_dict("records")
        ],
    )


def _record_table(facts: Facts, scheme: LabelScheme) -> Table:
    rows = []
    for _, record in facts.records.iterrows():
        counts = [_count(record[class_column(name)]) for name in scheme.names]
        rows.append(
            (
                str(record["record"]),
                str(record["patient"]),
                _text(record["leads"]),
                _number(record["fs"]),
                _clock(record["duration_s"]),
                _count(record["beats"]),
                *counts,
            )
        )
    excluded = facts.records["excluded"].astype(bool)
    note = "A dash stands for what could not be read."
    if excluded.any():
        note += " Records in grey are excluded by the protocol: checked, but not counted."
    columns = ("record", "patient", "leads", "Hz", "min:s", "beats", *scheme.names)
    return _table("Records", note, columns, rows, text=3, muted=excluded.tolist())


def _about_split(
    facts: SplitFacts,
    by: Literal["patient", "beat"],
    headline: Sequence[str],
    allowed_patients: Collection[str],
) -> tuple[tuple[str, str], ...]:
    about = (
        ("split by", by),
        ("headline", ", ".join(headline)),
        ("patients allowed on several sides", ", ".join(sorted(allowed_patients)) or "none"),
        ("records", format_value(facts.beats["record"].nunique())),
        ("patients", format_value(len(facts.patients))),
        ("beats", format_value(len(facts.beats))),
    )
    unused = (("beats on no side", format_value(facts.unused)),) if facts.unused else ()
    return about + unused


def _side_table(facts: SplitFacts) -> Table:
    beats = facts.beats
    labels = sorted({str(label) for label in beats["label"]} - {""})
    rows = []
    for side in SIDES:
        here = beats[beats["side"] == side]
        counts = here["label"].value_counts()
        rows.append(
            (
                side,
                format_value(here["patient"].nunique()),
                format_value(here["record"].nunique()),
                format_value(len(here)),
                *(format_value(int(counts.get(label, 0))) for label in labels),
                format_value(int(counts.get("", 0))),
            )
        )
    columns = ("side", "patients", "records", "beats", *labels, "no class")
    return _table("Sides", "Beats by class.", columns, rows)


def _table(
    title: str,
    note: str,
    columns: Sequence[str],
    rows: Iterable[tuple[str, ...]],
    *,
    text: int = 1,
    muted: Sequence[bool] | None = None,
) -> Table:
    """A table whose first `text` columns are words and whose others are numbers."""
    rows = tuple(rows)
    return Table(
        title=title,
        note=note,
        columns=tuple(columns),
        rows=rows,
        numeric=tuple(i >= text for i in range(len(columns))),
        muted=tuple(muted) if muted is not None else (False,) * len(rows),
    )


_ABSENT = "–"


def _text(value: object) -> str:
    return value if isinstance(value, str) else _ABSENT


def _number(value: float) -> str:
    return _ABSENT if pd.isna(value) else f"{value:g}"


def _count(value: float) -> str:
    return _ABSENT if pd.isna(value) else f"{int(value):,}"


def _clock(seconds: float) -> str:
    if pd.isna(seconds):
        return _ABSENT
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
