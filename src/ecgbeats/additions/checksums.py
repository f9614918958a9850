"""Whether signals are what their headers were written for: WFDB's checksum, 16 bits a signal.

Data that come without published hashes have nothing else that tells of a changed byte. It is the
sum of all samples modulo 65,536 (header(5) of the WFDB manual), so that one changed sample always
shows, and one change in 65,536 of several does not.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import wfdb

from ecgbeats.datasets import Manifest

_MODULUS = 1 << 16


def checksum_problems(folder: Path, manifest: Manifest) -> pd.DataFrame:
    """Columns record and checksum_problem: the signals that differ; null where none does.

    Null too where no checksum is stated, or the signals cannot be read, which other expectations
    tell of.
    """
    rows = [
        (entry.record, checksum_problem(Path(folder) / entry.record)) for entry in manifest.records
    ]
    return pd.DataFrame(rows, columns=["record", "checksum_problem"], dtype=object)


def checksum_problem(path: Path) -> str | None:
    """Of one record, `path` without suffix: which signals differ from the stated sums, or None."""
    try:
        header = wfdb.rdheader(str(path))
        if isinstance(header, wfdb.MultiRecord):
            names = dict.fromkeys(name for name in header.seg_name if name != "~")
            found = [checksum_problem(path.with_name(name)) for name in names]
            return "; ".join(words for words in found if words) or None
        if not header.n_sig:
            return None
        record = wfdb.rdrecord(str(path), physical=False, smooth_frames=False)
        sums = record.calc_checksum(expanded=True)
    except Exception:  # wfdb raises whatever its parsing meets
        return None
    wrong = [
        f"{header.file_name[k]}, signal {k}: {stated % _MODULUS} stated, {found % _MODULUS} found"
        for k, (stated, found) in enumerate(zip(header.checksum, sums, strict=True))
        # Zero is also what programs write that do not compute it.
        if stated and (stated - found) % _MODULUS
    ]
    return "; ".join(wrong) or None


def ends_as_it_should(path: Path) -> bool:
    """Whether an annotation file is of whole words, the last of which is zero (WFDB's annot(5))."""
    content = path.read_bytes()
    return len(content) % 2 == 0 and content.endswith(b"\0\0")
