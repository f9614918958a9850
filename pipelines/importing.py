"""Importing much at once."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collector() -> Iterator[None]:
    """Import without the garbage collector, and keep what was imported from it for good.

    What modules make stays as long as the process does. To look through it again and again is a
    fifth of the time that Prefect, its server and MLflow take (docs/speed.md).
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
