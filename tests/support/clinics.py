"""Small annotated recordings as hospitals have them: each with a rhythm of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import wfdb

from tests.support.recordings import bumps

SECONDS = 90


def rhythm(seed: int) -> tuple[np.ndarray, list[str]]:
    """Times of beats in seconds, and symbols: uneven sinus rhythm, early A, earlier and wide V."""
    rng = np.random.default_rng(seed)
    symbols = list(rng.permutation(list("A" * 9 + "V" * 9 + "N" * 90)))
    usual = 0.75 + 0.05 * np.sin(np.arange(len(symbols)) / 5) + rng.normal(0, 0.02, len(symbols))
    early = {"N": 1.0, "A": 0.7, "V": 0.6}
    times = 1 + np.cumsum([rr * early[s] for rr, s in zip(usual, symbols, strict=True)])
    kept = times < SECONDS - 1
    return times[kept], [s for s, keep in zip(symbols, kept, strict=True) if keep]


def write_record(
    folder: Path,
    name: str,
    seed: int,
    *,
    fs: float = 180,
    gain: float = 200,
    scale: float = 1.0,
    swap: Mapping[str, str] | None = None,
    leads: Sequence[str] = ("MLII", "V1"),
) -> None:
    """One record; the same seed at another rate or scale is the same heart."""
    folder.mkdir(parents=True, exist_ok=True)
    times, symbols = rhythm(seed)
    samples = np.rint(times * fs).astype(np.int64)
    wide = np.array([symbol == "V" for symbol in symbols])
    length = round(SECONDS * fs)
    signal = bumps(samples[~wide], length, fs=fs, seed=seed)
    signal += bumps(samples[wide], length, fs=fs, height=1.4, width_s=0.05)
    write_samples(folder, name, scale * np.stack([signal, -0.5 * signal], axis=1), fs, gain, leads)
    given = [(swap or {}).get(symbol, symbol) for symbol in symbols]
    wfdb.wrann(name, "atr", samples, symbol=given, write_dir=str(folder))


def write_samples(
    folder: Path,
    name: str,
    signal: np.ndarray,
    fs: float = 180,
    gain: float = 200,
    leads: Sequence[str] = ("MLII", "V1"),
) -> None:
    wfdb.wrsamp(
        name,
        fs=fs,
        units=["mV"] * len(leads),
        sig_name=list(leads),
        p_signal=signal,
        fmt=["16"] * len(leads),
        adc_gain=[gain] * len(leads),
        baseline=[0] * len(leads),
        write_dir=str(folder),
    )


def write_clinic(folder: Path, records: int, *, first_seed: int = 100, **how: object) -> Path:
    """Records r1, r2, ... of so many hearts."""
    for k in range(records):
        write_record(folder, f"r{k + 1}", first_seed + k, **how)  # type: ignore[arg-type]
    return folder
