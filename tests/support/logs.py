"""Logs of a service that nobody ran, and the reference of a model that nobody trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from ecgbeats import observation
from ecgbeats.files import write_json
from ecgbeats.monitoring.reference import QUANTILES, Reference, read_reference

WEIGHTS = "ab" * 32
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
Change = Callable[[dict[str, Any]], None]


def patient(seed: int, beats: int) -> dict[str, np.ndarray]:
    """Beats of somebody: how tall they are, and how fast they come, is a matter of the person."""
    rng = np.random.default_rng([5, seed])
    height, interval = np.exp(rng.normal(0, 0.35)), rng.normal(0.8, 0.1)
    found = {name: 0.3 + 0.03 * rng.normal() + 0.02 * rng.normal(size=beats)
             for name in observation.OF_IMAGE}  # fmt: skip
    found["amplitude_mv"] = height * np.exp(rng.normal(0, 0.15, beats))
    found["noise_mv"] = 0.01 * np.exp(rng.normal(0, 0.4) + rng.normal(0, 0.2, beats))
    found["rr_s"] = interval + 0.04 * rng.normal(size=beats)
    found["confidence"] = 1 - rng.uniform(0.1, 0.5) * rng.beta(1, 8, beats)
    return found


def write_reference(path: Path) -> Reference:
    """The reference of a model that has learnt from 24 people; written to `path`, and read."""
    at = (np.arange(QUANTILES) + 0.5) / QUANTILES
    people = [patient(seed, 64) for seed in range(24)]
    quantiles = {
        name: [np.quantile(person[name], at).round(4).tolist() for person in people]
        for name in people[0]
    }
    confidence = quantiles.pop("confidence")
    write_json(
        path,
        {
            "schema": 1,
            "features": observation.FEATURES_VERSION,
            "recipe": "tiny",
            "dataset": {"name": "hospital", "version": "1"},
            "synthetic": True,
            "model": {"weights_sha256": WEIGHTS, "spec_id": "s", "classes": ["N", "V"]},
            "inputs": {
                "patients": 24, "beats": 24 * 64, "quantiles": quantiles,
                "leads": {"II": 24}, "rates": {"360": 24},
            },
            "answers": {
                "patients": 24, "beats": 24 * 64, "confidence": confidence,
                "shares": [[0.9 + 0.003 * k, 0.1 - 0.003 * k] for k in range(24)],
                "uncertain": [0.0] * 24,
            },
        },
    )  # fmt: skip
    return read_reference(path)


def line(number: int, *, beats: int = 32, weights: str = WEIGHTS) -> dict[str, Any]:
    """The line of a request of somebody whom the reference does not know."""
    person = patient(1000 + number, beats)
    return {
        "time": (BEGIN + timedelta(minutes=10 * number)).isoformat(),
        "event": "classified",
        "request_id": None,
        "features": observation.FEATURES_VERSION,
        "endpoint": "classify_record",
        "model": {"name": "ecgbeats-tiny", "version": "1", "weights": weights},
        "beats": 30 * beats,
        "answers": {"N": 30 * beats},
        "sample": {
            "class": ["V" if k % 16 == 0 else "N" for k in range(beats)],
            "uncertain": [0] * beats,
            **{name: values.round(4).tolist() for name, values in person.items()},
        },
        "recording": {"fs": 360.0, "lead": "II", "rate_bpm": 75},
    }


def taller(factor: float) -> Change:
    def change(value: dict[str, Any]) -> None:
        sample = value["sample"]
        for name in ("amplitude_mv", "noise_mv"):
            sample[name] = [factor * each for each in sample[name]]

    return change


def nothing(_: dict[str, Any]) -> None:
    pass


def lines(changes: list[Change]) -> list[dict[str, Any]]:
    """Windows of eight patients each, changed as told."""
    made = []
    for window, change in enumerate(changes):
        for k in range(8):
            value = line(8 * window + k)
            change(value)
            made.append(value)
    return made


def written(path: Path, values: list[Any]) -> Path:
    path.write_text("".join(f"{json.dumps(value)}\n" for value in values))
    return path
