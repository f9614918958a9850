import numpy as np
import pytest
from pydantic import ValidationError

from ecgbeats.beats import RHYTHMS, rhythm
from ecgbeats.imaging.render import render
from ecgbeats.imaging.spec import (
    CompositeSpec,
    FeaturesSpec,
    Spec,
    WaveformSpec,
    spec_from_json,
)
from tests.support.recordings import FS, bumps, recording, regular

pytestmark = pytest.mark.unit

RHYTHM = RHYTHMS["mean"]

WAVEFORM = WaveformSpec(representation="waveform")
COMPOSITE = CompositeSpec(representation="composite")


def test_spec_id_changes_with_every_setting_and_survives_json() -> None:
    assert spec_from_json(COMPOSITE.model_dump(mode="json")).spec_id == COMPOSITE.spec_id
    others = [COMPOSITE.model_copy(update={"width": 65}), WAVEFORM]
    assert len({COMPOSITE.spec_id, *(spec.spec_id for spec in others)}) == 3


@pytest.mark.parametrize(
    "settings",
    [
        {"representation": "waveform", "low_mv": 2.0, "high_mv": 1.0},
        {"representation": "composite", "finest_ms": 200, "coarsest_ms": 100},
        {"representation": "composite", "panels": ["beat", "beat"]},
        {"representation": "composite", "colour": "red"},
        {"representation": "sonogram"},
    ],
)
def test_impossible_specs_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        spec_from_json(settings)


def test_waveform_draws_the_trace_where_the_signal_is() -> None:
    samples = regular(20)
    level = np.full(int(samples[-1] + FS), 0.0)
    signal = level + bumps(samples, len(level), height=1.0)
    image = render(recording(signal), samples, WAVEFORM)[10].astype(float)
    assert image.shape == WAVEFORM.shape
    darkest = image.argmin(axis=0)
    scale = WAVEFORM.height / (WAVEFORM.high_mv - WAVEFORM.low_mv)
    zero = WAVEFORM.high_mv * scale
    middle = WAVEFORM.width // 2
    assert abs(darkest[5] + 0.5 - zero) <= 1.5
    # The peak is one millivolt higher, in the middle column, as R to R is even here.
    top = np.flatnonzero(image[:, middle] < 128).min()
    assert abs(zero - top - scale) <= 2
    # Every column has a trace: no gap.
    assert (image.min(axis=0) < 160).all()


