"""Convolutions see the shapes, a recurrent layer reads them from left to right."""

from __future__ import annotations

import keras
from keras import layers, ops

from ecgbeats.imaging.spec import Spec
from ecgbeats.models import parts


def build(
    spec: Spec,
    classes: int,
    *,
    filters: tuple[int, ...] | list[int] = (16, 32),
    units: int = 64,
    steps: int = 16,
    dense: int = 64,
    dropout: float = 0.3,
) -> keras.Model:
    """Convolution blocks, then an LSTM over the columns, which are time.

    The rhythm strip of an image is not time; its values join after the LSTM.

    Parameters
    ----------
    filters : sequence of int
        Filters of each block (convolution 3 x 3, batch normalisation, ReLU, pooling). Pooling
        halves the rows, and the columns as long as more than `steps` are left.
    units : int
        Features of a column, and state of the LSTM.
    steps : int
        Most columns that the LSTM reads. It is laid out step by step in the graph, so they
        cost time when it is built and exported.
    """
    image = parts.image_input(spec)
    scaled = parts.centred(image)
    x = parts.panels(scaled, spec)
    for i, count in enumerate(filters, start=1):
        x = layers.Conv2D(count, 3, padding="same", use_bias=False, name=f"conv{i}")(x)
        x = layers.BatchNormalization(name=f"norm{i}")(x)
        x = layers.ReLU(name=f"relu{i}")(x)
        x = layers.MaxPooling2D((2, 2 if x.shape[2] > steps else 1), name=f"pool{i}")(x)
    if x.shape[2] > steps:
        x = layers.AveragePooling2D((1, -(-x.shape[2] // steps)), name="shorten")(x)
    # All rows of a column to one vector; a reshaping would put the batch size into the graph.
    x = layers.Conv2D(units, (x.shape[1], 1), activation="relu", name="columns")(x)
    x = ops.squeeze(x, axis=1)
    x = layers.Dropout(dropout, name="drop1")(x)
    # Unrolled: one graph on each device and backend, which ONNX takes without a loop.
    x = layers.LSTM(units, unroll=True, use_cudnn=False, name="lstm")(x)
    x = ops.expand_dims(x, axis=(1, 2))
    rhythm = parts.rhythm(scaled, spec)
    if rhythm is not None:
        x = layers.Concatenate(name="with_rhythm")([x, rhythm])
    x = parts.dense(x, dense, name="dense", activation="relu")
    x = layers.Dropout(dropout, name="drop2")(x)
    return parts.answer(image, parts.dense(x, classes, name="logits"), "cnn-lstm")
