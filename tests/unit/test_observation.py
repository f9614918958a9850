import numpy as np
import pytest

from ecgbeats import observation

pytestmark = pytest.mark.unit

FS = 360.0
SAMPLES = np.arange(400, 7000, 300)


def trace(gain: float = 1.0, noise: float = 0.0) -> np.ndarray:
    """QRS complexes of 1 mV and T waves of 0.3 mV at `SAMPLES`, on a baseline of 2 mV."""
    time = np.arange(7400) / FS
    waves = np.zeros(len(time))
    for r in SAMPLES / FS:
        waves += np.exp(-(((time - r) / 0.015) ** 2)) + 0.3 * np.exp(
            -(((time - r - 0.25) / 0.05) ** 2)
        )
    noisy = waves + noise * np.random.default_rng(0).normal(size=len(time))
    return np.asarray(gain * noisy + 2.0)


def features(signal: np.ndarray, most: int = 10) -> dict[str, np.ndarray]:
    index = observation.pick(len(SAMPLES), most)
    return observation.signal_features(signal, SAMPLES, FS, index)


def test_amplitude_is_measured_in_millivolts_from_the_beats_own_baseline() -> None:
    assert features(trace())["amplitude_mv"] == pytest.approx(1.0, abs=0.1)
    assert features(trace(gain=2))["amplitude_mv"] == pytest.approx(2.0, abs=0.2)
    rr = features(trace())["rr_s"]
    assert np.isnan(rr[0]) and rr[1:] == pytest.approx(300 / FS, abs=0.01)


def test_noise_is_told_from_waves() -> None:
    quiet, noisy = features(trace())["noise_mv"], features(trace(noise=0.05))["noise_mv"]
    assert quiet.max() < 0.01
    assert noisy == pytest.approx(0.05, rel=0.35)


def test_a_beat_in_a_gap_has_no_amplitude() -> None:
    signal = trace()
    signal[SAMPLES[0]] = np.nan
    found = features(signal)
    assert np.isnan(found["amplitude_mv"][0]) and np.isfinite(found["amplitude_mv"][1:]).all()
    assert observation.as_json(found)["amplitude_mv"][0] is None


def test_an_empty_and_a_noisy_image_are_unlike_a_drawn_one() -> None:
    rng = np.random.default_rng(1)
    empty = np.full((40, 64), 128, np.uint8)
    drawn = empty.copy()
    drawn[:32, 28:36] = 250
    noisy = np.clip(drawn + rng.normal(0, 25, drawn.shape), 0, 255).astype(np.uint8)
    drawn[32:] = noisy[32:] = 255
    found = observation.image_features(np.stack([empty, drawn, noisy]), 8)
    assert found["image_contrast"][0] == 0 and found["image_contrast"][1] > 0.1
    assert found["image_peak"][1] == pytest.approx((250 - 128) / 255, abs=0.001)
    assert found["image_noise"][2] > 3 * found["image_noise"][1]
    assert found["image_rhythm"].tolist() == [0, 1, 1]
    assert np.isnan(observation.image_features(drawn[None], 0)["image_rhythm"]).all()


def plainly(images: np.ndarray, strip_height: int) -> dict[str, np.ndarray]:
    """The numbers as NumPy has words for them, on which references have been made."""
    panels = images[:, : images.shape[1] - strip_height].astype(np.float32) / 255
    flat = panels.reshape(len(images), -1)
    away = np.abs(flat - np.median(flat, axis=1, keepdims=True))
    steps = np.diff(panels, n=2, axis=2) if panels.shape[2] > 2 else np.zeros((len(images), 1, 1))
    return {
        "image_mean": flat.mean(axis=1),
        "image_contrast": flat.std(axis=1),
        "image_peak": np.percentile(away, 99, axis=1),
        "image_noise": np.abs(steps).mean(axis=(1, 2)),
    }


@pytest.mark.parametrize(
    ("shape", "strip"), [((72, 64), 8), ((64, 64), 0), ((36, 51), 5), ((7, 13), 0), ((1, 2), 0)]
)
def test_the_quick_way_to_the_numbers_gives_the_same(
    shape: tuple[int, int], strip: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(shape)
    drawn = rng.normal(128, [[[1]], [[20]], [[90]]] * 40, (120, *shape))
    few = rng.choice([0, 128, 255], (120, *shape), p=[0.03, 0.9, 0.07])
    images = np.concatenate([drawn.clip(0, 255), few, np.full((1, *shape), 77)]).astype(np.uint8)
    # To the last bit, not to the three decimals alone.
    monkeypatch.setattr(np, "round", lambda values, _: values)
    found = observation.image_features(images, strip)
    for name, values in plainly(images, strip).items():
        assert np.array_equal(found[name], values), name
        one = observation.image_features(images[5:6], strip)[name]
        assert one[0] == plainly(images[5:6], strip)[name][0]


def test_at_most_so_many_beats_are_picked_from_first_to_last() -> None:
    assert observation.pick(3, 64).tolist() == [0, 1, 2]
    some = observation.pick(1000, 64)
    assert (len(some), some[0], some[-1]) == (64, 0, 999)


def test_rows_are_not_in_the_order_of_time() -> None:
    columns = {"confidence": np.array([0.5, 1.0, 1.0, 0.7]), "rr_s": np.array([1.0, 0.8, 0.9, 1.0])}
    assert observation.shuffled(columns).tolist() == [2, 1, 3, 0]


@pytest.mark.parametrize(
    ("name", "said"), [("MLII", "MLII"), ("V5", "V5"), ("AVF", "AVF"), ("J. DOE", "other")]
)
def test_only_names_of_leads_are_repeated(name: str, said: str) -> None:
    assert observation.known_lead(name) == said
