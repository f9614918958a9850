"""The recordings that the service's page supplies are of the sample source, to the byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecgbeats.config import SampleSource
from ecgbeats.records import read_recording
from ecgbeats.signal_text import read_csv
from ecgbeats.sources.sample import make_sample

pytestmark = pytest.mark.unit

SAMPLES = Path(__file__).parents[2] / "bento" / "page" / "samples"


def test_supplied_recordings_are_made_by_the_sample_source(tmp_path: Path) -> None:
    params = SampleSource(source="sample", patients=7, minutes=1, fs=360, seed=7)
    make_sample(params, tmp_path / "made", workers=1)
    supplied = sorted(path for path in SAMPLES.iterdir() if path.name != "one-lead.csv")
    assert len(supplied) == 3 * 6
    for path in supplied:
        assert path.read_bytes() == (tmp_path / "made" / path.name).read_bytes()


def test_the_supplied_table_is_the_first_half_minute_of_one_of_them() -> None:
    table = read_csv((SAMPLES / "one-lead.csv").read_bytes(), max_values=100_000)
    whole = read_recording(SAMPLES / "s006")
    assert table.fs == 360
    assert table.leads == ("MLII",) and table.seconds == 30
    assert abs(table.signal[:, 0] - whole.signal[: len(table.signal), 0]).max() < 1e-3
