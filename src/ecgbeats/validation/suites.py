"""What is expected of a dataset and of a split, as suites for Great Expectations.

Critical is what makes learning or measuring wrong: files that are not what they say,
annotations that mark nothing, patients or beats that a test has in common with
training. What real recordings do have (a lead that came off, a pause of six seconds,
a swapped lead) is a warning.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict

from ecgbeats.blocks import Blocks
from ecgbeats.records import KNOWN_SYMBOLS
from ecgbeats.validation.facts import Facts
from ecgbeats.validation.report import Severity
from ecgbeats.validation.sides import SIDES, SplitFacts


class Limits(BaseModel):
    """Where plausible ends. The defaults suit surface ECG; pairs are lowest and highest.

    The remarks name what the MIT-BIH Arrhythmia Database holds, which is real and must
    not fail.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    # Below 100 Hz a QRS complex is a few samples; above 2 kHz nobody takes surface ECG,
    # so such a number is a mistake in the header. MIT-BIH: 360.
    fs_hz: tuple[float, float] = (100, 2000)
    # Rhythm context (the usual RR of a record, the beats around) needs that much.
    duration_s: float = 30
    # As many beats as the longest local RR average takes; 20/min over the shortest record.
    beats: int = 10
    # A median RR interval out of this (24 to 240 beats/min) means that sampling rate and
    # annotations do not belong together. MIT-BIH: 0.53 to 1.2 s.
    rr_median_s: tuple[float, float] = (0.25, 2.5)
    # Intervals that hearts make: 300 beats/min in flutter, pauses to 3 s. MIT-BIH: 41 of
    # 109,446 are longer, 31 of them in record 232 (pauses to 5.9 s), one is 100 s long
    # (flutter in 207, whose waves are no beats).
    rr_s: tuple[float, float] = (0.2, 3.0)
    rr_share: float = 0.99
    # Annotations that leave out more than a tenth of the recording may have been cut off.
    # MIT-BIH: all above 0.99.
    annotated_share: float = 0.9
    # Missing samples: any is worth knowing; a tenth makes windows and filters unreliable.
    nan_share: float = 0.1
    # A live lead never stands still for a second; one that is still half of the time is
    # not connected. MIT-BIH: 0.09 s at most.
    flat_s: float = 1.0
    flat_share: float = 0.5
    # At the ADC's limits the QRS amplitude is lost. MIT-BIH: 0.14 % (116), 0.11 % (223)
    # at most; a twentieth of the time there is a wrong gain, not an artefact.
    saturated_share: float = 0.001
    saturated_share_critical: float = 0.05
    # Between the 0.1st and 99.9th percentile, mV. MIT-BIH: 0.40 to 9.3. A factor of 1000
    # from a wrong unit falls out of the wider range.
    span_mv: tuple[float, float] = (0.2, 10)
    span_mv_critical: tuple[float, float] = (0.02, 50)
    # With 50 beats the 95 % interval of a sensitivity is up to 28 points wide.
    class_beats: int = 50
    # A class of one patient cannot be learnt from some and tested on others.
    class_patients: int = 2


# Names that PhysioNet's databases and SCP-ECG use for surface leads, whatever the case.
_LEAD_NAMES = "|".join(
    (
        r"I{1,3}|aV[RLF]|V|V[1-9]R?|V[XYZ]|[XYZ]",  # standard, right-sided, Frank
        r"ML(?:I{1,3}|[2-5])|(?:MV|MCL|MLV)[1-6]|MOD-V1",  # modified limb and chest leads
        r"C[CMS][1-6]|D[34]|[AE]-?[SI]|NASA",  # bipolar chest leads, EASI
        r"ECG[1-9]?",
    )
)


@dataclass(frozen=True)
class Expectation:
    """One expectation about one table.

    Attributes
    ----------
    name : str
        Stable, for messages and machines.
    words : str
        The same for people.
    gx : str
        Class of `great_expectations.expectations`.
    kwargs : mapping
        Its arguments.
    unit : str
        Of the column's values; "%" for shares.
    rows : (str, tuple of str or bool), optional
        Column and values: the expectation is about rows that have one of them there.
    """

    name: str
    words: str
    gx: str
    kwargs: Mapping[str, Any]
    severity: Severity = "critical"
    unit: str = ""
    rows: tuple[str, tuple[str | bool, ...]] | None = None


