"""Which pixels a classification rests on.

*Integrated gradients* (Sundararajan, Taly and Yan, Axiomatic attribution for deep networks,
ICML 2017) are used where there is a Keras network: they need no layer of a certain kind, so
they fit a network that cuts its image apart, and they add up: the attributions of an image
sum to the difference between what the network says of it and of an empty image. Grad-CAM
would show the panels at a quarter of their resolution and nothing of the rhythm. A model
without gradient is explained by *occlusion* (Zeiler and Fergus, ECCV 2014).

What is explained is the *evidence* for a class in nats, its log-odds against all others:
unlike a probability it does not saturate, so a sure answer can be explained as well.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import rankdata

from ecgbeats.beats import RHYTHMS
from ecgbeats.errors import ConfigError, DataError, ImageError
from ecgbeats.files import written_aside
from ecgbeats.imaging.png import decode_upload
from ecgbeats.imaging.spec import PANELLED, ScalogramSpec, Spec
from ecgbeats.inference import KERAS, UNCERTAIN, Classifier

if TYPE_CHECKING:
    import keras

Images = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Maps = npt.NDArray[np.float32]

STEPS = 32
# Of an average over beats, whose single errors (about 0.5 %) cancel.
_AVERAGE_STEPS = 16
# Images in one pass through a network.
_BATCH = 128
# Occluded squares, in pixels.
_PATCH = 8
_TINY = float(np.finfo(np.float32).tiny)
# Grey level that shows nothing, by representation.
_EMPTY = {"composite": 128, "features": 128, "picture": 255, "spectrogram": 0, "waveform": 255}
# The check by randomised weights: images, steps and stages of the cascade.
_CHECKED, _CHECK_STEPS, _STAGES = 24, 8, 6


@dataclass(frozen=True)
class ClassAverage:
    """What correctly classified beats of a class look like, and what they rest on.

    Attributes
    ----------
    beats : int
    image, saliency : ndarray, shape (rows, columns)
        Means over these beats.
    """

    beats: int
    image: npt.NDArray[np.float64]
    saliency: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Explanation:
    """What `explain_classes` found; `figures` goes into metrics.json."""

    figures: dict[str, Any]
    averages: dict[str, ClassAverage]


def empty_level(spec: Spec, images: Images) -> int:
    """The grey level that shows nothing: known for our own images, else the commonest."""
    level = _EMPTY.get(spec.representation)
    if isinstance(spec, ScalogramSpec):
        level = 128 if spec.value == "signed" else 0
    return int(np.bincount(images.ravel(), minlength=256).argmax()) if level is None else level


def regions(spec: Spec) -> dict[str, tuple[slice, slice]]:
    """Named parts of an image, as slices of rows and columns; none for a plain trace."""
    if not isinstance(spec, PANELLED):
        return {}
    every, height = slice(0, spec.width), spec.panel_height
    parts: dict[str, tuple[slice, slice]] = {}
    for k, name in enumerate(spec.panel_names):
        parts[name] = (slice(k * height, (k + 1) * height), every)
    below, rows = spec.rows_of_values, spec.value_rows_per_lead
    for k in range(spec.leads if rows else 0):
        top = below.start + k * rows
        name = "values" if spec.leads == 1 else f"lead{k + 1} values"
        parts[name] = (slice(top, top + rows), every)
    if not spec.strip_height:
        return parts
    strip = spec.rows_of_strip
    names = RHYTHMS[spec.rhythm]
    block = spec.width // len(names)
    for k, value in enumerate(names):
        parts[value] = (strip, slice(k * block, (k + 1) * block))
    return parts


def saliency(
    model: keras.Model, images: Images, classes_index: Ints, *, empty: int, steps: int = STEPS
) -> Maps:
    """Integrated gradients of the evidence for one class of each image.

    Parameters
    ----------
    model : keras.Model
        Takes float32 (n, rows, columns, 1), answers probabilities.
    images : ndarray of uint8, shape (n, rows, columns)
    classes_index : ndarray of int, shape (n,)
        The class that is explained.
    empty : int
        Grey level of the image that the way starts from (`empty_level`).
    steps : int
        Points on the way from the empty image to this one.

    Returns
    -------
    ndarray of float32, shape (n, rows, columns)
        In nats; positive for, negative against the class. Up to the error of `steps`, an
        image's sum is the evidence for it minus that for an empty image.

    Raises
    ------
    ConfigError
        Keras runs on another backend than TensorFlow.
    """
    target = images.astype(np.float32)[..., None]
    start = np.float32(empty)
    # Midpoints: no worse than the trapezoidal rule, and one point fewer.
    way = ((np.arange(steps, dtype=np.float32) + 0.5) / steps)[:, None, None, None]
    out = np.empty(images.shape, np.float32)
    at_once = max(1, _BATCH // steps)
    for i in range(0, len(images), at_once):
        part = target[i : i + at_once]
        points = (start + way * (part[:, None] - start)).reshape(-1, *part.shape[1:])
        gradients = _gradients(model, points, np.repeat(classes_index[i : i + at_once], steps))
        mean = gradients.reshape(len(part), steps, *part.shape[1:]).mean(axis=1)
        out[i : i + at_once] = ((part - start) * mean)[..., 0]
    return out


def _gradients(model: keras.Model, images: Maps, classes_index: Ints) -> Maps:
    """Gradient of the evidence for each image's class by its pixels."""
    import keras

    if keras.backend.backend() != "tensorflow":
        raise ConfigError(
            "saliency: expected Keras on TensorFlow, "
            f"got {keras.backend.backend()}; use KERAS_BACKEND=tensorflow"
        )
    import tensorflow as tf

    tensor = tf.convert_to_tensor(images)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        probabilities = model(tensor, training=False)
        mine = tf.one_hot(classes_index, probabilities.shape[1])
        of_class = tf.reduce_sum(probabilities * mine, axis=1)
        of_others = tf.reduce_sum(probabilities * (1 - mine), axis=1)
        total = tf.reduce_sum(
            tf.math.log(tf.maximum(of_class, _TINY)) - tf.math.log(tf.maximum(of_others, _TINY))
        )
    return np.asarray(tape.gradient(total, tensor))


