"""A recording as text: CSV or JSON samples with sampling rate, units and lead, as people have it.

CSV: one column a lead, as `ecgbeats.csv_table` finds them. A first column that is written or named
as a time or a sample number, or that rises by even steps from first line to last as no lead does,
is one: it gives the sampling rate where none is given and its name tells the unit. Times may be
numbers, of a clock (0:00.004) or ISO 8601. What names or a row of units below them say of volts
counts where nothing is given; so do lines above, like "Sample Rate,512 hertz". JSON: an object with
`samples` (numbers, or one list a lead), and what may else be given beside.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ecgbeats.csv_table import Table, read_table
from ecgbeats.errors import SignalError
from ecgbeats.records import Recording

# Millivolts of one unit. Of converter units, `gain` a millivolt.
UNITS = {"mV": 1.0, "uV": 1e-3, "V": 1e3, "nV": 1e-6, "adu": 1.0}
DEFAULT_GAIN = 200.0  # WFDB's
MAX_LEADS = 16
MAX_NAME = 64
# A rate this near to a whole number is that number: written times are rounded.
_WHOLE = 1e-4
_TIME = re.compile(
    r"(time|elapsed time|t|timestamp|sec|secs|seconds?|s|ms|millis|milliseconds?"
    r"|sample ?#?|samples|sample number|index|idx|n|#)?( ?[\[(](s|sec|seconds|ms)[\])])?",
    re.IGNORECASE,
)
_SAMPLE_NUMBER = re.compile(r"sample.*|index|idx|n|#|", re.IGNORECASE)
_UNIT = re.compile(r"[\[(/] ?(s|sec|seconds?|ms|millis|milliseconds?) ?[\])]?$", re.IGNORECASE)
# So many lines do not rise by even steps by chance.
_MANY = 32
_MILLISECONDS = re.compile(r"\bms\b|milli", re.IGNORECASE)
# "ECG [uV]", "II/mV", "raw_mV", "mV".
_VOLTS = re.compile(r".*[\[(/] ?([munµμ]?V) ?[\])]?|(?:.*[_ ])?([munµμ]V)", re.IGNORECASE)
# Longer lines say nothing of the kind, and patterns with two gaps would take long over them.
_SHORT = 200
_RATE_ABOVE = re.compile(
    r"\bsampl\w*\W*(?:rate|freq\w*)\W+(\d+(?:[.,]\d+)?)\s*(?:hz|hertz)?\W*$", re.IGNORECASE
)
_UNIT_ABOVE = re.compile(r"\W*units?\W+([munµμ]?V)\W*", re.IGNORECASE)


def read_csv(
    data: bytes,
    *,
    fs: float | None = None,
    units: str | None = None,
    gain: float | None = None,
    lead: str | None = None,
    max_values: int,
) -> Recording:
    """The recording that a CSV file holds.

    Parameters
    ----------
    fs : float, optional
        Samples a second; needed where no column tells the time.
    units : str, optional
        One of `UNITS`; as the file says by default, and mV where it does not.
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
    table = read_table(data, max_values=max_values, max_columns=MAX_LEADS + 1)
    rows, names = table.values, table.names
    told = [_volts(name, unit) for name, unit in zip(names, table.units, strict=True)]
    rate = fs if fs is not None else _rate_above(table.above)
    if rows.shape[1] > 1 and _is_time(table):
        rate = rate if rate is not None else _rate_by(table)
        rows, names, told = rows[:, 1:], names[1:], told[1:]
    if rows.shape[1] > MAX_LEADS:
        raise SignalError("not_a_table", f"at most {MAX_LEADS} leads", f"{rows.shape[1]} columns")
    above = _unit(_first(_UNIT_ABOVE, table.above))
    scales = [_scale(units or unit or above or "mV", gain) for unit in told]
    return _recording(rows, rate, scales, _names(names, rows.shape[1], lead))


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
    Arguments win over keys; but `lead` names only what is a single lead, for of several it says
    which is meant.

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
    named = content.get("lead")
    if lead is not None and rows.shape[1] == 1:
        named = lead
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
        [_scale(unit, scale)] * rows.shape[1],
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


