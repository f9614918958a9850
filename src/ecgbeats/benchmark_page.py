"""The benchmark as a self-contained HTML page, as Markdown, and as a block of the README."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined

from ecgbeats.benchmark import BEGIN, END, NOT_RUN, PARTIAL, STALE, Figure, Line, Table
from ecgbeats.errors import DataError

_TEMPLATE = "benchmark.html.j2"
# More classes than this get no column each in a table that must fit a page.
_CLASS_COLUMNS = 5
_DASH = "–"

HOW_TO_READ = (
    "Figures are means over seeds ± their standard deviation, where there is more than one. "
    "In brackets: 95 % intervals of that mean from resampling patients, the way in which "
    "another group of patients would move it. Minutes of training are those of one seed by the "
    "clock, all folds together: upper bounds, as other work ran beside. MACs: multiplications "
    "for one image."
)


@dataclass(frozen=True)
class Column:
    """One column of a protocol's table."""

    title: str
    text: Callable[[Line], str]
    # The same without the interval, where there is no room.
    short: Callable[[Line], str]


def columns(table: Table) -> tuple[Column, ...]:
    """What is shown of each system, the headline first."""
    protocol = table.protocol
    few = list(dict.fromkeys((*protocol.headline, *protocol.also)))
    shown = [_figure(f"Macro-F1 {_names(protocol.headline)}", "macro_f1")]
    if protocol.also:
        shown.append(_figure(f"Macro-F1 {_names(protocol.also)}", "also_f1"))
    # Beats at random are told apart in the fourth digit.
    shown += [_figure("Accuracy", "accuracy", digits=4), _figure("Mean Se", "mean_se")]
    if len(few) <= _CLASS_COLUMNS:
        shown += [_figure(f"{name} F1", f"classes.{name}.f1") for name in few]
    elif protocol.focus:
        shown.append(_figure(f"{protocol.focus} F1", f"classes.{protocol.focus}.f1"))
    if protocol.focus:
        name = protocol.focus
        shown += [
            _figure(f"{name} F1 without its largest patient", f"classes.{name}.without_f1"),
            _figure(f"{name} Se, mean of records", f"classes.{name}.record_se"),
        ]
    shown += [
        _figure("ECE", "ece"),
        _plain("Parameters", lambda line: _count(_stored(line, "parameters"))),
        _plain("MACs", lambda line: _count(_stored(line, "macs"))),
        _plain("Training, min", _minutes),
        _plain("Seeds", _seeds),
    ]
    return tuple(shown)


def html(tables: Sequence[Table]) -> str:
    """The page: one file that needs nothing else."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.lstrip_blocks = True
    environment.filters.update(figure=figure_text, number=_number, signed=_signed)
    source = resources.files("ecgbeats").joinpath("templates", _TEMPLATE)
    page = environment.from_string(source.read_text(encoding="utf-8")).render(
        tables=[{"t": table, "columns": columns(table), "plot": _plot(table)} for table in tables],
        how=HOW_TO_READ,
        commits=_commits(tables),
        not_run=NOT_RUN,
    )
    # Macros leave their line ends before the document.
    return page.lstrip()


def markdown(tables: Sequence[Table]) -> str:
    """The same figures for GitHub and terminals."""
    parts = ["# Benchmark", "", HOW_TO_READ, ""]
    for table in tables:
        parts += [f"## {table.name}", "", *_intro(table)]
        shown = columns(table)
        heads = ["system", *(column.title for column in shown), "state", "command"]
        parts += _grid(
            heads,
            [
                [
                    line.row.system,
                    *(column.text(line) for column in shown),
                    state_text(line),
                    f"`{line.row.command}`",
                ]
                for line in table.lines
            ],
        )
        parts += _systems(table)
        if table.ablations:
            parts += ["### Ablations", ""]
            heads = ["changed", "of", "difference", *(c.title for c in shown), "state", "command"]
            parts += _grid(
                heads,
                [
                    [
                        f"{line.row.system}: {line.about}" if line.about else line.row.system,
                        line.row.of or "",
                        _signed(line.difference),
                        *(column.text(line) for column in shown),
                        state_text(line),
                        f"`{line.row.command}`",
                    ]
                    for line in table.ablations
                ],
            )
        if table.peers:
            parts += ["### What others reach", ""]
            heads = ["system", "how", "macro-F1", *table.peer_columns, "note"]
            parts += _grid(
                heads,
                [
                    [
                        peer.system,
                        peer.how,
                        _number(peer.macro_f1),
                        *(_number(peer.figures.get(key)) for key in table.peer_columns),
                        " ".join(
                            filter(
                                None,
                                [f"INVALID: {peer.invalid}" if peer.invalid else "", peer.note],
                            )
                        ),
                    ]
                    for peer in table.peers
                ],
            )
    parts += [*_commits(tables), ""]
    return "\n".join(parts).rstrip() + "\n"


def readme_block(tables: Sequence[Table]) -> str:
    """What stands between the two marks of the README: rows that were run, without commands."""
    parts: list[str] = []
    for table in tables:
        if table.synthetic or not table.run:
            continue
        shown = columns(table)
        parts += [f"**{table.name}.** {' '.join(_intro(table)).strip()}", ""]
        rows = [
            [
                line.row.system + (f" ({line.status})" if line.status in (STALE, PARTIAL) else ""),
                *(
                    column.text(line) if i == 0 else column.short(line)
                    for i, column in enumerate(shown)
                ),
            ]
            for line in table.run
        ]
        parts += _grid(["system", *(column.title for column in shown)], rows)
    if not parts:
        return "No row of the benchmark has been run yet: `ecgbeats benchmark`.\n"
    return "\n".join([*parts, HOW_TO_READ, *_commits(tables)]) + "\n"


def insert_block(text: str, block: str) -> str:
    """`text` with `block` between the two marks.

    Raises
    ------
    DataError
        The marks are not there, once each and in order.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise DataError(f"expected one line {BEGIN} and, below it, one line {END}")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{block.strip()}\n{END}{after}"


