"""Saliency: exact where it is known, complete, and dependent on the weights."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ecgbeats.errors import ConfigError, DataError, ImageError
from ecgbeats.explanation import (
    Explainer,
    _spread,
    empty_level,
    evidence,
    explain_classes,
    explain_files,
    in_words,
    occlusion,
    randomisation_check,
    regions,
    saliency,
)
from ecgbeats.export import save_keras
from ecgbeats.files import read_json, write_json
from ecgbeats.imaging.png import encode_png
from ecgbeats.imaging.spec import CompositeSpec
from ecgbeats.inference import CARD, KERAS, Classifier
from ecgbeats.models import build_model
from tests.support.tiny_model import CLASSES, SPEC, random_images, write_tiny_model

pytestmark = pytest.mark.unit

COMPOSITE = CompositeSpec(representation="composite", panel_height=16, width=30, strip_height=2)


@pytest.fixture(scope="module")
def compact() -> Any:
    import keras

    keras.utils.set_random_seed(2)
    model = build_model("compact", COMPOSITE, 3, filters=[4, 8], dense=16)
    rng = np.random.default_rng(0)
    # Not near zero, as they are before training: else there is nothing to explain.
    model.set_weights([w + rng.normal(0, 0.1, w.shape).astype(w.dtype) for w in _plain(model)])
    return model


def _plain(model: Any) -> list[np.ndarray]:
    return [np.asarray(w) for w in model.get_weights()]


@pytest.fixture(scope="module")
def beats() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (6, *COMPOSITE.shape), dtype=np.uint8)


def linear(rows: int, columns: int) -> tuple[Any, np.ndarray]:
    """Two classes whose log-odds are a weighted sum of the pixels, and these weights."""
    import keras
    from keras import layers

    image = keras.Input((rows, columns, 1))
    out = layers.Dense(2, activation="softmax")(layers.Flatten()(image))
    model = keras.Model(image, out)
    weights = np.random.default_rng(0).normal(0, 0.003, (rows * columns, 2)).astype(np.float32)
    model.set_weights([weights, np.array([0.3, -0.1], np.float32)])
    return model, (weights[:, 1] - weights[:, 0]).reshape(rows, columns)


def test_of_a_linear_network_it_is_weight_times_change() -> None:
    model, weights = linear(4, 5)
    images = np.random.default_rng(3).integers(0, 256, (3, 4, 5), dtype=np.uint8)
    found = saliency(model, images, np.array([1, 0, 1]), empty=100, steps=4)
    sign = np.array([1, -1, 1])[:, None, None]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, sign * weights * (images - 100.0), rtol=1e-3, atol=1e-5)


def test_attributions_sum_to_the_difference_in_evidence(compact: Any, beats: np.ndarray) -> None:
    index = np.array([0, 1, 2, 0, 1, 2])
    maps = saliency(compact, beats, index, empty=128, steps=64)

    def of(images: np.ndarray) -> np.ndarray:
        return evidence(compact.predict_on_batch(images[..., None].astype(np.float32)), index)

    due = of(beats) - of(np.full_like(beats, 128))
    assert np.abs(due).min() > 0.05
    np.testing.assert_allclose(maps.sum(axis=(1, 2)), due, rtol=0.05, atol=0.01)


def test_an_empty_pixel_has_no_part(compact: Any, beats: np.ndarray) -> None:
    images = beats[:1].copy()
    images[:, 5:9] = 128
    maps = saliency(compact, images, np.array([1]), empty=128, steps=8)
    assert (maps[:, 5:9] == 0).all()
    assert np.abs(maps).max() > 0


def test_evidence_is_finite_where_the_model_is_certain() -> None:
    p = np.array([[1.0, 0.0], [0.5, 0.5], [1 - 1e-12, 1e-12]])
    sure, even, tiny = evidence(p, np.zeros(3, int))
    assert 80 < sure < 100
    assert even == 0
    assert tiny == pytest.approx(np.log(1e12), rel=1e-3)


def test_occlusion_finds_the_square_that_matters() -> None:
    def predict(images: np.ndarray) -> np.ndarray:
        dark = 1 / (1 + np.exp((images[:, 9, 3].astype(float) - 128) / 20))
        return np.stack([1 - dark, dark], axis=1)

    images = np.full((2, 20, 18), 255, np.uint8)
    images[0, 9, 3] = 0
    maps = occlusion(predict, images, np.array([1, 0]), empty=255)
    assert maps[0, 8:16, 0:8].min() == maps.max() > 5
    assert np.count_nonzero(maps) == 64


def test_randomising_destroys_the_maps_and_puts_the_weights_back(
    compact: Any, beats: np.ndarray
) -> None:
    before = _plain(compact)
    check = randomisation_check(compact, beats, np.array([0, 1, 2, 0, 1, 2]), empty=128, steps=4)
    assert all((a == b).all() for a, b in zip(before, _plain(compact), strict=True))
    assert check["layers"][0] == "logits"
    assert check["layers"][-1] == "conv1"
    assert len(check["signed"]) == len(check["layers"]) <= 6
    assert check["rank_correlation"] == check["signed"][-1] < 0.5
    assert check["images"] == 6


def test_the_checks_words_fit_its_figure() -> None:
    import keras
    from keras import layers

    # A network that weighs nothing: no pixel speaks for either class.
    image = keras.Input((6, 5, 1))
    model = keras.Model(image, layers.Dense(2, activation="softmax")(layers.Flatten()(image)))
    model.set_weights([np.zeros((30, 2), np.float32), np.zeros(2, np.float32)])
    flat = randomisation_check(
        model, np.arange(60, dtype=np.uint8).reshape(2, 6, 5), np.zeros(2, int), empty=255
    )
    assert flat["rank_correlation"] is None
    for left, verdict in (
        (0.9, "Do not trust"),
        (0.45, "in part"),
        (-0.05, "depend on the model:"),
    ):
        check = {"rank_correlation": left, "rank_correlation_absolute": 0.9, "images": 2}
        assert verdict in in_words({"randomised": check})
    assert "undefined" in in_words({"randomised": flat})


def test_regions_are_the_panels_and_the_blocks_of_the_strip() -> None:
    parts = regions(COMPOSITE)
    cover = np.zeros(COMPOSITE.shape, int)
    for where in parts.values():
        cover[where] += 1
    assert (cover == 1).all()
    assert list(parts)[:3] == ["beat", "difference", "pre_rr"]
    assert regions(SPEC) == {}
    both = COMPOSITE.model_copy(update={"leads": 2, "panels": ("beat",), "values": True})
    parts = regions(both)
    assert list(parts)[:4] == ["lead1 beat", "lead2 beat", "lead1 values", "lead2 values"]
    cover = np.zeros(both.shape, int)
    for where in parts.values():
        cover[where] += 1
    assert (cover == 1).all()


def test_the_empty_level_is_that_of_the_representation() -> None:
    images = np.zeros((1, 4, 4), np.uint8)
    assert empty_level(COMPOSITE, images) == 128
    assert empty_level(SPEC, images) == 255


def test_beats_are_spread_over_records() -> None:
    records = np.array(["a"] * 50 + ["b"] * 3 + ["c"] * 3, object)
    wanted = np.ones(56, bool)
    wanted[53] = False
    rows = _spread(wanted, records, 6, 0)
    assert {name: int((records[rows] == name).sum()) for name in "abc"} == {"a": 2, "b": 2, "c": 2}
    assert 53 not in rows


def test_each_class_is_averaged_over_its_correct_beats(compact: Any, beats: np.ndarray) -> None:
    class Answers:
        classes, spec = ("N", "S", "V"), COMPOSITE

        def predict(self, images: np.ndarray) -> np.ndarray:
            return np.asarray(compact.predict_on_batch(images[..., None].astype(np.float32)))

    labels, predicted = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 0, 1, 0, 0, 0])
    records = np.array(["a"] * 6, object)

    def explain() -> Any:
        explainer = Explainer(Answers(), compact)  # type: ignore[arg-type]
        return explain_classes(explainer, lambda rows: beats[rows], labels, predicted, records)

    found = explain()
    assert found.figures["beats"] == {"N": 2, "S": 1}
    np.testing.assert_allclose(found.averages["N"].image, beats[:2].mean(axis=0))
    assert set(found.figures["shares"]["S"]) == set(regions(COMPOSITE))
    assert sum(found.figures["shares"]["S"].values()) == pytest.approx(1, abs=1e-3)
    assert found.figures["incompleteness"] < 0.1
    assert explain().figures == found.figures


def test_a_model_that_is_right_nowhere_has_nothing_to_show(compact: Any) -> None:
    class Answers:
        classes, spec = ("N", "S", "V"), COMPOSITE

    found = explain_classes(
        Explainer(Answers(), compact),  # type: ignore[arg-type]
        lambda rows: np.zeros((len(rows), *COMPOSITE.shape), np.uint8),
        np.zeros(3, int),
        np.ones(3, int),
        np.array(["a"] * 3, object),
    )
    assert found.averages == {}
    assert found.figures["randomised"] is None


@pytest.fixture
def pngs(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"beat{k}.png" for k in range(2)]
    for path, image in zip(paths, random_images(2), strict=True):
        path.write_bytes(encode_png(image, SPEC.spec_id))
    return paths


def test_one_picture_is_explained_by_the_network_beside_the_served_one(
    tmp_path: Path, pngs: list[Path]
) -> None:
    classifier = write_tiny_model(tmp_path / "model")
    assert Explainer.load(tmp_path / "model", classifier).method == "occlusion"
    ((path, words),) = explain_files(tmp_path / "model", pngs[:1], tmp_path / "out.png")
    p = classifier.predict(random_images(2)[:1])[0]
    assert words == f"{CLASSES[p.argmax()]} {p.max():.3f}"
    by_occlusion = path.read_bytes()
    save_keras(build_model("compact", SPEC, 3, filters=[4], dense=8), tmp_path / "model" / KERAS)
    assert Explainer.load(tmp_path / "model", classifier).method == "integrated gradients"
    explain_files(tmp_path / "model", pngs[:1], tmp_path / "out.png")
    assert path.read_bytes() != by_occlusion
    with Image.open(io.BytesIO(path.read_bytes())) as picture:
        assert min(picture.size) > 300


def test_many_pictures_go_to_a_folder_and_unsure_answers_say_so(
    tmp_path: Path, pngs: list[Path]
) -> None:
    write_tiny_model(tmp_path / "model")
    card = read_json(tmp_path / "model" / CARD)
    write_json(tmp_path / "model" / CARD, {**card, "answer": {"abstain_below": 1.0}})
    written = explain_files(tmp_path / "model", pngs, tmp_path / "out", label="S")
    assert [path.name for path, _ in written] == ["beat0.png", "beat1.png"]
    assert all(words.startswith("uncertain (") for _, words in written)
    assert all(path.is_file() for path, _ in written)


def test_what_cannot_be_explained_is_named(tmp_path: Path, pngs: list[Path]) -> None:
    model = tmp_path / "model"
    write_tiny_model(model)
    with pytest.raises(ConfigError, match="expected one of N, S, V; got 'X'"):
        explain_files(model, pngs, tmp_path / "out", label="X")
    with pytest.raises(ConfigError, match="different names"):
        explain_files(model, [pngs[0], pngs[0]], tmp_path / "out")
    with pytest.raises(DataError, match="cannot be read"):
        explain_files(model, [tmp_path / "none.png"], tmp_path / "out.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ImageError, match=r"not_an_image.*text\.png"):
        explain_files(model, [tmp_path / "text.png"], tmp_path / "out.png")


def test_the_answer_is_uncertain_just_below_the_threshold(tmp_path: Path) -> None:
    classifier = write_tiny_model(tmp_path / "model")
    rows = np.array([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]], np.float32)
    assert classifier.answers(rows) == ["N", "V"]
    edge = float(np.float32(0.6))
    for threshold, said in ((edge, ["N", "V"]), (edge + 1e-6, ["uncertain", "uncertain"])):
        card = {**classifier.card, "answer": {"abstain_below": threshold}}
        changed = Classifier(classifier.classes, classifier.spec, card, None)
        assert changed.answers(rows) == said
