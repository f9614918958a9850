"""Networks by name: what was published, built anew, trained, kept and served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecgbeats.beats import RHYTHMS
from ecgbeats.errors import ConfigError
from ecgbeats.export import save_keras, save_onnx
from ecgbeats.files import sha256_file
from ecgbeats.imaging.spec import CompositeSpec, Spec, WaveformSpec
from ecgbeats.models import build_model

pytestmark = pytest.mark.unit

WAVEFORM = WaveformSpec(representation="waveform", height=32, width=40)
COMPOSITE = CompositeSpec(representation="composite", panel_height=16, width=38, strip_height=4)
# As small as each network can be made.
SMALL: dict[str, dict[str, Any]] = {
    "jun2018": {"width": 0.05, "dense": 8},
    "student": {"dense": [4, 4]},
    "student-double": {"dense": [4]},
    "cnn-lstm": {"filters": [4, 8], "units": 8, "steps": 6, "dense": 8},
}
PAIR: dict[str, Any] = {"filters": [4, 4], "dense": 8, "told_by_rhythm": [2, 0]}
AS_DEFAULT: dict[str, Any] = {**PAIR, "stride": 2, "along_time": True}


def waveform(side: int) -> WaveformSpec:
    return WaveformSpec(representation="waveform", height=side, width=side)


def some_images(spec: Spec, count: int = 9) -> np.ndarray:
    grey = np.random.default_rng(3).integers(0, 256, (count, *spec.shape, 1))
    return grey.astype(np.float32)


def step(model: Any, spec: Spec) -> None:
    """Train on one batch."""
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    loss = model.train_on_batch(some_images(spec), np.arange(9) % 3)
    assert np.isfinite(loss)


@pytest.mark.parametrize("spec", [WAVEFORM, COMPOSITE], ids=["waveform", "composite"])
@pytest.mark.parametrize("name", SMALL)
def test_a_network_trains_and_answers_alike_when_kept_and_when_exported(
    name: str, spec: Spec, tmp_path: Path
) -> None:
    import keras
    import onnxruntime

    keras.utils.set_random_seed(1)
    model = build_model(name, spec, 3, **SMALL[name])
    before = model.get_weights()
    step(model, spec)
    assert any((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))
    images = some_images(spec)
    answers = np.asarray(model.predict_on_batch(images))
    assert answers.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert answers.std(axis=0).max() > 0
    save_keras(model, tmp_path / "model.keras")
    kept = keras.saving.load_model(tmp_path / "model.keras")
    assert np.asarray(kept.predict_on_batch(images)) == pytest.approx(answers, abs=1e-6)
    save_onnx(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (served,) = session.run(None, {session.get_inputs()[0].name: images})
    assert np.abs(served - answers).max() < 1e-5


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cnn-lstm", SMALL["cnn-lstm"]),
        ("student-double", SMALL["student-double"]),
        ("compact", AS_DEFAULT),
    ],
)
def test_exports_of_one_network_are_equal_byte_for_byte(
    name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    import keras

    weights = None
    hashes = set()
    for k in range(3):
        keras.backend.clear_session()
        model = build_model(name, COMPOSITE, 3, **options)
        weights = weights or model.get_weights()
        model.set_weights(weights)
        save_onnx(model, tmp_path / f"{k}.onnx")
        hashes.add(sha256_file(tmp_path / f"{k}.onnx"))
    assert len(hashes) == 1


# By hand: a convolution has (rows * columns * channels + 1) * filters, a batch normalisation
# four a channel, an LSTM 4 * ((inputs + units) * units + units).
JUN_CONVOLUTIONS = 640 + 36_928 + 73_856 + 147_584 + 295_168 + 590_080 + 4 * 2 * (64 + 128 + 256)


@pytest.mark.parametrize(
    ("name", "spec", "classes", "expected"),
    [
        # At the published 128 x 128 the map is 16 x 16 x 256, and the sum 135,392,200.
        (
            "jun2018",
            waveform(32),
            8,
            JUN_CONVOLUTIONS + (4 * 4 * 256 + 1) * 2048 + 4 * 2048 + 2049 * 8,
        ),
        ("student", waveform(64), 6, 896 + (31 * 31 * 32 + 1) * 200 + 201 * 300 + 301 * 6),
        ("student-double", waveform(64), 6, 896 + 9248 + (14 * 14 * 32 + 1) * 32 + 33 * 6),
        (
            "cnn-lstm",
            waveform(64),
            5,
            144 + 64 + 4608 + 128 + (16 * 32 + 1) * 64 + 4 * (128 * 64 + 64) + 65 * 64 + 65 * 5,
        ),
        # Without top, as their authors count them, and our head.
        ("vgg16", waveform(32), 5, 14_714_688 + 513 * 256 + 257 * 5),
        ("resnet50", waveform(32), 5, 23_587_712 + 2049 * 256 + 257 * 5),
    ],
)
def test_a_network_has_as_many_parameters_as_worked_out_by_hand(
    name: str, spec: Spec, classes: int, expected: int
) -> None:
    assert build_model(name, spec, classes).count_params() == expected


def test_student_networks_bring_any_image_to_their_size() -> None:
    small = build_model("student", WAVEFORM, 6).count_params()
    assert small == build_model("student", waveform(64), 6).count_params() == 6_213_602


def test_a_dense_layer_by_convolution_starts_as_a_dense_layer_does() -> None:
    from keras import layers

    model = build_model("student", waveform(64), 6, dense=[50])
    kernel = np.asarray(model.get_layer("dense1").kernel)
    dense = layers.Dense(50)
    dense.build((None, 31 * 31 * 32))
    assert kernel.size == np.asarray(dense.kernel).size
    assert kernel.std() == pytest.approx(np.asarray(dense.kernel).std(), rel=0.01)
    assert np.abs(kernel).max() == pytest.approx(np.abs(dense.kernel).max(), rel=0.01)


def test_the_recurrent_network_reads_time_and_takes_rhythm_from_the_strip() -> None:
    options = SMALL["cnn-lstm"]
    model = build_model("cnn-lstm", COMPOSITE, 3, **options)
    assert model.get_layer("lstm").input.shape[1] <= options["steps"]
    images = some_images(COMPOSITE, 1)
    answer = np.asarray(model.predict_on_batch(images))
    early = images.copy()
    early[:, -4:, :6] += 60
    assert np.abs(np.asarray(model.predict_on_batch(early)) - answer).max() > 1e-5
    # What is left of a strip that six blocks do not fill says nothing.
    unused = images.copy()
    unused[:, -4:, 36:] = 0
    assert np.asarray(model.predict_on_batch(unused)) == pytest.approx(answer, abs=1e-7)


@pytest.fixture(scope="module")
def vgg_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import keras

    keras.utils.set_random_seed(5)
    base = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    path = tmp_path_factory.mktemp("vgg") / "notop.weights.h5"
    base.save_weights(path)
    return path


def test_transfer_takes_weights_of_a_file_and_trains_the_head_alone(vgg_weights: Path) -> None:
    import keras

    keras.utils.set_random_seed(5)
    base = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    keras.utils.set_random_seed(6)
    options = {"weights": str(vgg_weights), "weights_sha256": sha256_file(vgg_weights)}
    model = build_model("vgg16", WAVEFORM, 3, **options)
    body = model.get_layer("vgg16")
    step(model, WAVEFORM)
    for saved, loaded in zip(base.get_weights(), body.get_weights(), strict=True):
        assert (saved == loaded).all()
    # Grey levels as photographs were shown to it.
    grey = some_images(WAVEFORM)
    shown = keras.applications.vgg16.preprocess_input(np.repeat(grey, 3, axis=3))
    inside = keras.Model(model.input, model.get_layer("less_mean").output)
    assert np.asarray(inside.predict_on_batch(grey)) == pytest.approx(shown, abs=1e-4)


@pytest.mark.parametrize(("trainable", "expected"), [(False, 4), (True, 30), (3, 8)])
def test_as_many_layers_of_the_application_are_trained_as_asked_for(
    trainable: bool | int, expected: int, tmp_path: Path
) -> None:
    import keras

    model = build_model("vgg16", WAVEFORM, 3, trainable=trainable, dense=4)
    # Kernel and bias each; of the last three layers of VGG16 one is a pooling.
    assert len(model.trainable_weights) == expected
    if trainable == 3:
        # A training that is gone on with loads a checkpoint.
        model.save(tmp_path / "checkpoint.keras")
        again = keras.saving.load_model(tmp_path / "checkpoint.keras")
        assert len(again.trainable_weights) == expected


def test_a_frozen_application_keeps_its_statistics() -> None:
    model = build_model("resnet50", WAVEFORM, 3, dense=4)
    body = model.get_layer("resnet50")
    before = body.get_weights()
    step(model, WAVEFORM)
    for old, new in zip(before, body.get_weights(), strict=True):
        assert (old == new).all()


@pytest.mark.filterwarnings("ignore:Skipping nested container")
def test_weights_that_are_not_there_or_do_not_fit_are_refused(
    vgg_weights: Path, tmp_path: Path
) -> None:
    import keras

    (tmp_path / "text.h5").write_text("no weights")
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    other.save_weights(tmp_path / "other.weights.h5")
    body = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    part = keras.Model(body.input, body.get_layer("block2_pool").output)
    part.save_weights(tmp_path / "part.weights.h5")
    for name in ("text.h5", "other.weights.h5", "part.weights.h5"):
        path = tmp_path / name
        with pytest.raises(ConfigError, match="expected weights of vgg16 without top"):
            build_model("vgg16", WAVEFORM, 3, weights=str(path))
    with pytest.raises(ConfigError, match=r'expected null, "imagenet" or a file; got .*none'):
        build_model("vgg16", WAVEFORM, 3, weights=str(tmp_path / "none.h5"))
    with pytest.raises(ConfigError, match="expected SHA-256 00"):
        build_model("vgg16", WAVEFORM, 3, weights=str(vgg_weights), weights_sha256="00")
    with pytest.raises(ConfigError, match="goes with a file"):
        build_model("vgg16", WAVEFORM, 3, weights_sha256="00")


def test_without_cache_and_network_random_weights_are_called_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from keras.src.utils import file_utils

    def offline(*_: Any, **__: Any) -> str:
        raise Exception("URL fetch failure on https://...: None -- name resolution")

    monkeypatch.setattr(file_utils, "get_file", offline)
    model = build_model("vgg16", WAVEFORM, 3, weights="imagenet", dense=4)
    assert "RANDOM weights" in capsys.readouterr().err
    assert model.count_params() == 14_714_688 + 513 * 4 + 5 * 3


def test_the_usual_cache_is_read(
    vgg_weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from keras.src.utils import file_utils

    asked = []

    def cached(name: str, *_: Any, **__: Any) -> str:
        asked.append(name)
        return str(vgg_weights)

    monkeypatch.setattr(file_utils, "get_file", cached)
    model = build_model("vgg16", WAVEFORM, 3, weights="imagenet")
    ours = build_model("vgg16", WAVEFORM, 3, weights=str(vgg_weights))
    assert asked == ["vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"]
    pairs = zip(*(m.get_layer("vgg16").get_weights() for m in (model, ours)), strict=True)
    assert all((a == b).all() for a, b in pairs)
    assert "RANDOM" not in capsys.readouterr().err


def test_images_too_small_for_an_application_need_a_size() -> None:
    tiny = waveform(16)
    with pytest.raises(ConfigError, match="at least 32 x 32 pixels, got 16 x 16"):
        build_model("vgg16", tiny, 3)
    model = build_model("vgg16", tiny, 3, image_size=[32, 48], dense=4)
    assert model.get_layer("resize").output.shape == (None, 32, 48, 1)


@pytest.mark.parametrize(
    ("name", "option"), [("jun2018", "depth"), ("cnn-lstm", "width"), ("vgg16", "units")]
)
def test_options_of_another_network_are_named(name: str, option: str) -> None:
    with pytest.raises(ConfigError, match=option):
        build_model(name, WAVEFORM, 3, **{option: 3})


def test_filters_along_time_span_all_rows_of_all_panels(tmp_path: Path) -> None:
    import keras
    import onnxruntime

    keras.utils.set_random_seed(1)
    options = {"filters": [4, 6], "dense": 8, "stride": 2, "along_time": True}
    model = build_model("compact", COMPOSITE, 3, **options)
    assert model.get_layer("conv1").kernel.shape == (1, 5, 2 * COMPOSITE.panel_height, 4)
    assert model.get_layer("pool2").output.shape[1:] == (1, 9, 6)
    step(model, COMPOSITE)
    images = some_images(COMPOSITE)
    answers = np.asarray(model.predict_on_batch(images))
    # Each panel counts, at its own rows.
    for panel in range(2):
        other = images.copy()
        rows = slice(panel * COMPOSITE.panel_height, (panel + 1) * COMPOSITE.panel_height)
        other[:, rows] = images[:, rows][:, ::-1]
        assert np.abs(np.asarray(model.predict_on_batch(other)) - answers).max() > 1e-3
    save_onnx(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (served,) = session.run(None, {session.get_inputs()[0].name: images})
    assert np.abs(served - answers).max() < 1e-5


def test_of_a_pair_told_by_rhythm_the_odds_hang_on_the_strip_alone(tmp_path: Path) -> None:
    import keras
    import onnxruntime

    keras.utils.set_random_seed(1)
    model = build_model("compact", COMPOSITE, 4, **AS_DEFAULT)
    step(model, COMPOSITE)
    images = some_images(COMPOSITE, 6)
    strip = slice(COMPOSITE.shape[0] - COMPOSITE.strip_height, None)
    images[:3, strip] = images[0, strip]
    answers = np.asarray(model.predict_on_batch(images))
    odds = answers[:, 0] / answers[:, 2]
    assert odds[:3] == pytest.approx(odds[0], rel=1e-4)
    assert np.ptp(odds[2:]) > 0.01
    # What is not of the pair hangs on the panels as well.
    assert np.ptp(answers[:3, 1] / answers[:3, 3]) > 0.01
    save_keras(model, tmp_path / "model.keras")
    kept = keras.saving.load_model(tmp_path / "model.keras")
    assert np.asarray(kept.predict_on_batch(images)) == pytest.approx(answers, abs=1e-6)
    save_onnx(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (served,) = session.run(None, {session.get_inputs()[0].name: images})
    assert np.abs(served - answers).max() < 1e-5


@pytest.mark.parametrize(
    ("spec", "pair", "message"),
    [
        (
            COMPOSITE,
            [0, 4],
            "told_by_rhythm: expected classes among 0, 1, 2, 3; got 4",
        ),
        (COMPOSITE, [1, 1], "two of at least three classes"),
        (COMPOSITE, [1], "two of at least three classes"),
        (WAVEFORM, [0, 1], "no rhythm strip"),
    ],
)
def test_a_pair_that_cannot_be_told_by_rhythm_is_refused(
    spec: Spec, pair: list[int], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build_model("compact", spec, 4, filters=[4], dense=4, told_by_rhythm=pair)


def test_values_are_read_by_themselves_and_with_the_rhythm(tmp_path: Path) -> None:
    import keras
    import onnxruntime

    # Narrow, so that a lead's values take two rows.
    spec = CompositeSpec(representation="composite", leads=2, panel_height=8, width=24, values=True)
    keras.utils.set_random_seed(1)
    model = build_model("compact", spec, 4, reads="values", **PAIR)
    values = 2 * spec.morphology.values_per_lead
    # Weights and biases of the two layers, of the answers, and of the network for the pair.
    strip = len(RHYTHMS["mean"])
    shapes = (values + strip) * 8 + 8 + 8 * 8 + 8 + 3 * (8 + 1)
    pair = strip * 64 + 64 + 64 * 64 + 64 + 64 + 1
    assert model.count_params() == shapes + pair
    step(model, spec)
    images = some_images(spec)
    answers = np.asarray(model.predict_on_batch(images))

    def moved_by(rows: slice, columns: slice) -> float:
        other = images.copy()
        other[:, rows, columns] = 255 - images[:, rows, columns]
        return float(np.abs(np.asarray(model.predict_on_batch(other)) - answers).max())

    every = slice(None)
    assert moved_by(slice(0, spec.rows_of_values.start), every) == 0
    assert moved_by(spec.rows_of_strip, every) > 1e-3
    first, rest = spec.rows_of_values.start, spec.morphology.values_per_lead - spec.width
    assert spec.value_rows_per_lead == 2
    for row, used in ((first, 24), (first + 1, rest), (first + 2, 24), (first + 3, rest)):
        assert moved_by(slice(row, row + 1), slice(0, used)) > 1e-4
        assert used == 24 or moved_by(slice(row, row + 1), slice(used, None)) == 0
    save_onnx(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (served,) = session.run(None, {session.get_inputs()[0].name: images})
    assert np.abs(served - answers).max() < 1e-5


def test_what_is_not_drawn_cannot_be_read() -> None:
    with pytest.raises(ConfigError, match="shows no values"):
        build_model("compact", COMPOSITE, 4, reads="values")
    with pytest.raises(ConfigError, match="expected panels or values, got 'all'"):
        build_model("compact", COMPOSITE, 4, reads="all")


def test_a_pair_is_named_and_is_not_all_classes() -> None:
    named = build_model("compact", COMPOSITE, ["N", "S", "V"], told_by_rhythm=["S", "V"])
    counted = build_model("compact", COMPOSITE, 3, told_by_rhythm=[1, 2])
    assert named.count_params() == counted.count_params()
    with pytest.raises(ConfigError, match="at least three classes"):
        build_model("compact", COMPOSITE, ["N", "S"], told_by_rhythm=["N", "S"])
