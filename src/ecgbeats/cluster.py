"""Work on a Dask cluster. Dask is imported when one is asked for, here and by its workers alone.

What a cluster must be, and what a worker checks before its first piece of work for a run:

- it has the code and the packages of who asks, or results could differ: `ContractError`;
- it sees the folder that the run works in, under the same path (a shared file system), and what
  it writes there is seen: `ServiceError`;
- it has one thread: limits of threads, and the working directory, hold for whole processes.

What goes out is written by functions that may be called twice: Dask gives the work of a worker
that died to another one.
"""

from __future__ import annotations

import logging
import os
import pickle
import queue
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ecgbeats.cluster_worker import Answer, Run, call, code_version, package_versions
from ecgbeats.errors import ConfigError, ContractError, ServiceError
from ecgbeats.progress import say

if TYPE_CHECKING:
    from distributed import Client, Future

Key = TypeVar("Key")

# How often a cluster from which nothing comes is asked whether it is there.
_TICK_S = 5.0
# One that grows by need may have no worker for a while.
_WITHOUT_WORKERS_S = 300.0
# Calls that each worker has in hand and waiting: it need not ask for the next.
_AHEAD = 2
# A function that takes more bytes is sent once. Calls then go by preference where it lies, and are
# spread by Dask's stealing of work; a small one goes with each call, to whoever is free.
_INLINE = 65536
# Until another machine's file is seen here: how long NFS may go by what it saw before.
_SEEN_S = 60.0

_current: Cluster | None = None


@contextmanager
def on_cluster(address: str, *, without_workers_s: float = _WITHOUT_WORKERS_S) -> Iterator[Cluster]:
    """Within, `parallel_map` and `Processes` do their work on the cluster at `address`.

    Nothing is connected before there is work. Leaving cancels what still runs.

    Parameters
    ----------
    address : str
        Of the scheduler, e.g. "tcp://scheduler:8786".
    without_workers_s : float
        Seconds that the cluster may be without any worker.
    """
    global _current
    before, _current = _current, Cluster(address, without_workers_s)
    try:
        yield _current
    finally:
        _current.close()
        _current = before


def current() -> Cluster | None:
    """The cluster that was asked for, or None: work is done on this machine."""
    return _current


def scratch() -> Path | None:
    """Where temporary files must lie that workers read; None for the system's own place."""
    return None if _current is None else Path.cwd()


