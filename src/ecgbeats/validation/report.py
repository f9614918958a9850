"""The result of a validation, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ecgbeats.errors import ValidationFailed

Severity = Literal["critical", "warning"]
Value = str | int | float | bool | None


@dataclass(frozen=True)
class Finding:
    """One value that was not expected, and where it is.

    Attributes
    ----------
    at : mapping of str to value
        Where: e.g. {"record": "101", "lead": "V1"}.
    value : str, int, float, bool or None
        None where the place itself is the finding.
    """

    at: Mapping[str, Value]
    value: Value

    def text(self, unit: str = "") -> str:
        """In words, e.g. "record 101, lead V1: 12 %"."""
        place = ", ".join(f"{name} {value}" for name, value in self.at.items())
        return place if self.value is None else f"{place}: {format_value(self.value, unit)}"


@dataclass(frozen=True)
class Outcome:
    """What became of one expectation.

    Attributes
    ----------
    checked, unexpected : int
        Number of values looked at, and of those that are not as expected.
    found_in : mapping of str to int
        Number of unexpected values by the first key of `Finding.at`, mostly the record.
    examples : tuple of Finding
        Some of them: one for each record first.
    allowed_share : float
        Share of unexpected values up to which the expectation holds.
    """

    suite: str
    name: str
    words: str
    expectation: str
    column: str
    unit: str
    severity: Severity
    success: bool
    checked: int
    unexpected: int
    allowed_share: float
    found_in: Mapping[str, int]
    examples: tuple[Finding, ...]


@dataclass(frozen=True)
class Table:
    """A table for people: text cells, and which rows stand apart."""

    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]
    muted: tuple[bool, ...]


@dataclass(frozen=True)
class Summary:
    """All outcomes of one validation."""

    title: str
    about: tuple[tuple[str, str], ...]
    outcomes: tuple[Outcome, ...]
    tables: tuple[Table, ...]

    def failed(self, severity: Severity) -> tuple[Outcome, ...]:
        return tuple(o for o in self.outcomes if not o.success and o.severity == severity)

    @property
    def ok(self) -> bool:
        """Whether every critical expectation holds."""
        return not self.failed("critical")

    def outcome(self, name: str) -> Outcome:
        return next(outcome for outcome in self.outcomes if outcome.name == name)

    def raise_if_critical(self) -> None:
        """Raise unless every critical expectation holds.

        Raises
        ------
        ValidationFailed
            Naming the first expectations that failed, with records and values.
        """
        failed = self.failed("critical")
        if not failed:
            return
        shown = [_failure(outcome) for outcome in failed[:_FAILURES_SHOWN]]
        more = len(failed) - len(shown)
        count = (
            "1 critical expectation fails"
            if len(failed) == 1
            else (f"{len(failed)} critical expectations fail")
        )
        raise ValidationFailed(
            f"{self.title}: {count}: " + "; ".join(shown) + (f"; and {more} more" if more else "")
        )

    def as_dict(self) -> dict[str, Any]:
        """For validation.json: no times, no paths; equal data gives equal text."""
        return {
            "title": self.title,
            "about": dict(self.about),
            "ok": self.ok,
            "critical_failed": [outcome.name for outcome in self.failed("critical")],
            "warnings": [outcome.name for outcome in self.failed("warning")],
            "expectations": [asdict(outcome) for outcome in self.outcomes],
        }


_FAILURES_SHOWN = 3
_FINDINGS_SHOWN = 3


def _failure(outcome: Outcome) -> str:
    shown = outcome.examples[:_FINDINGS_SHOWN]
    findings = ", ".join(f"[{finding.text(outcome.unit)}]" for finding in shown)
    more = outcome.unexpected - len(shown)
    return f"{outcome.name} {findings}" + (f" and {more} more" if more > 0 else "")


def format_value(value: Value, unit: str = "") -> str:
    """A value with its unit; numbers to four digits, shares as percent."""
    if value is None:
        return ""
    if isinstance(value, bool | str):
        return str(value)
    if unit == "%":
        value = value * 100
    number = f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
    return f"{number} {unit}".rstrip()
