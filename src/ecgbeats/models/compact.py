"""Our default: small networks that read panels, values and rhythm strip of one grey plane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import keras
from keras import layers

from ecgbeats.errors import ConfigError
from ecgbeats.imaging.spec import PANELLED, Spec
from ecgbeats.models import parts


def build(
    spec: Spec,
    classes: int,
    *,
    reads: Literal["panels", "values"] = "panels",
    filters: tuple[int, ...] | list[int] = (16, 32, 64),
    dense: int = 64,
    dropout: float = 0.3,
    stride: int = 1,
    along_time: bool = False,
    told_by_rhythm: tuple[int, int] | list[int] | None = None,
    rhythm_dense: int = 64,
    rhythm_scale: float = 3.0,
) -> keras.Model:
    """Convolutions over the panels, or dense layers over the values, and the rhythm with them.

    Made of Keras' own layers only, so that it loads, trains on any backend and exports
    to ONNX without code of ours.

    Parameters
    ----------
    reads : {"panels", "values"}
        What tells the classes apart, beside the rhythm. With values there are no convolutions,
        but two dense layers; what is said of filters does not count then.
    filters : sequence of int
        Filters of each block (convolution, batch normalisation, ReLU, pooling by two).
    stride : int
        Of the first convolution. With 2 it takes the place of that block's pooling, for a
        quarter of its multiplications (along time, for a half).
    along_time : bool
        Every filter spans all rows of all panels, and convolutions and pooling run along time
        alone: rows of a time-frequency plane are no places that a pattern moves between.
        Without the last, average pooling. A plain picture, whose rows are heights, loses by it.
    told_by_rhythm : pair of int, optional
        Two of three classes or more (by position here, by name in a recipe) that look alike
        and differ in timing, as sinus beats and supraventricular ectopic ones do. The panels
        then answer for both at once, and a network of its own tells one from the other by the
        rhythm strip alone: what is learnt of the shapes of few patients cannot get into that
        decision.
    rhythm_dense : int
        Units of either layer of that network.
    rhythm_scale : float
        By what rhythm values, -1 to 1 on the strip, are multiplied. Small deviations matter: a
        beat 10 % early is at 0.13. Beside values they stay as they are: multiplied, they would
        drown them.

    Raises
    ------
    ConfigError
        A pair that is not two different classes, or is all of them, or without a strip to
        tell them by; no values in the image to read, or neither panels nor values to be read.
    """
    if told_by_rhythm is not None:
        _check_pair(told_by_rhythm, classes, spec)
    image = parts.image_input(spec)
    scaled = parts.centred(image)
    rhythm = parts.rhythm(scaled, spec)
    louder = None if rhythm is None else _louder(rhythm, rhythm_scale)
    if reads == "values":
        x = _of_values(parts.values(scaled, spec), rhythm, dense, dropout)
    elif reads == "panels":
        x = _of_panels(scaled, spec, louder, filters, dense, dropout, stride, along_time)
    else:
        raise ConfigError(f"reads: expected panels or values, got {reads!r}")
    if told_by_rhythm is None or louder is None:
        return parts.answer(image, parts.dense(x, classes, name="logits"), "compact")
    logits = [parts.dense(x, 1, name=f"look{k}") for k in range(classes - 1)]
    second = louder
    for i in (1, 2):
        second = parts.dense(second, rhythm_dense, activation="relu", name=f"rhythm_dense{i}")
    second = layers.Dropout(dropout, name="rhythm_drop")(second)
    second = parts.dense(second, 1, name="rhythm_logit")
    return parts.answer(image, _parted(logits, second, told_by_rhythm), "compact")


def _louder(rhythm: keras.KerasTensor, scale: float) -> keras.KerasTensor:
    return layers.Rescaling(scale, name="rhythm_scale")(rhythm)


def _of_values(
    values: keras.KerasTensor | None,
    rhythm: keras.KerasTensor | None,
    dense: int,
    dropout: float,
) -> keras.KerasTensor:
    """What dense layers make of values and rhythm, (n, 1, 1, dense)."""
    if values is None:
        raise ConfigError("reads: this image shows no values (image.values)")
    x = values
    if rhythm is not None:
        x = layers.Concatenate(name="with_rhythm")([x, rhythm])
    for i in (1, 2):
        x = parts.dense(x, dense, activation="relu", name=f"dense{i}")
        x = layers.Dropout(dropout, name=f"drop{i}")(x)
    return x


def _of_panels(
    scaled: keras.KerasTensor,
    spec: Spec,
    rhythm: keras.KerasTensor | None,
    filters: Sequence[int],
    dense: int,
    dropout: float,
    stride: int,
    along_time: bool,
) -> keras.KerasTensor:
    """What convolutions over the panels make of them, with the rhythm, (n, 1, 1, dense)."""
    x = parts.rows_as_channels(scaled, spec) if along_time else parts.panels(scaled, spec)
    for i, count in enumerate(filters, start=1):
        step = stride if i == 1 else 1
        kernel = 5 if i == 1 else 3
        x = layers.Conv2D(
            count,
            (1, kernel) if along_time else kernel,
            strides=step,
            padding="same",
            use_bias=False,
            name=f"conv{i}",
        )(x)
        x = layers.BatchNormalization(name=f"norm{i}")(x)
        x = layers.ReLU(name=f"relu{i}")(x)
        if step == 1:
            x = layers.MaxPooling2D((1, 2) if along_time else 2, name=f"pool{i}")(x)
    if not along_time:
        x = layers.AveragePooling2D(2, name="pool")(x)
    x = layers.Dropout(dropout, name="drop1")(x)
    x = parts.dense(x, dense, activation="relu", name="dense1")
    if rhythm is not None:
        x = layers.Concatenate(name="with_rhythm")([x, rhythm])
        x = parts.dense(x, dense, activation="relu", name="dense2")
    return layers.Dropout(dropout, name="drop2")(x)


def _check_pair(pair: Sequence[int], classes: int, spec: Spec) -> None:
    if len(pair) != 2 or len({*pair} & {*range(classes)}) != 2 or classes < 3:
        raise ConfigError(
            f"told_by_rhythm: expected two of at least three classes, got {list(pair)} of {classes}"
        )
    if not isinstance(spec, PANELLED) or not spec.strip_height:
        raise ConfigError("told_by_rhythm: this image has no rhythm strip")


def _parted(
    looks: list[keras.KerasTensor], second: keras.KerasTensor, pair: Sequence[int]
) -> keras.KerasTensor:
    """Logits of all classes, where the first of `looks` is shared by `pair`.

    With s the sigmoid of `second`, the pair's share of the softmax is that of one class of
    logit `looks[0]`, and of this share 1 - s goes to its first class and s to its second.
    """
    both, *others = looks
    against = layers.Rescaling(-1.0, name="rhythm_negated")(second)
    # ln(1 - s) and ln s.
    parts_of_both = [
        layers.Subtract(name=f"pair{k}")([both, layers.Activation("softplus", name=name)(logit)])
        for k, (name, logit) in enumerate(
            (("against_first", second), ("against_second", against)), 1
        )
    ]
    ordered = dict(zip(pair, parts_of_both, strict=True))
    rest = iter(others)
    classes = len(looks) + 1
    return layers.Concatenate(name="logits")(
        [ordered[k] if k in ordered else next(rest) for k in range(classes)]
    )
