"""Both sides of a comparison in one run: by turns, in processor seconds, as ratios of medians.

Processor seconds of this process, all its threads: on a machine that does other work too, wall
time says more of that work than of ours.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def by_turns(sides: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median processor seconds of each side, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for counted in range(rounds + 1):
        for name, work in sides.items():
            began = time.process_time()
            work()
            if counted:
                seconds[name].append(time.process_time() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def print_ratios(seconds: Mapping[str, float], against: str, unit: str, per: float = 1.0) -> None:
    """A line a side: what one of `per` takes, and how many times faster than `against` that is."""
    width = max(map(len, seconds))
    for name, value in seconds.items():
        print(f"{name:<{width}} {1e3 * value / per:>12.4f} ms {unit}", end="")
        print(f" {seconds[against] / max(value, 1e-9):>10.1f} x")
