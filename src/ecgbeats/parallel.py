"""A parallel map over independent items: on processes or a cluster, in order, with progress."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

from ecgbeats import cluster
from ecgbeats.errors import ServiceError
from ecgbeats.progress import Progress

Item = TypeVar("Item")
Result = TypeVar("Result")

# A process is ready after seconds: it imports anew what its work needs.
_WORTH_PROCESSES_S = 4.0
# Items begun for each process before an earlier result is there: records differ in length.
_AHEAD = 4


def workers_here() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


def slots() -> int:
    """How much can be done at once: workers of the cluster, if one was asked for; else here."""
    asked = cluster.current()
    return workers_here() if asked is None else asked.slots()


def parallel_map(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    job: str,
    name: Callable[[Item], str] = str,
    workers: int | None = None,
) -> list[Result]:
    """All results of `parallel_results`."""
    return list(parallel_results(function, items, job=job, name=name, workers=workers))


def parallel_results(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    job: str,
    name: Callable[[Item], str] = str,
    workers: int | None = None,
) -> Iterator[Result]:
    """Apply `function` to each of `items`; the results, one by one in the order of `items`.

    Of results that wait for an earlier one there are up to four for each process, however many
    items there are. The first error ends the map and is raised as it came; items not yet begun are
    dropped. With one worker everything runs in this process, where it can be debugged. So does,
    where no number of workers is given, what is done sooner than processes would start. Where a
    cluster was asked for (`ecgbeats.cluster.on_cluster`) everything runs there.

    Raises
    ------
    ServiceError
        A process ended without a result, or the cluster is gone.
    """
    asked = cluster.current()
    progress = Progress(job, len(items))
    if asked is not None:
        yield from _on_cluster(function, items, asked, workers, progress, name)
        return
    # Where the number of workers is given, all of the work goes to processes; else what is
    # left once the first items have told how long it takes.
    patience_s = 0.0 if workers else _WORTH_PROCESSES_S
    workers = min(workers or workers_here(), max(len(items), 1))
    took_s = 0.0
    for done, item in enumerate(items):
        left = len(items) - done
        if workers > 1 and left > 1 and left * took_s >= patience_s:
            yield from _on_processes(function, items[done:], workers, progress, name)
            return
        began = time.monotonic()
        result = _on_one_thread(function, item)
        took_s = time.monotonic() - began
        progress.step(name(item))
        yield result


def _on_processes(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    progress: Progress,
    name: Callable[[Item], str],
) -> Iterator[Result]:
    # Spawned, not forked: a fork of a process that holds threads may hang.
    context = multiprocessing.get_context("spawn")
    running: dict[Future[Result], int] = {}
    waiting: dict[int, Result] = {}
    begun = 0
    # The function goes to each process once: it may hold a list of all records, and with each
    # item that would be work by the square of their number.
    with ProcessPoolExecutor(workers, context, _begin, (function,)) as pool:
        try:
            for wanted in range(len(items)):
                while wanted not in waiting:
                    while begun < min(len(items), wanted + workers * _AHEAD):
                        running[pool.submit(_next_item, items[begun])] = begun
                        begun += 1
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        index = running.pop(future)
                        waiting[index] = future.result()
                        progress.step(name(items[index]))
                yield waiting.pop(wanted)
        except BrokenProcessPool as error:
            raise ServiceError(
                f"{progress.job}: one of its processes ended without a result; "
                "was there enough memory?"
            ) from error
        except BaseException:
            # Waited for: leaving the pool without would take the cancelling back.
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _on_cluster(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    asked: cluster.Cluster,
    workers: int | None,
    progress: Progress,
    name: Callable[[Item], str],
) -> Iterator[Result]:
    waiting: dict[int, Result] = {}
    begun = 0
    with cluster.Calls[int](asked, partial(_on_one_thread, function)) as calls:
        for wanted in range(len(items)):
            while wanted not in waiting:
                # A few at a time: the scheduler keeps what each call was started with.
                at_once = workers or asked.calls_ahead()
                while begun < min(len(items), wanted + at_once * _AHEAD) and calls.busy < at_once:
                    calls.start(begun, name(items[begun]), items[begun])
                    begun += 1
                index, waiting[index] = calls.next()
                progress.step(name(items[index]))
            yield waiting.pop(wanted)


_function: Callable[[Any], Any]


def _begin(function: Callable[[Any], Any]) -> None:
    """In a process of a pool: what it is to do with each item."""
    global _function
    _function = function


def _next_item(item: Any) -> Any:
    return _on_one_thread(_function, item)


def _on_one_thread(function: Callable[[Item], Result], item: Item) -> Result:
    """`function` of `item` with one thread for products of matrices.

    Their last bits differ with the number of threads, and results must not hang on where they
    were made; nor should processes get in each other's way. Set for each call, not when a process
    starts: only libraries that are loaded by then heed it.
    """
    with threadpool_limits(1):
        return function(item)