@dataclass(frozen=True)
class Suite:
    """The expectations about one table, and the columns that say where a value is.

    Of a table in blocks every expectation is about one row alone.
    """

    name: str
    table: pd.DataFrame | Blocks
    key: tuple[str, ...]
    expectations: tuple[Expectation, ...]

    @property
    def blocks(self) -> Iterable[pd.DataFrame]:
        """The table, in as many parts as it has."""
        return (self.table,) if isinstance(self.table, pd.DataFrame) else self.table


def dataset_suites(facts: Facts, limits: Limits) -> tuple[Suite, ...]:
    """Suites about recordings and annotations."""
    excluded = facts.records["excluded"].astype(bool)
    annotated = facts.records["n_annotations"] > 0
    return (
        Suite(
            "records",
            facts.records,
            ("record",),
            _lenient(_record_expectations(facts, limits), bool(excluded.any())),
        ),
        Suite(
            "leads",
            facts.leads,
            ("record", "lead"),
            _lenient(_lead_expectations(limits), bool(facts.leads["excluded"].any())),
        ),
        Suite(
            "annotations",
            facts.annotations,
            ("record", "sample"),
            _lenient(_annotation_expectations(limits), bool((excluded & annotated).any())),
        ),
        Suite("classes", facts.classes, ("label",), _class_expectations(limits)),
    )


def split_suites(facts: SplitFacts, by: Literal["patient", "beat"]) -> tuple[Suite, ...]:
    """Suites about who and what is on which side of a split."""
    return (
        Suite(
            "patients",
            facts.patients,
            ("patient", "records"),
            _patient_expectations(by),
        ),
        Suite("beats", facts.beats, ("record", "sample"), _BEAT_EXPECTATIONS),
        Suite("sides", facts.classes, ("side", "label"), _SIDE_EXPECTATIONS),
    )


def _lenient(expectations: tuple[Expectation, ...], excluded: bool) -> tuple[Expectation, ...]:
    """What is critical is a warning for excluded records: it may be why they are excluded."""
    if not excluded:
        return expectations
    parted: list[Expectation] = []
    for each in expectations:
        if each.severity != "critical" or "column" not in each.kwargs:
            parted.append(each)
            continue
        parted.append(replace(each, rows=("excluded", (False,))))
        parted.append(
            replace(
                each,
                name=f"{each.name}_excluded",
                words=f"Excluded records: {each.words}",
                severity="warning",
                rows=("excluded", (True,)),
            )
        )
    return tuple(parted)


def _record_expectations(facts: Facts, limits: Limits) -> tuple[Expectation, ...]:
    return (
        Expectation(
            "some_records",
            "The dataset has at least one record.",
            "ExpectTableRowCountToBeBetween",
            {"min_value": 1},
        ),
        Expectation(
            "record_names_unique",
            "No record is named twice.",
            "ExpectColumnValuesToBeUnique",
            {"column": "record"},
        ),
        _none(
            "files_complete",
            "missing_files",
            "Header, signal and annotation files of every record are there.",
        ),
        _none(
            "signals_readable",
            "signal_problem",
            "Header and signals can be read, and are voltages.",
        ),
        _none("annotations_readable", "annotation_problem", "Annotation files can be read."),
        _between(
            "header_length",
            "length_difference",
            (0, 0),
            "Signal files hold as many samples as the header says.",
            unit="samples",
        ),
        _between(
            "sampling_rate",
            "fs",
            limits.fs_hz,
            f"The sampling rate is plausible: {_range(limits.fs_hz)} Hz.",
            unit="Hz",
        ),
        *_usual(
            "one_sampling_rate",
            facts.records["fs"],
            "All records have the sampling rate that most have, {usual} Hz; others are resampled.",
            unit="Hz",
        ),
        _none(
            "lead_names_unique",
            "repeated_leads",
            "No two leads of a record have the same name.",
        ),
        *_usual(
            "same_first_lead",
            facts.records["first_lead"],
            "The first lead is {usual}, as in most records: a lead is to be taken by name, "
            "not by position.",
        ),
        *_usual_lead(facts.leads),
        _at_least(
            "duration",
            "duration_s",
            limits.duration_s,
            f"A record lasts at least {limits.duration_s:g} s.",
            unit="s",
        ),
        _at_least(
            "enough_beats",
            "beats",
            limits.beats,
            f"A record has at least {limits.beats} annotated beats.",
        ),
        _at_least(
            "some_labelled_beats",
            "labelled_beats",
            1,
            "A record that is not excluded has beats of the label scheme's classes.",
            severity="warning",
        ),
        _at_least(
            "annotated_to_the_end",
            "annotated_share",
            limits.annotated_share,
            "From the first annotation to the last it is at least "
            f"{_percent(limits.annotated_share)} of the record.",
            severity="warning",
            unit="%",
        ),
        _between(
            "rr_median",
            "rr_median_s",
            limits.rr_median_s,
            f"A record's median RR interval is {_range(limits.rr_median_s)} s: sampling rate and "
            "annotations belong together.",
            unit="s",
        ),
        _at_least(
            "rr_shortest",
            "rr_low_s",
            limits.rr_s[0],
            f"At most 1 % of a record's RR intervals are shorter than {limits.rr_s[0]:g} s "
            "(1st percentile).",
            severity="warning",
            unit="s",
        ),
        _at_most(
            "rr_longest",
            "rr_high_s",
            limits.rr_s[1],
            f"At most 1 % of a record's RR intervals are longer than {limits.rr_s[1]:g} s "
            "(99th percentile).",
            severity="warning",
            unit="s",
        ),
    )


