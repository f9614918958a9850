"""Leads changed in an image are what the recording with these leads changed would show."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ecgbeats.augmentation import Augmentation
from ecgbeats.config import AugmentParams
from ecgbeats.errors import ConfigError
from ecgbeats.imaging.render import render
from ecgbeats.imaging.spec import CompositeSpec, ScalogramSpec, Spec, SpectrogramSpec
from tests.support.recordings import FS, bumps, recording, regular

pytestmark = pytest.mark.unit

# Leads as they are filed: without names the first is the first.
LEADS: dict[str, Any] = {"leads": 2, "lead": ("A",), "second_lead": ("B",), "panel_height": 12}
VALUES = CompositeSpec(representation="composite", panels=("beat",), values=True, **LEADS)
BOTH = CompositeSpec(representation="composite", panels=("beat", "difference"), **LEADS)
SCALOGRAM = ScalogramSpec(representation="scalogram", **LEADS)
SPECS = pytest.mark.parametrize("spec", [VALUES, BOTH, SCALOGRAM], ids=["values", "both", "cwt"])


def two_leads() -> tuple[np.ndarray, np.ndarray]:
    """Beats of two shapes in noise, upright in the first lead and mostly down in the second."""
    rng = np.random.default_rng(3)
    samples = regular(40)
    level = rng.normal(0, 0.02, (int(samples[-1] + FS), 2))
    for lead, height in enumerate((1.0, -0.7)):
        level[:, lead] += bumps(samples, len(level), height=height)
        level[:, lead] += bumps(samples[::3] + round(0.03 * FS), len(level), height=-0.5)
        level[:, lead] += bumps(samples[::2] + round(0.25 * FS), len(level), height=0.25)
    return level, samples


def drawn(signal: np.ndarray, samples: np.ndarray, spec: Spec) -> np.ndarray:
    names = ("A", "B")[: signal.shape[1]]
    return render(recording(signal, leads=names), samples, spec).astype(float)


def changed(images: np.ndarray, spec: Spec, **leads: float) -> np.ndarray:
    params = AugmentParams.model_validate({"leads": leads})
    augmentation = Augmentation(params, spec, ("N", "S"))
    labels = np.zeros(len(images), int)
    return augmentation(images.astype(np.uint8), labels, np.random.default_rng(0))


@SPECS
def test_an_inverted_lead_is_drawn_as_of_exchanged_electrodes(spec: Spec) -> None:
    signal, samples = two_leads()
    images = drawn(signal, samples, spec)
    expected = drawn(-signal, samples, spec)
    # Levels that lie between two are rounded to the even one, up or down.
    assert np.abs(changed(images, spec, inverted=1) - expected).max() <= 1
    assert np.abs(images - expected).max() > 40
    if spec is VALUES:
        below = spec.rows_of_values
        assert np.abs(images[:, below] - expected[:, below]).max() > 20


@SPECS
def test_exchanged_leads_are_drawn_as_filed_the_other_way_round(spec: Spec) -> None:
    signal, samples = two_leads()
    expected = drawn(signal[:, ::-1], samples, spec)
    found = changed(drawn(signal, samples, spec), spec, exchanged=1)
    np.testing.assert_array_equal(found, expected)


@SPECS
def test_a_missing_lead_is_drawn_as_of_a_recording_without_it(spec: Spec) -> None:
    signal, samples = two_leads()
    one = drawn(signal[:, :1], samples, spec)
    np.testing.assert_array_equal(changed(drawn(signal, samples, spec), spec, missing=1), one)
    # With one that is not there none is exchanged: no image is without its first lead.
    np.testing.assert_array_equal(changed(one, spec, exchanged=1), one)


def test_each_lead_by_its_own_chance_and_the_rhythm_never() -> None:
    signal, samples = two_leads()
    images = np.concatenate([drawn(signal, samples, VALUES)] * 10)
    found = changed(images, VALUES, inverted=0.25)
    assert isinstance(VALUES, CompositeSpec)
    flipped = [
        (found[:, rows] != images[:, rows]).any(axis=(1, 2))
        for rows in (VALUES.rows_of_lead(0), VALUES.rows_of_lead(1))
    ]
    for lead in flipped:
        assert lead.mean() == pytest.approx(0.25, abs=0.08)
    assert (flipped[0] & flipped[1]).mean() == pytest.approx(0.0625, abs=0.05)
    strip = VALUES.rows_of_strip
    np.testing.assert_array_equal(found[:, strip], images[:, strip])


@SPECS
def test_chance_may_choose_no_image_of_a_batch(spec: Spec) -> None:
    signal, samples = two_leads()
    images = drawn(signal, samples, spec)[:1]
    never = {"inverted": 1e-9, "exchanged": 1e-9, "missing": 1e-9}
    np.testing.assert_array_equal(changed(images, spec, **never), images)


@pytest.mark.parametrize(
    ("spec", "leads", "why"),
    [
        (SpectrogramSpec(representation="spectrogram"), {"inverted": 0.5}, "of spectrogram"),
        (ScalogramSpec(representation="scalogram", value="magnitude"), {"inverted": 0.5}, "signed"),
        (VALUES.model_copy(update={"leads": 1}), {"exchanged": 0.5}, "expected two leads"),
        (VALUES.model_copy(update={"leads": 1}), {"missing": 0.5}, "expected two leads"),
    ],
)
def test_images_whose_leads_cannot_be_changed_are_refused(
    spec: Spec, leads: dict[str, float], why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        Augmentation(AugmentParams.model_validate({"leads": leads}), spec, ("N", "S"))


def test_parameters_without_it_are_written_as_before_there_was_any() -> None:
    assert "leads" not in AugmentParams().model_dump(mode="json")
    on = AugmentParams.model_validate({"leads": {"inverted": 0.5}})
    assert on.model_dump(mode="json")["leads"]["inverted"] == 0.5
    assert on.any_on_pixels