class Cluster:
    """A connection to a Dask scheduler, made when it is first needed."""

    def __init__(self, address: str, without_workers_s: float = _WITHOUT_WORKERS_S) -> None:
        self.address = address
        self._without_workers_s = without_workers_s
        self._client: Client | None = None
        self._probe: Path | None = None
        self._witnessed: set[str] = set()
        self._workers = 0
        self._asked = self._had_workers = 0.0

    def slots(self) -> int:
        """Calls that can run at once now; 1 where there is no worker yet."""
        self.connect()
        if time.monotonic() - self._asked > _TICK_S:
            self.check()
        return max(1, self._workers)

    def calls_ahead(self) -> int:
        """How many calls should be started and not ended."""
        return _AHEAD * self.slots()

    def connect(self) -> Client:
        """Connect, if that was not done yet.

        Raises
        ------
        ConfigError
            Dask is not installed, or knows no such address; or this folder cannot be written to.
        ServiceError
            Nothing that answers is at the address.
        """
        if self._client is not None:
            return self._client
        try:
            import distributed  # noqa: F401
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"dask {self.address}: expected the package distributed here "
                f"(uv sync --group cluster); {error}"
            ) from None
        _check_address(self.address)
        # It tells of each lost connection at length; what matters comes as an error of ours.
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        self.run = self._make_run()
        self._client = _connected(self.address)
        self._client.subscribe_topic(self.run.topic, lambda event: say(str(event[1])))
        self._had_workers = time.monotonic()
        self.check()
        say(f"dask {self.address}: {self._workers} workers")
        return self._client

    def _make_run(self) -> Run:
        """Lay out the folder that workers must see; put away those that killed commands left."""
        import psutil

        folder = Path.cwd()
        here = f".ecgbeats-dask.{socket.gethostname()}"
        for left in folder.glob(f"{here}.*"):
            if not psutil.pid_exists(int(left.name.rpartition(".")[2])):
                shutil.rmtree(left, ignore_errors=True)
        self._probe = folder / f"{here}.{os.getpid()}"
        run = Run(
            uuid.uuid4().hex, str(folder), str(self._probe), code_version(), package_versions()
        )
        try:
            self._probe.mkdir(exist_ok=True)
            (self._probe / run.id).touch()
        except OSError as error:
            raise ConfigError(f"{folder}: with --dask expected to write here: {error}") from None
        return run

    def check(self) -> None:
        """Ask the scheduler for its workers.

        Raises
        ------
        ServiceError
            It does not answer within Dask's own limit (distributed.comm.timeouts.connect), or has
            been without workers for too long.
        """
        assert self._client is not None
        scheduler = self._client.scheduler
        if scheduler is None:
            raise self.lost("the connection was closed")
        try:
            workers = self._client.sync(scheduler.ncores, callback_timeout=_limit_s())
        except Exception as error:
            raise self.lost(f"{type(error).__name__}: {error}") from None
        self._asked = time.monotonic()
        self._workers = len(workers)
        if workers:
            self._had_workers = self._asked
        elif self._asked - self._had_workers > self._without_workers_s:
            raise ServiceError(
                f"dask {self.address}: the scheduler has had no worker for "
                f"{self._without_workers_s:.0f} s"
            )

    def lost(self, why: str) -> ServiceError:
        """The error that says that the scheduler is gone."""
        return ServiceError(
            f"dask {self.address}: the scheduler does not answer any more ({why}); "
            "nothing unfinished was kept under a final name, run the command again"
        )

    def witness(self, name: str) -> None:
        """See the file that a worker wrote when it joined.

        Raises
        ------
        ServiceError
            It is not there: what workers write does not come here.
        """
        if name in self._witnessed:
            return
        assert self._probe is not None
        until = time.monotonic() + _SEEN_S
        while not (self._probe / name).is_file():
            if time.monotonic() > until:
                raise ServiceError(
                    f"dask {self.address}: what the worker {name} writes to {self._probe.parent} "
                    "is not seen here; expected a file system that it shares with this machine"
                )
            time.sleep(0.2)
        self._witnessed.add(name)

    def close(self) -> None:
        """Cancel what still runs, and leave."""
        if self._client is not None:
            # One that does not answer cannot be told.
            with suppress(Exception):
                self._client.close(timeout=3)
            self._client = None
        if self._probe is not None:
            shutil.rmtree(self._probe, ignore_errors=True)


def _limit_s() -> float:
    """Dask's own setting: how long a scheduler may take to answer."""
    import dask
    from dask.utils import parse_timedelta

    return float(parse_timedelta(dask.config.get("distributed.comm.timeouts.connect")))


def _check_address(address: str) -> None:
    """Before there is a client: half-made, it would be waited for when the process ends."""
    from distributed.comm.addressing import parse_address, parse_host_port
    from distributed.comm.registry import get_backend

    try:
        scheme, place = parse_address(address)
        get_backend(scheme)
        if scheme in ("tcp", "tls"):
            parse_host_port(place)
    except ValueError as error:
        raise ConfigError(
            f"dask {address}: expected a scheduler's address, as tcp://scheduler:8786; {error}"
        ) from None


