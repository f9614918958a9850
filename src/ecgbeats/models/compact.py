"""Our default: a compact CNN that reads panels and rhythm strip of one grey plane."""

from __future__ import annotations

import keras
from keras import layers

from ecgbeats.imaging.spec import Spec
from ecgbeats.models import parts


def build(
    spec: Spec,
    classes: int,
    *,
    filters: tuple[int, ...] | list[int] = (16, 32, 64),
    dense: int = 64,
    dropout: float = 0.3,
    stride: int = 1,
) -> keras.Model:
    """Convolutions over the panels, then dense layers over them and the rhythm.

    Made of Keras' own layers only, so that it loads, trains on any backend and exports
    to ONNX without code of ours.

    Parameters
    ----------
    filters : sequence of int
        Filters of each block (convolution, batch normalisation, ReLU, pooling by two).
    stride : int
        Of the first convolution. With 2 it takes the place of that block's pooling, for a
        quarter of its multiplications.
    """
    image = parts.image_input(spec)
    scaled = parts.centred(image)
    x = parts.panels(scaled, spec)
    for i, count in enumerate(filters, start=1):
        step = stride if i == 1 else 1
        kernel = 5 if i == 1 else 3
        x = layers.Conv2D(
            count, kernel, strides=step, padding="same", use_bias=False, name=f"conv{i}"
        )(x)
        x = layers.BatchNormalization(name=f"norm{i}")(x)
        x = layers.ReLU(name=f"relu{i}")(x)
        if step == 1:
            x = layers.MaxPooling2D(2, name=f"pool{i}")(x)
    x = layers.AveragePooling2D(2, name="pool")(x)
    x = layers.Dropout(dropout, name="drop1")(x)
    x = parts.dense(x, dense, activation="relu", name="dense1")
    rhythm = parts.rhythm(scaled, spec)
    if rhythm is not None:
        # Small deviations matter: a beat 10 % early is at 0.13 of the scale.
        rhythm = layers.Rescaling(3.0, name="rhythm_scale")(rhythm)
        x = layers.Concatenate(name="with_rhythm")([x, rhythm])
        x = parts.dense(x, dense, activation="relu", name="dense2")
    x = layers.Dropout(dropout, name="drop2")(x)
    return parts.answer(image, parts.dense(x, classes, name="logits"), "compact")
