"""What records of a dataset are known by: the bytes of their signals and their heartbeats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import wfdb

from ecgbeats.additions.twins import Rhythms
from ecgbeats.datasets import Manifest, read_manifest
from ecgbeats.errors import DataError
from ecgbeats.files import sha256_file, sha256_text
from ecgbeats.records import BEAT_SYMBOLS, read_annotations
from ecgbeats.sources.wfdb_folder import files_of


@dataclass(frozen=True)
class Fingerprints:
    """By record, under the name `<dataset>/<record>`.

    Attributes
    ----------
    times : mapping of str to ndarray, shape (beats,)
        Beat times in seconds.
    signals : mapping of str to str
        Hash over the signal files.
    """

    times: Mapping[str, np.ndarray]
    signals: Mapping[str, str]

    def joined(self, other: Fingerprints) -> Fingerprints:
        return Fingerprints({**self.times, **other.times}, {**self.signals, **other.signals})


NOBODY = Fingerprints({}, {})


def fingerprints_of(
    folder: Path, manifest: Manifest | None = None, *, name: str | None = None
) -> Fingerprints:
    """Fingerprints of the records of a dataset folder; unreadable ones have none.

    Parameters
    ----------
    name : str, optional
        What the dataset is called; by default as its folder.
    """
    folder = Path(folder)
    manifest = manifest or read_manifest(folder)
    times, signals = {}, {}
    for record in manifest.record_names:
        key = f"{name or folder.name}/{record}"
        try:
            files = files_of(folder, record, manifest.annotator)
            times[key] = beat_times(folder / record, manifest.annotator)
        except DataError:
            continue
        signals[key] = sha256_text("".join(sha256_file(folder / each) for each in files.signals))
    return Fingerprints(times, signals)


def beat_times(path: Path, annotator: str) -> np.ndarray:
    """Times of all annotated beats of a record in seconds, increasing.

    Raises
    ------
    DataError
        Header or annotations cannot be read, or the header gives no sampling frequency.
    """
    samples = read_annotations(path, annotator).only(BEAT_SYMBOLS).sample
    try:
        fs = float(wfdb.rdheader(str(path)).fs)
    except Exception as error:  # wfdb raises whatever its parsing meets
        raise DataError(f"record {path.name}: the header cannot be read: {error}") from error
    if not (np.isfinite(fs) and fs > 0):
        raise DataError(f"record {path.name}: expected a sampling frequency over 0 Hz, got {fs}")
    return np.unique(samples) / fs


def find_twins(ours: Fingerprints, others: Fingerprints, *, among_us: bool = True) -> pd.DataFrame:
    """Which of `ours` are copies or twins: columns name, copy_of, twin_of, null where none.

    A copy has the same signal bytes, a twin the same heartbeats (`ecgbeats.additions.twins`).

    Parameters
    ----------
    among_us : bool
        Look also among `ours`: the first of several by name is nobody's copy.
    """
    theirs, own = Rhythms(others.times), Rhythms(ours.times if among_us else {})
    copy_of: dict[str, str] = {}
    for key, digest in others.signals.items():
        copy_of.setdefault(digest, key)
    twin_of: dict[str, str] = {}
    rows = []
    for key, times in ours.times.items():
        digest = ours.signals[key]
        twin = theirs.twin_of(key, times)
        among = own.twin_of(key, times)
        if twin is not None:
            twin_of[key] = twin.of
        elif among is not None and key not in twin_of:
            # Of two the first stays, whichever of them the other was found by.
            first, later = sorted((key, among.of), key=list(ours.times).index)
            twin_of.setdefault(later, first)
        rows.append((key, copy_of.get(digest)))
        if among_us:
            copy_of.setdefault(digest, key)
    return pd.DataFrame(
        [(key, copy, twin_of.get(key)) for key, copy in rows],
        columns=["name", "copy_of", "twin_of"],
    )
