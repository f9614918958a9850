"""Half an hour with two leads, as the page and the README promise it, by the carried model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import requests

from pipelines import carried
from tests.support.bentos import PROJECT, Built
from tests.support.recordings import FS, bumps
from tests.support.serving import Running, running

pytestmark = pytest.mark.service

BEATS, RR = 2250, 288
# Such recordings leave a worker with 300 MB (docs/deployment.md).
MOST_MB = 400


@pytest.fixture(scope="module")
def signal() -> np.ndarray:
    """Two leads in mV, shape (samples, 2)."""
    beat = bumps(np.array([RR // 2]), RR) + bumps(np.array([220]), RR, height=0.2, width_s=0.04)
    lead = np.tile(beat, BEATS)
    noise = np.random.default_rng(1).normal(0, 0.02, (len(lead), 2))
    return np.stack([lead, -0.5 * lead], axis=1) + noise


@pytest.fixture(scope="module")
def service(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("half-hour") / "service"
    with running(replace(built, tag=carried.build(PROJECT)), folder) as found:
        yield found


def as_record(signal: np.ndarray) -> list[tuple[str, bytes]]:
    lines = [f"r 2 {FS:g} {len(signal)}"]
    lines += [f"r.dat 16 200/mV 12 0 0 0 0 {lead}" for lead in ("MLII", "V1")]
    data = np.rint(signal * 200).astype("<i2").tobytes()
    return [("r.hea", ("\n".join(lines) + "\n").encode()), ("r.dat", data)]


def as_csv(signal: np.ndarray) -> list[tuple[str, bytes]]:
    rows = (f"{k / FS:.4f},{a:.3f},{b:.3f}\n" for k, (a, b) in enumerate(signal.tolist()))
    return [("r.csv", ("time,MLII,V1\n" + "".join(rows)).encode())]


def test_half_an_hour_is_answered_whole_and_a_worker_stays_small(
    service: Running, signal: np.ndarray
) -> None:
    with requests.Session() as session:
        session.trust_env = False
        for path, files in (("record", as_record(signal)), ("signal", as_csv(signal))):
            answer = session.post(
                f"{service.url}/classify_{path}",
                files=[("file", file) for file in files],
                data={"trace": "true"},
                timeout=300,
            )
            assert answer.status_code == 200, answer.text[:500]
            body = answer.json()
            assert body["recording"]["seconds"] == BEATS * RR / FS
            found = np.array([beat["sample"] for beat in body["beats"]])
            assert len(found) == BEATS and np.abs(np.diff(found) - RR).max() <= 5
            assert service.resident_mb() < MOST_MB