def _connected(address: str) -> Client:
    """A client, within the limit: Dask's own waits for ever for one who accepts and is silent."""
    from distributed import Client

    made: queue.SimpleQueue[Client | Exception] = queue.SimpleQueue()

    def make() -> None:
        try:
            made.put(Client(address, set_as_default=False))
        except Exception as error:
            made.put(error)

    threading.Thread(target=make, daemon=True).start()
    try:
        # Dask's limit, if it heeds it, has the better words.
        client = made.get(timeout=_limit_s() + 1)
    except queue.Empty:
        client = TimeoutError("connected, and nothing came")
    if isinstance(client, Exception):
        raise ServiceError(f"dask {address}: no scheduler answers: {client}")
    return client


class Calls(Generic[Key]):
    """Calls of one function on a cluster; leaving the context cancels those that still run.

    Parameters
    ----------
    cluster : Cluster
    function : callable
        Of one argument; picklable. A large one is sent once, not with each call.
    """

    def __init__(self, cluster: Cluster, function: Callable[[Any], Any]) -> None:
        self._cluster = cluster
        self._function = function
        self._sent: bytes | Future[bytes] | None = None
        self._id = uuid.uuid4().hex
        self._started = 0
        self._running: dict[str, tuple[Key, str, Future[Answer]]] = {}
        self._ended: queue.SimpleQueue[str] = queue.SimpleQueue()

    def __enter__(self) -> Calls[Key]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Without waiting for an answer: the scheduler may be the reason for leaving.
        for _, _, future in self._running.values():
            future.release()
        self._running = {}
        if self._sent is not None and not isinstance(self._sent, bytes):
            self._sent.release()

    @property
    def busy(self) -> int:
        """Calls that were started and whose result was not taken yet."""
        return len(self._running)

    def start(self, key: Key, name: str, item: object) -> None:
        """Start the function with the picklable `item`. `name` is for messages."""
        client = self._cluster.connect()
        if self._sent is None:
            self._sent = pickle.dumps(self._function)
            if len(self._sent) > _INLINE:
                # Once, as a task's result, not as data: that is made again when its worker dies.
                key_of = f"ecgbeats-function-{self._id}"
                self._sent = client.submit(bytes, self._sent, key=key_of)
        self._started += 1
        place = f"ecgbeats-{self._id}-{self._started}"
        future = client.submit(
            call, self._cluster.run, self._sent, pickle.dumps(item), key=place, pure=False
        )
        self._running[place] = key, name, future
        future.add_done_callback(lambda _: self._ended.put(place))

    def next(self) -> tuple[Key, Any]:
        """Wait for the next call that ends: its key and its result.

        Raises
        ------
        ServiceError
            The scheduler is gone, or workers died of the call again and again.
        ContractError
            A worker has other code.
        Exception
            What the function raised, as it came.
        """
        place = self._next_ended()
        key, name, future = self._running.pop(place)
        answer = self._answer(name, future)
        future.release()
        if answer.error is not None:
            raise answer.error
        self._cluster.witness(answer.witness)
        return key, pickle.loads(answer.value)  # noqa: S301 - of our own workers

    def _next_ended(self) -> str:
        while True:
            try:
                return self._ended.get(timeout=_TICK_S)
            except queue.Empty:
                self._cluster.check()

    def _answer(self, name: str, future: Future[Answer]) -> Answer:
        from distributed import KilledWorker
        from distributed.client import FutureCancelledError

        while True:
            try:
                # Its worker may have died since, and the call be made anew.
                return future.result(timeout=_limit_s())
            except TimeoutError:
                self._cluster.check()
            except KilledWorker:
                raise ServiceError(
                    f"dask {self._cluster.address}: {name}: every worker that had it died; "
                    "was there enough memory?"
                ) from None
            except FutureCancelledError as error:
                raise self._cluster.lost(str(error.reason)) from None
            except Exception as error:
                # Ours come as answers, so it is Dask's own: mostly, what it could not load.
                raise ContractError(
                    f"dask {self._cluster.address}: {name}: expected workers with this code, "
                    f"got {type(error).__name__}: {error}"
                ) from None
