"""What is expected of new data beyond what is expected of every dataset.

The first two suites are about single records: what fails there is quarantined. The last two
are about the batch: a label that is wrong for one reason is wrong everywhere, and so the batch
is stopped.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from ecgbeats.validation.report import Severity
from ecgbeats.validation.suites import Expectation, Suite

# Above the half that two exchanged kinds cannot both reach; see docs/data.md for DS1.
IN_ORDER = 0.5
# Of N, S and V: DS1 has 0.61 at least, and with N and V exchanged 0.39 at most.
NORMAL_SHARE = 0.5
# A heart may be out of order (junctional rhythm, bigeminy, fibrillation); most are not.
MOST_RECORDS = 2 / 3
# Fewer beats of a class do not show what a model makes of it.
AGREEMENT_BEATS = 20

# Of the suite "twins": those that are about two records of the batch.
AMONG_US = frozenset({"no_copy", "no_twin"})

# Of the suite "labels": those that are about one kind against another.
ORDERS = {
    "ventricular_beats_unlike": (
        "unlike_v",
        "Ventricular beats are less like the record's dominant beat than sinus beats are.",
    ),
    "ventricular_beats_early": (
        "early_v",
        "Ventricular beats come earlier than sinus beats.",
    ),
    "supraventricular_beats_early": (
        "early_s",
        "Supraventricular ectopic beats come earlier than sinus beats.",
    ),
    "supraventricular_beats_alike": (
        "alike_s",
        "Supraventricular ectopic beats are more like the dominant beat than ventricular ones.",
    ),
}


def file_suite(files: pd.DataFrame) -> Suite:
    """Of the files as they came: columns record, and name_, files_, labels_, paced_problem."""
    return Suite(
        "files",
        files,
        ("record",),
        (
            _null("record_name", "name_problem", "A record has a name of its own that WFDB takes."),
            _null("files_complete", "files_problem", "Header and signal files can be found."),
            _null(
                "annotations_there",
                "labels_problem",
                "The annotation file is there, can be read and holds annotations.",
            ),
            _null("not_paced", "paced_problem", "Few beats are paced, where that is asked for."),
        ),
    )


def checksum_suite(problems: pd.DataFrame) -> Suite:
    """Of what `ecgbeats.additions.checksums` finds: columns record and checksum_problem."""
    return Suite(
        "signals",
        problems,
        ("record",),
        (
            _null(
                "signal_checksum",
                "checksum_problem",
                "The samples of each signal add up to the checksum in the header, if it has one.",
            ),
        ),
    )


def twin_suite(twins: pd.DataFrame) -> Suite:
    """Of copies and twins: columns record, copy_of, twin_of, foreign_copy, foreign_twin.

    The last two name records of other datasets.
    """
    return Suite(
        "twins",
        twins,
        ("record",),
        (
            _null("no_copy", "copy_of", "No record has the same signals as another of the batch."),
            _null(
                "no_twin",
                "twin_of",
                "No record has the heartbeats of another of the batch, whatever its name, gain, "
                "sampling rate or cut.",
            ),
            _null(
                "no_copy_elsewhere",
                "foreign_copy",
                "No record has the same signals as one of a dataset that is here already.",
            ),
            _null(
                "no_twin_elsewhere",
                "foreign_twin",
                "No record has the heartbeats of one of a dataset that is here already: it could "
                "be tested on.",
            ),
        ),
    )


def label_suite(order: pd.DataFrame, *, enforced: bool) -> Suite:
    """Of the order of labels (`ecgbeats.additions.order`), over all records of the batch."""
    severity: Severity = "critical" if enforced else "warning"
    expectations = [
        Expectation(
            name,
            f"{words[:-1]}, in at least {100 * MOST_RECORDS:.0f} % of records.",
            "ExpectColumnValuesToBeBetween",
            {"column": column, "min_value": IN_ORDER, "mostly": MOST_RECORDS},
            severity,
            "%",
        )
        for name, (column, words) in ORDERS.items()
    ]
    prevail = Expectation(
        "sinus_beats_prevail",
        f"At least {100 * NORMAL_SHARE:.0f} % of a record's sinus, supraventricular and "
        f"ventricular beats are sinus beats, in at least {100 * MOST_RECORDS:.0f} % of records.",
        "ExpectColumnValuesToBeBetween",
        {"column": "normal_share", "min_value": NORMAL_SHARE, "mostly": MOST_RECORDS},
        severity,
        "%",
    )
    return Suite("labels", order, ("record",), (*expectations, prevail))


def agreement_suite(
    agreement: pd.DataFrame, floors: Mapping[str, float], *, enforced: bool
) -> Suite:
    """Of a model's agreement with the labels: columns label, beats, agreement (null for few)."""
    return Suite(
        "agreement",
        agreement,
        ("label",),
        tuple(
            Expectation(
                f"model_agrees_{label}",
                f"Of the beats labelled {label} the model calls at least {100 * floor:g} % so.",
                "ExpectColumnValuesToBeBetween",
                {"column": "agreement", "min_value": floor},
                "critical" if enforced else "warning",
                "%",
                rows=("label", (label,)),
            )
            for label, floor in floors.items()
        ),
    )


def _null(name: str, column: str, words: str) -> Expectation:
    return Expectation(name, words, "ExpectColumnValuesToBeNull", {"column": column})