def evidence(
    probabilities: npt.NDArray[np.floating[Any]], classes_index: Ints
) -> npt.NDArray[np.float64]:
    """Log-odds of one class of each row against all others, shape (n,), in nats."""
    p = np.asarray(probabilities, np.float64)
    of_class = np.take_along_axis(p, classes_index[:, None], axis=1)[:, 0]
    # Summed, since 1 - p would be 0 long before the others are.
    of_others = np.where(np.arange(p.shape[1]) == classes_index[:, None], 0, p).sum(axis=1)
    return np.asarray(np.log(np.maximum(of_class, _TINY)) - np.log(np.maximum(of_others, _TINY)))


def occlusion(
    predict: Callable[[Images], npt.NDArray[np.floating[Any]]],
    images: Images,
    classes_index: Ints,
    *,
    empty: int,
    patch: int = _PATCH,
) -> Maps:
    """How much evidence is lost when a square of the image is emptied; any model will do.

    Parameters
    ----------
    predict : callable
        Images, uint8 (n, rows, columns), to probabilities.
    patch : int
        Side of the squares, in pixels.

    Returns
    -------
    ndarray of float32, shape (n, rows, columns)
        In nats, the same all over a square.
    """
    whole = evidence(predict(images), classes_index)
    out = np.empty(images.shape, np.float32)
    for top, left in itertools.product(*(range(0, size, patch) for size in images.shape[1:])):
        square = (slice(None), slice(top, top + patch), slice(left, left + patch))
        without = images.copy()
        without[square] = empty
        lost = whole - evidence(predict(without), classes_index)
        out[square] = lost[:, None, None]
    return out


@dataclass(frozen=True)
class Explainer:
    """A model folder with the method that fits it: gradients if it holds a Keras network."""

    classifier: Classifier
    network: Any

    @classmethod
    def load(cls, folder: Path, classifier: Classifier) -> Explainer:
        """Load the network in `folder`, of which `classifier` is the served form."""
        if not (Path(folder) / KERAS).is_file():
            return cls(classifier, None)
        import os

        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        # Gradients are TensorFlow's, whatever the network was trained on; its file is the same.
        if "keras" not in sys.modules:
            os.environ["KERAS_BACKEND"] = "tensorflow"
        import keras

        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            tf.config.experimental.enable_op_determinism()
        return cls(classifier, keras.saving.load_model(Path(folder) / KERAS))

    @property
    def method(self) -> str:
        return "occlusion" if self.network is None else "integrated gradients"

    def maps(self, images: Images, classes_index: Ints, *, empty: int, steps: int = STEPS) -> Maps:
        """Saliency of each image for its class, float32 (n, rows, columns), in nats."""
        if self.network is None:
            return occlusion(self.classifier.predict, images, classes_index, empty=empty)
        return saliency(self.network, images, classes_index, empty=empty, steps=steps)


