"""Progress that reads well on a terminal and in a log: what, how far, how long still."""

from __future__ import annotations

import sys
import time


class Progress:
    """Count items of one job and say so: a moving bar on a terminal, else a line at a time.

    Parameters
    ----------
    job : str
        What is being done, e.g. "render".
    total : int
        Number of items.
    every : float
        Seconds between two lines where the output is no terminal.
    """

    def __init__(self, job: str, total: int, every: float = 5.0) -> None:
        self.job, self.total, self.every = job, total, every
        self.done = 0
        self._start = self._last = time.monotonic()
        self._live = sys.stderr.isatty()

    def step(self, item: str) -> None:
        """Report that `item` is done."""
        self.done += 1
        now = time.monotonic()
        if not self._live and now - self._last < self.every and self.done < self.total:
            return
        self._last = now
        left = (now - self._start) / self.done * (self.total - self.done)
        still = (
            f", {_clock(left)} left"
            if self.done < self.total
            else f", {_clock(now - self._start)} in all"
        )
        line = f"{self.job}: {self.done}/{self.total} ({item}){still}"
        end = "\n" if self.done == self.total or not self._live else "\r"
        print(f"\x1b[2K{line}" if self._live else line, end=end, file=sys.stderr, flush=True)


def say(message: str) -> None:
    """One line of information for the person who waits."""
    print(message, file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
