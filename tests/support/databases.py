"""Small databases in PhysioNet's layout, written with the WFDB library."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import wfdb


def write_database(folder: Path, records: Sequence[str] = ("100", "201", "202")) -> Path:
    """Write two-lead records of 2 s with a reference annotation, RECORDS and SHA256SUMS.txt.

    As PhysioNet does, it also publishes files that no beat needs (ANNOTATORS, .xws).
    """
    folder.mkdir(parents=True)
    time = np.arange(720) / 360
    for index, record in enumerate(records):
        signal = np.stack([np.sin(2 * np.pi * (index + lead) * time) for lead in (1, 2)], axis=1)
        wfdb.wrsamp(
            record,
            fs=360,
            units=["mV", "mV"],
            sig_name=["MLII", "V1"],
            p_signal=signal,
            fmt=["212", "212"],
            write_dir=str(folder),
        )
        wfdb.wrann(
            record, "atr", np.array([90, 400]), symbol=["N", "V"], write_dir=str(folder), fs=360
        )
        (folder / f"{record}.xws").write_text("not needed\n")
    (folder / "RECORDS").write_text("".join(f"{record}\n" for record in records))
    (folder / "ANNOTATORS").write_text("atr\treference beat annotations\n")
    write_sums(folder)
    return folder


def write_sums(folder: Path) -> None:
    """Write SHA256SUMS.txt over what the folder holds now."""
    names = sorted(path.name for path in folder.iterdir() if path.name != "SHA256SUMS.txt")
    lines = [
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()} {name}\n" for name in names
    ]
    (folder / "SHA256SUMS.txt").write_text("".join(lines))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`, hidden ones too, and its bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
