"""Validation of a dataset of pictures: what was set aside, and whether the rest can teach."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ecgbeats.datasets import REASONS, ImageManifest, read_description, read_pictures
from ecgbeats.errors import DataError
from ecgbeats.files import write_json, write_text
from ecgbeats.labels import LabelScheme
from ecgbeats.validation.engine import judge
from ecgbeats.validation.page import render_page
from ecgbeats.validation.report import Severity, Summary, Table, format_value
from ecgbeats.validation.run import PAGE, RESULT
from ecgbeats.validation.suites import Expectation, Limits, Suite

QUARANTINE = "quarantine.csv"

_UNUSABLE = {
    *("not_an_image", "damaged_image", "too_many_pixels", "too_small", "too_large"),
    *("unsafe_path", "link", "encrypted", "no_class_folder", "named_twice"),
}
_COPIES = {"duplicate", "twin_of_training"}
# A tenth of files set aside for one reason: then something is wrong with the whole set.
_CRITICAL_SHARE = 0.1
# Known sets have single blank or broken pictures.
_USUAL_SHARE = 0.01
_ROWS_SHOWN = 500


def validate_pictures(
    folder: Path,
    scheme: LabelScheme,
    out: Path,
    *,
    docs: Path | None = None,
    limits: Limits | None = None,
) -> Summary:
    """Check a dataset of pictures, as `validate_dataset` does one of recordings.

    Writes `out`/validation.json, index.html and quarantine.csv: a row for each file that was
    set aside, with its reason and its twin.

    Raises
    ------
    DataError
        `folder` holds no pictures.
    """
    manifest = read_description(folder)
    if not isinstance(manifest, ImageManifest):
        raise DataError(f"{folder}: expected a dataset of pictures, found one of recordings")
    files = _files(read_pictures(folder))
    classes = _classes(files, scheme)
    summary = Summary(
        title=f"dataset {manifest.name}",
        about=_about(manifest, files),
        outcomes=judge(_suites(files, classes, scheme, limits or Limits()), docs=docs),
        tables=(_class_table(files, scheme), _reason_table(files), _file_table(files)),
    )
    write_json(Path(out) / RESULT, summary.as_dict())
    write_text(Path(out) / QUARANTINE, _quarantine_csv(files))
    write_text(Path(out) / PAGE, render_page(summary))
    return summary


def _files(table: pd.DataFrame) -> pd.DataFrame:
    """One row per file; a column per kind of finding, null where there is none."""
    reason = table["reason"]
    # A zip may hold a name twice; only the first is ever a picture.
    folder_of = table.drop_duplicates("path").set_index("path")["folder"]
    twin_in = table["twin"].map(folder_of)
    kept = table["status"] == "kept"
    is_picture = ~reason.isin(_UNUSABLE)
    size = table["width"].astype("Int64").astype(str) + " x "
    size += table["height"].astype("Int64").astype(str) + " " + table["mode"]
    return table.assign(
        unusable=reason.where(reason.isin(_UNUSABLE)),
        blank=reason.where(reason == "blank"),
        copied=table["twin"].where(reason.isin(_COPIES)),
        contradicted=table["twin"].where(reason == "contradictory"),
        other_class=twin_in.where(kept & (table["twin"] != "") & (twin_in != table["folder"])),
        layout=size.where(is_picture),
    )


def _classes(files: pd.DataFrame, scheme: LabelScheme) -> pd.DataFrame:
    kept = files[files["status"] == "kept"]
    rows = []
    for name, folders in scheme.classes.items():
        here = kept[kept["folder"].isin(list(folders))]
        rows.append({"label": name, "pictures": len(here), "groups": here["group"].nunique()})
    return pd.DataFrame(rows, columns=["label", "pictures", "groups"])


def _suites(
    files: pd.DataFrame, classes: pd.DataFrame, scheme: LabelScheme, limits: Limits
) -> tuple[Suite, ...]:
    share = f"{100 * _USUAL_SHARE:g} %"
    tenth = f"{100 * _CRITICAL_SHARE:g} %"
    expectations = [
        Expectation(
            "some_pictures",
            "The dataset has at least one file.",
            "ExpectTableRowCountToBeBetween",
            {"min_value": 1},
        ),
        _few("usable", "unusable", f"Less than {tenth} of files are no usable picture."),
        _few(
            "mostly_usable",
            "unusable",
            f"Less than {share} of files are no usable picture.",
            "warning",
        ),
        _few("not_blank", "blank", f"Less than {tenth} of files are blank."),
        _few("rarely_blank", "blank", f"Less than {share} of files are blank.", "warning"),
        _few("rarely_copied", "copied", f"Less than {tenth} of files are copies.", "warning"),
        _few(
            "classes_agree",
            "contradicted",
            f"Less than {tenth} of files are, pixel by pixel, in another class as well.",
        ),
        _few(
            "classes_agree_fully",
            "contradicted",
            "No picture is, pixel by pixel, in another class as well.",
            "warning",
            most=0,
        ),
        _few(
            "classes_differ",
            "other_class",
            "No picture looks like one of another class.",
            "warning",
            most=0,
        ),
    ]
    layouts = files["layout"].dropna()
    if len(layouts):
        usual = str(layouts.mode().min())
        expectations.append(
            Expectation(
                "usual_layout",
                f"Pictures have the size and mode that most have, {usual}.",
                "ExpectColumnValuesToBeInSet",
                {"column": "layout", "value_set": [usual]},
                "warning",
            )
        )
    expectations.append(
        Expectation(
            "folders_have_a_class",
            "The label scheme has a class for every folder of pictures.",
            "ExpectColumnValuesToBeInSet",
            {"column": "folder", "value_set": sorted(scheme.symbols)},
            "warning",
            rows=("status", ("kept",)),
        )
    )
    return (
        Suite("pictures", files, ("folder", "path"), tuple(expectations)),
        Suite(
            "classes",
            classes,
            ("label",),
            (
                _at_least("classes_there", "pictures", 1, "Every class has a picture.", "critical"),
                _at_least(
                    "classes_large_enough",
                    "pictures",
                    limits.class_beats,
                    f"Every class has at least {limits.class_beats} pictures.",
                    "warning",
                ),
                _at_least(
                    "classes_can_be_split",
                    "groups",
                    limits.class_patients,
                    f"Every class has at least {limits.class_patients} groups, twins counted once.",
                    "critical",
                ),
            ),
        ),
    )


def _few(
    name: str,
    column: str,
    words: str,
    severity: Severity = "critical",
    *,
    most: float | None = None,
) -> Expectation:
    """Expect that a share of rows at most has a value in `column`."""
    usual = _CRITICAL_SHARE if severity == "critical" or column == "copied" else _USUAL_SHARE
    mostly = 1 - (usual if most is None else most)
    kwargs: dict[str, Any] = {"column": column, "mostly": round(mostly, 9)}
    return Expectation(name, words, "ExpectColumnValuesToBeNull", kwargs, severity)


def _at_least(name: str, column: str, least: float, words: str, severity: Severity) -> Expectation:
    kwargs: Mapping[str, Any] = {"column": column, "min_value": least}
    return Expectation(name, words, "ExpectColumnValuesToBeBetween", kwargs, severity)


def _about(manifest: ImageManifest, files: pd.DataFrame) -> tuple[tuple[str, str], ...]:
    kept = files[files["status"] == "kept"]
    return (
        ("dataset", f"{manifest.name} {manifest.version}"),
        ("source", manifest.source),
        ("licence", manifest.licence),
        ("citation", manifest.citation),
        *(("remark", remark) for remark in manifest.remarks),
        ("files", format_value(len(files))),
        ("usable pictures", format_value(len(kept))),
        ("groups of twins", format_value(int((kept["group"].value_counts() > 1).sum()))),
        ("pictures, twins counted once", format_value(manifest.groups)),
        ("twins correlate by at least", f"{manifest.twin_correlation:g}"),
        ("published parts", ", ".join(sorted(set(kept["part"]))) or "none"),
    )


def _class_table(files: pd.DataFrame, scheme: LabelScheme) -> Table:
    label = {folder: name for name, folders in scheme.classes.items() for folder in folders}
    kept = files[files["status"] == "kept"]
    rows = []
    for folder in sorted(set(files["folder"]) - {""} | scheme.symbols):
        here = kept[kept["folder"] == folder]
        aside = int((files["folder"] == folder).sum()) - len(here)
        counts = (len(here), here["group"].nunique(), int((here["part"] == "test").sum()), aside)
        rows.append((folder, label.get(folder, "–"), *(f"{count:,}" for count in counts)))
    columns = ("folder", "class", "pictures", "twins counted once", "in the test part", "set aside")
    note = "Folders in grey have no class in this label scheme and are not used."
    muted = tuple(row[0] not in label for row in rows)
    return Table("Folders", note, columns, tuple(rows), (False, False, *(True,) * 4), muted)


def _reason_table(files: pd.DataFrame) -> Table:
    counts = files.loc[files["reason"] != "", "reason"].value_counts()
    rows = tuple(
        (reason, REASONS[str(reason)], f"{counts[reason]:,}") for reason in sorted(counts.index)
    )
    return Table(
        "Quarantine by reason",
        f"Set aside, not deleted: {QUARANTINE} beside this page names every file.",
        ("reason", "meaning", "files"),
        rows,
        (False, False, True),
        (False,) * len(rows),
    )


def _file_table(files: pd.DataFrame) -> Table:
    aside = files[files["status"] == "quarantined"]
    rows = tuple(
        (str(row["path"]), str(row["reason"]), str(row["twin"]) or "–", _correlation(row))
        for row in aside.head(_ROWS_SHOWN).to_dict("records")
    )
    more = len(aside) - len(rows)
    return Table(
        "Quarantined files",
        f"And {more:,} more in {QUARANTINE}." if more else "All of them.",
        ("file", "reason", "twin", "correlation"),
        rows,
        (False, False, False, True),
        (False,) * len(rows),
    )


def _correlation(row: Mapping[Any, Any]) -> str:
    return "–" if pd.isna(row["correlation"]) else f"{row['correlation']:.3f}"


def _quarantine_csv(files: pd.DataFrame) -> str:
    columns = ["path", "part", "folder", "reason", "twin", "correlation"]
    aside = files.loc[files["status"] == "quarantined", columns]
    text = io.StringIO()
    aside.to_csv(text, index=False, lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
    return text.getvalue()
