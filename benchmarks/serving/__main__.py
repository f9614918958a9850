"""A beat image over HTTP: our bento, and the usual way with Flask and Keras, side by side.

    python benchmarks/serving [--rounds 3] [--seconds 5] [--out reports/serving]

or `make benchmark-serving`. Serves the model that the repository carries by `bentoml serve`, and
`usual.py` under Flask's own server; posts the same PNG images (the carried golden batch) to both,
from 1, 8 and 64 clients, by turns in short rounds, so that whatever else the machine does is
shared between them. What counts is the ratio, "ours over theirs". The two networks differ (ours
takes one plane of 72 x 64, theirs 64 x 64 x 3 with random weights): it is the way of serving that
is measured.

Prints, and writes to table.md and results.json in --out: p50, p95 and p99 in ms, good answers a
second, processor time an answer, resident memory of all processes, seconds until ready; and what
the load generator can do by itself. Start times are taken while the other side is not running.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from load import ceiling, form_request, load
from sides import Side, ours, usual

from ecgbeats.files import write_json, write_text
from ecgbeats.golden import read_golden
from ecgbeats.imaging.png import encode_png
from pipelines import carried
from pipelines.environment import enter

CLIENTS = (1, 8, 64)
# How often each side is started, to see how long it takes.
STARTS = 3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load in each round")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    out = options.out.absolute() if options.out else None
    root = enter()
    tag = carried.build(root)
    golden = read_golden(carried.folder_of(root) / "golden.npz")
    images = [encode_png(image, golden.spec_id) for image in golden.images]
    found = measure(tag, images, rounds=options.rounds, seconds=options.seconds)
    words = table(found)
    print(words)
    if out is not None:
        write_json(out / "results.json", found)
        write_text(out / "table.md", words)


def measure(tag: str, images: list[bytes], *, rounds: int, seconds: float) -> dict[str, Any]:
    """All that is measured, as it goes into results.json."""
    with tempfile.TemporaryDirectory(prefix="ecgbeats-serving-") as folder, ExitStack() as stack:
        scratch = Path(folder)
        starts: dict[str, list[tuple[float, float]]] = {"ours": [], "the usual way": []}
        for _ in range(STARTS):
            with ours(tag, scratch) as side:
                starts[side.name].append((side.ready_s, side.ready_cpu_s))
            with usual(scratch) as side:
                starts[side.name].append((side.ready_s, side.ready_cpu_s))
        sides = [stack.enter_context(start) for start in (ours(tag, scratch), usual(scratch))]
        requests = {
            side.name: [form_request(side.url, image, f"{k}.png") for k, image in enumerate(images)]
            for side in sides
        }
        of_ours = requests["ours"]
        cells: dict[str, dict[str, list[dict[str, float]]]] = {
            side.name: {str(n): [] for n in CLIENTS} for side in sides
        }
        for side in sides:  # imports and first calls are not what is measured
            load(side.url, requests[side.name], clients=8, seconds=max(2.0, seconds / 2))
        for _ in range(rounds):
            for clients in CLIENTS:
                for side in sides:
                    cells[side.name][str(clients)].append(
                        _one(side, requests[side.name], clients, seconds)
                    )
        return {
            "bento": tag,
            "processors": len(os.sched_getaffinity(0)),
            "python": platform.python_version(),
            "rounds": rounds,
            "seconds": seconds,
            "load_average": [round(value, 1) for value in os.getloadavg()],
            "generator_alone": {
                str(n): ceiling(of_ours, 350, clients=n, seconds=1.0) for n in CLIENTS
            },
            "sides": {
                side.name: {
                    "ready_s": [seconds for seconds, _ in starts[side.name]],
                    "ready_cpu_s": [seconds for _, seconds in starts[side.name]],
                    "memory_mb": side.memory_mb(),
                    "loads": cells[side.name],
                }
                for side in sides
            },
        }


def _one(side: Side, requests: list[bytes], clients: int, seconds: float) -> dict[str, float]:
    before = side.cpu_s()
    answered = load(side.url, requests, clients=clients, seconds=seconds)
    if answered.failed or not answered.seconds:
        raise SystemExit(f"{side.name}: not all was answered: {dict(answered.statuses)}")
    parts = statistics.quantiles(answered.seconds, n=100, method="inclusive")
    return {
        "p50_ms": 1e3 * parts[49],
        "p95_ms": 1e3 * parts[94],
        "p99_ms": 1e3 * parts[98],
        "rate": answered.rate,
        "cpu_ms": 1e3 * (side.cpu_s() - before) / len(answered.seconds),
        "answers": len(answered.seconds),
    }


def table(found: dict[str, Any]) -> str:
    """`found` as Markdown: medians over rounds; of ratios, the median over rounds of the ratio."""
    loads = {name: side["loads"] for name, side in found["sides"].items()}
    head = "| clients | | p50 ms | p95 ms | p99 ms | answers/s | processor ms an answer |"
    lines = [head, "| ---: | --- | ---: | ---: | ---: | ---: | ---: |"]
    for clients in loads["ours"]:
        for name in loads:
            rows = loads[name][clients]
            middle = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
            lines.append(
                f"| {clients} | {name} | {middle['p50_ms']:.1f} | {middle['p95_ms']:.1f} "
                f"| {middle['p99_ms']:.1f} | {middle['rate']:.1f} | {middle['cpu_ms']:.1f} |"
            )
        pairs = list(zip(loads["ours"][clients], loads["the usual way"][clients], strict=True))
        over = {
            key: statistics.median(mine[key] / theirs[key] for mine, theirs in pairs)
            for key in pairs[0][0]
        }
        lines.append(
            f"| {clients} | **ours over theirs** | {over['p50_ms']:.3f} | {over['p95_ms']:.3f} "
            f"| {over['p99_ms']:.3f} | **{over['rate']:.1f}** | {over['cpu_ms']:.3f} |"
        )
    lines += ["", "| | ready after, s | processor s of it | resident memory, MB |"]
    lines += ["| --- | ---: | ---: | ---: |"]
    for name, side in found["sides"].items():
        memory = side["memory_mb"]
        lines.append(
            f"| {name} | {statistics.median(side['ready_s']):.1f} "
            f"| {statistics.median(side['ready_cpu_s']):.1f} | {sum(memory):.0f} in all, "
            f"{max(memory):.0f} the largest of {len(memory)} |"
        )
    alone = ", ".join(
        f"{rate:,.0f}/s with {clients}" for clients, rate in found["generator_alone"].items()
    )
    lines += [
        "",
        f"{found['bento']}; {found['processors']} processors, load average "
        f"{found['load_average'][0]} at the end; {found['rounds']} rounds of "
        f"{found['seconds']:g} s a cell, medians. The load generator alone: {alone}.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