def _lead_expectations(limits: Limits) -> tuple[Expectation, ...]:
    return (
        Expectation(
            "lead_names_known",
            "Lead names are ones that WFDB databases use.",
            "ExpectColumnValuesToMatchRegex",
            {"column": "lead", "regex": f"(?i)^(?:{_LEAD_NAMES})$"},
            "warning",
        ),
        _at_most(
            "no_missing_samples",
            "nan_share",
            0,
            "No sample of a lead is marked as missing.",
            severity="warning",
            unit="%",
        ),
        _at_most(
            "missing_samples",
            "nan_share",
            limits.nan_share,
            f"At most {_percent(limits.nan_share)} of a lead's samples are missing.",
            unit="%",
        ),
        _at_most(
            "flat_stretch",
            "flat_s",
            limits.flat_s,
            f"A lead never stands still for more than {limits.flat_s:g} s.",
            severity="warning",
            unit="s",
        ),
        _at_most(
            "dead_lead",
            "flat_share",
            limits.flat_share,
            f"A lead does not stand still for over {_percent(limits.flat_share)} of the record.",
            unit="%",
        ),
        _at_most(
            "saturated_samples",
            "saturated_share",
            limits.saturated_share,
            f"At most {_percent(limits.saturated_share)} of a lead's samples are at the limits of "
            "the ADC.",
            severity="warning",
            unit="%",
        ),
        _at_most(
            "saturated_lead",
            "saturated_share",
            limits.saturated_share_critical,
            f"At most {_percent(limits.saturated_share_critical)} of a lead's samples are at the "
            "limits of the ADC: the gain fits.",
            unit="%",
        ),
        _between(
            "amplitude",
            "span_mv",
            limits.span_mv,
            f"The amplitude of a lead, from 0.1st to 99.9th percentile, is "
            f"{_range(limits.span_mv)} mV.",
            severity="warning",
            unit="mV",
        ),
        _between(
            "amplitude_unit",
            "span_mv",
            limits.span_mv_critical,
            f"The same is within {_range(limits.span_mv_critical)} mV: gain and unit are right.",
            unit="mV",
        ),
    )


def _annotation_expectations(limits: Limits) -> tuple[Expectation, ...]:
    return (
        Expectation(
            "symbols_known",
            "Every annotation symbol is one that WFDB defines.",
            "ExpectColumnValuesToBeInSet",
            {"column": "symbol", "value_set": sorted(KNOWN_SYMBOLS)},
        ),
        _between(
            "inside_record",
            "outside_s",
            (0, 0),
            "Every annotation is inside its record.",
            unit="s",
        ),
        _at_least(
            "in_order",
            "step",
            0,
            "Annotations come in order of time.",
            unit="samples",
        ),
        Expectation(
            "beats_apart",
            "No two beats of a record are at the same sample.",
            "ExpectColumnValuesToBeBetween",
            {"column": "rr_before_s", "min_value": 0, "strict_min": True},
            unit="s",
        ),
        Expectation(
            "rr_intervals",
            f"At least {_percent(limits.rr_share)} of RR intervals are {_range(limits.rr_s)} s.",
            "ExpectColumnValuesToBeBetween",
            {
                "column": "rr_before_s",
                "min_value": limits.rr_s[0],
                "max_value": limits.rr_s[1],
                "mostly": limits.rr_share,
            },
            "warning",
            "s",
        ),
    )


