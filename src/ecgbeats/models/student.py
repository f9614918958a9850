"""The small networks of the student projects that classify pictures of beats, 64 x 64 x 3.

Rebuilt to be compared with: grey is repeated to three channels and scaled to 0..1, and
other sizes are brought to theirs, so that they are the published networks.
"""

from __future__ import annotations

import keras
from keras import layers

from ecgbeats.imaging.spec import Spec
from ecgbeats.models import parts

_SIDE = 64


def build(
    spec: Spec, classes: int, *, dense: tuple[int, ...] | list[int] = (200, 300)
) -> keras.Model:
    """Conv2D 32 3x3, MaxPool, Dense 200, Dense 300, softmax: 6.2 million weights."""
    return _network(spec, classes, blocks=1, dense=dense, name="student")


def build_double(
    spec: Spec, classes: int, *, dense: tuple[int, ...] | list[int] = (32,)
) -> keras.Model:
    """Twice Conv2D 32 3x3 and MaxPool, Dense 32, softmax, as the public web apps have it."""
    return _network(spec, classes, blocks=2, dense=dense, name="student-double")


def _network(
    spec: Spec, classes: int, *, blocks: int, dense: tuple[int, ...] | list[int], name: str
) -> keras.Model:
    image = parts.image_input(spec)
    x = layers.Rescaling(1 / 255, name="scale")(image)
    if spec.shape != (_SIDE, _SIDE):
        x = layers.Resizing(_SIDE, _SIDE, name="resize")(x)
    x = layers.Concatenate(name="rgb")([x, x, x])
    for i in range(1, blocks + 1):
        x = layers.Conv2D(32, 3, activation="relu", name=f"conv{i}")(x)
        x = layers.MaxPooling2D(2, name=f"pool{i}")(x)
    for i, units in enumerate(dense, start=1):
        x = parts.dense(x, units, name=f"dense{i}", activation="relu")
    return parts.answer(image, parts.dense(x, classes, name="logits"), name)
