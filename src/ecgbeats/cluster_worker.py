"""What runs on the workers of a Dask cluster, and what they must agree on with who asks."""

from __future__ import annotations

import os
import pickle
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from ecgbeats.errors import ContractError, ServiceError
from ecgbeats.files import sha256_text

# What decides the last bits of a result, beside our own code.
_PACKAGES = (
    "distributed",
    "keras",
    "numpy",
    "onnxruntime",
    "pandas",
    "pyarrow",
    "scikit-learn",
    "scipy",
    "tensorflow",
    "wfdb",
)


@dataclass(frozen=True)
class Run:
    """What a worker has to agree with before it works; it goes with every call."""

    id: str
    folder: str
    probe: str
    code: str
    versions: tuple[tuple[str, str], ...]

    @property
    def topic(self) -> str:
        return f"ecgbeats-{self.id}"


@dataclass(frozen=True)
class Answer:
    """What a call gave, pickled, or its error; and the file by which its worker can be seen."""

    value: bytes
    error: Exception | None
    witness: str


@cache
def code_version() -> str:
    """Hash of all modules of this package, as they lay there when it was first asked for."""
    folder = Path(__file__).parent
    return sha256_text(
        "\n".join(
            f"{path.relative_to(folder).as_posix()}\n{path.read_text(encoding='utf-8')}"
            for path in sorted(folder.rglob("*.py"))
        )
    )[:16]


@cache
def package_versions() -> tuple[tuple[str, str], ...]:
    """Python, and the packages that decide results, with their versions."""
    from importlib.metadata import PackageNotFoundError, version

    found = [("python", ".".join(str(part) for part in sys.version_info[:3]))]
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found.append((name, version(name)))
    return tuple(found)


_joined: dict[str, str] = {}
_working_for: Run | None = None


def call(run: Run, function: bytes, item: bytes) -> Answer:
    """The pickled `function` of the pickled `item`, once this worker has agreed with `run`."""
    global _working_for
    witness = ""
    try:
        witness = _join(run)
        _working_for = run
        value = pickle.dumps(_loaded(function)(pickle.loads(item)))  # noqa: S301 - of our client
        return Answer(value, None, witness)
    except Exception as error:
        return Answer(b"", sendable(error), witness)


@lru_cache(maxsize=2)
def _loaded(function: bytes) -> Callable[[Any], Any]:
    made: Callable[[Any], Any] = pickle.loads(function)  # noqa: S301 - of our client
    return made


def _join(run: Run) -> str:
    """Go to the folder of `run`; the first time, see that all is as it must be here."""
    from distributed import get_worker

    worker = get_worker()
    unseen = ServiceError(
        f"dask worker {worker.address} on {socket.gethostname()}: does not see {run.folder}, "
        "where this command works; expected a file system that all machines share, under the "
        "same path"
    )
    try:
        os.chdir(run.folder)
    except OSError:
        raise unseen from None
    if run.id in _joined:
        return _joined[run.id]
    if worker.state.nthreads != 1:
        raise ServiceError(
            f"dask worker {worker.address}: expected one thread (dask worker --nthreads 1 "
            f"--nworkers N), got {worker.state.nthreads}"
        )
    # Whose code differs may fail in any other way later.
    _compare(worker.address, run)
    if not Path(run.probe, run.id).is_file():
        raise unseen
    witness = f"{socket.gethostname()}.{os.getpid()}"
    Path(run.probe, witness).touch()
    _joined[run.id] = witness
    return witness


def _compare(address: str, run: Run) -> None:
    expected = dict(run.versions) | {"ecgbeats": run.code}
    got = dict(package_versions()) | {"ecgbeats": code_version()}
    differ = [
        f"{name} {expected.get(name, 'none')}, got {got.get(name, 'none')}"
        for name in sorted(expected.keys() | got.keys())
        if expected.get(name) != got.get(name)
    ]
    if differ:
        raise ContractError(
            f"dask worker {address}: expected {'; '.join(differ)}. "
            "Start it anew, from the same code and environment as this command"
        )


def teller() -> Callable[[str], None]:
    """On a worker: what passes a line on to whoever asked for the work."""
    from distributed import get_worker

    assert _working_for is not None
    worker, topic = get_worker(), _working_for.topic
    return lambda line: worker.log_event(topic, line)


def still_wanted() -> bool:
    """On a worker: whether anybody still waits for the present call."""
    from distributed import get_worker

    worker = get_worker()
    task = worker.state.tasks.get(worker.get_current_task())
    return task is not None and task.state in ("executing", "long-running")


def sendable(error: Exception) -> Exception:
    """`error`, or what it says if it cannot be made again from its pickle."""
    try:
        if type(pickle.loads(pickle.dumps(error))) is type(error):  # noqa: S301
            return error
    except Exception:
        pass
    return ServiceError(f"{type(error).__name__}: {error}")
