"""The service's log, read back: requests of one model; what else is in it is counted and named."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ecgbeats import observation
from ecgbeats.errors import DataError

EVENT = "classified"
# What a line may weigh; the service's own have some kilobytes.
_LONGEST = 1_000_000
_ARRAYS = ("confidence", *observation.OF_IMAGE, *observation.OF_SIGNAL)


@dataclass(frozen=True)
class Model:
    """Who answered."""

    name: str
    version: str
    weights: str

    def __str__(self) -> str:
        return f"{self.name} {self.version} (weights {self.weights[:12]})"


@dataclass(frozen=True)
class Request:
    """One answered request.

    Attributes
    ----------
    beats : int
        That were answered; of some of them the line tells more.
    classes : tuple of str
        The most probable class of each logged beat.
    uncertain : ndarray of bool, shape (n,)
    features : mapping of str to ndarray, shape (n,)
        Numbers of logged beats; NaN where one is not known.
    recording : mapping
        Of a recording: lead, fs, rate_bpm and others; empty for images.
    """

    time: datetime
    endpoint: str
    beats: int
    classes: tuple[str, ...]
    uncertain: np.ndarray
    features: Mapping[str, np.ndarray]
    recording: Mapping[str, Any]


@dataclass
class Log:
    """What was read.

    Attributes
    ----------
    requests : dict of Model to list of Request
        In the order of time.
    events : Counter
        Lines of other events, by the event's name.
    ignored : Counter
        Lines that could not be read, by reason.
    examples : dict of str to str
        For each reason, where it was first met.
    """

    requests: dict[Model, list[Request]] = field(default_factory=dict)
    events: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    lines: int = 0


def read_logs(paths: Iterable[Path]) -> Log:
    """Read the lines of the files, plain or gzip (.gz); none of them is fatal.

    Raises
    ------
    DataError
        A file cannot be read at all.
    """
    log = Log()
    # A log that is being rotated is there twice for a while, plain and packed.
    seen: set[tuple[str, str]] = set()
    for path in dict.fromkeys(Path(path).resolve() for path in paths):
        try:
            for number, line in enumerate(_lines(path), start=1):
                log.lines += 1
                _take(log, line, f"{path.name}, line {number}", seen)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path}: cannot be read: {error}") from error
    for requests in log.requests.values():
        requests.sort(key=lambda request: request.time)
    return log


def _lines(path: Path) -> Iterator[bytes]:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as handle:
        while line := handle.readline(_LONGEST):
            if len(line) == _LONGEST and not line.endswith(b"\n"):
                while not (rest := handle.readline(_LONGEST)).endswith(b"\n") and rest:
                    pass
                yield b""
            elif line.strip():
                yield line


def _take(log: Log, line: bytes, where: str, seen: set[tuple[str, str]]) -> None:
    try:
        value = json.loads(line) if line else None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        _ignore(log, "no JSON object", where)
        return
    event = value.get("event")
    if event != EVENT:
        if isinstance(event, str):
            log.events[event if event.isidentifier() else "of an odd name"] += 1
        else:
            _ignore(log, "JSON without an event", where)
        return
    if value.get("features") != observation.FEATURES_VERSION:
        _ignore(log, f"features of another version than {observation.FEATURES_VERSION}", where)
        return
    try:
        model, request = _read(value)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        what = f"without {error}" if isinstance(error, KeyError) else str(error)
        _ignore(log, f"{EVENT}, but {what}", where)
        return
    if value.get("request_id") is not None:
        key = (str(value["request_id"]), str(value["time"]))
        if key in seen:
            _ignore(log, "a request that was read already", where)
            return
        seen.add(key)
    log.requests.setdefault(model, []).append(request)


def _ignore(log: Log, reason: str, where: str) -> None:
    log.ignored[reason] += 1
    log.examples.setdefault(reason, where)


def _read(value: Mapping[str, Any]) -> tuple[Model, Request]:
    about, sample = value["model"], value["sample"]
    model = Model(str(about["name"]), str(about["version"]), str(about["weights"]))
    classes = sample["class"]
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise ValueError("its classes are no names")
    features = {name: _numbers(sample[name]) for name in _ARRAYS if name in sample}
    uncertain = _numbers(sample["uncertain"])
    if "confidence" not in features:
        raise KeyError("confidence")
    if not classes or {len(v) for v in (*features.values(), uncertain)} != {len(classes)}:
        raise ValueError("its rows are not of one length")
    time = datetime.fromisoformat(value["time"])
    beats = value["beats"]
    if not isinstance(beats, int) or beats < len(classes):
        raise ValueError("its beats are fewer than its rows")
    recording = value.get("recording") or {}
    if not isinstance(recording, dict):
        raise ValueError("its recording is no object")
    fs = recording.get("fs", 0)
    if isinstance(fs, bool) or not isinstance(fs, int | float) or not math.isfinite(fs):
        raise ValueError("its sampling rate is no number")
    return model, Request(
        time=time if time.tzinfo else time.replace(tzinfo=UTC),
        endpoint=str(value["endpoint"]),
        beats=beats,
        classes=tuple(classes),
        uncertain=uncertain > 0,
        features=features,
        recording=recording,
    )


def _numbers(values: Any) -> np.ndarray:
    """Numbers and nulls; NaN for null."""
    if not isinstance(values, list):
        raise ValueError("its rows are no lists")
    found = np.array([math.nan if value is None else float(value) for value in values], float)
    if np.isinf(found).any():
        raise ValueError("a number is infinite")
    return found
