"""Pieces that several networks are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
from keras import layers

from ecgbeats.beats import RHYTHMS
from ecgbeats.imaging.spec import PANELLED, CompositeSpec, Spec


def image_input(spec: Spec) -> keras.KerasTensor:
    """Grey levels, float32 (n, rows, columns, 1), 0 to 255."""
    return keras.Input((*spec.shape, 1), name="image")


def centred(image: keras.KerasTensor) -> keras.KerasTensor:
    """Grey levels as -1 to 1: middle grey, a composite's zero, is zero."""
    return layers.Rescaling(1 / 127, offset=-128 / 127, name="scale")(image)


def dense(x: keras.KerasTensor, units: int, *, name: str, **options: object) -> keras.KerasTensor:
    """Flatten and a dense layer in one: a convolution as large as the map, (n, 1, 1, units).

    The same weights, start included. Flattening would put the batch size into the graph, and
    the exporter then writes the same network now one way, now another.
    """
    rows, columns, channels = x.shape[1:]
    # Glorot and Bengio 2010 as a dense layer has it; a convolution counts the fan otherwise.
    limit = math.sqrt(6 / (rows * columns * channels + units))
    start = keras.initializers.RandomUniform(-limit, limit)
    return layers.Conv2D(units, (rows, columns), kernel_initializer=start, name=name, **options)(x)


def answer(image: keras.KerasTensor, x: keras.KerasTensor, name: str) -> keras.Model:
    """The network from `image` to the softmax over the channels of `x`, one pixel."""
    logits = layers.GlobalAveragePooling2D(name="flat")(x)
    return keras.Model(image, layers.Softmax(name="label")(logits), name=name)


def together(members: Sequence[keras.Model]) -> keras.Model:
    """One network that answers the mean of what `members` answer."""
    image = keras.Input(members[0].input_shape[1:], name="image")
    answers = [
        keras.Model(member.input, member.output, name=f"member{k}")(image)
        for k, member in enumerate(members, start=1)
    ]
    return keras.Model(image, layers.Average(name="mean")(answers), name=members[0].name)


def panels(plane: keras.KerasTensor, spec: Spec) -> keras.KerasTensor:
    """The panels of an image, cut out and laid over each other as channels.

    An image without panels is one.
    """
    return _stacked(_cut(plane, spec), "panels")


def rows_as_channels(plane: keras.KerasTensor, spec: Spec) -> keras.KerasTensor:
    """Rows of all panels as channels of one row: (n, 1, columns, rows of panels)."""
    turn = layers.Permute((3, 2, 1), name="turn")
    return _stacked([turn(panel) for panel in _cut(plane, spec)], "rows_as_channels")


def _cut(plane: keras.KerasTensor, spec: Spec) -> list[keras.KerasTensor]:
    if not isinstance(spec, PANELLED):
        return [plane]
    rows = spec.shape[0]
    cut = []
    for k in range(spec.panel_count):
        top = k * spec.panel_height
        bottom = rows - top - spec.panel_height
        cut.append(layers.Cropping2D(((top, bottom), (0, 0)), name=f"panel{k + 1}")(plane))
    return cut


def _stacked(cut: list[keras.KerasTensor], name: str) -> keras.KerasTensor:
    return cut[0] if len(cut) == 1 else layers.Concatenate(name=name)(cut)


def rhythm(plane: keras.KerasTensor, spec: Spec) -> keras.KerasTensor | None:
    """The rhythm strip, one value a block, as channels of one pixel; None where there is none."""
    if not isinstance(spec, PANELLED) or not spec.strip_height:
        return None
    values = len(RHYTHMS[spec.rhythm])
    block = spec.width // values
    unused = spec.width - block * values
    strip = layers.Cropping2D(((spec.rows_of_strip.start, 0), (0, unused)), name="strip")(plane)
    blocks = layers.AveragePooling2D((spec.strip_height, block), name="blocks")(strip)
    return layers.Permute((1, 3, 2), name="rhythm")(blocks)


def values(plane: keras.KerasTensor, spec: Spec) -> keras.KerasTensor | None:
    """The values below the panels, all leads', as channels of one pixel; None without any."""
    if not isinstance(spec, CompositeSpec) or not spec.values:
        return None
    rows, columns = spec.shape
    turn = layers.Permute((1, 3, 2), name="turn_values")
    found = []
    for row in range(spec.rows_of_values.start, spec.rows_of_values.stop):
        nth = (row - spec.rows_of_values.start) % spec.value_rows_per_lead
        used = min(columns, spec.morphology.values_per_lead - nth * columns)
        around = ((row, rows - row - 1), (0, columns - used))
        found.append(turn(layers.Cropping2D(around, name=f"values_row{row}")(plane)))
    return _stacked(found, "values")
