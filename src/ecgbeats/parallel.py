"""A parallel map over independent items: on processes, in order, with progress."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

from threadpoolctl import threadpool_limits

from ecgbeats.progress import Progress

Item = TypeVar("Item")
Result = TypeVar("Result")


def workers_here() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


def parallel_map(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    job: str,
    name: Callable[[Item], str] = str,
    workers: int | None = None,
) -> list[Result]:
    """Apply `function` to each of `items` and return the results in the order of `items`.

    The first error ends the map and is raised as it came; items not yet begun are dropped.
    With one worker everything runs in this process, where it can be debugged.
    """
    workers = min(workers or workers_here(), max(len(items), 1))
    progress = Progress(job, len(items))
    if workers == 1:
        results = []
        for item in items:
            results.append(function(item))
            progress.step(name(item))
        return results
    return list(_on_processes(function, items, workers, progress, name))


def _on_processes(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    progress: Progress,
    name: Callable[[Item], str],
) -> Iterator[Result]:
    # Spawned, not forked: a fork of a process that holds threads may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_one_thread_each) as pool:
        futures = {pool.submit(function, item): i for i, item in enumerate(items)}
        results: dict[int, Result] = {}
        try:
            for future in as_completed(futures):
                index = futures[future]
                results[index] = future.result()
                progress.step(name(items[index]))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    for i in range(len(items)):
        yield results[i]


def _one_thread_each() -> None:
    # Workers that each start a BLAS thread per core get in each other's way.
    threadpool_limits(1)