def explain_classes(
    explainer: Explainer,
    take: Callable[[Ints], Images],
    labels: Ints,
    predicted: Ints,
    records: npt.NDArray[np.object_],
    *,
    each: int = 32,
    seed: int = 0,
) -> Explanation:
    """Average saliency of correctly classified beats, and whether it depends on the model.

    Parameters
    ----------
    take : callable
        Gives the images, uint8 (n, rows, columns), of given beats.
    labels, predicted : ndarray of int, shape (n,)
    records : ndarray of str, shape (n,)
        Where each beat is from; a class's beats are spread over them.
    each : int
        At most so many beats a class.
    """
    classifier = explainer.classifier
    chosen = {
        name: rows
        for k, name in enumerate(classifier.classes)
        if len(rows := _spread((labels == k) & (predicted == k), records, each, seed))
    }
    empty = empty_level(classifier.spec, take(np.concatenate([[], *chosen.values()]).astype(int)))
    averages, shares, gaps = {}, {}, []
    for name, rows in chosen.items():
        images, index = take(rows), labels[rows]
        maps = explainer.maps(images, index, empty=empty, steps=_AVERAGE_STEPS)
        averages[name] = ClassAverage(
            len(rows), images.mean(axis=0), maps.mean(axis=0, dtype=np.float64)
        )
        shares[name] = _shares(np.abs(maps).mean(axis=0), classifier.spec)
        gaps.append(_incompleteness(classifier, images, index, maps, empty))
    figures: dict[str, Any] = {
        "method": explainer.method,
        "unit": "nats of log-odds",
        "empty_level": empty,
        "beats": {name: average.beats for name, average in averages.items()},
        "shares": {name: share for name, share in shares.items() if share},
        "steps": None,
        "incompleteness": None,
        "randomised": None,
    }
    if explainer.network is not None and chosen:
        some = _some_of_each(list(chosen.values()), _CHECKED)
        figures |= {
            "steps": _AVERAGE_STEPS,
            "incompleteness": _rounded(float(np.median(np.concatenate(gaps)))),
            "randomised": randomisation_check(
                explainer.network, take(some), labels[some], empty=empty, seed=seed
            ),
        }
    return Explanation(figures, averages)


def _spread(
    wanted: npt.NDArray[np.bool_], records: npt.NDArray[np.object_], each: int, seed: int
) -> Ints:
    """Rows of wanted beats: one of each record, then a second of each, and so on."""
    rows = np.random.default_rng(seed).permutation(np.flatnonzero(wanted))
    turn = pd.Series(records[rows]).groupby(records[rows]).cumcount().to_numpy()
    return np.sort(rows[np.argsort(turn, kind="stable")][:each]).astype(np.int64)


