import numpy as np
import pytest
from scipy.ndimage import median_filter

from ecgbeats.beats import (
    PERCENTILES,
    RHYTHMS,
    at_rate,
    baseline,
    choose_lead,
    condition,
    peaks,
    rhythm,
    rr_intervals,
    windows,
)
from ecgbeats.errors import DataError
from tests.support.recordings import FS, bumps, recording, regular

pytestmark = pytest.mark.unit


def test_lead_is_chosen_by_name_not_by_place() -> None:
    two = recording(np.zeros((10, 2)), leads=("V5", "mlii"))
    assert choose_lead(two, ("MLII", "II")) == 1
    assert choose_lead(two, ("V1",)) == 0


@pytest.mark.parametrize("written", ["II", "Lead II", "Lead-II", "DII", "d2", "MDC_ECG_LEAD_II"])
def test_a_lead_is_known_whatever_the_recorder_writes_around_its_name(written: str) -> None:
    three = recording(np.zeros((10, 3)), leads=("V5", "ECG1", written))
    assert choose_lead(three, ("MLII", "II")) == 2
    assert choose_lead(three, ("1",)) == 0, "ECG1 is a channel's number, no lead"


@pytest.mark.parametrize("fs", [360.1, 333.3, 199.9, 128.0])
def test_beats_and_signal_do_not_drift_apart_at_odd_rates(fs: float) -> None:
    samples = regular(1800, fs=fs)
    signal = bumps(samples[-5:], int(samples[-1] + fs), fs=fs, width_s=0.03)
    there = condition(recording(signal, fs=fs), 0, FS)
    last = np.rint(at_rate(samples[-1:], fs, FS)).astype(int)[0]
    # 24 minutes on: the peak is where the beat is said to be, within a sample or two.
    assert abs(int(there[last - 200 : last + 200].argmax()) - 200) <= 2


def test_peaks_are_found_whoever_marked_the_beat() -> None:
    samples = regular(20)
    signal = -bumps(samples, 20 * 360)
    for off in (-6, -1, 3, 7):
        assert (peaks(signal, samples + off, FS) == samples).all()
    # Farther away lies another wave, not this one's peak.
    assert (peaks(signal, samples[:-1] + 100, FS) != samples[:-1]).all()
    assert peaks(signal, np.array([0, len(signal) - 1]), FS).max() < len(signal)


def test_baseline_follows_the_full_rate_median_filters() -> None:
    """The fast estimate against the published definition at the full rate."""
    rng = np.random.default_rng(1)
    samples = regular(60)
    length = int(samples[-1] + FS)
    wander = 0.4 * np.sin(2 * np.pi * 0.2 * np.arange(length) / FS)
    signal = bumps(samples, length) + wander + rng.normal(0, 0.01, length)
    slow = median_filter(signal, round(0.2 * FS) | 1, mode="nearest")
    slow = median_filter(slow, round(0.6 * FS) | 1, mode="nearest")
    inner = slice(round(FS), -round(FS))
    assert np.abs(baseline(signal, FS) - slow)[inner].max() < 0.04
    assert np.abs(baseline(signal, FS) - wander)[inner].max() < 0.06


def test_conditioning_removes_wander_and_keeps_the_peak() -> None:
    samples = regular(30)
    length = int(samples[-1] + FS)
    wander = 0.5 * np.sin(2 * np.pi * 0.15 * np.arange(length) / FS) + 3.0
    clean = condition(recording(bumps(samples, length) + wander), 0, FS)
    assert np.abs(clean[samples] - 1.0).max() < 0.08


def test_conditioning_does_not_depend_on_the_sampling_rate() -> None:
    slow = regular(20, fs=250.0)
    signal = bumps(slow, 250 * 20, fs=250.0, width_s=0.02)
    there = condition(recording(signal, fs=250.0), 0, FS)
    where = np.rint(slow * FS / 250.0).astype(int)
    assert np.abs(there[where] - 1.0).max() < 0.05
    assert len(there) == pytest.approx(len(signal) * FS / 250.0, abs=2)


def test_gaps_are_bridged_and_an_empty_lead_is_an_error() -> None:
    signal = bumps(regular(10), 3600)
    signal[1000:1010] = np.nan
    assert np.isfinite(condition(recording(signal), 0, FS)).all()
    with pytest.raises(DataError, match="no valid sample"):
        condition(recording(np.full(3600, np.nan)), 0, FS)


def test_windows_hold_the_edges() -> None:
    signal = np.arange(10.0)
    cut = windows(signal, np.array([0, 5, 9]), 2, 3)
    assert cut.tolist() == [[0, 0, 0, 1, 2], [3, 4, 5, 6, 7], [7, 8, 9, 9, 9]]


def test_rr_intervals_of_few_beats() -> None:
    before, after = rr_intervals(np.array([360, 720, 1440]), FS)
    assert before.tolist() == [1.5, 1.0, 2.0]
    assert after.tolist() == [1.0, 2.0, 1.5]
    assert [part.tolist() for part in rr_intervals(np.array([7]), FS)] == [[1.0], [1.0]]
    assert len(rr_intervals(np.array([], int), FS)[0]) == 0


AGAINST = pytest.mark.parametrize("against", RHYTHMS)


