"""Training images altered at random: what an operation does, and what it must leave alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ecgbeats import training
from ecgbeats.augmentation import Augmentation
from ecgbeats.beats import RHYTHMS
from ecgbeats.config import AugmentParams, ModelParams, TrainParams
from ecgbeats.errors import ConfigError
from ecgbeats.files import sha256_tree
from ecgbeats.imaging.plane import signed_grey, soft
from ecgbeats.imaging.spec import (
    CompositeSpec,
    FeaturesSpec,
    ScalogramSpec,
    Spec,
    SpectrogramSpec,
    WaveformSpec,
)
from ecgbeats.imaging.store import BeatImages, render_dataset
from ecgbeats.imaging.wavelets import wavelet_transform
from ecgbeats.split import TRAIN, VALIDATION
from tests.support.recordings import AAMI5, write_dataset

pytestmark = pytest.mark.unit

RHYTHM = RHYTHMS["mean"]

CLASSES = ("N", "S", "V")
WAVEFORM = WaveformSpec(representation="waveform", height=48, width=40)
COMPOSITE = CompositeSpec(representation="composite", panel_height=24, width=40, strip_height=4)
SCALOGRAM = ScalogramSpec(representation="scalogram", panel_height=40, width=64, leads=1)
SPECTROGRAM = SpectrogramSpec(representation="spectrogram", panel_height=24, width=40)
# Everything that moves pixels.
MOVES: dict[str, Any] = {
    "crop": 0.3,
    "shift": 0.2,
    "zoom": 0.3,
    "shear": 0.2,
    "time_warp": 0.3,
    "nine_crop": {},
    "flip_horizontal": 0.5,
}


def augmentation(spec: Spec, **params: Any) -> Augmentation:
    return Augmentation(AugmentParams.model_validate(params), spec, CLASSES)


def noise_images(spec: Spec, count: int = 40, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 256, (count, *spec.shape), dtype=np.uint8)


def altered(spec: Spec, images: np.ndarray, *, seed: int = 0, **params: Any) -> np.ndarray:
    labels = np.arange(len(images)) % len(CLASSES)
    return augmentation(spec, **params)(images, labels, np.random.default_rng(seed))


def test_nothing_is_on_by_default() -> None:
    assert not AugmentParams().any
    assert not AugmentParams(probability=0.5).any
    assert Augmentation.of(AugmentParams(), WAVEFORM, CLASSES) is None
    assert Augmentation.of(AugmentParams(shift=0.1), WAVEFORM, CLASSES) is not None


@pytest.mark.parametrize("spec", [WAVEFORM, COMPOSITE], ids=["waveform", "composite"])
def test_all_chance_is_the_generator_s_and_the_images_stay_as_they_are(spec: Spec) -> None:
    images = noise_images(spec)
    before = images.copy()
    params = {**MOVES, "amplitude": 0.3, "baseline_wander": 0.2, "noise": 4.0}
    first, again = (altered(spec, images, seed=1, **params) for _ in range(2))
    assert first.dtype == np.float32
    assert first.shape == images.shape
    assert (first == again).all()
    assert (first != altered(spec, images, seed=2, **params)).any()
    assert (images == before).all()
    assert (first == np.rint(first)).all()
    assert first.min() >= 0
    assert first.max() <= 255


@pytest.mark.parametrize("name", [*MOVES, "amplitude", "baseline_wander", "noise"])
def test_every_operation_changes_panels_and_none_the_strip(name: str) -> None:
    value = MOVES.get(name, 0.4 if name != "noise" else 9.0)
    images = noise_images(COMPOSITE)
    out = altered(COMPOSITE, images, **{name: value})
    bottom = COMPOSITE.shape[0] - COMPOSITE.strip_height
    assert (out[:, bottom:] == images[:, bottom:]).all()
    changed = (out[:, :bottom] != images[:, :bottom]).any(axis=(1, 2))
    assert changed.mean() > 0.3


@pytest.mark.parametrize("name", [*MOVES, "amplitude"])
def test_panels_do_not_leak_into_each_other(name: str) -> None:
    images = np.full((40, *COMPOSITE.shape), 128, np.uint8)
    images[:, COMPOSITE.panel_height : 2 * COMPOSITE.panel_height] = 255
    out = altered(COMPOSITE, images, **{name: MOVES.get(name, 0.4)})
    assert (out[:, : COMPOSITE.panel_height] == 128).all()
    second = out[:, COMPOSITE.panel_height : 2 * COMPOSITE.panel_height]
    # Rows of a panel are held at its edges; only columns may come in empty.
    assert (second == second[:, :1]).all()


def test_a_shift_moves_time_and_brings_in_what_is_nothing() -> None:
    for spec, empty in ((WAVEFORM, 255), (COMPOSITE, 128), (SPECTROGRAM, 0)):
        images = np.full((60, *spec.shape), 77, np.uint8)
        out = altered(spec, images, shift=0.25)
        row = out[:, 3]
        assert row.min() >= min(77, empty)
        assert row.max() <= max(77, empty)
        # Up to a quarter of 40 columns, on either side; one column may be in part.
        came_in = (row == empty).sum(axis=1)
        assert came_in.max() in (8, 9, 10)
        assert (row[:, 0] == empty).any()
        assert (row[:, -1] == empty).any()


def test_nine_crops_are_those_of_the_paper_and_spare_the_other_classes() -> None:
    spec = WaveformSpec(representation="waveform", height=64, width=64)
    smooth = np.add.outer(np.arange(64) * 2.6, np.arange(64) * 1.3)[None]
    images = np.repeat(smooth, 300, axis=0).astype(np.uint8)
    nine = {"classes": ["S", "V"], "probability": 1.0}
    out = altered(spec, images, nine_crop=nine)
    labels = np.arange(300) % 3
    assert (out[labels == 0] == images[labels == 0]).all()
    found = np.unique(out[labels != 0], axis=0)
    assert len(found) == 9
    picture = Image.fromarray(images[0])
    for left in (0, 8, 16):
        for top in (0, 8, 16):
            window = picture.crop((left, top, left + 48, top + 48))
            expected = np.asarray(window.resize((64, 64), Image.Resampling.BILINEAR), np.float32)
            # At the border of the window theirs holds, ours sees half a pixel further.
            apart = np.abs(found - expected)[:, 1:-1, 1:-1].max(axis=(1, 2))
            assert apart.min() <= 1.5


def test_classes_that_are_cropped_may_be_shown_more_often() -> None:
    labels = np.array([0, 1, 2, 0])
    tenfold = augmentation(WAVEFORM, nine_crop={"classes": ["S", "V"], "copies": 10})
    assert tenfold.copies(labels).tolist() == [1, 10, 10, 1]
    assert augmentation(WAVEFORM, shift=0.1).copies(labels).tolist() == [1, 1, 1, 1]


def test_amplitude_of_a_panel_is_that_of_the_signal_under_it() -> None:
    values = np.linspace(-2, 2, COMPOSITE.width)
    images = np.full((30, *COMPOSITE.shape), 128, np.uint8)
    images[:, : 2 * COMPOSITE.panel_height] = signed_grey(soft(values))
    out = altered(COMPOSITE, images, amplitude=0.5)[:, 0]
    factors = set()
    for row in out:
        candidates = np.exp(np.linspace(-0.5, 0.5, 401))
        expected = signed_grey(soft(values * candidates[:, None])).astype(float)
        apart = np.abs(expected - row).max(axis=1)
        # Grey levels of the image given are rounded already.
        assert apart.min() <= 2
        factors.add(round(float(candidates[apart.argmin()]), 2))
    assert min(factors) < 0.8
    assert max(factors) > 1.3


def test_amplitude_of_a_trace_is_about_zero_millivolts() -> None:
    # 0 mV lies in the middle of row 24 of 48: (2.5 / 4.5 * 48) - 0.5 would be 26.2.
    spec = WAVEFORM.model_copy(update={"low_mv": -2.35, "high_mv": 2.45})
    images = np.full((50, *spec.shape), 255, np.uint8)
    images[:, 24, :] = 0
    images[:, 10, :] = 0
    out = altered(spec, images, amplitude=0.3)
    assert (out[:, 24] < 80).all()
    place = (
        (255 - out[:, :20].mean(axis=2))
        @ np.arange(20)
        / (255 - out[:, :20].mean(axis=2)).sum(axis=1)
    )
    assert place.min() < 8
    assert place.max() > 12


def grey_beat(width_s: float) -> np.ndarray:
    """A Gaussian beat as our renderer draws it, without recording: (rows, columns)."""
    transform = wavelet_transform(SCALOGRAM)
    at = np.arange(-transform.before, transform.after) / SCALOGRAM.fs
    beat = np.exp(-0.5 * (at / width_s) ** 2)[None].astype(np.float32)
    return np.asarray(signed_grey(soft(transform.signed(beat))))[0]


def test_zoom_of_a_panel_makes_the_beat_last_longer() -> None:
    plane = np.full((1, *SCALOGRAM.shape), 128, np.uint8)
    plane[0, : SCALOGRAM.panel_height] = grey_beat(0.03)
    inner = slice(4, SCALOGRAM.panel_height - 6)
    lengths = []
    widths = 0.03 * np.exp(np.linspace(-0.3, 0.3, 61))
    beats = [grey_beat(width)[inner] for width in widths]
    for seed in range(12):
        out = altered(SCALOGRAM, plane, seed=seed, zoom=0.3)[0, inner]
        apart = [np.abs(beat - out).mean() for beat in beats]
        # The best of all durations is the same image, up to interpolation.
        assert min(apart) < 1.5
        assert min(apart) < 0.5 * abs(grey_beat(0.03)[inner] - out).mean() + 0.5
        lengths.append(widths[int(np.argmin(apart))])
    assert min(lengths) < 0.026
    assert max(lengths) > 0.035


def test_baseline_wander_of_a_panel_is_the_transform_of_beat_and_wave() -> None:
    transform = wavelet_transform(SCALOGRAM)
    at = np.arange(-transform.before, transform.after) / SCALOGRAM.fs
    beat = 0.6 * np.exp(-0.5 * (at / 0.02) ** 2)
    plane = np.full((1, *SCALOGRAM.shape), 128, np.uint8)
    rows = slice(0, SCALOGRAM.panel_height)
    plane[0, rows] = signed_grey(soft(transform.signed(beat[None].astype(np.float32))))[0]
    changer = augmentation(SCALOGRAM, baseline_wander=1.0)
    seen = 0.0
    for seed in range(6):
        out = changer(plane, np.zeros(1, int), np.random.default_rng(seed))[0, rows]
        rng = np.random.default_rng(seed)
        rng.random(1)
        wave, frequency = changer._wander(1, rng)
        # The same sine, beyond the image, where wavelets still reach.
        times = np.linspace(-0.25, 0.306, SCALOGRAM.width)
        turns = frequency[0, 0] * times, frequency[0, 0] * at
        parts = np.column_stack([np.sin(turns[0]), np.cos(turns[0])])
        weights = np.linalg.lstsq(parts, wave[0], rcond=None)[0]
        whole = beat + weights[0] * np.sin(turns[1]) + weights[1] * np.cos(turns[1])
        expected = signed_grey(soft(transform.signed(whole[None].astype(np.float32))))[0]
        assert np.abs(out - expected.astype(float)).max() <= 3
        seen = max(seen, float(np.abs(out - plane[0, rows]).max()))
    assert seen > 10


def test_a_time_warp_leaves_r_in_place_and_changes_the_rest() -> None:
    # R lies on column 30 of 0..60.
    spec = WaveformSpec(representation="waveform", height=16, width=61)
    images = np.full((40, *spec.shape), 255, np.uint8)
    images[:, :, [10, 30, 50]] = 0
    out = altered(spec, images, time_warp=0.4)[:, 8]
    assert out.shape == (40, 61)
    # R stays dark in every image, and what was dark before it is elsewhere in many.
    assert out[:, 30].max() < 60
    assert (out[:, 10] > 200).mean() > 0.2
    # Time never runs backwards: there are three waves still, R the middle one.
    starts = [dark[np.diff(dark, prepend=-9) > 1] for dark in map(np.flatnonzero, out < 200)]
    assert [len(waves) for waves in starts] == [3] * 40
    assert all(first < 25 and 25 < r <= 30 < last for first, r, last in starts)


def test_a_trace_wanders_and_slopes_but_keeps_its_shape() -> None:
    images = np.full((40, *WAVEFORM.shape), 255, np.uint8)
    images[:, 24] = 0
    for params in ({"baseline_wander": 0.5}, {"shear": 0.3}):
        out = altered(WAVEFORM, images, **params)
        ink = 255 - out
        # Each column holds the line still, somewhere else.
        assert ink.sum(axis=1) == pytest.approx(255, abs=2)
        place = (ink * np.arange(48)[:, None]).sum(axis=1) / ink.sum(axis=1)
        assert np.ptp(place, axis=1).max() > 3
        assert np.abs(np.diff(place, axis=1)).max() < 1


def test_flips_are_of_time_and_of_polarity() -> None:
    images = noise_images(COMPOSITE)
    bottom = 2 * COMPOSITE.panel_height
    out = altered(COMPOSITE, images, flip_vertical=1.0)
    assert (out[:, :bottom] == 256.0 - images[:, :bottom]).all()
    out = altered(COMPOSITE, images, flip_horizontal=1.0)
    assert (out[:, :bottom] == images[:, :bottom, ::-1]).all()
    centred = WAVEFORM.model_copy(update={"low_mv": -2.0, "high_mv": 2.0})
    traces = noise_images(centred)
    assert (altered(centred, traces, flip_vertical=1.0) == traces[:, ::-1]).all()


def test_rhythm_jitter_gives_each_block_another_even_grey() -> None:
    images = np.full((50, *COMPOSITE.shape), 128, np.uint8)
    out = altered(COMPOSITE, images, rhythm_jitter=6.0)
    bottom = 2 * COMPOSITE.panel_height
    assert (out[:, :bottom] == 128).all()
    block = COMPOSITE.width // len(RHYTHM)
    used = block * len(RHYTHM)
    assert (out[:, bottom:, used:] == 128).all()
    strip = out[:, bottom:, :used].reshape(50, COMPOSITE.strip_height, len(RHYTHM), block)
    levels = strip[:, 0, :, 0]
    assert (strip == levels[:, None, :, None]).all()
    assert (levels - 128).std() == pytest.approx(6, rel=0.15)


def test_rhythm_jitter_leaves_values_alone() -> None:
    spec = COMPOSITE.model_copy(update={"values": True})
    images = np.full((20, *spec.shape), 128, np.uint8)
    out = augmentation(spec, rhythm_jitter=5)(images, np.zeros(20, int), np.random.default_rng(1))
    assert (out[:, : spec.rows_of_strip.start] == 128).all()
    assert (out[:, spec.rows_of_strip] != 128).any()


def test_only_the_share_asked_for_is_changed() -> None:
    images = noise_images(WAVEFORM, 400)
    out = altered(WAVEFORM, images, probability=0.3, brightness=40.0)
    assert (out != images).any(axis=(1, 2)).mean() == pytest.approx(0.3, abs=0.08)


@pytest.mark.parametrize(
    ("spec", "params", "why"),
    [
        (COMPOSITE, {"brightness": 5}, "brightness of composite"),
        (WAVEFORM, {"rhythm_jitter": 5}, "no rhythm strip"),
        (SPECTROGRAM, {"flip_vertical": 0.5}, "do not show polarity"),
        (SPECTROGRAM, {"baseline_wander": 0.5}, "expected traces or signed"),
        (FeaturesSpec(representation="features"), {"noise": 1}, "time axis, got features"),
        (
            COMPOSITE.model_copy(update={"values": True}),
            {"amplitude": 0.1, "rhythm_jitter": 3},
            "values would stay as they are",
        ),
        (WAVEFORM, {"nine_crop": {"classes": ["PVC"]}}, "some of N, S, V; got 'PVC'"),
    ],
)
def test_what_makes_no_sense_is_refused(spec: Spec, params: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        augmentation(spec, **params)


@pytest.fixture(scope="module")
def beats(tmp_path_factory: pytest.TempPathFactory) -> BeatImages:
    folder = tmp_path_factory.mktemp("augmentation")
    write_dataset(folder / "raw", {f"r{k}": "NNNVNNANNNVN" for k in range(3)})
    render_dataset(folder / "raw", COMPOSITE, AAMI5, folder / "images", workers=1)
    return BeatImages.open(folder / "images")


def test_a_batch_depends_on_seed_epoch_and_place_alone(beats: BeatImages, tmp_path: Path) -> None:
    from ecgbeats.feed import Feed

    labels = np.arange(len(beats.beats)) % 3

    def feed(seed: int, **params: Any) -> Feed:
        return Feed(
            beats,
            labels,
            np.arange(30),
            np.ones(3, np.float32),
            batch=8,
            seed=seed,
            augmentation=augmentation(COMPOSITE, **params) if params else None,
        )

    whole, resumed = feed(1, shift=0.2, noise=3), feed(1, shift=0.2, noise=3)
    batches = {}
    for epoch in range(3):
        whole.start_epoch(epoch)
        batches[epoch] = [whole[i] for i in range(len(whole))]
    # As after a restart: straight to the last epoch, batches in any order.
    resumed.start_epoch(2)
    for i in (3, 0, 2, 1):
        for ours, theirs in zip(resumed[i], batches[2][i], strict=True):
            assert (ours == theirs).all()
    assert (batches[1][0][0] != batches[2][0][0]).any()
    assert resumed[0][0].shape == (8, *COMPOSITE.shape, 1)
    plain = feed(1)
    plain.start_epoch(2)
    assert (plain[0][1] == batches[2][0][1]).all()
    assert (plain[0][0] != batches[2][0][0]).any()
    tenfold = feed(1, nine_crop={"classes": ["S"], "copies": 10})
    shown = np.concatenate([tenfold[i][1] for i in range(len(tenfold))])
    assert np.bincount(shown).tolist() == [10, 100, 10]


def test_an_epoch_shows_a_share_of_a_class_and_every_beat_in_time(beats: BeatImages) -> None:
    from ecgbeats.feed import Feed

    labels = np.repeat([0, 1, 2], [24, 5, 1])
    weight = np.array([1.0, 2.0, 3.0], np.float32)
    every = np.arange(30)
    feed = Feed(beats, labels, every, weight, batch=8, seed=1, share=np.array([0.25, 1.0, 0.1]))
    seen = []
    for epoch in range(30):
        feed.start_epoch(epoch)
        batches = [feed[i] for i in range(len(feed))]
        shown, weights = (np.concatenate([batch[k] for batch in batches]) for k in (1, 2))
        assert np.bincount(shown).tolist() == [6, 5, 1]
        # Together they weigh what all beats of the class do.
        assert np.bincount(shown, weights).tolist() == pytest.approx([24, 10, 3])
        seen.append(np.concatenate([batch[0] for batch in batches])[shown == 0])
    different = {image.tobytes() for image in np.concatenate(seen)}
    everyone = {image.tobytes() for image in beats.take(every[labels == 0])[..., None].astype("f4")}
    assert different == everyone


def test_a_killed_training_on_altered_images_resumes_to_the_same_bytes(
    beats: BeatImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = np.where(beats.beats["record"] == "r0", VALIDATION, TRAIN)
    labels = beats.beats["symbol"].map({"N": 0, "A": 1, "V": 2}).to_numpy()
    task = training.Task(beats, labels, side, CLASSES, CLASSES)
    model = ModelParams(name="compact", options={"filters": [2, 2], "dense": 4})

    def fit(name: str, **augment: Any) -> None:
        params = TrainParams(
            epochs=2,
            batch=8,
            learning_rate=0.01,
            patience=2,
            augment=AugmentParams(**augment),
        )
        training.train(task, model, params, tmp_path / name, checkpoints=tmp_path / f"{name}-c")

    save = training._save

    def dying(*args: Any) -> None:
        save(*args)
        raise KeyboardInterrupt

    changes = {"shift": 0.1, "noise": 5.0, "rhythm_jitter": 5.0}
    fit("whole", **changes)
    monkeypatch.setattr(training, "_save", dying)
    with pytest.raises(KeyboardInterrupt):
        fit("parts", **changes)
    monkeypatch.setattr(training, "_save", save)
    fit("parts", **changes)
    fit("plain")
    assert sha256_tree(tmp_path / "parts") == sha256_tree(tmp_path / "whole")
    losses = [(tmp_path / name / "history.csv").read_text() for name in ("whole", "plain")]
    assert losses[0] != losses[1]
