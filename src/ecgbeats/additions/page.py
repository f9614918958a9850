"""The page on new data: one HTML file that needs nothing else and holds no time."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

import pandas as pd
from jinja2 import Environment, StrictUndefined

from ecgbeats.additions.adding import Examined, Request
from ecgbeats.additions.findings import Quarantined
from ecgbeats.additions.order import COLUMNS
from ecgbeats.labels import LabelScheme
from ecgbeats.validation.facts import class_column
from ecgbeats.validation.report import Outcome, format_value

_TEMPLATE = "addition.html.j2"
_EXAMPLES = 4
_SUITES = {
    "files": "Files",
    "signals": "Signals",
    "records": "Records",
    "leads": "Leads",
    "annotations": "Annotations",
    "classes": "Classes",
    "twins": "Copies and twins",
    "labels": "Order of labels",
    "agreement": "Agreement of the model",
}
_ORDER_HEADS = ("V unlike N", "V earlier than N", "S earlier than N", "S more alike than V", "N")


@dataclass(frozen=True)
class Table:
    """Text cells; the first `text` columns are left-aligned."""

    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text: int = 1


def render_addition(
    request: Request,
    examined: Examined,
    scheme: LabelScheme,
    *,
    about: dict[str, str],
    docs: str | None = None,
) -> str:
    """The page; equal findings give equal text.

    Parameters
    ----------
    about : dict of str to str
        More to be said at the top, e.g. the version.
    docs : str, optional
        Where Great Expectations' Data Docs are, relative to the page.
    """
    source = resources.files("ecgbeats").joinpath("templates", _TEMPLATE).read_text("utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    outcomes = examined.outcomes
    return environment.from_string(source).render(
        name=request.name,
        refused=[o for o in examined.refused if o.suite not in ("files",)],
        nothing_left=examined.manifest is None,
        cards=_cards(examined),
        about={**_about(request, examined), **about},
        quarantine=sorted(examined.quarantine, key=lambda q: (q.record, q.expectation)),
        words={o.name: o.words for o in outcomes},
        tables=[table for table in _tables(examined, scheme) if table.rows],
        suites=_by_suite(outcomes),
        warnings=[o for o in outcomes if not o.success and o.severity == "warning"],
        tone=_tone,
        findings=_findings,
        docs=docs,
    )


def summary_lines(request: Request, examined: Examined, scheme: LabelScheme) -> list[str]:
    """What the terminal is told of new data that were added."""
    facts = _kept(examined)
    if facts is None:
        return []
    beats = {name: int(facts[class_column(name)].sum()) for name in scheme.names}
    rates = sorted(set(facts["fs"].dropna()))
    lines = [
        f"  records     {len(facts)} of {facts['patient'].nunique()} patients, "
        f"{facts['duration_s'].sum() / 3600:.1f} h",
        "  beats       " + ", ".join(f"{name} {count:,}" for name, count in beats.items()),
        f"  sampled at  {', '.join(f'{fs:g}' for fs in rates)} Hz",
        f"  leads       {'; '.join(sorted(set(facts['leads'])))}",
    ]
    return lines + quarantine_lines(examined.quarantine)


def quarantine_lines(rows: tuple[Quarantined, ...], most: int = 12) -> list[str]:
    """The quarantine, a line each."""
    shown = [f"  quarantined {q.record}: {q.expectation}: {q.found}" for q in rows[:most]]
    return shown + ([f"  ... and {len(rows) - most} more findings"] if len(rows) > most else [])


def _kept(examined: Examined) -> pd.DataFrame | None:
    if examined.facts is None or examined.manifest is None:
        return None
    return examined.facts.records


def _cards(examined: Examined) -> list[tuple[str, str, str]]:
    """Figure, words, tone."""
    kept = _kept(examined)
    out = len({each.record for each in examined.quarantine})
    refused = len(examined.refused)
    return [
        (str(0 if kept is None else len(kept)), "records usable", ""),
        (str(0 if kept is None else kept["patient"].nunique()), "patients", ""),
        (f"{0 if kept is None else int(kept['beats'].sum()):,}", "beats", ""),
        (str(out), "records quarantined", "warn" if out else "good"),
        (str(refused), "expectations stop the batch", "bad" if refused else "good"),
    ]


def _about(request: Request, examined: Examined) -> dict[str, str]:
    about = {"licence": request.licence, "citation": request.citation}
    kept = _kept(examined)
    if kept is not None and examined.manifest is not None:
        rates = kept["fs"].dropna().value_counts()
        leads = kept["leads"].value_counts()
        about = {
            "sampling rates": ", ".join(f"{fs:g} Hz (records: {n})" for fs, n in rates.items()),
            "leads": "; ".join(f"{names} (records: {n})" for names, n in leads.items()),
            "length": f"{kept['duration_s'].sum() / 3600:.1f} h",
            "annotations": f".{examined.manifest.annotator}",
            **about,
        }
    return about


def _tables(examined: Examined, scheme: LabelScheme) -> list[Table]:
    facts, kept = examined.facts, _kept(examined)
    if facts is None or kept is None:
        return []
    classes = Table(
        "Classes",
        f"Labels after {scheme.source}.",
        ("class", "beats", "records", "patients"),
        tuple(
            (str(row["label"]), *(f"{row[of]:,}" for of in ("beats", "records", "patients")))
            for row in facts.classes.to_dict("records")
        ),
    )
    return [
        classes,
        *_agreement_tables(examined),
        _records(kept, facts.leads, scheme),
        *_order(examined),
    ]


def _records(kept: pd.DataFrame, leads: pd.DataFrame, scheme: LabelScheme) -> Table:
    worst = leads.groupby("record")[["nan_share", "flat_share", "saturated_share"]].max()
    rows = []
    for row in kept.to_dict("records"):
        quality = worst.loc[row["record"]]
        rows.append(
            (
                str(row["record"]),
                str(row["patient"]),
                str(row["leads"]),
                f"{row['fs']:g}",
                f"{row['duration_s'] / 60:.1f}",
                *(f"{int(row[class_column(name)]):,}" for name in scheme.names),
                f"{row['rr_median_s']:.2f}",
                *(format_value(float(share), "%") for share in quality),
            )
        )
    heads = ("record", "patient", "leads", "Hz", "min", *scheme.names)
    return Table(
        "Records",
        "Beats by class; median RR; of the worst lead, the share of samples that are missing, "
        "stand still, or are at the limits of the ADC.",
        (*heads, "RR, s", "missing", "still", "at limits"),
        tuple(rows),
        text=3,
    )


def _agreement_tables(examined: Examined) -> list[Table]:
    if examined.agreement is None or examined.confusion is None:
        return []
    names = [str(name) for name in examined.confusion.columns]
    rows = []
    for (label, counts), share in zip(
        examined.confusion.iterrows(), examined.agreement["agreement"], strict=True
    ):
        told = "too few" if pd.isna(share) else format_value(float(share), "%")
        rows.append((str(label), *(f"{int(count):,}" for count in counts), told))
    return [
        Table(
            "The model's answers",
            "Labels as given are rows, what the model calls the beats columns.",
            ("label", *names, "agreement"),
            tuple(rows),
        )
    ]


def _order(examined: Examined) -> list[Table]:
    if examined.order is None:
        return []
    rows = tuple(
        (
            str(row["record"]),
            *("–" if pd.isna(row[c]) else f"{100 * float(row[c]):.0f} %" for c in COLUMNS[1:]),
        )
        for row in examined.order.to_dict("records")
    )
    return [
        Table(
            "Order of labels",
            "Probability that of two beats of a record, one of each kind, the first is less like "
            "the record's dominant beat, or earlier; last, the share of sinus beats. Exchanged "
            "labels are below one half. A dash: too few beats of a kind.",
            ("record", *_ORDER_HEADS),
            rows,
        )
    ]


def _by_suite(outcomes: tuple[Outcome, ...]) -> dict[str, list[Outcome]]:
    suites: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        suites.setdefault(_SUITES[outcome.suite], []).append(outcome)
    return suites


def _tone(outcome: Outcome) -> str:
    if outcome.success:
        return "good"
    return "bad" if outcome.severity == "critical" else "warn"


def _findings(outcome: Outcome) -> list[str]:
    shown = [finding.text(outcome.unit) for finding in outcome.examples[:_EXAMPLES]]
    more = outcome.unexpected - len(shown)
    return shown + ([f"and {more:,} more"] if more > 0 else [])
