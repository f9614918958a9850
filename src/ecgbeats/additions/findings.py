"""From what was not expected of a table to the records that are left out, each with a reason."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ecgbeats.additions.suites import ORDERS
from ecgbeats.validation.engine import judge
from ecgbeats.validation.report import Finding, Outcome, format_value
from ecgbeats.validation.suites import Suite

# Suites whose findings are about single records.
_OF_RECORDS = frozenset({"files", "records", "signals", "leads", "annotations", "twins"})
_RECORD = "record"
# An outcome is for a page, and has examples of so many records; they are asked for by so many.
_AT_ONCE = 20


@dataclass(frozen=True)
class Quarantined:
    """A record that is left out, by which expectation, and what was found."""

    record: str
    expectation: str
    found: str


def findings(
    suites: Sequence[Suite], outcomes: Sequence[Outcome], *, trusted: bool = False
) -> list[Quarantined]:
    """Records to be left out; none where the labels of the whole batch are in question."""
    found = []
    for outcome in outcomes:
        about_records = outcome.suite in _OF_RECORDS and outcome.severity == "critical"
        # Of labels, single records that are out of order in a batch that is not.
        single = outcome.name in ORDERS and outcome.success and not trusted
        if not (outcome.unexpected and (single or (about_records and not outcome.success))):
            continue
        counts: dict[str, int] = {}
        examples: dict[str, str] = {}
        for part in _in_full(suites, outcome):
            for finding in part.examples:
                examples.setdefault(str(finding.at.get(_RECORD, "")), _words(finding, part.unit))
            for record, count in part.found_in.items():
                counts.setdefault(record, count)
        for record, count in counts.items():
            more = f" and {count - 1} more" if count > 1 else ""
            found.append(Quarantined(record, outcome.name, examples.get(record, "") + more))
    # Not of one record: it stops the batch.
    return [each for each in found if each.record]


def _in_full(suites: Sequence[Suite], outcome: Outcome) -> Iterable[Outcome]:
    """The outcome; where it does not tell of every record, also that of a few records at a time."""
    yield outcome
    if len({finding.at.get(_RECORD) for finding in outcome.examples}) >= len(outcome.found_in):
        return
    (suite,) = (each for each in suites if each.name == outcome.suite)
    asked = tuple(each for each in suite.expectations if each.name == outcome.name)
    for table in suite.blocks:
        records = list(dict.fromkeys(table[_RECORD]))
        for start in range(0, len(records), _AT_ONCE):
            part = table[table[_RECORD].isin(records[start : start + _AT_ONCE])]
            yield from judge([replace(suite, table=part, expectations=asked)])


def _words(finding: Finding, unit: str) -> str:
    value = "" if finding.value is None else format_value(finding.value, unit)
    place = ", ".join(f"{k} {v}" for k, v in finding.at.items() if k != _RECORD)
    return ": ".join(each for each in (place, value) if each)
