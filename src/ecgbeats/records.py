"""Annotated ECG recordings in WFDB format: in physical units at the boundary."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import wfdb

from ecgbeats.errors import DataError

# Millivolts per unit of the WFDB header's `units` field.
_MILLIVOLTS = {"mv": 1.0, "uv": 1e-3, "µv": 1e-3, "μv": 1e-3, "v": 1e3, "nv": 1e-6}

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
    """

    name: str
    fs: float
    leads: tuple[str, ...]
    signal: np.ndarray
    adc_limits: np.ndarray

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


def read_recording(path: Path) -> Recording:
    """Read `path`.hea and its signal files.

    Parameters
    ----------
    path : Path
        The record's path without suffix.

    Raises
    ------
    DataError
        Header or signal files are missing, unreadable, shorter than the header
        says, or in a unit that is no voltage.
    """
    path = Path(path)
    try:
        record = wfdb.rdrecord(str(path), physical=False)
    except Exception as error:  # wfdb raises whatever its parsing meets
        raise DataError(f"record {path.name}: cannot be read: {_words(error)}") from error
    digital = record.d_signal
    if digital is None or digital.size == 0:
        raise DataError(f"record {path.name}: expected signals, the header names none")
    if record.adc_res is None or record.adc_zero is None:
        raise DataError(
            f"record {path.name}: expected a record of one segment, the header names several; "
            "join them first (WFDB: xform)"
        )
    units = [(unit or "mV") for unit in record.units]
    unknown = [unit for unit in units if unit.lower() not in _MILLIVOLTS]
    if unknown:
        raise DataError(
            f"record {path.name}: expected signals in V, mV or uV, header says {unknown[0]!r}"
        )
    gain = np.asarray(record.adc_gain, float)
    baseline = np.asarray(record.baseline, float)
    scale = np.array([_MILLIVOLTS[unit.lower()] for unit in units]) / gain
    bits = np.array([resolution or 16 for resolution in record.adc_res], float)
    zero = np.asarray(record.adc_zero, float)
    # Formats mark a missing sample with their lowest code (wfdb: _digi_nan).
    missing = digital == _missing_codes(record.fmt)
    signal = ((digital - baseline) * scale).astype(np.float32)
    signal[missing] = np.nan
    limits = np.stack(
        [
            (zero - 2 ** (bits - 1) - baseline) * scale,
            (zero + 2 ** (bits - 1) - 1 - baseline) * scale,
        ],
        axis=1,
    )
    return Recording(
        path.name, float(record.fs), tuple(record.sig_name), signal, limits.astype(np.float32)
    )


def read_annotations(path: Path, annotator: str = "atr") -> Annotations:
    """Read `path`.`annotator`.

    Raises
    ------
    DataError
        The file is missing or no WFDB annotation file.
    """
    path = Path(path)
    try:
        annotation = wfdb.rdann(str(path), annotator)
    except Exception as error:
        raise DataError(
            f"record {path.name}: annotations .{annotator} cannot be read: {_words(error)}"
        ) from error
    return Annotations(
        np.asarray(annotation.sample, np.int64), np.asarray(annotation.symbol, dtype="U2")
    )


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
