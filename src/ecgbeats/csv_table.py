"""The table of numbers in a CSV file as people have it: found, and read in bounded memory.

Below whatever a program writes first begin lines of numbers of one width. Comma, semicolon, tab
or blanks divide their cells; decimals follow a point or a comma; cells may be quoted, and one
that is empty is a missing value. Lines that start with # are left out.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from ecgbeats.errors import SignalError

# Letters of a line. A table of sixteen leads has some hundreds.
MAX_LINE = 16_384
# Lines looked at to tell how the file is laid out, and lines read at a time: words take ten times
# the memory of the numbers that they become.
_HEAD, _BLOCK, _CHUNK = 512, 20_000, 1 << 20
_DIVIDERS = (";", "\t", ",", None)
_AROUND = " \t'\""
# A number alone, as "0.1", "-3,5e-2"; NaN stands for a missing sample.
_NUMBER = re.compile(r"[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?|[-+]?(nan|inf|infinity)", re.I)
_CLOCK = re.compile(r"\[?(?:(\d{1,6}):)?(\d{1,2}):(\d{1,2}(?:\.\d*)?)\]?")
# Of a line that may be one number with a decimal comma or two whole ones: what nobody writes as
# two, and what under a single title is rather one.
_DECIMAL = re.compile(r"[-+]?(0|[1-9]\d*),0\d+|-0,\d+")
_SMALL = re.compile(r"[-+]?\d,\d+")
_LONGEST_UNIT = 16
_UNIT = re.compile(
    r"[\[(]?([munµμ]?V|adu|NU|mmHg|bpm|%|s|ms|sec|secs|seconds?|milliseconds?|samples?|sample #"
    r"|[hm]+:[ms:]*[s.,mf]*)?[\])]?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Table:
    """What a CSV file holds.

    Attributes
    ----------
    values : ndarray of float64, shape (lines, columns)
        NaN where a cell is empty; of clocks and dates, seconds.
    names, units : tuple of str
        Of the columns, as the rows above them say; empty where they do not.
    above : tuple of str
        The lines above the numbers.
    clock : bool
        Whether the first column was written as times of a clock, or dates.
    """

    values: np.ndarray
    names: tuple[str, ...]
    units: tuple[str, ...]
    above: tuple[str, ...]
    clock: bool


@dataclass(frozen=True)
class _Layout:
    """Where numbers begin, and how; `ended`: each line has a divider behind its last cell."""

    start: int
    divider: str | None
    columns: int
    ended: bool = False
    clock: bool = False


def read_table(data: bytes, *, max_values: int, max_columns: int) -> Table:
    """The table of numbers in `data`.

    Raises
    ------
    SignalError
        With code "not_a_table" or "too_many_samples".
    """
    if data.count(b"\n") > max_values:
        raise SignalError("too_many_samples", f"at most {max_values} values", "more lines")
    lines = _lines(data)
    head = list(itertools.islice(lines, _HEAD))
    layout = _layout(head, max_columns)
    parts, read = [], layout.start
    body = itertools.chain(head[layout.start :], lines)
    while block := list(itertools.islice(body, _BLOCK)):
        parts.append(_numbers(block, layout, read))
        read += len(block)
        if (read - layout.start) * layout.columns > max_values:
            raise SignalError("too_many_samples", f"at most {max_values} values", "more")
    above = head[: layout.start]
    names, units = _titles(above, layout)
    return Table(np.concatenate(parts), names, units, tuple(above), layout.clock)


def _lines(data: bytes) -> Iterator[str]:
    """Lines that hold something, without comments."""
    if b"\0" in data[:4096]:
        raise SignalError("not_a_table", "text", "bytes that are no text")
    stream = io.TextIOWrapper(io.BytesIO(data), encoding=_encoding(data))
    while line := stream.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE:
            raise SignalError("not_a_table", f"lines of at most {MAX_LINE} letters", "a longer one")
        if (bare := line.strip()) and bare[0] != "#":
            # Not of tabs: behind one there may be an empty cell.
            yield line.strip(" \r\n")


def _encoding(data: bytes) -> str:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for at in range(0, len(data), _CHUNK):
            decoder.decode(data[at : at + _CHUNK])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8-sig"


def _layout(head: Sequence[str], max_columns: int) -> _Layout:
    """How the table is laid out, by its first lines."""
    if not head:
        raise SignalError("not_a_table", "a column of numbers", "an empty file")
    found = [
        place for divider in _DIVIDERS if (place := _first_numbers(head, divider, max_columns))
    ]
    if not found:
        raise SignalError(
            "not_a_table", f"lines of numbers in 1 to {max_columns} columns", "none such"
        )
    layout = min(found, key=lambda place: place.start)
    if layout.divider == "," and _is_one_number(head, layout.start):
        layout = _Layout(layout.start, None, 1)
    rows = [_cells(line, layout.divider, max_columns) for line in head[layout.start :]]
    title = _cells(head[layout.start - 1], layout.divider, max_columns) if layout.start else []
    ended = layout.columns > 1 and not any(row[-1] for row in rows)
    if len(title) == layout.columns and title[-1]:
        ended = False
    clock = _instant(rows[0][0]) is not None
    return _Layout(layout.start, layout.divider, layout.columns - ended, ended, clock)


def _first_numbers(head: Sequence[str], divider: str | None, most: int) -> _Layout | None:
    """The first two lines of numbers of one width, or a last one by itself."""
    for k, line in enumerate(head):
        if divider is not None and divider not in line:
            continue
        width = _width(line, divider, most)
        if width and (k + 1 == len(head) or _width(head[k + 1], divider, most) == width):
            return _Layout(k, divider, width)
    return None


def _width(line: str, divider: str | None, most: int) -> int:
    """Cells of a line of numbers; 0 for any other line, and for one of too many cells."""
    cells = _cells(line, divider, most)
    values = [_is_value(cell) for cell in cells if cell]
    # One more for the divider behind the last.
    return len(cells) if values and all(values) and len(cells) <= most + 1 else 0


def _is_one_number(head: Sequence[str], start: int) -> bool:
    """Whether lines like 0,145 are numbers with a decimal comma and not two whole ones."""
    lines = [line.strip(_AROUND) for line in head[start:]]
    if not all(_NUMBER.fullmatch(line) for line in lines):
        return False
    titled_one = start > 0 and not re.search("[,;\t]", head[start - 1])
    return any(map(_DECIMAL.fullmatch, lines)) or (titled_one and all(map(_SMALL.fullmatch, lines)))


def _cells(line: str, divider: str | None, most: int) -> list[str]:
    """Cells of a line; beyond `most` and two the rest of the line is one of them."""
    if divider is None:
        found = line.split(None, most + 2)
    elif '"' in line:
        found = next(csv.reader([line], delimiter=divider, skipinitialspace=True))[: most + 2]
    else:
        found = line.split(divider, most + 2)
    return [cell.strip(_AROUND) for cell in found]


def _numbers(block: Sequence[str], layout: _Layout, offset: int) -> np.ndarray:
    flat: list[str] = []
    columns = layout.columns
    for number, line in enumerate(block, offset + 1):
        cells = _cells(line, layout.divider, columns)
        if layout.ended and len(cells) > columns and not cells[-1]:
            cells.pop()
        if len(cells) != columns:
            got = str(len(cells)) if len(cells) <= columns else "more"
            raise SignalError("not_a_table", f"{columns} values a line", f"{got} in line {number}")
        if layout.clock and (seconds := _instant(cells[0])) is not None:
            cells[0] = repr(seconds)
        flat += cells
    decimal = '"' if layout.divider == "," else ","  # quoted, it may stand between commas
    if any(decimal in line for line in block):
        flat = [cell.replace(",", ".") for cell in flat]
    try:
        values = np.array([cell or "nan" for cell in flat], dtype=np.float64)
    except ValueError as error:
        wrong = (k for k, cell in enumerate(flat) if cell and not _NUMBER.fullmatch(cell))
        place = next(wrong, 0)
        raise SignalError(
            "not_a_table",
            "numbers",
            f"{flat[place][:32]!r} in line {place // columns + offset + 1}",
        ) from error
    return values.reshape(-1, columns)


def _titles(above: Sequence[str], layout: _Layout) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names and units of the columns: the last rows above them that have as many cells."""
    # A row of dashes says nothing.
    last = [line for line in above if any(map(str.isalnum, line))][-2:]
    rows = [_title_cells(line, layout) for line in last]
    empty = ("",) * layout.columns
    if rows and _are_units(rows[-1], layout.columns):
        units = tuple(cell.strip("[]() ") for cell in rows[-1])
        fits = len(rows) > 1 and len(rows[0]) == layout.columns
        return (tuple(rows[0]) if fits else empty), units
    return (tuple(rows[-1]) if rows and len(rows[-1]) == layout.columns else empty), empty