@AGAINST
def test_a_premature_beat_shows_in_the_rhythm(against: str) -> None:
    samples = regular(40)
    samples[20] -= round(0.4 * 0.8 * FS)
    values = rhythm(samples, FS, against)
    assert values.shape == (40, len(RHYTHMS[against]))
    early = dict(zip(RHYTHMS[against], values[20], strict=True))
    for name in ("pre_rr", "post_rr"):
        factor = 0.6 if name == "pre_rr" else 1.4
        # In an even rhythm all quantiles are the same.
        compared = [early[key] for key in early if key in (name, f"{name}_20", f"{name}_90")]
        assert compared == pytest.approx([np.log(factor)] * len(compared), abs=0.01)
        assert compared
    assert early["pre_rr_local"] == pytest.approx(np.log(0.6), abs=0.01)
    assert np.abs(values[5, :5]).max() < 0.01


def test_an_irregular_rhythm_shows_in_the_spread() -> None:
    rng = np.random.default_rng(5)
    spread = RHYTHMS["mean"].index("rr_spread")
    for variation, sign in ((0.02, -1), (0.3, 1)):
        seconds = np.cumsum(0.8 * np.exp(rng.normal(0, variation, 100)))
        values = rhythm(np.rint(seconds * FS).astype(int), FS)[:, spread]
        assert (np.sign(values) == sign).mean() > 0.95
    # One early beat does not make a rhythm irregular.
    samples = regular(40)
    samples[20] -= round(0.4 * 0.8 * FS)
    assert rhythm(samples, FS)[:, spread].max() < -0.5


IRREGULAR = [RHYTHMS["quantiles"].index(f"irregular_{percent}") for percent in (5, 10, 20)]


def test_an_irregular_rhythm_shows_around_every_beat() -> None:
    rng = np.random.default_rng(5)
    for variation, low, high in ((0.02, 0.0, 0.3), (0.4, 0.5, 1.0)):
        seconds = np.cumsum(0.8 * np.exp(rng.normal(0, variation, 200)))
        share = rhythm(np.rint(seconds * FS).astype(int), FS, "quantiles")[:, IRREGULAR] + 0.5
        assert ((low <= share) & (share <= high)).mean() > 0.95
        # In the order of their names, smaller steps first.
        assert (np.diff(share, axis=1) < 0).all()


@pytest.mark.parametrize("early", [2, 3, 10, 40, 70, 77])
def test_a_beat_does_not_make_its_own_rhythm_irregular(early: int) -> None:
    samples = regular(80)
    samples[early] -= round(0.4 * 0.8 * FS)
    share = rhythm(samples, FS, "quantiles")[:, IRREGULAR] + 0.5
    assert share[early].max() == pytest.approx(0, abs=1e-6)
    near = early + 10 if early < 60 else early - 10
    # Its three steps (early, late, back) are among 58 and fewer of each beat near it.
    assert 2 / 58 < share[near, 1] < 3 / 30


def test_bigeminy_is_as_irregular_as_fibrillation() -> None:
    # What the values do not tell apart: steps are large in both.
    seconds = np.cumsum(np.tile([0.5, 1.1], 60))
    share = rhythm(np.rint(seconds * FS).astype(int), FS, "quantiles")[20:-20, IRREGULAR] + 0.5
    assert share.min() > 0.9


def test_the_60th_percentile_is_not_shortened_by_many_early_beats() -> None:
    for pattern in ([0.8, 0.8, 0.5, 1.1], [0.8, 0.5, 0.5, 0.8, 0.8]):
        seconds = np.cumsum(np.tile(pattern, 40))
        values = rhythm(np.rint(seconds * FS).astype(int), FS, "quantiles")
        pre = values[len(pattern) :, RHYTHMS["quantiles"].index("pre_rr_60")]
        expected = np.log(np.tile(pattern, 39) / np.float64(0.8))
        assert pre == pytest.approx(expected, abs=0.01)


def test_where_most_beats_are_early_the_longest_intervals_still_tell_so() -> None:
    seconds = np.cumsum(np.tile([0.5] * 7 + [0.9] * 3, 20))
    values = rhythm(np.rint(seconds * FS).astype(int), FS, "quantiles")
    told = {
        q: np.median(values[10:, RHYTHMS["quantiles"].index(f"pre_rr_{q}")].reshape(-1, 10)[:, 1])
        for q in PERCENTILES
    }
    assert told == pytest.approx({20: 0, 60: 0, 90: np.log(0.5 / 0.9)}, abs=0.01)


@AGAINST
def test_rhythm_is_the_same_at_any_heart_rate_and_sampling_rate(against: str) -> None:
    rng = np.random.default_rng(3)
    seconds = np.cumsum(rng.uniform(0.6, 1.0, 200))
    one = rhythm(np.rint(seconds * 1000).astype(int), 1000.0, against)
    faster = rhythm(np.rint(seconds * 500).astype(int), 1000.0, against)
    assert np.abs(one - faster).max() < 0.01


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_rhythm_of_few_beats(count: int) -> None:
    values = rhythm(regular(count), FS, "quantiles")
    assert values.shape == (count, len(RHYTHMS["quantiles"]))
    assert values[:, IRREGULAR] == pytest.approx(-0.5)
    assert np.delete(values, IRREGULAR, axis=1) == pytest.approx(0, abs=0.01)


@AGAINST
def test_rhythm_of_no_and_of_one_beat(against: str) -> None:
    assert rhythm(np.array([], int), FS, against).shape == (0, len(RHYTHMS[against]))
    assert np.isfinite(rhythm(np.array([100]), FS, against)).all()
