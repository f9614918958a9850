"""Memory and time of each stage by the number of records, and by the length of one record.

    python benchmarks/scale.py [--out benchmarks/scale]

or `make benchmark-scale`. Makes the sample dataset with 1, 4, 16 and 64 times as many patients, of
36 s each, and runs the commands of the stages on it, each in a process of its own and with one
worker; of training, the data feed alone, one epoch: training.py has what a network takes. The
network that is evaluated is a small one, the same for all sizes. Then four records of 2, 10 and 30
minutes, one after the other.

The processes are forked from one that has loaded the libraries. So figures are without them: they
are the same for any number of records, and told once. Memory is what a process has written that
it shares with none (private dirty pages), at its peak, asked for ten times a second; pages of
mapped files, which the kernel takes back when it needs them, do not count, nor does what allocators
keep of what they were given back: they are told to keep nothing. Time is processor time,
which other work on the machine moves less than a clock; its slopes are least squares. Memory is no
line: what grows shows between the two largest sizes, when every buffer has its full size.

Writes table.md, results.json and plot.png.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

# Before anything loads a library that reads it: a fork must find no threads.
os.environ |= {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}

import numpy as np
import yaml

from ecgbeats import cli as library
from ecgbeats.files import write_json, write_text

HERE = Path(__file__).resolve().parent
NAME = "scale"
FACTORS, PATIENTS, MINUTES = (1, 4, 16, 64), 12, 0.6
LENGTH_PATIENTS, LENGTHS_MIN, LENGTH_STAGES = 4, (2, 10, 30), ("fetch", "validate", "render")
STAGES = ("fetch", "validate", "render", "split", "train's feed")
# What these keep is of records, and of beats one block; the others have a row for each beat. These
# have workers, too; of the others each is one process.
BY_RECORD = ("fetch", "validate", "render")
# Of the C library and of Arrow: memory that is freed goes back.
_KEEP_NOTHING = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
}
# What is asked of the slopes: so many recordings, of a day each, done within a week.
HOLTERS, HOLTER_HOURS, WITHIN_DAYS = 100_000, 24, 7
_EVERY_S = 0.1


def run(work: Callable[[], object], folder: Path) -> dict[str, float]:
    """Do `work` in a fork of this process, in `folder`; what it took."""
    began = time.perf_counter()
    child = os.fork()
    if not child:
        code = 1
        try:
            os.chdir(folder)
            log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    peak = 0.0
    while True:
        peak = max(peak, _private_mb(child))
        ended, status, used = os.wait4(child, os.WNOHANG)
        if ended:
            break
        time.sleep(_EVERY_S)
    if status:
        raise SystemExit((folder / "log").read_text()[-4000:])
    return {
        "mb": round(peak, 1),
        "cpu_s": round(used.ru_utime + used.ru_stime, 2),
        "wall_s": round(time.perf_counter() - began, 2),
    }


def _private_mb(pid: int) -> float:
    """Pages that a process has written and shares with none; 0 for one that has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Private_Dirty:"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def write_params(folder: Path, patients: int, minutes: float) -> None:
    """The sample's recipe on so many patients; none excluded, a network that learns in seconds."""
    real = yaml.safe_load((HERE.parent / "params.yaml").read_text())
    split = {"by": "patient", "test_share": 0.34, "validation_share": 0.34, "seed": 1}
    protocol = {**real["protocols"]["sample-aami5"], "exclude_records": [], "split": split}
    recipe = {
        **{key: real["recipes"]["sample-aami5"][key] for key in ("image", "answer")},
        "dataset": NAME,
        "protocol": NAME,
        "model": {"name": "compact", "options": {"filters": [4, 8], "dense": 8}},
        "train": {**real["recipes"]["sample-aami5"]["train"], "epochs": 1},
        "evaluate": {"headline": ["N", "V"], "bootstrap": 200},
    }
    source = {"source": "sample", "patients": patients, "minutes": minutes, "fs": 360, "seed": 7}
    values = {
        "datasets": {NAME: source},
        "protocols": {NAME: protocol},
        "recipes": {NAME: recipe},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


def load_libraries() -> float:
    """Load what the stages use; how many MB of this process that takes."""
    import great_expectations  # noqa: F401
    import keras  # noqa: F401
    import onnxruntime  # noqa: F401
    import wfdb  # noqa: F401

    from ecgbeats import evaluation, feed, measuring, training, validation  # noqa: F401
    from ecgbeats.additions import frozen  # noqa: F401
    from ecgbeats.imaging import store  # noqa: F401
    from ecgbeats.sources import sample  # noqa: F401

    # A collection in a fork would write to each object of the libraries, and so count their pages.
    gc.collect()
    gc.freeze()
    return _private_mb(os.getpid())


def stages(model: str) -> dict[str, Callable[[], object]]:
    """The work of each stage, in order; paths are relative to a size's folder."""
    raw, images, split = ("--raw", "raw"), ("--images", "images"), ("--split", "split")
    alone = ("--workers", "1")

    def stage(*words: str) -> Callable[[], object]:
        return lambda: library.stage([*words], standalone_mode=False)

    return {
        "fetch": stage("fetch", NAME, "--out", "raw", *alone),
        "validate": stage(
            *("validate", NAME, *raw, "--out", "validation", "--docs", "docs", *alone)
        ),
        "render": stage("render", NAME, *raw, "--out", "images", *alone),
        "split": stage(
            *(
                "split",
                NAME,
                *images,
                "--out",
                "split",
                "--report",
                "report",
                "--docs",
                "docs-split",
            )
        ),
        "train's feed": lambda: feed(Path()),
        "train": stage(
            *("train", NAME, *images, *split, "--out", model, "--checkpoints", "checkpoints")
        ),
        "evaluate": stage(
            *("evaluate", NAME, *raw, *images, *split, "--model", model),
            *("--predictions", "predictions", "--report", "evaluation"),
        ),
    }


def feed(folder: Path) -> None:
    """One epoch of what training is fed with, without a network."""
    from ecgbeats.config import read_params
    from ecgbeats.feed import Feed
    from ecgbeats.imaging.store import BeatImages
    from ecgbeats.split import TRAIN, read_split
    from ecgbeats.training import make_task

    sides = read_split(folder / "split")
    images = BeatImages.open(folder / "images")
    task = make_task(images, sides.beats, sides.classes, sides.headline)
    batches = Feed(
        images,
        task.labels,
        task.index(TRAIN),
        np.ones(len(task.classes), np.float32),
        batch=read_params(folder / "params.yaml").recipe(NAME).train.batch,
        seed=1,
    )
    for i in range(len(batches)):
        batches[i]


def measure(say: Callable[[str], None]) -> dict[str, Any]:
    """All figures."""
    libraries_mb = round(load_libraries(), 1)
    with tempfile.TemporaryDirectory(prefix="ecgbeats-scale-") as scratch:
        work = stages(str(Path(scratch) / "model"))

        def of(folder: str, patients: int, minutes: float, names: Sequence[str]) -> dict[str, Any]:
            place = Path(scratch) / folder
            write_params(place, patients, minutes)
            row: dict[str, Any] = {"records": patients, "minutes": minutes, "stages": {}}
            do(names, row, place)
            return row | _content(place, row)

        def do(names: Sequence[str], row: dict[str, Any], place: Path) -> None:
            for name in names:
                row["stages"][name] = run(work[name], place)
                say(f"{place.name} {name}: {row['stages'][name]}")

        by_number = [of(f"x{n}", PATIENTS * n, MINUTES, STAGES) for n in FACTORS]
        by_length = [
            of(f"{minutes}-minutes", LENGTH_PATIENTS, minutes, LENGTH_STAGES)
            for minutes in LENGTHS_MIN
        ]
        # By the smallest's network, each of them.
        run(work["train"], Path(scratch) / f"x{FACTORS[0]}")
        for n, row in zip(FACTORS, by_number, strict=True):
            do(["evaluate"], row, Path(scratch) / f"x{n}")
    return {
        "cpu": _processor(),
        "libraries_mb": libraries_mb,
        "by_number": by_number,
        "by_length": by_length,
        "by_record_hours": slopes(by_number, [row["hours"] for row in by_number]),
        "growth": growth(by_number),
        # Processor time hangs on all of them, memory on the one that is held at a time.
        "by_hours_of_long_records": slopes(by_length, [row["hours"] for row in by_length]),
        "by_hours_of_one_record": slopes(by_length, [row["minutes"] / 60 for row in by_length]),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _content(folder: Path, row: Mapping[str, Any]) -> dict[str, Any]:
    import pandas as pd

    def megabytes(name: str) -> float:
        return round(sum(p.stat().st_size for p in (folder / name).rglob("*")) / 1e6, 3)

    return {
        "hours": row["records"] * row["minutes"] / 60,
        "beats": len(pd.read_parquet(folder / "images" / "beats.parquet")),
        "raw_mb": megabytes("raw"),
        "images_mb": megabytes("images"),
    }


def slopes(
    rows: Sequence[Mapping[str, Any]], hours: Sequence[float]
) -> dict[str, dict[str, float]]:
    """By stage, a straight line over `hours`: what an hour more takes, what none would."""
    found: dict[str, dict[str, float]] = {}
    for name in rows[0]["stages"]:
        found[name] = {}
        for figure in ("cpu_s", "mb"):
            values = np.array([row["stages"][name][figure] for row in rows])
            slope, base = np.polyfit(hours, values, 1)
            left = values - (slope * np.array(hours) + base)
            total = ((values - values.mean()) ** 2).sum()
            found[name] |= {
                f"{figure}_an_hour": float(slope),
                f"{figure}_base": float(base),
                f"{figure}_r2": float(1 - (left**2).sum() / total) if total else 1.0,
            }
    return found


def growth(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """By stage, how many bytes more a record and a beat take, between the two largest sizes."""
    less, more = rows[-2:]
    found = {}
    for name in rows[0]["stages"]:
        grown = 1e6 * (more["stages"][name]["mb"] - less["stages"][name]["mb"])
        found[name] = {of: grown / (more[of] - less[of]) for of in ("records", "beats")}
    return found


def table(found: Mapping[str, Any]) -> str:
    """Both tables, the lines through them, and what they say of Holter recordings."""
    rows, lines_through = found["by_number"], found["by_record_hours"]
    lines = [
        "# Memory and time by the number of records",
        "",
        f"Records of {rows[0]['minutes'] * 60:.0f} s, two leads, 360 Hz, one process "
        f"({found['cpu']}). Peak MB above the {found['libraries_mb']:.0f} MB of the libraries; "
        "below it, processor seconds.",
        "",
        "| | "
        + " | ".join(f"{row['records']} records, {row['beats']:,} beats" for row in rows)
        + f" | bytes more a beat, {rows[-2]['records']} to {rows[-1]['records']} "
        "| s more an hour | R² of s |",
        "| --- |" + " ---: |" * (len(rows) + 3),
    ]
    for name, line in lines_through.items():
        of = [row["stages"][name] for row in rows]
        cells = [f"{x['mb']:.0f} MB<br>{x['cpu_s']:.1f} s" for x in of]
        cells += [f"{found['growth'][name]['beats']:,.0f}", f"{line['cpu_s_an_hour']:.2f}"]
        lines.append(f"| {name} | {' | '.join(cells)} | {line['cpu_s_r2']:.4f} |")
    rows = found["by_length"]
    lines += [
        "",
        "## By the length of a record",
        "",
        f"{LENGTH_PATIENTS} records, one after the other in one process.",
        "",
        "| | "
        + " | ".join(f"{row['minutes']:g} min" for row in rows)
        + " | MB more an hour of one record | s more an hour |",
        "| --- |" + " ---: |" * (len(rows) + 2),
    ]
    for name, line in found["by_hours_of_one_record"].items():
        cells = [
            f"{row['stages'][name]['mb']:.0f} MB<br>{row['stages'][name]['cpu_s']:.1f} s"
            for row in rows
        ]
        seconds = found["by_hours_of_long_records"][name]["cpu_s_an_hour"]
        cells += [f"{line['mb_an_hour']:.0f}", f"{seconds:.2f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *on_paper(found), ""])


def on_paper(found: Mapping[str, Any]) -> list[str]:
    """What the lines say of many Holter recordings."""
    hours = HOLTERS * HOLTER_HOURS
    last = found["by_length"][-1]
    an_hour = {key: last[key] / last["hours"] for key in ("beats", "raw_mb", "images_mb")}
    lines = [
        f"## On paper: {HOLTERS:,} records of {HOLTER_HOURS} h",
        "",
        f"{hours:,} record-hours, {an_hour['beats'] * hours / 1e9:.1f} thousand million beats; "
        f"{an_hour['raw_mb'] * hours / 1e6:,.1f} TB of records, "
        f"{an_hour['images_mb'] * hours / 1e6:,.1f} TB of images. From the lines above; nobody has "
        "run it. Processor time of validate and render is by the longer records; what one process "
        "holds grows with the records in them, in the others with the beats. Of training it is the "
        "feed for one epoch: the network itself is not in it.",
        "",
        f"| stage | processor-days | workers for {WITHIN_DAYS} days "
        "| GB for one record | TB held by one process |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, line in found["by_record_hours"].items():
        if name == "fetch":  # which invents recordings here
            continue
        long, one = (
            found[f"by_hours_of_{what}"].get(name) for what in ("long_records", "one_record")
        )
        days = (long or line)["cpu_s_an_hour"] * hours / 86400
        workers = f"{days / WITHIN_DAYS:,.1f}" if name in BY_RECORD else "one process"
        cells = [f"{days:,.0f}", workers, ""]
        if one:
            cells[2] = f"{(one['mb_base'] + one['mb_an_hour'] * HOLTER_HOURS) / 1e3:.1f}"
        grows = found["growth"][name]
        held = (
            grows["records"] * HOLTERS
            if name in BY_RECORD
            else grows["beats"] * an_hour["beats"] * hours
        )
        cells.append(f"{held / 1e12:,.3f}" if held > 0 else "not seen below its blocks")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def plot(found: Mapping[str, Any], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = found["by_number"]
    records = [row["records"] for row in rows]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    memory, seconds = figure.subplots(1, 2)
    for name in found["by_record_hours"]:
        of = [row["stages"][name] for row in rows]
        memory.plot(records, [one["mb"] for one in of], marker="o", label=name)
        seconds.plot(records, [one["cpu_s"] for one in of], marker="o", label=name)
    memory.set(
        xscale="log", ylim=(0, None), xlabel="records", ylabel="peak memory above the libraries, MB"
    )
    seconds.set(xlabel="records", ylabel="processor time, s")
    for axes in (memory, seconds):
        axes.set_xticks(records, [str(count) for count in records])
        axes.grid(alpha=0.3)
    memory.legend(fontsize="small")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=HERE / "scale")
    options = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in _KEEP_NOTHING.items()):
        # Read when a process starts.
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **_KEEP_NOTHING})
    found = measure(lambda words: print(words, file=sys.stderr, flush=True))
    words = table(found)
    print(words)
    write_json(options.out / "results.json", found)
    write_text(options.out / "table.md", words)
    plot(found, options.out / "plot.png")


if __name__ == "__main__":
    main()