def _title_cells(line: str, layout: _Layout) -> list[str]:
    if layout.columns == 1:
        return [] if re.search("[,;\t]", line.rstrip(",;\t")) else [line.strip(f"{_AROUND},;")]
    cells = _cells(line, layout.divider, layout.columns)
    if layout.divider is None and len(cells) != layout.columns:
        # Names of several words, with wider gaps between them.
        cells = [cell.strip(_AROUND) for cell in re.split(r"\s{2,}", line.strip())]
    while len(cells) > layout.columns and not cells[-1]:
        cells.pop()
    return cells


def _are_units(cells: Sequence[str], columns: int) -> bool:
    return (
        len(cells) == columns
        and any(cells)
        and all(len(cell) <= _LONGEST_UNIT and _UNIT.fullmatch(cell) for cell in cells)
    )


def _is_value(cell: str) -> bool:
    return _NUMBER.fullmatch(cell) is not None or _instant(cell) is not None


def _instant(cell: str) -> float | None:
    """Seconds that a clock or an ISO date with a time shows; None for anything else."""
    if ":" not in cell:
        return None
    if found := _CLOCK.fullmatch(cell := cell.replace(",", ".")):
        hours, minutes, seconds = found.groups()
        return 3600.0 * int(hours or 0) + 60 * int(minutes) + float(seconds)
    try:
        return datetime.fromisoformat(cell.strip("[]")).replace(tzinfo=UTC).timestamp()
    except (ValueError, OverflowError):
        return None
