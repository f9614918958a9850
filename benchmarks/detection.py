"""Finding the beats of half an hour: XQRS of the WFDB package, and the detector that we use.

Both sides read the same lead of a synthetic recording in one run, on one core, in turn; the
ratio of the medians over rounds is what counts. Run: make benchmark
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sleepecg import detect_heartbeats
from threadpoolctl import threadpool_limits
from wfdb.processing import xqrs_detect

from ecgbeats.config import SampleSource
from ecgbeats.qrs import detect_beats
from ecgbeats.records import read_recording
from ecgbeats.sources.sample import make_sample

ROUNDS = 3


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        params = SampleSource(source="sample", patients=4, minutes=30, fs=360, seed=1)
        make_sample(params, Path(scratch), workers=1)
        recording = read_recording(Path(scratch) / "s001")
    lead = recording.signal[:, 0].astype(np.float64)
    sides: dict[str, Callable[[], np.ndarray]] = {
        "XQRS": lambda: xqrs_detect(lead, recording.fs, verbose=False),
        "SleepECG": lambda: detect_heartbeats(lead, recording.fs),
        "ours, around SleepECG": lambda: detect_beats(recording, 0),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    found: dict[str, int] = {}
    with threadpool_limits(1):
        for _ in range(ROUNDS):
            for name, detect in sides.items():
                began = time.perf_counter()
                found[name] = len(detect())
                seconds[name].append(time.perf_counter() - began)
    usual = statistics.median(seconds["XQRS"])
    print(f"one lead of 30 minutes, one core, median of {ROUNDS} rounds")
    for name, values in seconds.items():
        middle = statistics.median(values)
        print(f"{name:<22} {middle:>7.3f} s  {found[name]:>5} beats  {usual / middle:>6.0f} x")


if __name__ == "__main__":
    main()
