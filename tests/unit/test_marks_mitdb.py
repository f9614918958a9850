"""DS1 itself: its marks are at R, its detected beats too, and MLII is found without its name."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from ecgbeats.config import read_params
from ecgbeats.imaging.spec import CompositeSpec
from ecgbeats.marks import at_r
from ecgbeats.qrs import detect_beats
from ecgbeats.records import BEAT_SYMBOLS, in_order, read_annotations, read_recording
from ecgbeats.usable import usable_leads

PARAMS = read_params(Path(__file__).parents[2] / "params.yaml")
SPEC = CompositeSpec(representation="composite", leads=2)


@pytest.mark.real_data
def test_ds1_is_drawn_as_it_is_marked_and_its_lead_found_without_a_name() -> None:
    database = os.environ.get("ECGBEATS_TEST_MITDB")
    if not database:
        pytest.skip("ECGBEATS_TEST_MITDB does not name a folder with the MIT-BIH database")
    records = PARAMS.protocols["aami5"].split.train_records
    found = [0, 0]
    for record in records:
        path = Path(database) / record
        recording = read_recording(path)
        marked, _ = in_order(read_annotations(path).only(BEAT_SYMBOLS), len(recording.signal))
        lead = recording.leads.index("MLII")
        for beats in (marked.sample, detect_beats(recording, lead)):
            assert at_r(recording, lead, beats)[1] == [], record
        for turn, columns in enumerate(([0, 1], [1, 0])):
            signal, limits = recording.signal[:, columns], recording.adc_limits[columns]
            names = tuple("AB"[column] for column in columns)
            unnamed = replace(recording, leads=names, signal=signal, adc_limits=limits)
            chosen, _, column, _ = usable_leads(unnamed, SPEC, None)
            found[turn] += chosen.leads[column] == "AB"[lead]
    # Not in 112, whose V1 is upright too, and 207, whose MLII is not.
    assert (found, len(records)) == ([20, 20], 22)
