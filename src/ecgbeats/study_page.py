"""The page on a cross-validation or a search: cards, then tables; one file that needs no other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from jinja2 import Environment, StrictUndefined

_TEMPLATE = "study.html.j2"


@dataclass(frozen=True)
class Link:
    """A first cell that leads to another page, relative to this one."""

    text: str
    link: str


@dataclass(frozen=True)
class Card:
    title: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Table:
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | Link]]
    note: str = ""


def render_study(
    title: str,
    about: str,
    cards: Sequence[Card],
    tables: Sequence[Table],
    *,
    synthetic: bool,
    code: Card | None = None,
) -> str:
    """A self-contained HTML page.

    Parameters
    ----------
    code : Card, optional
        Text to be copied: its title and, as value, the text.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.lstrip_blocks = True
    source = resources.files("ecgbeats").joinpath("templates", _TEMPLATE)
    return environment.from_string(source.read_text(encoding="utf-8")).render(
        title=title,
        about=about,
        cards=cards,
        tables=[
            {
                "title": table.title,
                "note": table.note,
                "columns": table.columns,
                "rows": [
                    [vars(cell) if isinstance(cell, Link) else cell for cell in row]
                    for row in table.rows
                ],
            }
            for table in tables
        ],
        synthetic=synthetic,
        code=None if code is None else {"title": code.title, "text": code.value},
    )


def figure(value: float | None, spread: float | None = None) -> str:
    """Three digits, with a standard deviation where there is one; a dash where undefined."""
    if value is None:
        return "–"
    return f"{value:.3f}" + ("" if spread is None else f" ± {spread:.3f}")
