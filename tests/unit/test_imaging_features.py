from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.signal import resample_poly

from ecgbeats.beats import RHYTHMS, rhythm
from ecgbeats.imaging.features import feature_names, feature_values
from ecgbeats.imaging.png import decode_image, encode_png
from ecgbeats.imaging.render import render
from ecgbeats.imaging.sheets import export_pngs
from ecgbeats.imaging.spec import FeaturesSpec, spec_from_json
from ecgbeats.imaging.store import BeatImages, render_dataset
from tests.support.recordings import AAMI5, FS, bumps, recording, regular, write_dataset

pytestmark = pytest.mark.unit

RHYTHM = RHYTHMS["mean"]

SPEC = FeaturesSpec(representation="features")
TWO = FeaturesSpec(representation="features", leads=2)


def column(images: np.ndarray, name: str, spec: FeaturesSpec = SPEC) -> np.ndarray:
    return feature_values(images)[:, feature_names(spec).index(name)]


def beats(count: int = 20, *, wide: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Beats of which number `wide` is three times as wide as the others."""
    samples = regular(count)
    length = int(samples[-1] + FS)
    odd = np.arange(count) == (-1 if wide is None else wide)
    signal = bumps(samples[~odd], length) + bumps(samples[odd], length, width_s=0.036)
    signal += bumps(samples + round(0.25 * FS), length, width_s=0.05, height=0.3)
    return samples, signal


@pytest.mark.parametrize(
    "settings",
    [{}, {"leads": 2}, {"points": 7, "difference_points": 0}, {"leads": 2, "points": 512}],
)
def test_every_column_has_a_name_of_its_own(settings: dict[str, object]) -> None:
    spec = spec_from_json({"representation": "features", **settings})
    assert isinstance(spec, FeaturesSpec)
    names = feature_names(spec)
    assert spec.shape == (1, len(names))
    samples, signal = beats(5)
    assert render(recording(signal), samples, spec).shape == (5, 1, len(names))
    assert tuple(names[: len(RHYTHM)]) == RHYTHM
    assert len(set(names)) == len(names)
    rhythm_values = len(RHYTHM)
    assert names[rhythm_values] == "lead1_at_-250ms"
    assert names[rhythm_values + spec.points - 1] == "lead1_at_+400ms"


def test_rhythm_is_drawn_over_its_full_scale_and_clipped() -> None:
    samples, signal = beats(40)
    samples = samples.copy()
    samples[20] -= round(0.6 * FS)
    values = feature_values(render(recording(signal), samples, SPEC))[:, : len(RHYTHM)]
    expected = np.clip(rhythm(samples, FS) / 0.8, -1, 1)
    np.testing.assert_allclose(values, expected, atol=0.5 / 127 + 1e-6)
    assert values[20, 0] == -1


def test_the_beat_is_read_in_r_amplitudes_at_its_times() -> None:
    samples, signal = beats()
    spec = FeaturesSpec(representation="features", before_ms=100, after_ms=300, points=9)
    values = feature_values(render(recording(2.5 * signal), samples, spec))[8]
    drawn = dict(zip(feature_names(spec), values, strict=True))
    # Amplitude from grey: a = 0.3 v / (1 - |v|).
    height = {t: 0.3 * drawn[f"lead1_at_{t}ms"] for t in ("-100", "+0", "+250")}
    height = {t: h / (1 - abs(drawn[f"lead1_at_{t}ms"])) for t, h in height.items()}
    assert height["-100"] == pytest.approx(0, abs=0.03)
    # Smoothing by 4 ms takes 5 % of a peak of 12 ms.
    assert height["+0"] == pytest.approx(0.95, abs=0.04)
    assert height["+250"] == pytest.approx(0.3, abs=0.05)


def test_a_wide_beat_differs_from_the_median_beat_and_is_said_to_be_wide() -> None:
    samples, signal = beats(wide=11)
    images = render(recording(signal), samples, SPEC)
    typical = np.arange(20) != 11
    ratio = column(images, "lead1_qrs_width_ratio")
    assert np.abs(ratio[typical]).max() < 0.1
    # Three times as wide, 4 ms of smoothing under both: a ratio of 2.86.
    assert np.exp(ratio[11] * np.log(3)) == pytest.approx(2.86, rel=0.08)
    width = 0.03 * np.exp(column(images, "lead1_qrs_width")[5] * np.log(4))
    # Twice the standard deviation under the squared slope of a Gaussian: sqrt(6) sigma.
    assert width == pytest.approx(np.sqrt(6) * np.hypot(0.012, 0.004), rel=0.08)
    distance = column(images, "lead1_template_distance")
    assert distance[11] > 0.3 and distance[typical].max() < 0.08
    away = [n for n in feature_names(SPEC) if "_diff_" in n]
    values = np.stack([column(images, name) for name in away])
    assert np.abs(values[:, 5]).max() < 0.1 < 0.3 < np.abs(values[:, 11]).max()
    assert column(images, "lead1_qrs_area")[11] > column(images, "lead1_qrs_area")[5] + 0.1
    assert column(images, "lead1_steepest_rise")[11] < column(images, "lead1_steepest_rise")[5]


def test_values_change_sign_with_polarity() -> None:
    samples, signal = beats(wide=4)
    up = render(recording(signal), samples, SPEC)
    down = render(recording(-signal), samples, SPEC)
    for name in ("lead1_at_+0ms", "lead1_qrs_area"):
        np.testing.assert_allclose(column(up, name), -column(down, name), atol=0.02)
    np.testing.assert_allclose(
        column(up, "lead1_highest"), -column(down, "lead1_lowest"), atol=0.02
    )
    np.testing.assert_allclose(
        column(up, "lead1_steepest_rise"), -column(down, "lead1_steepest_fall"), atol=0.02
    )
    np.testing.assert_allclose(column(up, "lead1_qrs_width"), column(down, "lead1_qrs_width"))


def test_a_taller_beat_is_said_to_be_taller() -> None:
    samples, signal = beats()
    signal += bumps(samples[7:8], len(signal))
    ratio = column(render(recording(signal), samples, SPEC), "lead1_height_ratio")
    assert np.exp(ratio[7] * np.log(3)) == pytest.approx(2, rel=0.05)
    assert np.abs(np.delete(ratio, 7)).max() < 0.02


def test_a_second_lead_follows_the_first_and_is_middle_grey_where_there_is_none() -> None:
    samples, signal = beats(wide=4)
    half = len(RHYTHM) + TWO.values_per_lead
    both = recording(np.stack([signal, 0.3 * signal], axis=1), leads=("II", "V1"))
    images = render(both, samples, TWO).astype(int)
    assert np.abs(images[:, 0, len(RHYTHM) : half] - images[:, 0, half:]).max() <= 1
    alone = render(recording(signal), samples, TWO)
    assert (alone[:, 0, half:] == 128).all()
    np.testing.assert_array_equal(alone[:, :, :half], render(recording(signal), samples, SPEC))


def test_values_hang_neither_on_amplitude_nor_on_the_sampling_rate() -> None:
    samples, signal = beats(30, wide=11)
    signal = signal + np.random.default_rng(1).normal(0, 0.01, len(signal))
    image = render(recording(signal), samples, SPEC).astype(int)
    assert np.abs(image - render(recording(3 * signal), samples, SPEC)).max() <= 1
    slow = recording(resample_poly(signal, 25, 36, padtype="line"), fs=250.0)
    again = render(slow, np.rint(samples * 250 / FS).astype(int), SPEC)
    assert np.abs(image - again).mean() < 1.5
    assert np.percentile(np.abs(image - again), 99) < 10


def test_the_row_is_the_same_again_and_goes_through_store_and_pngs(tmp_path: Path) -> None:
    write_dataset(tmp_path / "raw", {"a": "NNVNANNN", "b": "NNNVNN"})
    render_dataset(tmp_path / "raw", TWO, AAMI5, tmp_path / "one", workers=1)
    render_dataset(tmp_path / "raw", TWO, AAMI5, tmp_path / "two", workers=1)
    images = BeatImages.open(tmp_path / "one")
    assert images.digest() == BeatImages.open(tmp_path / "two").digest()
    rows = images.take(np.arange(len(images.beats)))
    assert export_pngs(images, AAMI5, tmp_path / "pngs")["V"] == 2
    for row, beat in zip(rows, images.beats.itertuples(), strict=True):
        (path,) = (tmp_path / "pngs").glob(f"*/{beat.record}_{beat.sample:08d}.png")
        exported = decode_image(path.read_bytes(), TWO.shape, TWO.spec_id)
        np.testing.assert_array_equal(exported, row)
        np.testing.assert_array_equal(
            decode_image(encode_png(row, TWO.spec_id), TWO.shape, TWO.spec_id), row
        )


def test_few_beats_none_and_an_even_signal_can_be_drawn() -> None:
    one = recording(bumps(np.array([700]), 1800))
    for samples in ([], [700], [0, 1799]):
        image = render(one, np.array(samples, np.int64), SPEC)
        assert image.shape == (len(samples), *SPEC.shape)
    even = render(recording(np.zeros(1800)), np.array([500, 900, 1300]), SPEC)
    points = slice(len(RHYTHM), len(RHYTHM) + SPEC.points + SPEC.difference_points)
    assert (even[:, 0, points] == 128).all()
