from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.signal import resample_poly

from ecgbeats.imaging.plane import rhythm_strip
from ecgbeats.imaging.png import decode_image, encode_png
from ecgbeats.imaging.render import render
from ecgbeats.imaging.spec import ScalogramSpec, spec_from_json
from ecgbeats.imaging.wavelets import WAVELETS, wavelet_transform
from tests.support.recordings import FS, bumps, recording, regular

pytestmark = pytest.mark.unit

SPEC = ScalogramSpec(representation="scalogram", panel_height=16, width=40)

# The wavelets written out anew, in seconds, for a scale; and sigma in hats of one frequency.
REFERENCE = {
    "mexican_hat": (lambda u: (1 - u**2) * np.exp(-(u**2) / 2), 1.0),
    "gaus1": (lambda u: u * np.exp(-(u**2) / 2), np.sqrt(1 / 2)),
    "gaus3": (lambda u: -u * (u**2 - 3) * np.exp(-(u**2) / 2), np.sqrt(3 / 2)),
    "gaus4": (lambda u: (u**4 - 6 * u**2 + 3) * np.exp(-(u**2) / 2), np.sqrt(4 / 2)),
    "morlet": (lambda u: np.exp(5j * u - u**2 / 2), 5 / np.sqrt(2)),
}


def beats(count: int = 12, *, fs: float = FS) -> tuple[np.ndarray, np.ndarray]:
    """Beats with a small wave before, and a slower one after, a narrow one."""
    samples = regular(count, fs=fs)
    length = int(samples[-1] + fs)
    signal = bumps(samples, length, fs=fs, width_s=0.012)
    signal += bumps(samples - round(0.15 * fs), length, fs=fs, width_s=0.025, height=0.15)
    signal += bumps(samples + round(0.25 * fs), length, fs=fs, width_s=0.05, height=0.3)
    return samples, signal


def with_settings(**settings: object) -> ScalogramSpec:
    spec = spec_from_json(SPEC.model_dump() | settings)
    assert isinstance(spec, ScalogramSpec)
    return spec


def test_spec_and_table_know_the_same_wavelets() -> None:
    names = get_args(ScalogramSpec.model_fields["wavelet"].annotation)
    assert set(names) == set(WAVELETS) == set(REFERENCE)


@pytest.mark.parametrize("name", sorted(REFERENCE))
def test_the_matrix_agrees_with_a_convolution_at_every_time_and_scale(name: str) -> None:
    """Against numpy's convolution of the wavelets written out, on a long noisy signal."""
    fs, rows = 1000.0, 8
    transform = wavelet_transform(
        ScalogramSpec(
            representation="scalogram",
            wavelet=name,
            fs=fs,
            before_ms=100,
            after_ms=100,
            finest_ms=8,
            coarsest_ms=60,
            panel_height=rows,
            width=21,
        )
    )
    signal = np.cumsum(np.random.default_rng(3).normal(0, 0.1, 6001))
    middle = 3000
    window = signal[middle - transform.before : middle + transform.after]
    got = transform.signed(window[None])[0]
    modulus = transform.magnitude(window[None])[0]
    wave, stretch = REFERENCE[name]
    for k, hat_ms in enumerate(np.geomspace(8, 60, rows)):
        sigma = hat_ms / 1000 * stretch
        u = np.arange(-2500, 2501) / fs / sigma
        taps = wave(u)
        area = np.maximum(taps.real, 0).sum()
        # Correlation is convolution with the wavelet turned around.
        full = np.convolve(signal, (taps / area)[::-1], mode="same")
        expected = full[middle + np.arange(-100, 101, 10)]
        np.testing.assert_allclose(got[k], expected.real, atol=0.03)
        np.testing.assert_allclose(modulus[k], np.abs(expected), atol=0.03)
        assert np.ptp(expected.real) > 0.1


@pytest.mark.parametrize("name", sorted(WAVELETS))
def test_rows_show_the_same_frequencies_whatever_the_wavelet(name: str) -> None:
    """A sine of the centre frequency of one row is largest in that row, or beside it."""
    rows = 24
    transform = wavelet_transform(
        ScalogramSpec(
            representation="scalogram",
            wavelet=name,
            fs=FS,
            before_ms=200,
            after_ms=200,
            finest_ms=6,
            coarsest_ms=80,
            panel_height=rows,
            width=41,
        )
    )
    sigma = np.geomspace(6, 80, rows)[12] / 1000
    at = np.arange(-transform.before, transform.after) / FS
    sine = np.sin(2 * np.pi * np.sqrt(2) / (2 * np.pi * sigma) * at)
    assert abs(int(transform.magnitude(sine[None])[0].max(axis=1).argmax()) - 12) <= 1


def test_the_hat_gives_a_wave_as_wide_as_its_lobe_about_its_height() -> None:
    transform = wavelet_transform(
        ScalogramSpec(
            representation="scalogram",
            fs=FS,
            before_ms=0.5,
            after_ms=0.5,
            finest_ms=19.9,
            coarsest_ms=20,
            panel_height=8,
            width=16,
        )
    )
    at = np.arange(-transform.before, transform.after) / FS
    box = (np.abs(at) <= 0.02).astype(float)
    assert transform.signed(box[None])[0, 0, 0] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("name", sorted(WAVELETS))
