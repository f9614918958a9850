"""From a record on disk to conditioned beats, and checking a dataset: the usual way, and ours.

The usual way with WFDB's package and SciPy: two median filters over the whole signal (de Chazal
et al. 2004) and a loop over beats. Validation is compared with reading the same files by that
package, which is the least that any check of them costs. Run: make benchmark
"""

from __future__ import annotations

import tempfile
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import numpy as np
import wfdb
from by_turns import by_turns, print_ratios
from scipy.signal import medfilt, resample
from threadpoolctl import threadpool_limits

from ecgbeats.beats import at_rate, condition, windows
from ecgbeats.config import SampleSource
from ecgbeats.labels import LabelScheme
from ecgbeats.records import BEAT_SYMBOLS, read_annotations, read_recording
from ecgbeats.sources.sample import make_sample
from ecgbeats.validation import validate_dataset

RECORDS, MINUTES, ROUNDS = 4, 30, 3
# Around R, and how wide a beat is for a network.
BEFORE_S, AFTER_S, FS, WIDTH = 0.25, 0.4, 180.0, 117


def usual_way(path: str) -> np.ndarray:
    record, beats = wfdb.rdrecord(path), wfdb.rdann(path, "atr")
    fs = record.fs
    signal = record.p_signal[:, 0]
    base = medfilt(medfilt(signal, int(0.2 * fs) // 2 * 2 + 1), int(0.6 * fs) // 2 * 2 + 1)
    signal = signal - base
    found = []
    for sample, symbol in zip(beats.sample, beats.symbol, strict=True):
        start, stop = sample - int(BEFORE_S * fs), sample + int(AFTER_S * fs)
        if symbol in BEAT_SYMBOLS and start >= 0 and stop <= len(signal):
            found.append(resample(signal[start:stop], WIDTH))
    return np.array(found, np.float32)


def ours(path: Path) -> np.ndarray:
    recording, beats = read_recording(path), read_annotations(path).only(BEAT_SYMBOLS)
    signal = condition(recording, 0, FS)
    centres = np.rint(at_rate(beats.sample, recording.fs, FS)).astype(int)
    return windows(signal, centres, int(BEFORE_S * FS), int(AFTER_S * FS))


def main() -> None:
    scheme = LabelScheme(
        source="EC57", classes={"N": "NLRej", "S": "AaJS", "V": "VE", "F": "F", "Q": "/fQ"}
    )
    with tempfile.TemporaryDirectory() as scratch, threadpool_limits(1):
        raw = Path(scratch) / "raw"
        params = SampleSource(source="sample", patients=RECORDS, minutes=MINUTES, fs=360, seed=1)
        make_sample(params, raw, workers=1)
        paths = sorted(path.with_suffix("") for path in raw.glob("*.hea"))
        counts = len(usual_way(str(paths[0]))), len(ours(paths[0]))
        seconds = by_turns(
            {
                "WFDB, SciPy, a loop": lambda: usual_way(str(paths[0])),
                "ours": lambda: ours(paths[0]),
            },
            ROUNDS,
        )
        print(f"a record of {MINUTES} minutes to beats, {counts[0]} and {counts[1]} of them")
        print_ratios(seconds, "WFDB, SciPy, a loop", "a record")

        def read_all() -> None:
            for path in paths:
                wfdb.rdrecord(str(path))
                wfdb.rdann(str(path), "atr")

        def validate() -> None:
            with redirect_stderr(StringIO()):
                validate_dataset(raw, scheme, Path(scratch) / "out", workers=1)

        seconds = by_turns({"read by WFDB alone": read_all, "ours, all checks": validate}, ROUNDS)
        print(f"validation of {RECORDS} records of {MINUTES} minutes")
        print_ratios(seconds, "read by WFDB alone", "a record", RECORDS)


if __name__ == "__main__":
    main()
