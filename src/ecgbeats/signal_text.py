"""A recording as text: CSV or JSON samples with sampling rate, units and lead, as people have it.

CSV: one column a lead, values with a decimal point, divided by comma, semicolon, tab or spaces
(or, with semicolons, a decimal comma); a first line that holds a word is the header, and lines
that start with # are left out. A first column that is named as a time or a sample number, or that
rises by even steps from first line to last as no lead does, is one: it gives the sampling rate
where none is given and its name tells the unit. Times may be numbers, of a clock (0:00.004) or ISO
8601. JSON: an object with `samples` (numbers, or one list a lead),
and what may else be given beside.
"""

from __future__ import annotations

import io
import itertools
import json
import math
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from ecgbeats.errors import SignalError
from ecgbeats.records import Recording

# Millivolts of one unit. Of converter units, `gain` a millivolt.
UNITS = {"mV": 1.0, "uV": 1e-3, "V": 1e3, "nV": 1e-6, "adu": 1.0}
DEFAULT_GAIN = 200.0  # WFDB's
MAX_LEADS = 16
MAX_NAME = 64
# Lines looked at to tell header and divider, and lines read at a time.
_HEAD, _BLOCK = 6, 20_000
# A rate this near to a whole number is that number: written times are rounded.
_WHOLE = 1e-4
_TIME = re.compile(
    r"(time|elapsed time|t|timestamp|sec|secs|seconds?|s|ms|millis|milliseconds?"
    r"|sample ?#?|samples|sample number|index|idx|n|#)?( ?[\[(](s|sec|seconds|ms)[\])])?",
    re.IGNORECASE,
)
_SAMPLE_NUMBER = re.compile(r"sample.*|index|idx|n|#|", re.IGNORECASE)
_UNIT = re.compile(r"[\[(/] ?(s|sec|seconds?|ms|millis|milliseconds?) ?[\])]?$", re.IGNORECASE)
_CLOCK = re.compile(r"\[?(?:(\d{1,6}):)?(\d{1,2}):(\d{1,2}(?:\.\d*)?)\]?")
# So many lines do not rise by even steps by chance.
_MANY = 32
_MILLISECONDS = re.compile(r"\bms\b|milli", re.IGNORECASE)
# A number alone, as "0.1", "-3,5e-2"; NaN stands for a missing sample.
_NUMBER = re.compile(r"[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?|[-+]?(nan|inf|infinity)|", re.I)


def read_csv(
    data: bytes,
    *,
    fs: float | None = None,
    units: str = "mV",
    gain: float | None = None,
    lead: str | None = None,
    max_values: int,
) -> Recording:
    """The recording that a CSV file holds.

    Parameters
    ----------
    fs : float, optional
        Samples a second; needed where no column tells the time.
    units : str
        One of `UNITS`.
    gain : float, optional
        Converter units a millivolt, with units "adu"; 200 by default.
    lead : str, optional
        Name of the lead that a single column is.
    max_values : int
        Greatest number of values.

    Raises
    ------
    SignalError
        With code "not_a_table", "too_many_samples", "bad_sampling_rate", "missing_sampling_rate"
        or "bad_units".
    """
    rows, names, clock = _table(data, max_values)
    rate = _rate(fs) if fs is not None else None
    if rows.shape[1] > 1 and (is_time := _time_column(rows, names, clock)) is not None:
        rate = rate or is_time
        rows, names = rows[:, 1:], names[1:]
    if rows.shape[1] > MAX_LEADS:
        raise SignalError("not_a_table", f"at most {MAX_LEADS} leads", f"{rows.shape[1]} columns")
    return _recording(rows, rate, units, gain, _names(names, rows.shape[1], lead))


