"""Small recordings made in memory and on disk, with known beats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import wfdb

from ecgbeats.datasets import Manifest, RecordEntry, write_manifest
from ecgbeats.labels import LabelScheme
from ecgbeats.records import Recording

FS = 360.0
AAMI5 = LabelScheme(
    source="EC57", classes={"N": "NLRej", "S": "AaJS", "V": "VE", "F": "F", "Q": "/fQ"}
)


def bumps(
    samples: np.ndarray,
    length: int,
    *,
    fs: float = FS,
    height: float = 1.0,
    width_s: float = 0.012,
    seed: int | None = None,
) -> np.ndarray:
    """A Gaussian bump of `height` mV at each of `samples`, shape (length,)."""
    at = np.arange(length)
    signal = np.zeros(length)
    for sample in samples:
        signal += height * np.exp(-0.5 * ((at - sample) / (width_s * fs)) ** 2)
    if seed is not None:
        signal += np.random.default_rng(seed).normal(0, 0.02, length)
    return signal


def recording(signal: np.ndarray, *, fs: float = FS, leads: Sequence[str] = ("MLII",)) -> Recording:
    """`signal`, shape (samples,) or (samples, leads), in mV, as a Recording."""
    columns = signal.reshape(len(signal), -1).astype(np.float32)
    limits = np.tile(np.array([[-10.0, 10.0]], np.float32), (columns.shape[1], 1))
    return Recording("test", fs, tuple(leads), columns, limits)


def regular(count: int, rr_s: float = 0.8, fs: float = FS) -> np.ndarray:
    """Positions of `count` beats, `rr_s` seconds apart, the first after one interval."""
    return np.rint(np.arange(1, count + 1) * rr_s * fs).astype(np.int64)


def write_dataset(folder: Path, symbols: dict[str, str], *, rr_s: float = 0.8) -> Manifest:
    """A dataset with one record, and one patient, for each name in `symbols`.

    Every beat is a bump at its annotation; symbol "V" is wider, "A" comes early.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for k, (name, beats) in enumerate(symbols.items()):
        samples = regular(len(beats), rr_s)
        early = np.array([symbol == "A" for symbol in beats])
        samples = samples - np.where(early, round(0.3 * rr_s * FS), 0)
        length = int(samples[-1] + rr_s * FS)
        wide = np.array([symbol == "V" for symbol in beats])
        signal = bumps(samples[~wide], length, seed=k) + bumps(
            samples[wide], length, width_s=0.05, height=1.4
        )
        both = np.stack([signal, -0.5 * signal], axis=1)
        wfdb.wrsamp(
            name,
            fs=FS,
            units=["mV", "mV"],
            sig_name=["MLII", "V1"],
            p_signal=both,
            fmt=["16", "16"],
            adc_gain=[200, 200],
            baseline=[0, 0],
            write_dir=str(folder),
        )
        wfdb.wrann(name, "atr", samples, symbol=list(beats), write_dir=str(folder))
    manifest = Manifest(
        name="test",
        source="test",
        version="1",
        licence="CC0-1.0",
        citation="none",
        synthetic=True,
        annotator="atr",
        records=tuple(RecordEntry(record=name, patient=name) for name in symbols),
    )
    write_manifest(folder, manifest)
    return manifest
