"""WFDB records from bytes in memory, for uploads: bounded, and nothing touches the disk.

A limited reader: of a record with one segment, and of signals with one sample a frame, no skew
and the formats of `_FORMATS`. What it reads, it reads as `ecgbeats.records` does by WFDB's own
package; the rest it refuses by name. https://wfdb.io/spec: header(5), signal(5), annot(5).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ecgbeats.errors import DataError, SignalError
from ecgbeats.records import DEFAULT_FS, DEFAULT_GAIN, Annotations, Recording, assumptions

MAX_SIGNALS = 64
MAX_HEADER_BYTES = 64 * 1024
MAX_ANNOTATION_BYTES = 1024**2

_MILLIVOLTS = {"mv": 1.0, "uv": 1e-3, "µv": 1e-3, "μv": 1e-3, "v": 1e3, "nv": 1e-6}
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RATE = re.compile(rf"({_NUMBER})(?:/.*)?")
_FORMAT = re.compile(r"(\d{1,4})(?:x(\d{1,9}))?(?::(\d{1,9}))?(?:\+(\d{1,12}))?")
_GAIN = re.compile(rf"({_NUMBER})(?:\((-?\d{{1,12}})\))?(?:/(\S+))?")
_WHOLE = re.compile(r"[-+]?\d{1,18}")
# A signal file beside the header; a path would lead elsewhere.
_FILE_NAME = re.compile(r"[\w.\-]{1,255}")

# Annotation codes 1 to 41 by their mnemonic; a space is no annotation.
_SYMBOLS = ' NLRaVFJASEj/Q~ | sT*D"=pB^t+u?![]en@xf()r'
_SKIP, _NUM, _SUB, _CHAN, _AUX, _NOTE = 59, 60, 61, 62, 63, 22
_RESOLUTION = re.compile(rb"## time resolution: (\d{1,9}\.?\d{0,9})")


def _whole(dtype: str, offset: int = 0) -> Callable[[np.ndarray], np.ndarray]:
    def decode(data: np.ndarray) -> np.ndarray:
        size = np.dtype(dtype).itemsize
        return data[: len(data) // size * size].view(dtype).astype(np.int32) - offset

    return decode


def _signed(values: np.ndarray, bits: int) -> np.ndarray:
    return np.asarray(np.where(values >= 1 << (bits - 1), values - (1 << bits), values), np.int32)


def _format_24(data: np.ndarray) -> np.ndarray:
    low, mid, high = data[: len(data) // 3 * 3].reshape(-1, 3).T.astype(np.int32)
    return _signed(low + (mid << 8) + (high << 16), 24)


def _groups(data: np.ndarray, size: int) -> np.ndarray:
    """Rows of `size` bytes; the last one filled with zeros."""
    return np.pad(data, (0, -len(data) % size)).reshape(-1, size).astype(np.int32)


def _format_212(data: np.ndarray) -> np.ndarray:
    a, b, c = _groups(data, 3).T
    return _signed(np.stack([a + ((b & 0x0F) << 8), c + ((b >> 4) << 8)], axis=1).ravel(), 12)


def _format_310(data: np.ndarray) -> np.ndarray:
    a, b, c, d = _groups(data, 4).T
    three = [(a >> 1) + ((b & 7) << 7), (c >> 1) + ((d & 7) << 7), (b >> 3) + ((d >> 3) << 5)]
    return _signed(np.stack(three, axis=1).ravel(), 10)


def _format_311(data: np.ndarray) -> np.ndarray:
    a, b, c, d = _groups(data, 4).T
    three = [a + ((b & 3) << 8), (b >> 2) + ((c & 15) << 6), (c >> 4) + ((d & 63) << 4)]
    return _signed(np.stack(three, axis=1).ravel(), 10)


# Format to its bits and how bytes become samples. The lowest code marks a missing sample.
_FORMATS: dict[str, tuple[int, Callable[[np.ndarray], np.ndarray]]] = {
    "16": (16, _whole("<i2")),
    "24": (24, _format_24),
    "32": (32, _whole("<i4")),
    "61": (16, _whole(">i2")),
    "80": (8, _whole("u1", 128)),
    "160": (16, _whole("<u2", 32768)),
    "212": (12, _format_212),
    "310": (10, _format_310),
    "311": (10, _format_311),
}


@dataclass(frozen=True)
class _Signal:
    file: str
    format: str
    offset: int
    gain: float
    gain_stated: bool
    baseline: int
    unit: str
    resolution: int
    zero: int
    name: str


@dataclass(frozen=True)
class Header:
    """A WFDB header, as far as it is needed.

    Attributes
    ----------
    fs : float
        Hz.
    fs_stated : bool
        False where WFDB's default is taken.
    length : int or None
        Samples a signal; None where the header leaves it to the files.
    signals : tuple
    """

    name: str
    fs: float
    fs_stated: bool
    length: int | None
    signals: tuple[_Signal, ...]

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the signal files, each once."""
        return tuple(dict.fromkeys(signal.file for signal in self.signals))