def figure_text(figure: Figure | None, digits: int = 3) -> str:
    """Mean ± SD [interval], with what there is of it."""
    if figure is None or figure.mean is None:
        return _DASH
    if figure.interval is None:
        return _spread(figure, digits)
    low, high = figure.interval
    return f"{_spread(figure, digits)} [{low:.{digits}f}, {high:.{digits}f}]"


def state_text(line: Line) -> str:
    """Whether the figures are whole and of the present code and parameters."""
    if line.status == STALE:
        return "stale: code or parameters have changed since"
    if line.status == PARTIAL:
        return f"partial: seeds {', '.join(map(str, line.missing))} not run"
    return line.status


def _figure(title: str, key: str, digits: int = 3) -> Column:
    return Column(
        title,
        lambda line: figure_text(line.figure(key), digits),
        lambda line: _spread(line.figure(key), digits),
    )


def _plain(title: str, text: Callable[[Line], str]) -> Column:
    return Column(title, text, text)


def _spread(figure: Figure, digits: int = 3) -> str:
    if figure.mean is None:
        return _DASH
    spread = f" ± {figure.sd:.{digits}f}" if figure.sd is not None else ""
    return f"{figure.mean:.{digits}f}{spread}"


def _signed(figure: Figure | None) -> str:
    if figure is None or figure.mean is None:
        return _DASH
    text = f"{figure.mean:+.3f}"
    return text + (
        f" [{figure.interval[0]:+.3f}, {figure.interval[1]:+.3f}]" if figure.interval else ""
    )


def _stored(line: Line, key: str) -> Any:
    return line.stored.get(key) if line.stored is not None else None


def _count(value: float | None) -> str:
    if value is None:
        return _DASH
    if value < 1e6:
        return f"{value:,.0f}"
    return f"{value / 1e6:.3g} M" if value < 1e9 else f"{value / 1e9:.3g} G"


def _minutes(line: Line) -> str:
    spent = line.minutes.mean
    if spent is None:
        return _DASH
    cores = "core" if line.threads == "1" else "cores"
    return f"{spent:.1f} ({line.threads} {cores})"


def _seeds(line: Line) -> str:
    return str(len(line.seeds)) if line.seeds else _DASH


def _number(value: float | str | None) -> str:
    """As it was stated, no digit more."""
    return _DASH if value is None else str(value)


def _names(classes: Sequence[str]) -> str:
    """Class names, or their number where they are all of many."""
    if len(classes) > _CLASS_COLUMNS:
        return f"of {len(classes)} classes"
    return " ".join(classes)


def _intro(table: Table) -> list[str]:
    said = [table.by, table.protocol.about]
    if table.synthetic:
        said.insert(0, "SAMPLE DATA: synthetic, no evidence.")
    return [" ".join(part for part in said if part), ""]


def _systems(table: Table) -> list[str]:
    """What each system is, where its name does not say it."""
    said = [f"- {line.row.system}: {line.about}" for line in table.lines if line.about]
    return [*said, ""] if said else []


def _grid(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table: words to the left, figures to the right."""

    def line(cells: Sequence[str]) -> str:
        return (
            "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
        )

    words = {"system", "changed", "of", "how", "note", "state", "command"}
    rule = ["---" if head in words else "---:" for head in heads]
    return [line(heads), line(rule), *(line(row) for row in rows), ""]


def _commits(tables: Sequence[Table]) -> list[str]:
    made = {
        str(line.stored["commit"])[:7] + (" with changes" if line.stored["dirty"] else "")
        for table in tables
        for line in (*table.lines, *table.ablations)
        if line.stored is not None
    }
    return [f"Run on commit {', '.join(sorted(made))}."] if made else []


def _plot(table: Table) -> dict[str, Any] | None:
    """Where to draw points and intervals of macro-F1; None with fewer than two to compare."""
    points: list[dict[str, Any]] = [
        {
            "name": line.row.system,
            "value": line.figure("macro_f1").mean,
            "interval": line.figure("macro_f1").interval,
            "ours": True,
        }
        for line in table.run
        if line.figure("macro_f1").mean is not None
    ]
    points += [
        {"name": peer.system, "value": peer.macro_f1, "interval": None, "ours": False}
        for peer in table.peers
        if peer.macro_f1 is not None and not peer.invalid
    ]
    if len(points) < 2:
        return None
    points.sort(key=lambda point: -point["value"])
    ends = [point["value"] for point in points]
    ends += [end for point in points for end in point["interval"] or ()]
    low = math.floor(min(ends) * 10 - 1e-9) / 10
    low, high = max(0.0, low), 1.0
    left, width, step = 290, 400, 26
    for i, point in enumerate(points):
        point["y"] = 18 + i * step
        point["x"] = left + width * (point["value"] - low) / (high - low)
        if point["interval"]:
            a, b = point["interval"]
            point["from"] = left + width * (a - low) / (high - low)
            point["to"] = left + width * (b - low) / (high - low)
        if len(point["name"]) > 38:
            point["short"] = point["name"][:37].rstrip() + "…"
        else:
            point["short"] = point["name"]
    count = round((high - low) * 10)
    every = 1 if count <= 6 else 2
    ticks = [
        {"x": left + width * i / count, "text": f"{low + i / 10:.1f}"}
        for i in range(0, count + 1)
        if (count - i) % every == 0
    ]
    bottom = 18 + len(points) * step - 8
    return {"points": points, "ticks": ticks, "bottom": bottom, "left": left, "width": width}
