"""How much memory what we start takes at its peak."""

from __future__ import annotations

import threading
from types import TracebackType

import psutil

_MEGABYTE = 1e6


class PeakMemory:
    """Sample the children of this process, and theirs, while a block runs.

    Attributes
    ----------
    megabytes : float
        Greatest sum of their proportional set sizes: pages that several share, mapped
        images among them, count once.
    """

    def __init__(self, every: float = 0.5) -> None:
        self.megabytes = 0.0
        self._every = every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        me = psutil.Process()
        while not self._stop.wait(self._every):
            total = 0
            for child in me.children(recursive=True):
                try:
                    total += child.memory_full_info().pss
                except psutil.Error:
                    # It ended, or is not ours to look at.
                    continue
            self.megabytes = max(self.megabytes, total / _MEGABYTE)