def read_json_signal(
    content: object,
    *,
    fs: float | None = None,
    units: str | None = None,
    gain: float | None = None,
    lead: str | None = None,
    max_values: int,
) -> tuple[Recording, np.ndarray | None]:
    """The recording that a JSON object holds, and the positions of its beats if it has them.

    Keys: `samples` (a list of numbers, null where one is missing; or a list of such lists, one a
    lead), `fs`, `units`, `gain`, `lead` (a name, or one a lead), `beats` (sample numbers).
    Arguments win over keys.

    Raises
    ------
    SignalError
        As `read_csv`; also "not_a_signal" for an object of another shape and "bad_beats".
    """
    if not isinstance(content, dict):
        raise SignalError(
            "not_a_signal", 'an object with "samples" and "fs"', type(content).__name__
        )
    unknown = sorted({str(key) for key in content} - set(_KEYS))
    if unknown:
        raise SignalError("not_a_signal", f"the keys {', '.join(_KEYS)}", repr(unknown[0][:32]))
    rows = _columns_of(content.get("samples"), max_values)
    named = lead if lead is not None else content.get("lead")
    listed = named if isinstance(named, list) else [named]
    if not all(name is None or isinstance(name, str) for name in listed):
        raise SignalError("not_a_signal", 'a name, or one a lead, as "lead"', _short(named))
    names: list[str] = [name or "" for name in listed]
    if len(names) not in (1, rows.shape[1]):
        raise SignalError(
            "not_a_signal", f"{rows.shape[1]} names, one a lead", f"{len(names)} names"
        )
    names = names if len(names) == rows.shape[1] else [*names, *[""] * (rows.shape[1] - 1)]
    rate = fs if fs is not None else content.get("fs")
    unit = units if units is not None else content.get("units", "mV")
    scale = gain if gain is not None else content.get("gain")
    recording = _recording(
        rows,
        None if rate is None else _rate(rate),
        unit,
        scale,
        _names(names, rows.shape[1], None),
    )
    beats = content.get("beats")
    return recording, None if beats is None else check_beats(beats, len(rows))


_KEYS = ("samples", "fs", "units", "gain", "lead", "beats")


