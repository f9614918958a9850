"""What a model's figures lose on recordings that were made, or marked, in another way.

    python benchmarks/elsewhere.py FOLDER [--model bento/carried] [--only WORDS]

FOLDER holds the MIT-BIH database. Seven records of DS2 are changed in memory, in one way each, and
classified as `ecgbeats evaluate` does it; prints macro-F1 over N, S, V, and F1 of S, of S without
record 232 and of V. What stands in docs/records-from-elsewhere.md.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from scipy.signal import butter, resample_poly, sosfiltfilt
from sklearn.metrics import f1_score

from ecgbeats.answering import answer_beats
from ecgbeats.config import read_params
from ecgbeats.inference import Classifier
from ecgbeats.records import Recording, in_order, read_annotations, read_recording

RECORDS = ("200", "213", "222", "228", "231", "232", "233")
LARGEST = "232"


@dataclass(frozen=True)
class Beats:
    """A recording, where its beats are marked, and their symbols; and chance of its own."""

    recording: Recording
    samples: np.ndarray
    symbols: np.ndarray
    chance: np.random.Generator

    def having(self, kept: np.ndarray) -> Beats:
        return replace(self, samples=self.samples[kept], symbols=self.symbols[kept])

    def marked(self, away_ms: np.ndarray | float) -> Beats:
        """Marks moved by so much, in order again, no two at one sample."""
        moved = self.samples + np.rint(np.asarray(away_ms) * self.recording.fs / 1000).astype(int)
        moved = np.clip(moved, 0, len(self.recording.signal) - 1)
        order = np.argsort(moved, kind="stable")
        moved, first = np.unique(moved[order], return_index=True)
        return replace(self, samples=moved, symbols=self.symbols[order][first])

    def signal(self, change: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Beats:
        """The signal as `change` makes it of the signal and of the time in seconds."""
        signal = self.recording.signal
        time = np.arange(len(signal)) / self.recording.fs
        changed = np.asarray(change(signal.copy(), time), np.float32)
        return replace(self, recording=replace(self.recording, signal=changed))


Change = Callable[[Beats], Beats]


def at(fs: float) -> Change:
    def change(beats: Beats) -> Beats:
        ratio = Fraction(fs / beats.recording.fs).limit_denominator(1000)
        up, down = ratio.numerator, ratio.denominator
        signal = resample_poly(beats.recording.signal, up, down, axis=0, padtype="line")
        recording = replace(beats.recording, fs=fs, signal=signal.astype(np.float32))
        samples = np.rint(beats.samples * float(ratio)).astype(int)
        return replace(beats, recording=recording, samples=np.clip(samples, 0, len(signal) - 1))

    return change


def leads(columns: list[int], names: tuple[str, ...]) -> Change:
    def change(beats: Beats) -> Beats:
        of = beats.recording
        signal, limits = of.signal[:, columns], of.adc_limits[columns]
        return replace(beats, recording=replace(of, leads=names, signal=signal, adc_limits=limits))

    return change


def scaled(*by: float) -> Change:
    return lambda beats: beats.signal(lambda signal, _: signal * np.array(by))


def wander(mv: float) -> Change:
    return lambda beats: beats.signal(
        lambda signal, t: (
            signal + mv * (np.sin(np.pi * 0.5 * t) + 0.5 * np.sin(np.pi * 0.14 * t + 1))[:, None]
        )
    )


def noise(mv: float) -> Change:
    return lambda beats: beats.signal(
        lambda signal, _: signal + beats.chance.normal(0, mv, signal.shape)
    )


def mains(mv: float) -> Change:
    return lambda beats: beats.signal(
        lambda signal, t: signal + mv * np.sin(2 * np.pi * 50 * t)[:, None]
    )


def band(low: float, high: float) -> Change:
    def change(beats: Beats) -> Beats:
        sections = butter(2, [low, high], "band", fs=beats.recording.fs, output="sos")
        return beats.signal(lambda signal, _: sosfiltfilt(sections, signal, axis=0))

    return change


def marks(away_ms: float) -> Change:
    return lambda beats: beats.marked(away_ms)


def scattered(sd_ms: float) -> Change:
    return lambda beats: beats.marked(beats.chance.normal(0, sd_ms, len(beats.samples)))


def at_onset(beats: Beats) -> Beats:
    return beats.marked(np.where(np.isin(beats.symbols, list("VE")), -80, -45))


def cut(seconds: float, start: float = 300) -> Change:
    def change(beats: Beats) -> Beats:
        first, last = (round(t * beats.recording.fs) for t in (start, start + seconds))
        kept = beats.having((beats.samples >= first) & (beats.samples < last))
        signal = beats.recording.signal[first:last]
        return replace(
            kept, recording=replace(kept.recording, signal=signal), samples=kept.samples - first
        )

    return change


def unmarked(share: float) -> Change:
    return lambda beats: beats.having(beats.chance.random(len(beats.samples)) > share)


def all_of(*changes: Change) -> Change:
    def change(beats: Beats) -> Beats:
        for each in changes:
            beats = each(beats)
        return beats

    return change


UNNAMED = ("ECG1", "ECG2")
CHANGES: dict[str, Change] = {
    "nothing": all_of(),
    **{f"{fs} Hz": at(fs) for fs in (128, 250, 257, 1000)},
    "gain x 0.1": scaled(0.1, 0.1),
    "gain x 1000": scaled(1000, 1000),
    "first lead x 3": scaled(3, 1),
    "wander 1 mV": wander(1),
    "wander 3 mV": wander(3),
    "noise 0.05 mV": noise(0.05),
    "noise 0.15 mV": noise(0.15),
    "mains 0.2 mV": mains(0.2),
    "0.5 to 40 Hz": band(0.5, 40),
    "1 to 25 Hz": band(1, 25),
    "unnamed, as filed": leads([0, 1], UNNAMED),
    "unnamed, V1 first": leads([1, 0], UNNAMED),
    "only V1": leads([1], ("V1",)),
    "only MLII": leads([0], ("MLII",)),
    **{f"marks {ms:+} ms": marks(ms) for ms in (-60, -40, 40, 60)},
    "marks at the onset": at_onset,
    "marks SD 10 ms": scattered(10),
    "marks SD 30 ms": scattered(30),
    "128 Hz, unnamed, SD 8 ms": all_of(at(128), leads([0, 1], UNNAMED), scattered(8)),
    "128 Hz, V1 first, SD 8 ms": all_of(at(128), leads([1, 0], UNNAMED), scattered(8)),
    "inverted both": scaled(-1, -1),
    "inverted first": scaled(-1, 1),
    "cut to 5 min": cut(300),
    "cut to 60 s": cut(60),
    "cut to 10 s": cut(10),
    "5 % not annotated": unmarked(0.05),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path, default=Path("bento/carried"))
    parser.add_argument("--only", default="", help="changes whose name has these words")
    asked = parser.parse_args()
    scheme = read_params(Path(__file__).parents[1] / "params.yaml").scheme("aami5")
    classifier = Classifier.load(asked.model, threads=1)
    whole = {}
    for record in RECORDS:
        path = asked.folder / record
        recording = read_recording(path)
        beats, _ = in_order(read_annotations(path).only(scheme.beats), len(recording.signal))
        whole[record] = (recording, beats.sample, beats.symbol)
    print(f"{'changed':28}   NSV     S  S without {LARGEST}     V  beats")
    for name, change in CHANGES.items():
        if asked.only not in name:
            continue
        said = []
        for record, of in whole.items():
            # The same chance for a record, whatever else is changed.
            beats = change(Beats(*of, np.random.default_rng(zlib.crc32(record.encode()))))
            answered = answer_beats(classifier, beats.recording, beats.samples)
            known = np.isin(beats.symbols, sorted(scheme.symbols))
            label = np.array(scheme.names)[scheme.encode(beats.symbols[known])]
            answer = np.array(classifier.classes)[answered.probabilities[known].argmax(axis=1)]
            said.append((np.full(len(label), record), label, answer))
        record_of, label, answer = map(np.concatenate, zip(*said, strict=True))
        rest = record_of != LARGEST
        f1 = f1_score(label, answer, labels=list("NSV"), average=None, zero_division=0)
        s = f1_score(label[rest], answer[rest], labels=["S"], average=None, zero_division=0)[0]
        print(
            f"{name:28} {f1.mean():5.3f} {f1[1]:5.3f} {s:13.3f} {f1[2]:5.3f} {len(label):6}",
            flush=True,
        )


if __name__ == "__main__":
    main()