def _some_of_each(groups: Sequence[Ints], count: int) -> Ints:
    each = max(1, count // len(groups))
    return np.concatenate([rows[:: -(-len(rows) // each)] for rows in groups])


def _shares(absolute: npt.NDArray[np.floating[Any]], spec: Spec) -> dict[str, float]:
    """How absolute saliency, shape (rows, columns), is shared out over the image's parts."""
    parts = {name: float(absolute[where].sum()) for name, where in regions(spec).items()}
    total = sum(parts.values())
    return {name: _rounded(part / total) for name, part in parts.items()} if total else {}


def _incompleteness(
    classifier: Classifier, images: Images, index: Ints, maps: Maps, empty: int
) -> npt.NDArray[np.float64]:
    """How far each image's sum is from the difference it should be, as a share of that."""
    blank = np.full_like(images[:1], empty)
    nothing = np.repeat(classifier.predict(blank), len(images), axis=0)
    due = evidence(classifier.predict(images), index) - evidence(nothing, index)
    return np.asarray(np.abs(maps.sum(axis=(1, 2)) - due) / np.maximum(np.abs(due), 1e-6))


def randomisation_check(
    model: keras.Model,
    images: Images,
    classes_index: Ints,
    *,
    empty: int,
    steps: int = _CHECK_STEPS,
    seed: int = 0,
) -> dict[str, Any]:
    """Whether saliency depends on what the network has learnt.

    The cascade of Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018: weights are
    randomised (here permuted within each tensor, which keeps their scale) from the output
    back to the input, in up to six stages; after each, the maps are compared with those of
    the trained network by Spearman's rank correlation over the pixels that are not empty.

    Integrated gradients multiply by the image, so absolute values stay alike to a degree
    whatever the weights are; signs tell more.

    Returns
    -------
    dict
        layers (the first that each stage reached, from the output), signed and absolute
        (mean correlation after each stage), rank_correlation and
        rank_correlation_absolute (after the last: all weights randomised), images.
        The model has its own weights again.
    """
    trained = saliency(model, images, classes_index, empty=empty, steps=steps)
    seen = images != empty
    learnt = model.get_weights()
    layers: list[str] = []
    signed: list[float | None] = []
    absolute: list[float | None] = []
    try:
        for layer in _randomised_from_output(model, seed):
            maps = saliency(model, images, classes_index, empty=empty, steps=steps)
            layers.append(layer)
            signed.append(_mean_rank_correlation(trained, maps, seen))
            absolute.append(_mean_rank_correlation(np.abs(trained), np.abs(maps), seen))
    finally:
        model.set_weights(learnt)
    return {
        "images": len(images),
        "layers": layers,
        "signed": signed,
        "absolute": absolute,
        "rank_correlation": signed[-1] if signed else None,
        "rank_correlation_absolute": absolute[-1] if absolute else None,
    }


def _randomised_from_output(model: keras.Model, seed: int) -> Iterator[str]:
    """Permute the weights of `model`, stage by stage; name the layer that each has reached."""
    rng = np.random.default_rng(seed)
    layers = [layer for layer in reversed(model.layers) if layer.weights]
    ends = np.linspace(0, len(layers), min(_STAGES, len(layers)) + 1).astype(int)[1:]
    for k, layer in enumerate(layers):
        for weight in layer.weights:
            values = np.asarray(weight)
            weight.assign(rng.permutation(values.ravel()).reshape(values.shape))
        if k + 1 in ends:
            yield str(layer.name)


def _mean_rank_correlation(one: Maps, other: Maps, seen: npt.NDArray[np.bool_]) -> float | None:
    """Mean over images of Spearman's correlation over the pixels `seen`; None if undefined."""
    found = []
    for a, b, here in zip(one, other, seen, strict=True):
        ranks = [rankdata(values[here]) for values in (a, b)]
        if here.any() and all(np.ptp(values) > 0 for values in ranks):
            found.append(np.corrcoef(ranks[0], ranks[1])[0, 1])
    return _rounded(float(np.mean(found))) if found else None


def _rounded(value: float) -> float:
    """To four decimals, below which the order of summation can be felt."""
    return round(value, 4)


def explain_files(
    folder: Path, pictures: Sequence[Path], out: Path, *, label: str | None = None
) -> list[tuple[Path, str]]:
    """Classify beat images and draw what each answer rests on.

    Parameters
    ----------
    folder : Path
        Model folder.
    pictures : sequence of Path
        PNG or JPEG beat images, decoded as the service does.
    out : Path
        The PNG to write; with several pictures a folder, for one PNG of the name of each.
    label : str, optional
        The class to explain; the most probable one of each picture by default.

    Returns
    -------
    list of (Path, str)
        What was written, and the answer in words.

    Raises
    ------
    DataError
        A picture cannot be read, or is not for this model (ImageError).
    ConfigError
        The model has no such class, or two pictures would be written to one file.
    """
    from ecgbeats import plots

    classifier = Classifier.load(folder)
    classes = classifier.classes
    if label is not None and label not in classes:
        raise ConfigError(f"class: expected one of {', '.join(classes)}; got {label!r}")
    targets = [Path(out)]
    if len(pictures) > 1:
        targets = [Path(out) / f"{Path(picture).stem}.png" for picture in pictures]
        if len(set(targets)) < len(targets):
            raise ConfigError(f"{out}: expected images of different names; some are the same")
    images = np.stack([_read(path, classifier.spec) for path in pictures])
    probabilities = classifier.predict(images)
    index = probabilities.argmax(axis=1)
    explained = index if label is None else np.full(len(index), classes.index(label))
    empty = empty_level(classifier.spec, images)
    maps = Explainer.load(folder, classifier).maps(images, explained, empty=empty)
    written = []
    for i, (target, answer) in enumerate(
        zip(targets, classifier.answers(probabilities), strict=True)
    ):
        words = f"{classes[index[i]]} {probabilities[i, index[i]]:.3f}"
        words = words if answer != UNCERTAIN else f"{UNCERTAIN} ({words})"
        picture = plots.explanation(
            images[i],
            maps[i],
            words,
            parts=regions(classifier.spec),
            label=classes[explained[i]],
        )
        with written_aside(target) as aside:
            aside.write_bytes(picture)
        written.append((target, words))
    return written


def _read(path: Path, spec: Spec) -> Images:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return decode_upload(data, spec)
    except ImageError as error:
        raise ImageError(error.code, error.expected, f"{error.got} ({path})") from error


def in_words(figures: Mapping[str, Any]) -> str:
    """What the check by randomised weights found, for people."""
    check = figures["randomised"]
    if check is None:
        return (
            "This model has no gradient: it was explained by emptying squares of the image, "
            "and its weights cannot be randomised."
        )
    left, unsigned = check["rank_correlation"], check["rank_correlation_absolute"]
    if left is None:
        return "The check by randomised weights is undefined: there was no saliency to compare."
    verdict = (
        "The pictures depend on the model"
        if abs(left) < 0.3
        else "The pictures depend on the model in part"
        if abs(left) < 0.6
        else "Do not trust the pictures: they hardly depend on the model"
    )
    absolute = "" if unsigned is None else f", of their absolute values by {unsigned:.2f}"
    return (
        f"{verdict}: with all weights randomised, saliency of the same {check['images']} beats "
        f"correlates by {left:.2f} with the trained network's (rank correlation){absolute}."
    )