def parse_json(data: bytes) -> Any:
    """The JSON in `data`; NaN and infinities, which are no JSON, are refused.

    Raises
    ------
    SignalError
        With code "not_json".
    """

    def refuse(word: str) -> Any:
        raise ValueError(f"{word} is no JSON")

    try:
        return json.loads(data, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        words = "nesting without end" if isinstance(error, RecursionError) else str(error)
        raise SignalError("not_json", "JSON", words[:120]) from error


def check_beats(beats: object, length: int) -> np.ndarray:
    """Sample numbers of beats, increasing, inside a recording of `length` samples."""
    expected = f"sample numbers of beats, increasing, from 0 to {length - 1}"
    whole = isinstance(beats, list) and all(type(beat) is int for beat in beats)
    if not whole or not beats:
        raise SignalError("bad_beats", expected, _short(beats))
    assert isinstance(beats, list)
    if min(beats) < 0 or max(beats) >= length:
        raise SignalError("bad_beats", expected, "one outside")
    samples = np.array(beats, np.int64)
    if (np.diff(samples) <= 0).any():
        raise SignalError("bad_beats", expected, "some out of order")
    return samples


def _table(data: bytes, max_values: int) -> tuple[np.ndarray, list[str], bool]:
    """Values, a row a line; names of the columns; whether the first was written as a clock."""
    if data.count(b"\n") > max_values:
        raise SignalError("too_many_samples", f"at most {max_values} values", "more lines")
    lines = _lines(data)
    head = list(itertools.islice(lines, _HEAD))
    if not head:
        raise SignalError("not_a_table", "a column of numbers", "an empty file")
    divider = _divider(head[min(1, len(head) - 1)])
    first = _cells(head[0], divider)
    titled = not all(not cell or _is_value(cell) for cell in first) or not any(first)
    skipped = int(titled)
    # Below the header may stand the units: 'hh:mm:ss.mmm','mV'.
    while (
        titled and skipped < len(head) and not any(map(_is_value, _cells(head[skipped], divider)))
    ):
        skipped += 1
    if skipped == len(head):
        raise SignalError("not_a_table", "a column of numbers", "a header and no number below it")
    cells = _cells(head[skipped], divider)
    columns, clock = len(cells), _instant(cells[0]) is not None
    parts, read = [], skipped
    rest = itertools.chain(head[skipped:], lines)
    # In blocks: words take ten times the memory of the numbers that they become.
    while block := list(itertools.islice(rest, _BLOCK)):
        parts.append(_numbers(block, divider, columns, clock=clock, offset=read))
        read += len(block)
        if (read - skipped) * columns > max_values:
            raise SignalError("too_many_samples", f"at most {max_values} values", "more")
    names = [cell.strip("'\" ") for cell in first] if titled else []
    names = names if len(names) == columns else [""] * columns
    return np.concatenate(parts), names, clock


def _lines(data: bytes) -> Iterator[str]:
    """Lines that hold something, without comments."""
    if b"\0" in data[:4096]:
        raise SignalError("not_a_table", "text", "bytes that are no text")
    try:
        data.decode("utf-8")
        encoding = "utf-8-sig"
    except UnicodeDecodeError:
        encoding = "latin-1"
    for line in io.TextIOWrapper(io.BytesIO(data), encoding=encoding):
        if (bare := line.strip()) and bare[0] != "#":
            yield bare


def _numbers(
    body: Sequence[str], divider: str | None, columns: int, *, clock: bool, offset: int
) -> np.ndarray:
    text = body
    if divider != "," and any("," in line for line in body[:50]):
        text = [line.replace(",", ".") for line in body]
    flat: list[str] = []
    for number, line in enumerate(text):
        cells = _cells(line, divider)
        if len(cells) != columns:
            raise SignalError(
                "not_a_table",
                f"{columns} values in each line",
                f"{len(cells)} in line {number + offset + 1}",
            )
        if clock and (seconds := _instant(cells[0])) is not None:
            cells[0] = repr(seconds)
        flat += cells
    try:
        values = np.array([cell or "nan" for cell in flat], dtype=np.float64)
    except ValueError as error:
        place = next(k for k, cell in enumerate(flat) if not _NUMBER.fullmatch(cell))
        raise SignalError(
            "not_a_table",
            "numbers",
            f"{flat[place][:32]!r} in line {place // columns + offset + 1}",
        ) from error
    return values.reshape(-1, columns)


def _divider(line: str) -> str | None:
    """What divides the cells of a line; None for blanks."""
    return next((divider for divider in (";", "\t", ",") if divider in line), None)


def _cells(line: str, divider: str | None) -> list[str]:
    if divider is None:
        return [cell.strip("'\"") for cell in line.split()]
    return [cell.strip().strip("'\"") for cell in line.rstrip(f"{divider} ").split(divider)]


def _is_value(cell: str) -> bool:
    return bool(cell) and (_NUMBER.fullmatch(cell) is not None or _instant(cell) is not None)


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


def _time_column(rows: np.ndarray, names: Sequence[str], clock: bool) -> float | None:
    """The sampling rate by the first column if that is a time; 0 where it does not tell."""
    name = names[0].strip()
    steps = np.diff(rows[:, 0])
    if not len(steps) or not np.isfinite(steps).all() or not (steps > 0).all():
        return None
    # Times are rounded, so that single steps differ, by less than one step.
    step = float(np.median(steps))
    even = steps.max() <= 2 * step and step <= 2 * steps.mean()
    counts = bool((steps == 1).all())
    if clock:
        name = "s"
    if _SAMPLE_NUMBER.fullmatch(name):
        # Without a name it is a number of samples only if it counts; or a time, of which unit?
        return 0.0 if counts or (not name and even and len(rows) >= _MANY) else None
    if not (_TIME.fullmatch(name) or _UNIT.search(name)):
        return 0.0 if even and len(rows) >= _MANY else None
    if not even:
        raise SignalError("bad_sampling_rate", "even steps of time", "steps of different lengths")
    # The mean over all: single times are rounded.
    rate = len(steps) / float(rows[-1, 0] - rows[0, 0])
    rate = rate * 1000 if _MILLISECONDS.search(name) else rate
    whole = float(round(rate))
    return whole if abs(rate - whole) <= _WHOLE * rate else rate


def _rate(value: object) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fs = float(value) if number and abs(value) < 1e9 else math.nan  # type: ignore[arg-type]
    if not (math.isfinite(fs) and fs > 0):
        raise SignalError("bad_sampling_rate", "samples a second, over 0", _short(value))
    return fs


def _columns_of(samples: object, max_values: int) -> np.ndarray:
    expected = 'numbers, or one list of numbers a lead, as "samples"'
    if not isinstance(samples, list) or not samples:
        raise SignalError("not_a_signal", expected, _short(samples))
    leads = samples if isinstance(samples[0], list) else [samples]
    if len(leads) > MAX_LEADS:
        raise SignalError("not_a_signal", f"at most {MAX_LEADS} leads", f"{len(leads)}")
    if any(not isinstance(lead, list) or len(lead) != len(leads[0]) for lead in leads):
        raise SignalError("not_a_signal", "leads of one length", "leads of different lengths")
    if not leads[0]:
        raise SignalError("not_a_signal", expected, "an empty list")
    if len(leads) * len(leads[0]) > max_values:
        raise SignalError(
            "too_many_samples", f"at most {max_values} values", str(len(leads) * len(leads[0]))
        )
    for lead in leads:
        for value in lead:
            if value is not None and type(value) not in (int, float):
                raise SignalError("not_a_signal", expected, _short(value))
            if type(value) is int and abs(value) > 2**62:
                raise SignalError("not_a_signal", expected, "a number beyond all measure")
    return np.array(leads, np.float64).T


def _recording(
    rows: np.ndarray, fs: float | None, units: object, gain: object, names: tuple[str, ...]
) -> Recording:
    if not fs:
        raise SignalError("missing_sampling_rate", "samples a second, as fs", "none")
    if not isinstance(units, str) or units not in UNITS:
        raise SignalError("bad_units", f"one of {', '.join(UNITS)}", _short(units))
    scale = UNITS[units]
    if units == "adu":
        scale = 1 / (DEFAULT_GAIN if gain is None else _positive(gain))
    elif gain is not None:
        raise SignalError("bad_units", 'a gain with units "adu" alone', f"units {units}")
    with np.errstate(over="ignore", invalid="ignore"):
        signal = (rows * scale).astype(np.float32)
    # Nobody's heart makes a kilovolt, and squares of more than that leave the range of floats.
    signal[~(np.abs(signal) < 1e6)] = np.nan
    limits = np.tile(np.array([[-np.inf, np.inf]], np.float32), (len(names), 1))
    return Recording("signal", float(_rate(fs)), names, signal, limits)


def _positive(gain: object) -> float:
    number = isinstance(gain, int | float) and not isinstance(gain, bool)
    value = float(gain) if number and abs(gain) < 1e12 else math.nan  # type: ignore[arg-type]
    if not value > 0:
        raise SignalError("bad_units", "converter units a millivolt, over 0", _short(gain))
    return value


def _names(names: Sequence[str], count: int, lead: str | None) -> tuple[str, ...]:
    if count == 1 and lead:
        return (lead[:MAX_NAME],)
    unique: list[str] = []
    for k in range(count):
        name = "".join(letter for letter in names[k] if letter.isprintable())[:MAX_NAME].strip()
        name = name or ("ECG" if count == 1 else f"lead {k + 1}")
        unique.append(name if name not in unique else f"{name} ({k + 1})")
    return tuple(unique)


def _short(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, str | int | float):
        return repr(value)[:40]
    return f"a {type(value).__name__}" + (f" of {len(value)}" if isinstance(value, list) else "")
