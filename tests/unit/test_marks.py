"""Marks of beats that are not at R, and leads that no name tells apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ecgbeats.answering import answer_beats
from ecgbeats.imaging.spec import CompositeSpec
from ecgbeats.marks import at_r
from tests.support.recordings import bumps, recording, regular
from tests.support.tiny_model import write_tiny_model

pytestmark = pytest.mark.unit

SPEC = CompositeSpec(representation="composite", panel_height=16, width=24, leads=2)
R = regular(60)
LENGTH = int(R[-1] + 360)
# Upright, and inverted with a wide wave after it, as leads II and V1 often are.
UPRIGHT = bumps(R, LENGTH, seed=1)
INVERTED = bumps(R, LENGTH, height=-0.9, seed=2) + bumps(R + 90, LENGTH, height=0.2, width_s=0.05)
BOTH = np.stack([UPRIGHT, INVERTED], axis=1)


@pytest.mark.parametrize("fs", [128.0, 360.0, 1000.0])
@pytest.mark.parametrize("away_ms", [-60, -40, 40, 60])
def test_marks_that_are_all_early_or_late_are_brought_to_r(fs: float, away_ms: int) -> None:
    r = regular(60, fs=fs)
    signal = bumps(r, int(r[-1] + fs), fs=fs, seed=1)
    at, remarks = at_r(recording(signal, fs=fs), 0, r + round(away_ms * fs / 1000))
    assert np.abs(at - r).max() <= max(1, 0.005 * fs)
    (words,) = remarks
    assert words.startswith("beats are marked") and ("before R" in words) == (away_ms < 0)


def test_marks_that_scatter_are_brought_to_r_each() -> None:
    scattered = np.sort(R + np.random.default_rng(1).normal(0, 0.02 * 360, len(R)).astype(int))
    at, remarks = at_r(recording(UPRIGHT), 0, scattered)
    assert np.abs(at - R).max() <= 2
    assert "scatter by" in remarks[0]


def test_marks_near_r_and_single_odd_ones_stay_where_they_are() -> None:
    marks = R + np.where(np.arange(len(R)) % 2, 1, -1)
    marks[7] += 25
    at, remarks = at_r(recording(UPRIGHT), 0, marks)
    np.testing.assert_array_equal(at, marks)
    assert remarks == []
    few = R[:5] + 20
    np.testing.assert_array_equal(at_r(recording(UPRIGHT), 0, few)[0], few)


def test_moved_marks_give_the_images_of_marks_at_r(tmp_path: Path) -> None:
    classifier = write_tiny_model(tmp_path / "model", SPEC)
    both = recording(BOTH, leads=("MLII", "V1"))
    right = answer_beats(classifier, both, R)
    late = answer_beats(classifier, both, R + 18)
    np.testing.assert_array_equal(late.images, right.images)
    np.testing.assert_array_equal(late.samples, R + 18)


@pytest.mark.parametrize("names", [("ECG1", "ECG2"), ("ECG", "ECG"), ("aVF", "V1")])
def test_leads_that_no_name_tells_apart_are_told_by_their_form(
    names: tuple[str, str],
    tmp_path: Path,
) -> None:
    classifier = write_tiny_model(tmp_path / "model", SPEC)
    right = answer_beats(classifier, recording(BOTH, leads=("MLII", "V1")), R)
    for columns in ([0, 1], [1, 0]):
        filed = recording(BOTH[:, columns], leads=names)
        found = answer_beats(classifier, filed, R)
        np.testing.assert_array_equal(found.images, right.images)
        assert found.lead == 0
        assert any(f"the most upright (place {columns.index(0) + 1})" in r for r in found.remarks)
    # A name that tells, or a wish, is heeded, whatever the form.
    named = recording(BOTH, leads=("V1", "MLII"))
    assert (answer_beats(classifier, named, R).images != right.images).any()
    wished = answer_beats(classifier, replace(named, leads=("A", "B")), R, lead="B")
    assert wished.recording.leads[wished.lead] == "B"


def test_a_second_lead_that_is_missing_in_part_is_remarked(tmp_path: Path) -> None:
    classifier = write_tiny_model(tmp_path / "model", SPEC)
    torn = BOTH.copy()
    torn[: R[9] + 10, 1] = np.nan
    found = answer_beats(classifier, recording(torn, leads=("MLII", "V1")), R)
    assert found.remarks == ["10 beats where lead V1 is missing"]
