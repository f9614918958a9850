"""Long jobs, each in a process of its own: its memory goes when it ends, and it dies with us.

Where a cluster was asked for (`ecgbeats.cluster.on_cluster`) that process is a worker's.

`ecgbeats.parallel` maps short items over workers that live on. A training is another thing:
it takes gigabytes, it may be killed for them, and one that is left behind when its parent
was killed would write under the next run.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Generic, TypeVar

from threadpoolctl import threadpool_limits

from ecgbeats import cluster, cluster_worker
from ecgbeats.errors import ServiceError
from ecgbeats.parallel import workers_here
from ecgbeats.progress import say

Key = TypeVar("Key")
Item = TypeVar("Item")
Result = TypeVar("Result")

# What BLAS, OpenMP and TensorFlow read once, when they are loaded.
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)


@dataclass
class _Running(Generic[Key]):
    key: Key
    name: str
    process: BaseProcess
    answer: Connection
    voice: threading.Thread


class Processes(Generic[Key]):
    """Up to `jobs` jobs at a time; leaving the context ends those that still run.

    With one job everything runs in this process, where it can be debugged; on a cluster it runs
    there all the same.

    Parameters
    ----------
    jobs : int
    threads : int, optional
        Threads of each job; by default the processors, shared evenly, and one on a cluster.
    tell : callable, optional
        Takes each line that a job says, with its name before it; by default it is printed.
    """

    def __init__(
        self, jobs: int, *, threads: int | None = None, tell: Callable[[str], object] = say
    ) -> None:
        self.jobs = jobs
        self._tell = tell
        asked = cluster.current()
        self._calls = None if asked is None else cluster.Calls[Key](asked, _on_worker)
        here = 1 if asked is not None else workers_here() // jobs
        self._threads = threads or max(1, here)
        self._running: list[_Running[Key]] = []
        self._waiting: list[tuple[Key, Callable[[], Any]]] = []

    def __enter__(self) -> Processes[Key]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._calls is not None:
            self._calls.__exit__(kind, error, trace)
        for job in self._running:
            job.process.terminate()
        for job in self._running:
            job.process.join(10)
            if job.process.is_alive():
                job.process.kill()
            job.answer.close()
        self._running = []

    @property
    def busy(self) -> int:
        """Jobs that were started and whose result was not taken yet."""
        on_cluster = 0 if self._calls is None else self._calls.busy
        return on_cluster + len(self._running) + len(self._waiting)

    @property
    def free(self) -> bool:
        """Whether one more can be started."""
        return self.busy < self.jobs

    def start(self, key: Key, name: str, function: Callable[[Item], Any], item: Item) -> None:
        """Start `function(item)`; both must be picklable. `name` is for messages."""
        assert self.free
        if self._calls is not None:
            self._calls.start(key, name, (self._threads, name, function, item))
            return
        if self.jobs == 1:
            self._waiting.append((key, lambda: function(item)))
            return
        # Spawned, not forked: a fork of a process that holds threads may hang.
        context = multiprocessing.get_context("spawn")
        answer, to_answer = context.Pipe(duplex=False)
        said, to_say = context.Pipe(duplex=False)
        process = context.Process(
            target=_child,
            args=(to_answer, to_say, self._threads, function, item),
            name=name,
            # Ended, not waited for, where its parent ends in good order with a job still running.
            daemon=True,
        )
        process.start()
        to_answer.close()
        to_say.close()
        voice = threading.Thread(target=_pass_on, args=(said, name, self._tell), daemon=True)
        voice.start()
        self._running.append(_Running(key, name, process, answer, voice))

    def any_ended(self, timeout: float) -> bool:
        """Whether a process that was started has ended, after waiting `timeout` s for it."""
        return bool(wait([job.answer for job in self._running], timeout))

    def next(self) -> tuple[Key, Any]:
        """Wait for the next job that ends: its key and its result.

        Raises
        ------
        ServiceError
            Its process died, or the cluster that it ran on is gone.
        Exception
            What the job raised, as it came.
        """
        if self._calls is not None:
            return self._calls.next()
        if self._waiting:
            key, call = self._waiting.pop(0)
            return key, call()
        ready = wait([job.answer for job in self._running])
        job = next(job for job in self._running if job.answer in ready)
        self._running.remove(job)
        try:
            good, answer = job.answer.recv()
        except (EOFError, OSError):  # before its answer, or in the midst of it
            job.process.join()
            raise ServiceError(
                f"{job.name}: its process ended with code {job.process.exitcode} and no result"
                + ("; was there enough memory?" if job.process.exitcode == -9 else "")
            ) from None
        finally:
            job.answer.close()
            job.process.join()
            job.voice.join(10)
        if not good:
            raise answer
        return job.key, answer


def each_in_a_process(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    jobs: int,
    name: Callable[[Item], str] = str,
) -> Iterator[tuple[Item, Result]]:
    """Apply `function` to each of `items`, `jobs` at a time; yield item and result as they end.

    The first error ends the others and is raised as it came.
    """
    with Processes[Item](max(1, min(jobs, len(items)))) as processes:
        todo = list(items)
        while todo or processes.busy:
            while todo and processes.free:
                item = todo.pop(0)
                processes.start(item, name(item), function, item)
            yield processes.next()


def _on_worker(job: tuple[int, str, Callable[[Item], Result], Item]) -> Result | None:
    """On a worker of a cluster: a job in a process of its own, which ends when none wants it."""
    threads, name, function, item = job
    # Dask's nanny marks workers as daemons, which may not start processes. Ours die with them.
    multiprocessing.current_process().daemon = False
    result: Result | None = None
    # Two, for one would run in this very process.
    with Processes[None](2, threads=threads, tell=cluster_worker.teller()) as processes:
        processes.start(None, name, function, item)
        while cluster_worker.still_wanted():
            if processes.any_ended(timeout=1.0):
                _, result = processes.next()
                break
    return result


def _child(
    answer: Connection,
    says: Connection,
    threads: int,
    function: Callable[[Item], Any],
    item: Item,
) -> None:
    for variable in _THREADS:
        os.environ[variable] = str(threads)
    # numpy was loaded before the environment was set.
    threadpool_limits(threads)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    # The file, not Python's object: what C++ has to say goes there, its last words too.
    os.dup2(says.fileno(), 2)
    says.close()
    try:
        answer.send((True, function(item)))
    except Exception as error:
        answer.send((False, cluster_worker.sendable(error)))
    answer.close()


def _pass_on(said: Connection, name: str, tell: Callable[[str], object]) -> None:
    """Tell what a job says, with its name before each line: those of several come mixed."""
    with os.fdopen(os.dup(said.fileno()), errors="replace") as lines:
        said.close()
        for line in lines:
            if line.strip() and not _is_chatter(line):
                tell(f"{name}: {line.rstrip()}")


def _is_chatter(line: str) -> bool:
    """TensorFlow's remarks on starting, in glog's format: severity, four digits, a clock."""
    glog = len(line) > 5 and line[0] in "IW" and line[1:5].isdigit() and line[5] == " "
    return glog or line.startswith("WARNING: All log messages before absl")


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    # At once: what is half written is aside, and a checkpoint is what it is for.
    os._exit(1)
