"""The page on a validation: one HTML file that needs nothing else and holds no time."""

from __future__ import annotations

from importlib import resources

from jinja2 import Environment, StrictUndefined

from ecgbeats.validation.report import Outcome, Summary

_TEMPLATE = "validation.html.j2"
_EXAMPLES = 8
_PLACES = 12
_SUITE_TITLES = {
    "records": "Records",
    "leads": "Leads",
    "annotations": "Annotations",
    "classes": "Classes",
    "patients": "Patients",
    "beats": "Beats",
    "sides": "Sides",
    "pictures": "Pictures",
}


def render_page(summary: Summary) -> str:
    """`summary` as HTML; equal summaries give equal text."""
    source = resources.files("ecgbeats").joinpath("templates", _TEMPLATE).read_text("utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(source).render(
        summary=summary,
        critical=summary.failed("critical"),
        warnings=summary.failed("warning"),
        suites=_by_suite(summary),
        tone=_tone,
        examples=_examples,
        places=_places,
    )


def _by_suite(summary: Summary) -> dict[str, list[Outcome]]:
    suites: dict[str, list[Outcome]] = {}
    for outcome in summary.outcomes:
        suites.setdefault(_SUITE_TITLES[outcome.suite], []).append(outcome)
    return suites


def _tone(outcome: Outcome) -> str:
    if outcome.success:
        return "good"
    return "bad" if outcome.severity == "critical" else "warn"


def _examples(outcome: Outcome) -> list[str]:
    return [finding.text(outcome.unit) for finding in outcome.examples[:_EXAMPLES]]


def _places(outcome: Outcome) -> str:
    """In which records the unexpected values are, where there are more than are shown."""
    if outcome.unexpected <= _EXAMPLES:
        return ""
    shown = list(outcome.found_in.items())[:_PLACES]
    more = len(outcome.found_in) - len(shown)
    what = next(iter(outcome.examples[0].at))
    text = ", ".join(f"{place} ({count:,})" for place, count in shown)
    return f"All by {what}: {text}" + (f" and {more} more" if more else "")
