"""Champion and challenger on one frozen test side, whichever images each of them takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ecgbeats.config import Params, SampleSource
from ecgbeats.errors import ContractError
from ecgbeats.imaging.spec import WaveformSpec
from ecgbeats.imaging.store import BeatImages, render_dataset
from ecgbeats.latency import latency
from ecgbeats.regression import TestSide, predict
from ecgbeats.sources.sample import make_sample
from ecgbeats.split import Split, assign_sides
from tests.support.projects import tiny_params
from tests.support.tiny_model import SPEC, write_tiny_model

pytestmark = pytest.mark.unit

OTHER = WaveformSpec(representation="waveform", height=16, width=24)


@pytest.fixture(scope="module")
def side(tmp_path_factory: pytest.TempPathFactory) -> TestSide:
    root = tmp_path_factory.mktemp("side")
    params = tiny_params()
    params["protocols"]["patients"]["exclude_records"] = []
    protocol = Params.model_validate(params).protocols["patients"]
    source = SampleSource(source="sample", patients=6, minutes=0.6, fs=180, seed=7)
    make_sample(source, root / "raw", workers=1)
    render_dataset(root / "raw", SPEC, protocol.labels, root / "images", workers=1)
    images = BeatImages.open(root / "images")
    sides = assign_sides(images.beats, protocol.labels, protocol)
    split = Split(sides, protocol.labels.names, ("N", "V"))
    return TestSide(root / "raw", images, split, protocol.labels)


def test_a_model_of_another_image_gets_the_same_beats(side: TestSide, tmp_path: Path) -> None:
    names = side.split.classes
    ours = predict(write_tiny_model(tmp_path / "ours", classes=names), side)
    theirs = predict(write_tiny_model(tmp_path / "theirs", OTHER, names), side)
    same = ["record", "patient", "sample", "label"]
    assert ours[same].equals(theirs[same])
    assert set(ours["patient"]) == side.patients
    assert not np.allclose(ours["p_N"], theirs["p_N"])
    # As rendered for the whole dataset, not only for the records that test.
    scheme = side.scheme
    render_dataset(side.raw, OTHER, scheme, tmp_path / "all", workers=1)
    whole = BeatImages.open(tmp_path / "all")
    model = write_tiny_model(tmp_path / "again", OTHER, names)
    np.testing.assert_array_equal(model.predict(whole.take(side.index))[:, 0], theirs["p_N"])


def test_a_model_of_other_classes_cannot_be_compared(side: TestSide, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="classes N S V F Q, got one of N S V"):
        predict(write_tiny_model(tmp_path / "model"), side)


def test_latency_is_of_one_image_and_of_a_batch(tmp_path: Path) -> None:
    found = latency(write_tiny_model(tmp_path / "model"))["latency"]
    assert set(found) == {"one_ms", "batch_ms"}
    assert 0 < found["one_ms"] < found["batch_ms"]