def _volts(name: str, unit: str) -> str | None:
    """The unit that a column is in, as its name or the row of units says."""
    found = _VOLTS.fullmatch(name)
    return _unit(unit) or (_unit(found[1] or found[2]) if found else None)


def _unit(word: str | None) -> str | None:
    """A unit of `UNITS` as people write it."""
    plain = (word or "").replace("µ", "u").replace("μ", "u").lower()
    return next((unit for unit in UNITS if unit.lower() == plain), None)


def _first(pattern: re.Pattern[str], lines: Sequence[str]) -> str | None:
    short = (line for line in lines if len(line) <= _SHORT)
    return next((match[1] for line in short if (match := pattern.search(line))), None)


def _rate_above(lines: Sequence[str]) -> float | None:
    found = _first(_RATE_ABOVE, lines)
    return float(found.replace(",", ".")) if found else None


def _is_time(table: Table) -> bool:
    """Whether the first column is a time or a number of the sample, and no lead."""
    times, name = table.values[:, 0], table.names[0]
    steps = np.diff(times)
    if table.clock or _names_time(name):
        return True
    if _UNIT.search(_time_words(table)) and (steps >= 0).all() and times[-1] > times[0]:
        return True
    # Else by its values alone: it counts, or rises by even steps all along.
    if not len(steps) or not (steps > 0).all():
        return False
    counts = bool((steps == 1).all()) and _SAMPLE_NUMBER.fullmatch(name) is not None
    return counts or (len(times) >= _MANY and _even(times))


def _names_time(name: str) -> bool:
    return bool(_TIME.fullmatch(name)) and not _SAMPLE_NUMBER.fullmatch(name)


def _time_words(table: Table) -> str:
    return f"{table.names[0]} [{table.units[0]}]" if table.units[0] else table.names[0]


def _rate_by(table: Table) -> float | None:
    """The sampling rate by the first column, which is a time; None where it does not tell."""
    times, words = table.values[:, 0], _time_words(table)
    if not (table.clock or _names_time(table.names[0]) or _UNIT.search(words)):
        return None
    if not _even(times):
        raise SignalError("bad_sampling_rate", "even steps of time", "steps of different lengths")
    # The mean over all: single times are rounded.
    rate = (len(times) - 1) / float(times[-1] - times[0])
    rate = rate * 1000 if _MILLISECONDS.search(words) and not table.clock else rate
    whole = float(round(rate))
    return whole if abs(rate - whole) <= _WHOLE * rate else rate


def _even(times: np.ndarray) -> bool:
    """Whether times rise by steps of one length, as far as they are written."""
    steps = np.diff(times)
    if not len(steps) or not (steps >= 0).all() or not (steps > 0).any():
        return False
    if (steps > 0).all():
        # Rounded, single steps differ by less than one.
        step = float(np.median(steps))
        return bool(steps.max() <= 2 * step and step <= 2 * steps.mean())
    # Some repeat: none may be off by more than what is told apart.
    written = 1.001 * float(steps[steps > 0].min())
    off = np.abs(times - np.linspace(times[0], times[-1], len(times))).max()
    return bool(steps.max() <= 2 * written and off <= written)


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
    rows: np.ndarray, fs: float | None, scales: Sequence[float], names: tuple[str, ...]
) -> Recording:
    if fs is None:
        raise SignalError("missing_sampling_rate", "samples a second, as fs", "none")
    with np.errstate(over="ignore", invalid="ignore"):
        signal = (rows * np.array(scales)).astype(np.float32)
    # Nobody's heart makes a kilovolt, and squares of more than that leave the range of floats.
    signal[~(np.abs(signal) < 1e6)] = np.nan
    limits = np.tile(np.array([[-np.inf, np.inf]], np.float32), (len(names), 1))
    return Recording("signal", float(_rate(fs)), names, signal, limits)


def _scale(units: object, gain: object) -> float:
    """Millivolts of one unit."""
    if not isinstance(units, str) or units not in UNITS:
        raise SignalError("bad_units", f"one of {', '.join(UNITS)}", _short(units))
    if units == "adu":
        return 1 / (DEFAULT_GAIN if gain is None else _positive(gain))
    if gain is not None:
        raise SignalError("bad_units", 'a gain with units "adu" alone', f"units {units}")
    return UNITS[units]


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
