"""What a test must not have in common with training, and what it must have."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from ecgbeats.errors import DataError, ValidationFailed
from ecgbeats.files import read_json, sha256_tree
from ecgbeats.split import UNUSED
from ecgbeats.validation import Finding, Summary, validate_split

pytestmark = pytest.mark.unit

SIDE_OF = {"100": "train", "101": "train", "102": "validation", "103": "test", "104": "test"}


def beats() -> pd.DataFrame:
    """Four beats of each record, one of each class and one without, all windows different."""
    rows = [
        {
            "record": record,
            "patient": f"patient-{record}",
            "sample": 300 * (i + 1),
            "symbol": symbol,
            "label": label,
            "side": side,
            "window_sha": hashlib.sha256(f"{record}{i}".encode()).hexdigest(),
        }
        for record, side in SIDE_OF.items()
        for i, (symbol, label) in enumerate([("N", "N"), ("A", "S"), ("V", "V"), ("Q", "")])
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def check(tmp_path: Path) -> Callable[..., Summary]:
    def run(table: pd.DataFrame, **options: object) -> Summary:
        options = {"headline": ("N", "S", "V"), "allowed_patients": (), "by": "patient"} | options
        return validate_split(table, tmp_path / "out", **options)  # type: ignore[arg-type]

    return run


def failed(summary: Summary) -> dict[str, str]:
    return {o.name: o.severity for o in summary.outcomes if not o.success}


def test_a_sound_split_passes(check: Callable[..., Summary]) -> None:
    summary = check(beats())

    assert failed(summary) == {}
    summary.raise_if_critical()


def test_a_patient_on_both_sides(check: Callable[..., Summary]) -> None:
    table = beats()
    table.loc[table["record"] == "104", "patient"] = "patient-101"

    summary = check(table)

    assert failed(summary) == {"patients_apart": "critical"}
    assert summary.outcome("patients_apart").examples == (
        Finding({"patient": "patient-101", "records": "101, 104"}, "train and test"),
    )
    with pytest.raises(ValidationFailed, match=r"patients_apart .*patient-101.*train and test"):
        summary.raise_if_critical()


def test_a_patient_in_training_and_validation(check: Callable[..., Summary]) -> None:
    table = beats()
    table.loc[table["record"] == "102", "patient"] = "patient-101"

    assert failed(check(table)) == {"patients_apart": "critical"}


def test_a_patient_whom_the_published_split_parts_is_a_warning(
    check: Callable[..., Summary],
) -> None:
    table = beats()
    table.loc[table["record"] == "104", "patient"] = "patient-101"

    summary = check(table, allowed_patients=("patient-101",))

    assert failed(summary) == {"shared_as_published": "warning"}
    summary.raise_if_critical()


def test_a_beat_wise_protocol_says_so(check: Callable[..., Summary]) -> None:
    table = beats()
    table["patient"] = "patient-100"

    summary = check(table, by="beat")

    assert failed(summary) == {"patients_apart": "warning"}
    assert "by design" in summary.outcome("patients_apart").words


@pytest.mark.parametrize("by", ["patient", "beat"])
def test_one_window_on_both_sides(by: str, check: Callable[..., Summary]) -> None:
    table = beats()
    # Row 17 (record 104, test) repeats row 4 (record 101, train).
    table.loc[17, "window_sha"] = table.loc[4, "window_sha"]

    summary = check(table, by=by)

    assert failed(summary) == {"windows_apart": "critical"}
    assert summary.outcome("windows_apart").examples == (
        Finding({"record": "104", "sample": 600}, "train record 101 sample 300"),
    )


def test_one_window_twice_on_one_side_is_no_leak(check: Callable[..., Summary]) -> None:
    table = beats()
    table.loc[5, "window_sha"] = table.loc[4, "window_sha"]

    assert failed(check(table)) == {}


def test_a_beat_that_occurs_twice(check: Callable[..., Summary]) -> None:
    table = beats()
    again = table.loc[[4]].assign(window_sha="another")

    summary = check(pd.concat([table, again]))

    assert failed(summary) == {"each_beat_once": "critical"}
    assert summary.outcome("each_beat_once").found_in == {"101": 2}


def test_an_unknown_side(check: Callable[..., Summary]) -> None:
    table = beats()
    table.loc[4, "side"] = "tset"

    summary = check(table)

    assert failed(summary)["sides_known"] == "critical"
    assert summary.outcome("sides_known").examples == (
        Finding({"record": "101", "sample": 300}, "tset"),
    )


@pytest.mark.parametrize(
    ("side", "name", "severity"),
    [
        ("train", "classes_to_learn_and_test", "critical"),
        ("test", "classes_to_learn_and_test", "critical"),
        ("validation", "classes_to_choose_by", "warning"),
    ],
)
def test_a_headline_class_that_a_side_lacks(
    side: str, name: str, severity: str, check: Callable[..., Summary]
) -> None:
    table = beats()
    table.loc[(table["side"] == side) & (table["label"] == "S"), "label"] = "N"

    summary = check(table)

    assert failed(summary) == {name: severity}
    assert summary.outcome(name).examples == (Finding({"side": side, "label": "S"}, 0),)
    assert failed(check(table, headline=("N", "V"))) == {}


def test_a_protocol_may_do_without_validation_but_not_without_test(
    check: Callable[..., Summary],
) -> None:
    table = beats()

    assert failed(check(table[table["side"] != "validation"])) == {}
    assert failed(check(table[table["side"] != "test"])) == {
        "classes_to_learn_and_test": "critical"
    }


def test_a_missing_column(check: Callable[..., Summary]) -> None:
    with pytest.raises(DataError, match="window_sha"):
        check(beats().drop(columns="window_sha"))


def test_reports_are_written_and_stable(tmp_path: Path, check: Callable[..., Summary]) -> None:
    table = beats()
    table.loc[17, "window_sha"] = table.loc[4, "window_sha"]

    check(table)
    first = sha256_tree(tmp_path / "out")
    check(table)

    assert sha256_tree(tmp_path / "out") == first
    written = read_json(tmp_path / "out" / "validation.json")
    assert written["critical_failed"] == ["windows_apart"]
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "record 104, sample 600: train record 101 sample 300" in page


def test_beats_on_no_side_are_left_out(check: Callable[..., Summary]) -> None:
    table = beats()
    # 105 repeats patient and windows of 101; it would be a leak on any side.
    again = table[table["record"] == "101"].assign(record="105", side=UNUSED)

    summary = check(pd.concat([table, again]))

    assert failed(summary) == {}
    assert dict(summary.about)["beats on no side"] == "4"
    assert dict(summary.about)["beats"] == str(len(table))
    assert "beats on no side" not in dict(check(table).about)


@pytest.mark.parametrize("all_flat", [False, True])
def test_flat_windows_are_no_twins(all_flat: bool, check: Callable[..., Summary]) -> None:
    table = beats()
    flat = slice(None) if all_flat else table["sample"] == 300
    table["window_sha"] = table["window_sha"].astype(object)
    table.loc[flat, "window_sha"] = None

    assert failed(check(table)) == {}
