"""Annotated ECG recordings in WFDB format: in physical units at the boundary."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import wfdb

from ecgbeats.errors import DataError

# Millivolts per unit of the WFDB header's `units` field.
_MILLIVOLTS = {"mv": 1.0, "uv": 1e-3, "µv": 1e-3, "μv": 1e-3, "v": 1e3, "nv": 1e-6}
_NUMBER = re.compile(rb"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")

# What WFDB assumes where a header is silent: Hz, and ADC units per physical unit.
DEFAULT_FS, DEFAULT_GAIN = 250.0, 200.0

# Bits that one sample takes in a signal file, by WFDB format (signal(5) of the WFDB
# manual). Compressed formats are absent: their length does not follow from their size.
SAMPLE_BITS = {
    "8": 8,
    "16": 16,
    "24": 24,
    "32": 32,
    "61": 16,
    "80": 8,
    "160": 16,
    "212": 12,
    "310": 32 / 3,
    "311": 32 / 3,
}

# WFDB annotation codes that mark a QRS complex (isqrs() of the WFDB library's ecgmap.h).
BEAT_SYMBOLS = frozenset("NLRBAaJSVrFejnE/fQ?")

# All symbols that the WFDB library defines; anything else in a file is an error.
# https://archive.physionet.org/physiobank/annotations.shtml
KNOWN_SYMBOLS = BEAT_SYMBOLS | frozenset("[!]x()ptu`'^|~+sT*D=\"@")


@dataclass(frozen=True)
class Recording:
    """One recording: its signals and how they were taken.

    Attributes
    ----------
    name : str
        The WFDB record name, without folder and suffix.
    fs : float
        Sampling frequency in Hz.
    leads : tuple of str
        Lead names from the header, one per column.
    signal : ndarray of float32, shape (samples, leads)
        In millivolts. NaN where the file marks a sample as missing.
    adc_limits : ndarray of float32, shape (leads, 2)
        Lowest and highest value in millivolts that the ADC could give.
    assumed : tuple of str
        What its header leaves out and what is taken for it, in words.
    """

    name: str
    fs: float
    leads: tuple[str, ...]
    signal: np.ndarray
    adc_limits: np.ndarray
    assumed: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        return len(self.signal) / self.fs


@dataclass(frozen=True)
class Annotations:
    """Annotations of one recording, in file order.

    Attributes
    ----------
    sample : ndarray of int64, shape (n,)
        Positions in samples from the start of the recording.
    symbol : ndarray of str, shape (n,)
        WFDB annotation mnemonics, one character each.
    """

    sample: np.ndarray
    symbol: np.ndarray

    def only(self, symbols: frozenset[str]) -> Annotations:
        """Those whose symbol is one of `symbols`."""
        keep = np.isin(self.symbol, sorted(symbols))
        return Annotations(self.sample[keep], self.symbol[keep])


class _NoVoltageError(DataError):
    """A record, or segment of one, has signals and none of them is a voltage."""


def read_recording(path: Path) -> Recording:
    """Read `path`.hea and its signal files; segments of a record are joined.

    Signals that are no voltage (pressure, temperature) are left out, gaps between segments and
    segments without a voltage are missing samples, and a lead without a name is called "signal
    <number>".

    Parameters
    ----------
    path : Path
        The record's path without suffix.

    Raises
    ------
    DataError
        Header or signal files are missing, unreadable, shorter than the header
        says, or none of the signals is a voltage.
    """
    path = Path(path)
    header = _header(path)
    if isinstance(header, wfdb.MultiRecord):
        return _joined(path, header)
    if not header.n_sig or not header.fmt:
        raise DataError(f"record {path.name}: expected signals, the header names none")
    if len(header.fmt) != header.n_sig:
        raise DataError(
            f"record {path.name}: the header announces {header.n_sig} signals and describes "
            f"{len(header.fmt)}"
        )
    fs = _rate(path, header)
    units = _units(path, header)
    voltages = [k for k, unit in enumerate(units) if unit.lower() in _MILLIVOLTS]
    if not voltages:
        raise _NoVoltageError(
            f"record {path.name}: expected signals in V, mV or uV, header says {units[0]!r}"
        )
    try:
        # 32 bits hold every format; wfdb's default of 64 doubles the memory of a long record.
        record = wfdb.rdrecord(str(path), physical=False, return_res=32)
    except FileNotFoundError as error:
        raise DataError(
            f"record {path.name}: {Path(str(error.filename)).name} is missing"
        ) from error
    except Exception as error:  # wfdb raises whatever its parsing meets
        raise DataError(
            f"record {path.name}: the signal files cannot be read as the header says: "
            f"{_other_lengths(path.parent, header) or _words(error)}"
        ) from error
    digital = record.d_signal
    if digital is None or digital.size == 0:
        raise DataError(f"record {path.name}: expected signals, the files hold none")
    # Formats mark a missing sample with their lowest code (wfdb: _digi_nan).
    missing = _missing_codes(record.fmt)
    signal = np.empty((len(digital), len(voltages)), np.float32)
    limits = np.empty((len(voltages), 2), np.float32)
    for column, k in enumerate(voltages):
        scale = _MILLIVOLTS[units[k].lower()] / float(record.adc_gain[k])
        baseline = float(record.baseline[k])
        signal[:, column] = (digital[:, k] - baseline) * scale
        signal[digital[:, k] == missing[k], column] = np.nan
        half, zero = 2.0 ** ((record.adc_res[k] or 16) - 1), float(record.adc_zero[k] or 0)
        limits[column] = (
            (zero - half - baseline) * scale,
            (zero + half - 1 - baseline) * scale,
        )
    names = tuple(record.sig_name[k] or f"signal {k}" for k in voltages)
    assumed = assumptions(
        rate=_states_rate(path),
        leads=len(names),
        gainless=[
            (name, units[k])
            for name, k in zip(names, voltages, strict=True)
            if not _states_gain(path, k)
        ],
    )
    return Recording(path.name, fs, names, signal, limits, assumed)


def assumptions(
    *, rate: bool, leads: int = 0, gainless: Sequence[tuple[str, str]] = ()
) -> tuple[str, ...]:
    """What is taken for what a header leaves out, in words.

    Parameters
    ----------
    rate : bool
        Whether it states the sampling frequency.
    leads : int
        How many leads the recording has.
    gainless : sequence of (str, str)
        Name and unit of the leads whose gain it does not state, or states as 0.
    """
    words = []
    if not rate:
        words.append(f"the header states no sampling rate: {DEFAULT_FS:g} Hz assumed")
    if gainless:
        which = "" if len(gainless) == leads else f" of {', '.join(name for name, _ in gainless)}"
        units = ", ".join(dict.fromkeys(unit for _, unit in gainless))
        words.append(f"the header states no gain{which}: {DEFAULT_GAIN:g} per {units} assumed")
    return tuple(words)


def _other_lengths(folder: Path, header: wfdb.Record) -> str | None:
    """Which signal files are not as long as the header says; None where none is, or none tells."""
    words = []
    for name in dict.fromkeys(header.file_name):
        inside = [k for k, file in enumerate(header.file_name) if file == name]
        if not header.sig_len or any(header.fmt[k] not in SAMPLE_BITS for k in inside):
            continue
        bits = sum(SAMPLE_BITS[header.fmt[k]] * (header.samps_per_frame[k] or 1) for k in inside)
        size = (folder / name).stat().st_size - (header.byte_offset[inside[0]] or 0)
        held = max(0, int(8 * size / bits))
        if held != header.sig_len:
            than = "shorter" if held < header.sig_len else "longer"
            words.append(f"{name} is {than}: {held} samples a signal, {header.sig_len} stated")
    return "; ".join(words) or None


def _header(path: Path) -> wfdb.Record | wfdb.MultiRecord:
    try:
        return wfdb.rdheader(str(path))
    except FileNotFoundError as error:
        raise DataError(f"record {path.name}: {path.name}.hea is missing") from error
    except Exception as error:  # wfdb raises whatever its parsing meets
        raise DataError(
            f"record {path.name}: {path.name}.hea cannot be read as a WFDB header: {_words(error)}"
        ) from error


def _rate(path: Path, header: wfdb.Record | wfdb.MultiRecord) -> float:
    fs = float(header.fs)
    if not (np.isfinite(fs) and fs > 0):
        raise DataError(
            f"record {path.name}: expected a sampling frequency over 0 Hz, header says {header.fs}"
        )
    return fs


def _units(path: Path, header: wfdb.Record) -> list[str]:
    """Units as the header gives them; mV where it gives none (WFDB's rule).

    wfdb drops what is not ASCII, so that microvolts written with a Greek letter would
    come out as volts.
    """
    units = [unit or "mV" for unit in header.units]
    for k, line in enumerate(_lines(path)[1 : 1 + len(units)]):
        # "µ" in Latin-1; as micro sign and as Greek letter in UTF-8.
        if units[k] == "V" and re.search(rb"/(\xb5|\xc2\xb5|\xce\xbc)V", line):
            units[k] = "uV"
    return units


def _lines(path: Path) -> list[bytes]:
    """Lines of the header that are no comment: the record's, then one a signal or segment."""
    lines = path.with_name(f"{path.name}.hea").read_bytes().splitlines()
    return [line for line in lines if line.strip() and not line.lstrip().startswith(b"#")]


# wfdb fills in what a header leaves out, so that only its text tells what it states.
def _states_rate(path: Path) -> bool:
    return len(_lines(path)[0].split()) > 2


def _states_gain(path: Path, signal: int) -> bool:
    words = _lines(path)[1 + signal].split()
    gain = _NUMBER.match(words[2]) if len(words) > 2 else None
    # WFDB: 0 is "not known".
    return gain is not None and float(gain[0]) != 0


def _joined(path: Path, header: wfdb.MultiRecord) -> Recording:
    """One recording of all segments, missing where a gap is or a segment lacks the lead."""
    fs = _rate(path, header)
    lengths = [int(length) for length in header.seg_len]
    pieces = []
    without = None
    start = 0
    for name, length in zip(header.seg_name, lengths, strict=True):
        # A first segment of no length only lays out the signals; "~" is a gap.
        if length and name != "~":
            try:
                pieces.append((start, length, read_recording(path.with_name(name))))
            except _NoVoltageError as error:
                # Monitors record pressures on while an electrode is off.
                without = without or error
        start += length
    if not pieces:
        if without is not None:
            raise without
        raise DataError(f"record {path.name}: expected segments with signals, found only gaps")
    layouts = {piece.leads for _, _, piece in pieces}
    # By name where segments differ; names of one layout may repeat.
    alike = len(layouts) == 1
    leads = (
        layouts.pop()
        if alike
        else tuple(dict.fromkeys(lead for _, _, piece in pieces for lead in piece.leads))
    )
    signal = np.full((start, len(leads)), np.nan, np.float32)
    limits = np.tile(np.array([np.inf, -np.inf], np.float32), (len(leads), 1))
    for first, length, piece in pieces:
        if piece.fs != fs or len(piece.signal) != length:
            raise DataError(
                f"record {path.name}: expected segment {piece.name} of {length} samples at "
                f"{fs:g} Hz, found {len(piece.signal)} at {piece.fs:g} Hz"
            )
        for k, lead in enumerate(piece.leads):
            column = k if alike else leads.index(lead)
            signal[first : first + length, column] = piece.signal[:, k]
            limits[column, 0] = min(limits[column, 0], piece.adc_limits[k, 0])
            limits[column, 1] = max(limits[column, 1], piece.adc_limits[k, 1])
    # The record's own rate counts, with which those of its segments agree.
    silent = assumptions(rate=False)
    of_pieces = [words for _, _, piece in pieces for words in piece.assumed if words not in silent]
    assumed = dict.fromkeys([*assumptions(rate=_states_rate(path)), *of_pieces])
    return Recording(path.name, fs, leads, signal, limits, tuple(assumed))


def read_annotations(path: Path, annotator: str = "atr") -> Annotations:
    """Read `path`.`annotator`; positions are samples of the record, whatever the file's unit.

    Raises
    ------
    DataError
        The file is missing or no WFDB annotation file.
    """
    path = Path(path)
    try:
        annotation = wfdb.rdann(str(path), annotator)
    except FileNotFoundError as error:
        raise DataError(f"record {path.name}: annotations .{annotator} are missing") from error
    except Exception as error:
        raise DataError(
            f"record {path.name}: annotations .{annotator} cannot be read: {_words(error)}"
        ) from error
    sample = np.asarray(annotation.sample, np.int64)
    fs = _header_rate(path)
    # An annotation file may state a time resolution of its own.
    if fs and annotation.fs and float(annotation.fs) != fs:
        sample = np.rint(sample * (fs / float(annotation.fs))).astype(np.int64)
    return Annotations(sample, np.asarray(annotation.symbol, dtype="U2"))


def _header_rate(path: Path) -> float | None:
    try:
        return float(wfdb.rdheader(str(path)).fs)
    except Exception:  # whoever reads the signals is told what is wrong with it
        return None


def in_order(annotations: Annotations, length: int) -> tuple[Annotations, list[str]]:
    """`annotations` by position, inside a recording of `length` samples, one at a position.

    Returns
    -------
    Annotations
        Of several at one position the first in the file.
    list of str
        What had to be mended, in words; empty for a file in order.
    """
    remarks = []
    sample, symbol = annotations.sample, annotations.symbol
    inside = (sample >= 0) & (sample < length)
    if not inside.all():
        remarks.append(f"{int((~inside).sum())} beats outside the recording left out")
        sample, symbol = sample[inside], symbol[inside]
    if (np.diff(sample) < 0).any():
        remarks.append("annotations out of order, sorted")
    order = np.argsort(sample, kind="stable")
    sample, first = np.unique(sample[order], return_index=True)
    if len(sample) < len(order):
        remarks.append(f"{len(order) - len(sample)} second beats at one position left out")
    return Annotations(sample, symbol[order][first]), remarks


def _missing_codes(formats: list[str]) -> np.ndarray:
    lowest = {
        "80": -128,
        "310": -512,
        "311": -512,
        "212": -2048,
        "16": -32768,
        "61": -32768,
        "160": -32768,
        "24": -8388608,
        "32": -2147483648,
    }
    return np.array([lowest.get(fmt, np.iinfo(np.int64).min) for fmt in formats])


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