def test_waveform_clips_what_is_too_tall_inside_the_image() -> None:
    samples = regular(10)
    signal = bumps(samples, int(samples[-1] + FS), height=8.0)
    image = render(recording(signal), samples, WAVEFORM)[5]
    assert image[0, WAVEFORM.width // 2] < 200


def test_fixed_window_shows_the_peak_at_its_place() -> None:
    spec = WAVEFORM.model_copy(update={"window": "fixed"})
    samples = regular(10)
    image = render(recording(bumps(samples, int(samples[-1] + FS))), samples, spec)[4]
    share = spec.before_ms / (spec.before_ms + spec.after_ms)
    rows = (image < 128).sum(axis=0)
    assert abs(int(rows.argmax()) - share * spec.width) <= 2


def test_composite_keeps_polarity() -> None:
    samples = regular(30)
    signal = bumps(samples, int(samples[-1] + FS))
    up = render(recording(signal), samples, COMPOSITE)[:, : COMPOSITE.panel_height].astype(int)
    down = render(recording(-signal), samples, COMPOSITE)[:, : COMPOSITE.panel_height].astype(int)
    assert np.abs((up - 128) + (down - 128)).max() <= 2
    column = round(250 / 556 * (COMPOSITE.width - 1))
    assert up[10, :16, column].max() > 200


def test_composite_does_not_depend_on_amplitude_or_sampling_rate() -> None:
    samples = regular(30)
    signal = bumps(samples, int(samples[-1] + FS), width_s=0.02)
    one = render(recording(signal), samples, COMPOSITE).astype(int)
    louder = render(recording(3 * signal), samples, COMPOSITE).astype(int)
    assert np.abs(one - louder).max() <= 1
    slow = regular(30, fs=180.0)
    half = recording(bumps(slow, len(signal) // 2, fs=180.0, width_s=0.02), fs=180.0)
    assert np.abs(one - render(half, slow, COMPOSITE)).mean() < 3


def test_difference_panel_is_flat_for_typical_beats_and_not_for_odd_ones() -> None:
    samples = regular(30)
    length = int(samples[-1] + FS)
    odd = np.arange(30) == 15
    signal = bumps(samples[~odd], length) + bumps(samples[odd], length, width_s=0.05)
    panel = slice(COMPOSITE.panel_height, 2 * COMPOSITE.panel_height)
    images = render(recording(signal), samples, COMPOSITE)[:, panel].astype(int)
    assert np.abs(images[8] - 128).max() < 40
    assert np.abs(images[15] - 128).max() > 80


def test_panels_of_two_leads_lie_lead_by_lead() -> None:
    samples = regular(30)
    first = bumps(samples, int(samples[-1] + FS))
    second = -bumps(samples, len(first), width_s=0.03)
    # One odd beat, in the second lead alone.
    second[samples[12] - 60 : samples[12] + 60] *= -1
    spec = CompositeSpec(representation="composite", leads=2, wavelet="gaus4")
    assert spec.panel_names == ("lead1 beat", "lead1 difference", "lead2 beat", "lead2 difference")
    both = render(recording(np.stack([first, second], 1), leads=("II", "V1")), samples, spec)
    assert both.shape == (30, 4 * spec.panel_height + spec.strip_height, spec.width)
    one = spec.model_copy(update={"leads": 1})
    height = 2 * spec.panel_height
    for k, signal in enumerate((first, second)):
        alone = render(recording(signal), samples, one)
        np.testing.assert_array_equal(both[:, k * height : (k + 1) * height], alone[:, :height])
    odd = np.abs(both[12].astype(int) - 128)
    assert odd[spec.panel_height : height].max() <= 2
    assert odd[height + spec.panel_height : 2 * height].max() > 60
    # A lead that is not there is middle grey.
    single = render(recording(first), samples, spec)
    assert (single[:, height : 2 * height] == 128).all()
    np.testing.assert_array_equal(single[:, :height], both[:, :height])


def test_values_between_panels_and_strip_are_those_of_features() -> None:
    samples = regular(30)
    first = bumps(samples, int(samples[-1] + FS))
    second = -bumps(samples, len(first), width_s=0.03)
    spec = CompositeSpec(representation="composite", leads=2, panels=("beat",), values=True)
    assert spec.rows_of_values == slice(2 * spec.panel_height, 2 * spec.panel_height + 2)
    assert spec.shape[0] == spec.rows_of_strip.stop == spec.rows_of_values.stop + 8
    two = recording(np.stack([first, second], 1), leads=("II", "V1"))
    images = render(two, samples, spec)
    plain = render(two, samples, spec.model_copy(update={"values": False}))
    above, strip = spec.rows_of_values.start, spec.rows_of_strip
    np.testing.assert_array_equal(images[:, :above], plain[:, :above])
    np.testing.assert_array_equal(images[:, strip], plain[:, -spec.strip_height :])
    alone = FeaturesSpec(representation="features", leads=2, points=0)
    wanted = render(two, samples, alone)[:, 0, 6:].reshape(30, 2, -1)
    count = wanted.shape[2]
    drawn = images[:, spec.rows_of_values].reshape(30, 2, -1)
    np.testing.assert_array_equal(drawn[:, :, :count], wanted)
    assert (drawn[:, :, count:] == 128).all()
    # Of a lead that is not there nothing is said.
    single = render(recording(first), samples, spec)[:, spec.rows_of_values]
    np.testing.assert_array_equal(single[:, 0], images[:, spec.rows_of_values][:, 0])
    assert (single[:, 1] == 128).all()


def test_a_setting_that_came_later_leaves_older_specs_as_they_were() -> None:
    assert "values" not in COMPOSITE.model_dump(mode="json")
    with_values = COMPOSITE.model_copy(update={"values": True})
    assert with_values.spec_id != COMPOSITE.spec_id
    assert spec_from_json(with_values.model_dump(mode="json")) == with_values
    assert spec_from_json(COMPOSITE.model_dump(mode="json")) == COMPOSITE


def test_a_strip_shows_the_rhythm_that_its_spec_names() -> None:
    samples = regular(60)
    samples[20] -= round(0.2 * FS)
    signal = bumps(samples, int(samples[-1] + FS))
    for against, names in RHYTHMS.items():
        spec = COMPOSITE.model_copy(update={"rhythm": against})
        strip = render(recording(signal), samples, spec)[:, -1]
        block = spec.width // len(names)
        values = np.clip(rhythm(samples, FS, against) / 0.8, -1, 1)
        drawn = strip[:, block // 2 :: block][:, : len(names)].astype(float)
        np.testing.assert_allclose((drawn - 128) / 127, values, atol=0.5 / 127 + 1e-6)
    assert COMPOSITE.model_copy(update={"rhythm": "quantiles"}).spec_id != COMPOSITE.spec_id


def test_strip_shows_that_a_beat_is_early() -> None:
    samples = regular(40)
    samples[20] -= round(0.4 * 0.8 * FS)
    images = render(recording(bumps(samples, int(samples[-1] + FS))), samples, COMPOSITE)
    block = COMPOSITE.width // len(RHYTHM)
    strip = images[:, -1].astype(int)
    assert strip[20, block // 2] < 128 - 60
    assert strip[20, block + block // 2] > 128 + 40
    assert abs(strip[10, block // 2] - 128) <= 3


def test_wavelet_panel_matches_a_direct_convolution() -> None:
    """The matrix against scipy's convolution of one scale at the beat's own time."""
    from scipy.signal import fftconvolve

    spec = COMPOSITE.model_copy(update={"panels": ("beat",)})
    samples = regular(12)
    signal = bumps(samples, int(samples[-1] + FS))
    image = render(recording(signal), samples, spec)[6].astype(float)
    scales = np.geomspace(spec.finest_ms, spec.coarsest_ms, spec.panel_height) / 1000
    row = 12
    at = np.arange(-4 * scales[row], 4 * scales[row], 1 / FS)
    u = at / scales[row]
    hat = (1 - u**2) * np.exp(-(u**2) / 2) / (2 * np.exp(-0.5)) / (scales[row] * FS)
    # The conditioned signal differs a little from the bumps: baseline removal.
    value = fftconvolve(signal, hat, mode="same")[samples[6]]
    expected = 128 + 127 * value / (abs(value) + 0.3)
    column = round(spec.before_ms / (spec.before_ms + spec.after_ms) * (spec.width - 1))
    assert image[row, column] == pytest.approx(expected, abs=8)


@pytest.mark.parametrize("spec", [WAVEFORM, COMPOSITE], ids=["waveform", "composite"])
def test_a_recording_with_few_beats_can_be_drawn(spec: Spec) -> None:
    one = recording(bumps(np.array([700]), 1800))
    assert render(one, np.array([700]), spec).shape == (1, *spec.shape)
    assert render(one, np.array([], np.int64), spec).shape == (0, *spec.shape)
    assert render(one, np.array([0, 1799]), spec).shape == (2, *spec.shape)
