from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.signal import ShortTimeFFT, resample_poly
from scipy.signal.windows import hann

from ecgbeats.imaging.png import decode_image, encode_png
from ecgbeats.imaging.render import render
from ecgbeats.imaging.spec import SpectrogramSpec, spec_from_json
from ecgbeats.imaging.spectrogram import fourier_transform
from tests.support.recordings import FS, bumps, recording, regular

pytestmark = pytest.mark.unit

SPEC = SpectrogramSpec(representation="spectrogram", panel_height=16, width=40)


def with_settings(**settings: object) -> SpectrogramSpec:
    spec = spec_from_json(SPEC.model_dump() | settings)
    assert isinstance(spec, SpectrogramSpec)
    return spec


def beats(count: int = 12) -> tuple[np.ndarray, np.ndarray]:
    samples = regular(count)
    length = int(samples[-1] + FS)
    signal = bumps(samples, length) + bumps(samples + 90, length, width_s=0.05, height=0.3)
    return samples, signal


def test_the_matrix_agrees_with_scipys_short_time_fourier_transform() -> None:
    # Frames on whole samples: 33 of them 10 samples apart, 64 samples long, 8 to 80 Hz.
    fs, size, hop = 512.0, 64, 10
    spec = with_settings(
        fs=fs,
        before_ms=160 / fs * 1000,
        after_ms=160 / fs * 1000,
        width=33,
        window_ms=size / fs * 1000,
        low_hz=8.0,
        high_hz=80.0,
        panel_height=10,
    )
    assert spec.hop_ms == pytest.approx(hop / fs * 1000)
    transform = fourier_transform(spec)
    signal = np.random.default_rng(0).normal(0, 1, 1000)
    middle = 500
    window = signal[middle - transform.before : middle + transform.after]
    got = transform.magnitude(window[None])[0]
    shape = hann(size, sym=False)
    reference = ShortTimeFFT(shape, hop=1, fs=fs, fft_mode="onesided")
    spectrum = np.abs(reference.stft(signal)) * 2 / shape.sum()
    # The sample in the middle of a periodic Hann window is its frame's time.
    frames = middle + hop * np.arange(-16, 17) - reference.p_min
    bins = [round(f / reference.delta_f) for f in np.linspace(80, 8, 10)]
    np.testing.assert_allclose(got, spectrum[np.ix_(bins, frames)], rtol=1e-3, atol=1e-5)


def test_a_sine_is_drawn_in_the_row_of_its_frequency_at_its_level() -> None:
    spec = with_settings(low_hz=0.0, high_hz=60.0, panel_height=31, window_ms=250)
    transform = fourier_transform(spec)
    at = np.arange(-transform.before, transform.after) / FS
    level = transform.magnitude(0.5 * np.cos(2 * np.pi * 40 * at)[None])[0]
    # Rows are 2 Hz apart from 60 Hz downwards.
    assert (level.argmax(axis=0) == 10).all()
    np.testing.assert_allclose(level[10], 0.5, atol=0.005)


def test_grey_is_linear_in_decibels_and_clipped() -> None:
    samples, signal = beats()
    near = with_settings(floor_db=-40, ceiling_db=0)
    far = with_settings(floor_db=-80, ceiling_db=0)
    one, two = (render(recording(signal), samples, s)[5, :16].astype(float) for s in (near, far))
    # Level in dB: -40 + 40 g / 255 in the one, -80 + 80 g / 255 in the other.
    inside = one > 0
    assert inside.any() and not inside.all()
    np.testing.assert_allclose(one[inside], 2 * two[inside] - 255, atol=1.6)
    assert (two[~inside] <= 128).all()


def test_polarity_does_not_matter() -> None:
    samples, signal = beats()
    up = render(recording(signal), samples, SPEC).astype(int)
    assert np.abs(up - render(recording(-signal), samples, SPEC)).max() <= 1


def test_the_image_hangs_neither_on_amplitude_nor_on_the_sampling_rate() -> None:
    samples, signal = beats(20)
    signal = signal + np.random.default_rng(1).normal(0, 0.01, len(signal))
    spec = with_settings(high_hz=45.0)
    image = render(recording(signal), samples, spec).astype(int)
    louder = render(recording(3 * signal), samples, spec)
    assert np.abs(image - louder).max() <= 1
    slow = recording(resample_poly(signal, 25, 36, padtype="line"), fs=250.0)
    again = render(slow, np.rint(samples * 250 / FS).astype(int), spec)
    assert np.abs(image - again).mean() < 4


def test_a_second_lead_has_its_panel_and_a_missing_one_is_black() -> None:
    samples, signal = beats()
    spec = with_settings(leads=2)
    both = np.stack([signal, 0.2 * signal], axis=1)
    image = render(recording(both, leads=("II", "V1")), samples, spec).astype(int)
    assert np.abs(image[:, :16] - image[:, 16:32]).max() <= 1
    alone = render(recording(signal), samples, spec)
    assert (alone[:, 16:32] == 0).all()
    np.testing.assert_array_equal(alone[:, :16], image[:, :16])


@pytest.mark.parametrize(
    "settings",
    [
        {"low_hz": 50.0, "high_hz": 40.0},
        {"high_hz": 200.0},
        {"floor_db": 0.0},
        {"fs": 125.0, "window_ms": 20.0},
    ],
)
def test_impossible_specs_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        with_settings(**settings)


def test_the_image_is_the_same_again_and_goes_through_a_png() -> None:
    samples, signal = beats(6)
    image = render(recording(signal), samples, SPEC)
    np.testing.assert_array_equal(image, render(recording(signal), samples, SPEC))
    for one in image:
        png = encode_png(one, SPEC.spec_id)
        np.testing.assert_array_equal(decode_image(png, SPEC.shape, SPEC.spec_id), one)


def test_few_beats_none_and_an_even_signal_can_be_drawn() -> None:
    one = recording(bumps(np.array([700]), 1800))
    for samples in ([], [700], [0, 1799]):
        image = render(one, np.array(samples, np.int64), SPEC)
        assert image.shape == (len(samples), *SPEC.shape)
    even = render(recording(np.zeros(1800)), np.array([500, 900]), SPEC)
    assert (even[:, : SPEC.panel_height] == 0).all()
