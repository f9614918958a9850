"""One temperature: found where it is known, and the same in a network as in numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecgbeats.calibration import (
    COLDEST,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    reliability,
    tempered,
    with_temperature,
)
from ecgbeats.errors import DataError
from ecgbeats.export import save_keras, save_onnx
from ecgbeats.files import sha256_file

pytestmark = pytest.mark.unit


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def overconfident(factor: float, n: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities stated with logits `factor` times too big, and labels by the true ones."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, 4))
    chances = softmax(logits)
    labels = np.array([rng.choice(4, p=row) for row in chances])
    return softmax(factor * logits), labels


@pytest.mark.parametrize("factor", [0.7, 1.0, 2.5])
def test_the_temperature_undoes_a_known_overconfidence(factor: float) -> None:
    stated, labels = overconfident(factor)
    assert fit_temperature(stated, labels) == pytest.approx(factor, rel=0.06)


def test_calibration_lowers_loss_and_error_and_changes_no_answer() -> None:
    stated, labels = overconfident(2.5)
    held_out, truth = overconfident(2.5, seed=1)
    mended = tempered(held_out, fit_temperature(stated, labels))
    assert (mended.argmax(axis=1) == held_out.argmax(axis=1)).all()
    assert negative_log_likelihood(mended, truth) < negative_log_likelihood(held_out, truth) - 0.1
    before, after = (expected_calibration_error(reliability(truth, p)) for p in (held_out, mended))
    assert after < before / 4


def test_weights_decide_whose_beats_count() -> None:
    (easy, easy_labels), (hard, hard_labels) = overconfident(1.0), overconfident(3.0, seed=1)
    stated, labels = np.concatenate([easy, hard]), np.concatenate([easy_labels, hard_labels])
    only_hard = np.repeat([0.0, 1.0], [len(easy), len(hard)])
    assert fit_temperature(stated, labels, only_hard) == fit_temperature(hard, hard_labels)


def test_a_validation_side_without_mistakes_does_not_ask_for_certainty() -> None:
    assert fit_temperature(np.tile([0.9, 0.1], (50, 1)), np.zeros(50, int)) == COLDEST


def test_no_beat_is_an_error() -> None:
    with pytest.raises(DataError, match="got none"):
        fit_temperature(np.zeros((0, 3)), np.zeros(0, int))


def test_certain_answers_stay_numbers() -> None:
    p = tempered(np.array([[1.0, 0.0, 0.0]], np.float32), 2.0)
    assert np.isfinite(p).all()
    assert p[0, 0] == pytest.approx(1)
    assert negative_log_likelihood(p, np.array([1])) < 100


def network(ending: str) -> Any:
    import keras
    from keras import layers

    keras.utils.set_random_seed(3)
    image = keras.Input((6, 5, 1), name="image")
    x = layers.Rescaling(1 / 40, name="scale")(image)
    x = layers.Conv2D(3, 3, name="conv")(x)
    x = layers.GlobalAveragePooling2D(name="flat")(x)
    if ending == "softmax layer":
        x = layers.Softmax(name="label")(layers.Dense(4, name="logits")(x))
    elif ending == "dense with softmax":
        x = layers.Dense(4, activation="softmax", name="label")(x)
    else:
        members = [layers.Dense(4, activation="softmax", name=f"member{k}")(x) for k in range(2)]
        x = layers.Average(name="label")(members)
    return keras.Model(image, x, name="net")


@pytest.mark.parametrize("ending", ["softmax layer", "dense with softmax", "mean of members"])
def test_the_exported_network_has_the_temperature_in_it(ending: str, tmp_path: Path) -> None:
    import keras
    import onnxruntime

    images = np.random.default_rng(0).integers(0, 256, (40, 6, 5, 1)).astype(np.float32)
    hashes = set()
    for k in range(2):
        keras.backend.clear_session()
        plain = network(ending)
        cooled = with_temperature(plain, 1.7)
        save_keras(cooled, tmp_path / f"{k}.keras")
        save_onnx(cooled, tmp_path / f"{k}.onnx")
        hashes.add((sha256_file(tmp_path / f"{k}.keras"), sha256_file(tmp_path / f"{k}.onnx")))
    assert len(hashes) == 1
    assert cooled.count_params() == plain.count_params()

    before = np.asarray(plain.predict_on_batch(images))
    expected = tempered(before, 1.7)
    assert np.abs(expected - before).max() > 0.05
    loaded = keras.saving.load_model(tmp_path / "0.keras")
    session = onnxruntime.InferenceSession(str(tmp_path / "0.onnx"))
    answers = (
        cooled.predict_on_batch(images),
        loaded.predict_on_batch(images),
        session.run(None, {session.get_inputs()[0].name: images})[0],
    )
    for answer in answers:
        assert np.abs(np.asarray(answer) - expected).max() < 1e-5
