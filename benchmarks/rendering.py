"""Images of beats per second: one matplotlib figure a beat, as is usual, and ours.

The usual way twice: as projects on beat images write it, a figure of pyplot's own size that is
saved to a file, read back, made grey, scaled down and saved again; and as lean as a figure gets,
small, without pyplot, axes or a file.

Ours also against memory: how much of the rate at which this core copies bytes is reached by the
bytes that drawing must read and write, the signal and the images. Both sides draw the same beats
of a synthetic recording in one run, on one core, in turn; seconds are the processor's, and the
ratio of the medians over rounds is what counts. Run: make benchmark
"""

from __future__ import annotations

import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from threadpoolctl import threadpool_limits

from ecgbeats.beats import choose_lead, condition, rr_intervals
from ecgbeats.config import SampleSource, read_params
from ecgbeats.imaging.render import render
from ecgbeats.imaging.spec import CompositeSpec, WaveformSpec
from ecgbeats.records import BEAT_SYMBOLS, Recording, read_annotations, read_recording
from ecgbeats.sources.sample import make_sample

ROOT = Path(__file__).parents[1]
ROUNDS = 5
FIGURES = 24
USUAL, LEANEST = "a figure per beat, as usual", "a figure per beat, leanest"


def from_r_to_r(
    recording: Recording, samples: np.ndarray, spec: WaveformSpec
) -> Iterator[np.ndarray]:
    """The signal of each beat, from the previous R to the next."""
    signal = condition(recording, choose_lead(recording, spec.lead), spec.fs)
    before, after = rr_intervals(samples, recording.fs)
    for at, left, right in zip(samples, before, after, strict=True):
        start = max(int(at - left * recording.fs), 0)
        yield signal[start : int(at + right * recording.fs)]


def usual_way(recording: Recording, samples: np.ndarray, spec: WaveformSpec) -> np.ndarray:
    """A figure per beat by pyplot, saved, read back, made grey, scaled down and saved."""
    images = []
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "beat.png"
        for beat in from_r_to_r(recording, samples, spec):
            figure = plt.figure(frameon=False)
            plt.plot(beat)
            plt.xticks([])
            plt.yticks([])
            for spine in plt.gca().spines.values():
                spine.set_visible(False)
            plt.savefig(path)
            plt.close(figure)
            picture = Image.open(path).convert("L").resize((spec.width, spec.height))
            picture.save(path)
            images.append(np.asarray(picture))
    return np.stack(images)


def leanest_way(recording: Recording, samples: np.ndarray, spec: WaveformSpec) -> np.ndarray:
    """A figure per beat, as small as will do, in memory."""
    images = []
    for beat in from_r_to_r(recording, samples, spec):
        figure = Figure(figsize=(1.92, 1.28), dpi=100, frameon=False)
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.plot(beat, color="black", linewidth=1)
        axes.set_ylim(spec.low_mv, spec.high_mv)
        axes.axis("off")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        picture = Image.open(buffer).convert("L").resize((spec.width, spec.height))
        images.append(np.asarray(picture))
    return np.stack(images)


def rate(draw: Callable[[], np.ndarray]) -> float:
    began = time.process_time()
    count = len(draw())
    return count / (time.process_time() - began)


def copied_per_s() -> float:
    """Bytes that copying more than the caches hold reads and writes in a second."""
    source = np.ones(1 << 24, np.float32)
    target = np.empty_like(source)
    np.copyto(target, source)
    best = 0.0
    for _ in range(ROUNDS):
        began = time.process_time()
        np.copyto(target, source)
        best = max(best, 2 * source.nbytes / (time.process_time() - began))
    return best


def main() -> None:
    plt.switch_backend("Agg")
    with tempfile.TemporaryDirectory() as scratch:
        params = SampleSource(source="sample", patients=4, minutes=30, fs=360, seed=1)
        make_sample(params, Path(scratch), workers=1)
        path = Path(scratch) / "s001"
        recording = read_recording(path)
        samples = read_annotations(path).only(BEAT_SYMBOLS).sample
    waveform = WaveformSpec(representation="waveform")
    composite = CompositeSpec(representation="composite")
    with_values = read_params(ROOT / "params.yaml").recipe("mitdb-aami5").image
    sides: dict[str, Callable[[], np.ndarray]] = {
        USUAL: lambda: usual_way(recording, samples[1 : FIGURES + 1], waveform),
        LEANEST: lambda: leanest_way(recording, samples[1 : FIGURES + 1], waveform),
        "ours, waveform": lambda: render(recording, samples, waveform),
        "ours, composite": lambda: render(recording, samples, composite),
        "ours, mitdb-aami5's": lambda: render(recording, samples, with_values),
    }
    rates: dict[str, list[float]] = {name: [] for name in sides}
    with threadpool_limits(1):
        for draw in sides.values():
            draw()
        for _ in range(ROUNDS):
            for name, draw in sides.items():
                rates[name].append(rate(draw))
    usual, leanest = (statistics.median(rates[name]) for name in (USUAL, LEANEST))
    print(f"{len(samples)} beats of a 30 minute recording, one core, median of {ROUNDS} rounds")
    for name, values in rates.items():
        middle = statistics.median(values)
        print(
            f"{name:<28} {middle:>10.0f} images/s  ({min(values):.0f} to {max(values):.0f})  "
            f"{middle / usual:>7.0f} x the usual, {middle / leanest:.1f} x the leanest"
        )
    memory = copied_per_s()
    for name, spec in (
        ("ours, waveform", waveform),
        ("ours, composite", composite),
        ("ours, mitdb-aami5's", with_values),
    ):
        image = np.prod(spec.shape) + recording.signal.nbytes / len(samples)
        share = statistics.median(rates[name]) * float(image) / memory
        print(f"{name:<28} {share:>10.2%} of copying at {memory / 1e9:.1f} GB/s")


if __name__ == "__main__":
    main()