def test_signed_keeps_polarity_and_magnitude_loses_it(name: str) -> None:
    samples, signal = beats()
    panel = slice(0, SPEC.panel_height)
    drawn = {}
    for value in ("signed", "magnitude"):
        spec = with_settings(wavelet=name, value=value)
        drawn[value] = [
            render(recording(sign * signal), samples, spec)[:, panel].astype(int)
            for sign in (1, -1)
        ]
    up, down = drawn["signed"]
    assert np.abs((up - 128) + (down - 128)).max() <= 2
    assert np.abs(up - 128).max() > 60
    up, down = drawn["magnitude"]
    assert np.abs(up - down).max() <= 2
    assert up.max() > 120 and up.min() < 20


@pytest.mark.parametrize("value", ["signed", "magnitude"])
def test_the_image_hangs_neither_on_amplitude_nor_on_the_sampling_rate(value: str) -> None:
    samples, signal = beats(20)
    spec = with_settings(value=value, leads=2)
    both = np.stack([signal, -0.4 * signal], axis=1)
    image = render(recording(both, leads=("II", "V1")), samples, spec).astype(int)
    louder = render(recording(3 * both, leads=("II", "V1")), samples, spec)
    assert np.abs(image - louder).max() <= 1
    slow = resample_poly(both, 25, 36, padtype="line")
    at = np.rint(samples * 250 / FS).astype(int)
    again = render(recording(slow, fs=250.0, leads=("II", "V1")), at, spec)
    assert np.abs(image - again).mean() < 1.5
    assert np.percentile(np.abs(image - again), 99) < 12


def test_the_second_lead_is_named_or_the_other_one_or_left_empty() -> None:
    samples, signal = beats()
    three = np.stack([signal, np.zeros_like(signal), -signal], axis=1)
    first, second = slice(0, SPEC.panel_height), slice(SPEC.panel_height, 2 * SPEC.panel_height)
    spec = with_settings(leads=2, second_lead=("V5", "v1"))
    image = render(recording(three, leads=("MLII", "X", "V1")), samples, spec).astype(int)
    assert np.abs((image[5, first] - 128) + (image[5, second] - 128)).max() <= 2
    assert np.abs(image[5, second] - 128).max() > 60
    # Not the first one of the file, when that is the first to be drawn.
    swapped = render(recording(three, leads=("V1", "X", "MLII")), samples, with_settings(leads=2))
    assert np.abs(image[5, first] - (256 - swapped[5, first].astype(int))).max() <= 2
    assert np.abs(swapped[5, second].astype(int) - image[5, first]).max() <= 2
    alone = render(recording(signal), samples, spec)
    assert (alone[:, second] == 128).all()
    three[:, 1:] = np.nan
    silent = render(recording(three, leads=("MLII", "X", "V1")), samples, spec)
    np.testing.assert_array_equal(silent, alone)
    magnitude = with_settings(leads=2, value="magnitude")
    assert (render(recording(signal), samples, magnitude)[:, second] == 0).all()


def test_the_strip_can_be_left_out_and_shows_an_early_beat() -> None:
    samples, signal = beats(30)
    without = with_settings(strip_height=0)
    assert render(recording(signal), samples, without).shape == (30, SPEC.panel_height, SPEC.width)
    moved = samples.copy()
    moved[20] -= round(0.3 * FS)
    image = render(recording(signal), moved, SPEC)
    strip = image[:, -SPEC.strip_height :]
    assert (strip == strip[:, :1]).all()
    assert strip[20, 0, 0] < 80 and abs(int(strip[10, 0, 0]) - 128) < 12


def test_the_strip_clips_and_fills_up_with_middle_grey() -> None:
    values = np.array([[0.0, 0.8, -0.8, 5.0, -5.0, 0.4, -0.4, 0.0]])
    strip = rhythm_strip(values, 2, 27)
    assert strip[0, 0, :24:3].tolist() == [128, 255, 1, 255, 1, 192, 64, 128]
    assert (strip[..., 24:] == 128).all() and (strip[:, 0] == strip[:, 1]).all()


@pytest.mark.parametrize(
    "settings",
    [
        {"wavelet": "haar"},
        {"finest_ms": 50, "coarsest_ms": 40},
        {"finest_ms": 0.5},
        {"value": "power"},
        {"leads": 3},
    ],
)
def test_impossible_specs_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        with_settings(**settings)


def test_the_image_is_the_same_again_and_goes_through_a_png() -> None:
    samples, signal = beats(6)
    spec = with_settings(leads=2, wavelet="morlet")
    image = render(recording(signal), samples, spec)
    np.testing.assert_array_equal(image, render(recording(signal), samples, spec))
    assert image.dtype == np.uint8
    for one in image:
        png = encode_png(one, spec.spec_id)
        np.testing.assert_array_equal(decode_image(png, spec.shape, spec.spec_id), one)


def test_few_beats_and_none_can_be_drawn() -> None:
    one = recording(bumps(np.array([700]), 1800))
    for samples in ([], [700], [0, 1799]):
        image = render(one, np.array(samples, np.int64), SPEC)
        assert image.shape == (len(samples), *SPEC.shape)