def _class_expectations(limits: Limits) -> tuple[Expectation, ...]:
    return (
        _at_least(
            "class_present",
            "beats",
            1,
            "Every class of the label scheme has a beat in a record that is not excluded.",
            severity="warning",
        ),
        _at_least(
            "class_beats",
            "beats",
            limits.class_beats,
            f"Every class has at least {limits.class_beats} beats, so that a sensitivity means "
            "something.",
            severity="warning",
        ),
        _at_least(
            "class_patients",
            "patients",
            limits.class_patients,
            f"Every class comes from at least {limits.class_patients} patients, so that it can be "
            "tested on others than it was learnt from.",
            severity="warning",
        ),
    )


def _patient_expectations(by: Literal["patient", "beat"]) -> tuple[Expectation, ...]:
    published = _none(
        "shared_as_published",
        "shared_as_published",
        "No patient is on several sides because the published split parts their records.",
        severity="warning",
    )
    if by == "beat":
        apart = _none(
            "patients_apart",
            "shared",
            "No patient is on several sides. This protocol splits beats, not patients, and puts "
            "patients on both sides by design: it measures recognition of known patients.",
            severity="warning",
        )
    else:
        apart = _none("patients_apart", "shared", "No patient is on several sides.")
    return (apart, published)


_BEAT_EXPECTATIONS = (
    Expectation(
        "sides_known",
        f"Every beat is on one of the sides {', '.join(SIDES)}.",
        "ExpectColumnValuesToBeInSet",
        {"column": "side", "value_set": list(SIDES)},
    ),
    Expectation(
        "each_beat_once",
        "No beat occurs twice.",
        "ExpectCompoundColumnsToBeUnique",
        {"column_list": ["record", "sample"]},
    ),
    Expectation(
        "windows_apart",
        "No window of signal is on several sides.",
        "ExpectColumnValuesToBeNull",
        {"column": "twin"},
    ),
)

_SIDE_EXPECTATIONS = (
    Expectation(
        "classes_to_learn_and_test",
        "Every class of the headline has beats in training and in test.",
        "ExpectColumnValuesToBeBetween",
        {"column": "beats", "min_value": 1},
        rows=("side", ("train", "test")),
    ),
    # Without a class there, a model is chosen blindly for it, but still measured rightly.
    Expectation(
        "classes_to_choose_by",
        "Every class of the headline has beats in validation.",
        "ExpectColumnValuesToBeBetween",
        {"column": "beats", "min_value": 1},
        "warning",
        rows=("side", ("validation",)),
    ),
)


def _between(
    name: str,
    column: str,
    limits: tuple[float | None, float | None],
    words: str,
    *,
    severity: Severity = "critical",
    unit: str = "",
) -> Expectation:
    bounds = zip(("min_value", "max_value"), limits, strict=True)
    kwargs = {"column": column} | {key: value for key, value in bounds if value is not None}
    return Expectation(name, words, "ExpectColumnValuesToBeBetween", kwargs, severity, unit)


def _at_least(name: str, column: str, least: float, words: str, **how: Any) -> Expectation:
    return _between(name, column, (least, None), words, **how)


def _at_most(name: str, column: str, most: float, words: str, **how: Any) -> Expectation:
    return _between(name, column, (None, most), words, **how)


def _none(name: str, column: str, words: str, *, severity: Severity = "critical") -> Expectation:
    return Expectation(name, words, "ExpectColumnValuesToBeNull", {"column": column}, severity)


def _usual(name: str, column: pd.Series, words: str, unit: str = "") -> tuple[Expectation, ...]:
    """Expect the value that most records have; nothing where no record has one."""
    usual = _most_common(column)
    if usual is None:
        return ()
    shown = f"{usual:g}" if isinstance(usual, float) else usual
    return (
        Expectation(
            name,
            words.format(usual=shown),
            "ExpectColumnValuesToBeInSet",
            {"column": str(column.name), "value_set": [usual]},
            "warning",
            unit,
        ),
    )


def _usual_lead(leads: pd.DataFrame) -> tuple[Expectation, ...]:
    usual = _most_common(leads["lead"])
    if usual is None:
        return ()
    return (
        Expectation(
            "has_usual_lead",
            f"A record has the lead that most have, {usual}.",
            "ExpectColumnValuesToMatchRegex",
            {"column": "leads", "regex": rf"(?:^|, ){re.escape(usual)}(?:,|$)"},
            "warning",
        ),
    )


def _most_common(column: pd.Series) -> Any | None:
    counts = column.dropna().value_counts()
    if counts.empty:
        return None
    # Ties go to the first in order, so that the result does not depend on the order of rows.
    return min(counts.index[counts == counts.max()])


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


def _range(limits: tuple[float, float]) -> str:
    return f"{limits[0]:g} to {limits[1]:g}"
