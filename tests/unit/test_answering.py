"""Beats of a recording: found, matched with annotated ones, answered, summed up, explained."""

from __future__ import annotations

import numpy as np
import pytest

from ecgbeats.answering import answer_beats, match_beats, rhythm_summary
from ecgbeats.errors import DataError
from ecgbeats.imaging.spec import CompositeSpec, FeaturesSpec, PictureSpec, Spec, WaveformSpec
from ecgbeats.occlusion import empty_level, occlusion_map, overlay, windows_of
from ecgbeats.qrs import detect_beats
from tests.support.recordings import bumps, recording, regular
from tests.support.tiny_model import write_tiny_model

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("fs", [100.0, 250.0, 360.0, 2000.0])
@pytest.mark.parametrize("height", [1.2, -0.8])
def test_beats_are_found_at_their_peak_at_any_rate(fs: float, height: float) -> None:
    samples = regular(40, 0.8, fs)
    signal = bumps(samples, int(samples[-1] + fs), fs=fs, height=height, seed=1)
    signal += 0.3 * np.sin(np.arange(len(signal)) / fs)
    found = detect_beats(recording(signal, fs=fs), 0)
    matched = match_beats(samples, found, fs)
    assert (matched >= 0).all() and len(found) == 40
    assert np.abs(found[matched] - samples).max() <= max(1, 0.01 * fs)


def test_gaps_are_bridged_and_a_lead_that_stands_still_has_no_beats() -> None:
    samples = regular(30)
    signal = bumps(samples, int(samples[-1] + 360), seed=1)
    signal[2000:2100] = np.nan
    assert len(detect_beats(recording(signal), 0)) >= 26
    assert len(detect_beats(recording(np.full(3600, 0.2)), 0)) == 0
    with pytest.raises(DataError, match="no valid sample"):
        detect_beats(recording(np.full(3600, np.nan)), 0)


@pytest.mark.parametrize(("seconds", "fs", "words"), [(1.5, 360.0, "2 s"), (20, 40.0, "80 Hz")])
def test_too_little_to_find_beats_in_is_said(seconds: float, fs: float, words: str) -> None:
    with pytest.raises(DataError, match=words):
        detect_beats(recording(np.zeros(int(seconds * fs)), fs=fs), 0)


@pytest.mark.parametrize(
    ("reference", "found", "expected"),
    [
        ([100, 200, 300], [101, 199, 310], [0, 1, 2]),
        ([100, 200], [], [-1, -1]),
        ([100, 200], [200], [-1, 0]),
        ([100], [70, 98, 140], [1]),
        ([90, 110], [109], [-1, 0]),
        ([100, 1000], [160, 1000], [-1, 1]),
    ],
)
def test_each_beat_is_matched_once_with_the_nearest(
    reference: list[int], found: list[int], expected: list[int]
) -> None:
    matched = match_beats(np.array(reference, int), np.array(found, int), 360.0)
    assert matched.tolist() == expected


def test_the_rhythm_is_summed_up() -> None:
    samples = np.array([0, 360, 720, 900, 1800, 2160])
    summary = rhythm_summary(samples, ["N", "N", "V", "V", "V", "N"], 360.0)
    assert summary.rate == pytest.approx(50)
    assert (summary.rr_shortest, summary.rr_longest, summary.pauses) == (0.5, 2.5, 1)
    assert dict(summary.runs) == {"N": 2, "V": 3}
    nothing = rhythm_summary(samples[:1], ["N"], 360.0)
    assert nothing.rate is None and nothing.pauses == 0


def test_many_beats_are_answered_as_in_one_pass(tmp_path) -> None:  # type: ignore[no-untyped-def]
    classifier = write_tiny_model(tmp_path / "model")
    samples = regular(150)
    both = np.stack([np.zeros(60_000), bumps(samples, 60_000, seed=2)], axis=1)
    answered = answer_beats(classifier, recording(both, leads=("ABP", "V5")), samples)
    assert answered.recording.leads == ("V5",)
    assert answered.remarks == ["lead ABP stands still or has no valid sample"]
    np.testing.assert_allclose(
        answered.probabilities, classifier.predict(answered.images), atol=1e-6
    )
    with pytest.raises(DataError, match="expected lead II, found ABP, V5"):
        answer_beats(classifier, recording(both, leads=("ABP", "V5")), samples, lead="II")


def test_only_wanted_images_are_kept(tmp_path) -> None:  # type: ignore[no-untyped-def]
    classifier = write_tiny_model(tmp_path / "model")
    samples = regular(150)
    whole = answer_beats(classifier, recording(bumps(samples, 60_000, seed=2)), samples)
    assert whole.kept.tolist() == list(range(150))
    some = answer_beats(
        classifier, recording(bumps(samples, 60_000, seed=2)), samples, wanted=lambda p: {9, 3}
    )
    assert some.kept.tolist() == [3, 9]
    np.testing.assert_array_equal(some.images, whole.images[[3, 9]])
    np.testing.assert_array_equal(some.probabilities, whole.probabilities)


SPECS: list[Spec] = [
    WaveformSpec(representation="waveform"),
    CompositeSpec(representation="composite", leads=2, panel_height=16, rhythm="quantiles"),
    CompositeSpec(representation="composite", leads=2, panel_height=16, values=True),
    PictureSpec(representation="picture"),
    FeaturesSpec(representation="features"),
    WaveformSpec(representation="waveform", height=512, width=512),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.representation} {spec.shape}")
def test_windows_cover_the_image_and_are_few(spec: Spec) -> None:
    seen = np.zeros(spec.shape, int)
    for window in windows_of(spec):
        seen[window] += 1
    strip = getattr(spec, "strip_height", 0)
    assert (seen[: len(seen) - strip] > 0).all()
    assert len(windows_of(spec)) < 500


def test_what_the_answer_rests_on_is_found() -> None:
    spec = CompositeSpec(representation="composite")
    image = np.full(spec.shape, 128, np.uint8)
    image[10:14, 20:24] = 255
    image[-8:, :10] = 255  # the first value of the rhythm

    def predict(images: np.ndarray) -> np.ndarray:
        square = images[:, 10:14, 20:24].mean(axis=(1, 2)) / 255 - 0.5
        rhythm = images[:, -1, 5] / 255 - 0.5
        odds = np.exp(4 * square - 2 * rhythm)
        return np.stack([odds, np.ones_like(odds)], axis=1) / (1 + odds)[:, None]

    found = occlusion_map(predict, image, 0, spec)
    assert found[12, 22] == pytest.approx(found.max()) and found[12, 22] > 1.4
    assert found[-1, 5] == pytest.approx(-1, abs=0.05) and found[-1, 50] == 0
    np.testing.assert_allclose(found, -occlusion_map(predict, image, 1, spec), atol=1e-6)
    picture = overlay(image, found)
    assert picture.shape == (72 * 6, 64 * 6, 3)
    red, blue = picture[12 * 6, 22 * 6], picture[-1, 5 * 6]
    assert red[0] > red[2] + 60 and blue[2] > blue[0] + 60


def test_the_services_evidence_and_empty_images_are_those_of_the_report() -> None:
    from ecgbeats import explanation, occlusion

    p = np.random.default_rng(1).dirichlet(np.ones(4), 20)
    p[0] = [1, 0, 0, 0]
    for k in range(4):
        np.testing.assert_allclose(
            occlusion.evidence(p, k), explanation.evidence(p, np.full(20, k)), atol=1e-12
        )
    for spec in SPECS:
        image = np.zeros((1, *spec.shape), np.uint8)
        assert empty_level(spec) == explanation.empty_level(spec, image)