def read_header(data: bytes) -> Header:
    """Read the content of a .hea file.

    Raises
    ------
    DataError
        It is no WFDB header, or one that this reader does not read.
    """
    if len(data) > MAX_HEADER_BYTES:
        raise DataError(f"header: expected at most {MAX_HEADER_BYTES} bytes, got {len(data)}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    # Only these end a line; others may stand in a description.
    lines = [line.strip() for line in re.split(r"\r\n|\r|\n", text)]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise DataError("header: expected a record line, got none")
    words = lines[0].split()
    name, _, segments = words[0].partition("/")
    if segments:
        raise DataError("header: expected a record of one segment, got a multi-segment record")
    if len(words) < 2 or not _FILE_NAME.fullmatch(name):
        raise DataError("header: expected a record line (name, signals, rate, length)")
    count = _int(words[1], "number of signals")
    if not 1 <= count <= MAX_SIGNALS:
        raise DataError(f"header: expected 1 to {MAX_SIGNALS} signals, got {count}")
    fs = DEFAULT_FS
    if len(words) > 2:
        match = _RATE.fullmatch(words[2])
        fs = float(match[1]) if match else math.nan
    if not (math.isfinite(fs) and fs > 0):
        raise DataError(f"header: expected a sampling frequency over 0 Hz, got {words[2][:32]!r}")
    length = _int(words[3], "number of samples") if len(words) > 3 else 0
    if length < 0:
        raise DataError(f"header: expected a number of samples, got {length}")
    if len(lines) <= count:
        raise DataError(f"header: expected {count} signal lines, got {len(lines) - 1}")
    signals = tuple(_signal(line, k) for k, line in enumerate(lines[1 : count + 1]))
    return Header(name, fs, len(words) > 2, length or None, signals)


def _signal(line: str, place: int) -> _Signal:
    # File, format, gain, resolution, zero, first value, checksum, block size, description.
    words = line.split(None, 8)
    words += [""] * (9 - len(words))
    if not _FILE_NAME.fullmatch(words[0]) or words[0] in (".", ".."):
        raise DataError(f"header, signal {place}: expected a file name, got {words[0][:64]!r}")
    match = _FORMAT.fullmatch(words[1])
    if match is None or match[1] not in _FORMATS:
        known = ", ".join(_FORMATS)
        raise DataError(
            f"header, signal {place}: expected a format of {known}; got {words[1][:32]!r}"
        )
    if int(match[2] or 1) != 1 or int(match[3] or 0) != 0:
        raise DataError(
            f"header, signal {place}: expected one sample a frame and no skew, "
            f"got {words[1][:32]!r}"
        )
    gain = _GAIN.fullmatch(words[2]) if words[2] else None
    if words[2] and gain is None:
        raise DataError(f"header, signal {place}: expected a gain, got {words[2][:32]!r}")
    zero = _int(words[4], "ADC zero") if words[4] else 0
    value = float(gain[1]) if gain else 0.0
    if not math.isfinite(value):
        raise DataError(f"header, signal {place}: expected a finite gain, got {words[2][:32]!r}")
    return _Signal(
        file=words[0],
        format=match[1],
        offset=int(match[4] or 0),
        gain=value or DEFAULT_GAIN,
        gain_stated=value != 0,
        baseline=int(gain[2]) if gain and gain[2] else zero,
        unit=(gain[3] if gain and gain[3] else "mV"),
        resolution=_int(words[3], "ADC resolution") if words[3] else 0,
        zero=zero,
        name=words[8].strip() or f"signal {place}",
    )


def _int(word: str, what: str) -> int:
    if not _WHOLE.fullmatch(word):
        raise DataError(f"header: expected a whole number as {what}, got {word[:32]!r}")
    return int(word)


def read_record(header: Header, files: Mapping[str, bytes], *, max_values: int) -> Recording:
    """The voltages of a record in mV, of `files` by their names.

    Parameters
    ----------
    max_values : int
        Greatest number of samples, all signals together.

    Raises
    ------
    DataError
        A file is missing or shorter than the header says, or none of the signals is a voltage.
    SignalError
        With code "too_many_samples": there are more than `max_values`.
    """
    chosen = [k for k, signal in enumerate(header.signals) if signal.unit.lower() in _MILLIVOLTS]
    if not chosen:
        unit = header.signals[0].unit[:16]
        raise DataError(f"expected signals in V, mV or uV, the header says {unit!r}")
    columns = {}
    for file in header.files:
        inside = [k for k, signal in enumerate(header.signals) if signal.file == file]
        if any(k in chosen for k in inside):
            columns.update(_columns(header, files, file, inside, max_values))
    shortest = min(len(columns[k]) for k in chosen)
    signal = np.empty((shortest, len(chosen)), np.float32)
    limits = np.empty((len(chosen), 2), np.float32)
    for column, k in enumerate(chosen):
        about, digital = header.signals[k], columns[k][:shortest]
        scale = _MILLIVOLTS[about.unit.lower()] / about.gain
        with np.errstate(over="ignore"):
            signal[:, column] = (digital - float(about.baseline)) * scale
        lowest = -(1 << (_FORMATS[about.format][0] - 1))
        signal[digital == lowest, column] = np.nan
        half = 2.0 ** (min(max(about.resolution, 0), 64) - 1) if about.resolution > 0 else 2.0**15
        limits[column] = (
            (about.zero - half - about.baseline) * scale,
            (about.zero + half - 1 - about.baseline) * scale,
        )
    # A header may scale samples beyond what floats hold.
    signal[~np.isfinite(signal)] = np.nan
    voltages = [header.signals[k] for k in chosen]
    names = tuple(each.name for each in voltages)
    gainless = [(each.name, each.unit) for each in voltages if not each.gain_stated]
    assumed = assumptions(rate=header.fs_stated, leads=len(names), gainless=gainless)
    return Recording(header.name, header.fs, names, signal, limits, assumed)


def _columns(
    header: Header, files: Mapping[str, bytes], file: str, inside: list[int], max_values: int
) -> dict[int, np.ndarray]:
    """Digital samples of the signals `inside` one file, by their place in the header."""
    if file not in files:
        raise DataError(f"expected the signal file {file}, which the header names; it is not there")
    first = header.signals[inside[0]]
    if any(header.signals[k].format != first.format for k in inside):
        raise DataError(f"{file}: expected one format for all its signals")
    data = np.frombuffer(files[file], np.uint8)[first.offset :]
    bits, decode = _FORMATS[first.format]
    held = _held(first.format, bits, len(data))
    length = header.length if header.length is not None else held // len(inside)
    if length > held // len(inside):
        raise DataError(
            f"{file}: expected {length} samples of {len(inside)} signals, as the header says; "
            f"it holds {held // len(inside)}"
        )
    if length == 0:
        raise DataError(f"{file}: expected samples, it holds none")
    if length * len(header.signals) > max_values:
        raise SignalError(
            "too_many_samples", f"at most {max_values} values", str(length * len(header.signals))
        )
    # What lies behind is not decoded.
    count = length * len(inside)
    needed = -(-count // 3) * 4 if bits == 10 else -(-count * bits // 8)
    samples = decode(data[:needed])[:count].reshape(length, len(inside))
    return {k: samples[:, column] for column, k in enumerate(inside)}


def _held(fmt: str, bits: int, size: int) -> int:
    """Whole samples in `size` bytes."""
    if bits != 10:
        return size * 8 // bits
    # Three samples in four bytes: 311 has them in a row, 310 has one across the others.
    groups, left = divmod(size, 4)
    return groups * 3 + (max(0, left - 1) if fmt == "311" else left // 2)


def read_annotation_bytes(data: bytes, fs: float) -> Annotations:
    """Read the content of an annotation file (MIT format) of a record at `fs` Hz.

    Returns
    -------
    Annotations
        Positions in samples of the record, also where the file has a time unit of its own.

    Raises
    ------
    DataError
        It is no annotation file, or longer than `MAX_ANNOTATION_BYTES`.
    """
    if len(data) > MAX_ANNOTATION_BYTES:
        raise DataError(
            f"annotations: expected at most {MAX_ANNOTATION_BYTES} bytes, got {len(data)}"
        )
    at, end = 0, len(data) - 1
    time, rate = 0, fs
    positions: list[int] = []
    symbols: list[str] = []
    code = 0
    while at < end:
        word = data[at] | data[at + 1] << 8
        at += 2
        if word == 0:
            break
        kind, value = word >> 10, word & 1023
        if kind == _SKIP:
            if at + 4 > len(data):
                raise DataError("annotations: expected a whole file, it ends within an annotation")
            # A PDP-11 long: the upper half first.
            high, low = data[at] | data[at + 1] << 8, data[at + 2] | data[at + 3] << 8
            skip = high << 16 | low
            time += skip - (1 << 32) if skip >= 1 << 31 else skip
            at += 4
        elif kind == _AUX:
            if at + value > len(data):
                raise DataError("annotations: expected a whole file, it ends within a note")
            found = _RESOLUTION.match(data[at : at + value])
            if found and code == _NOTE and time == 0:
                rate = float(found[1]) or fs
            at += value + (value & 1)
        elif kind < _SKIP:
            time += value
            code = kind
            # A note at the very start says how to read the file and marks nothing.
            if kind == _NOTE and time == 0:
                continue
            if 0 < kind < len(_SYMBOLS) and _SYMBOLS[kind] != " ":
                positions.append(time)
                symbols.append(_SYMBOLS[kind])
    sample = np.array(positions, np.float64)
    if rate != fs:
        sample *= fs / rate
    if len(sample) and np.abs(sample).max() > 2**62:
        raise DataError("annotations: expected positions in the recording, got far beyond it")
    return Annotations(np.rint(sample).astype(np.int64), np.asarray(symbols, dtype="U2"))
