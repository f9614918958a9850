"""Importing much at once."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collector() -> Iterator[None]:
    """Import without the garbage collector, which then leaves alone all that there is by now.

    What modules make stays as long as the process does. To look through it again and again is a
    fifth of the time that Prefect and its server take (docs/speed.md).
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
