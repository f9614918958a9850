"""Our default: a compact CNN that reads panels and rhythm strip of one grey plane."""

from __future__ import annotations

import keras
from keras import layers

from ecgbeats.beats import RHYTHM
from ecgbeats.imaging.spec import CompositeSpec, Spec


def build(
    spec: Spec,
    classes: int,
    *,
    filters: tuple[int, ...] | list[int] = (16, 32, 64),
    dense: int = 64,
    dropout: float = 0.3,
) -> keras.Model:
    """Convolutions over the panels, then dense layers over them and the rhythm.

    Made of Keras' own layers only, so that it loads, trains on any backend and exports
    to ONNX without code of ours.
    """
    image = keras.Input((*spec.shape, 1), name="image")
    # Zero is middle grey in a composite and background in a waveform.
    scaled = layers.Rescaling(1 / 127, offset=-128 / 127, name="scale")(image)
    if isinstance(spec, CompositeSpec):
        x, rhythm = _panels(scaled, spec), _rhythm(scaled, spec)
    else:
        x, rhythm = scaled, None
    for i, count in enumerate(filters):
        first = i == 0
        x = layers.Conv2D(
            count, 5 if first else 3, padding="same", use_bias=False, name=f"conv{i + 1}"
        )(x)
        x = layers.BatchNormalization(name=f"norm{i + 1}")(x)
        x = layers.ReLU(name=f"relu{i + 1}")(x)
        x = layers.MaxPooling2D(2, name=f"pool{i + 1}")(x)
    x = layers.AveragePooling2D(2, name="pool")(x)
    x = layers.Dropout(dropout, name="drop1")(x)
    # Dense layers as convolutions: flattening would put the batch size into the graph, and
    # the exporter then writes the same network now one way, now another.
    x = layers.Conv2D(dense, x.shape[1:3], activation="relu", name="dense1")(x)
    if rhythm is not None:
        x = layers.Concatenate(name="with_rhythm")([x, rhythm])
        x = layers.Conv2D(dense, 1, activation="relu", name="dense2")(x)
    x = layers.Dropout(dropout, name="drop2")(x)
    x = layers.Conv2D(classes, 1, name="logits")(x)
    x = layers.GlobalAveragePooling2D(name="flat")(x)
    return keras.Model(image, layers.Softmax(name="label")(x), name="compact")


def _panels(plane: keras.KerasTensor, spec: CompositeSpec) -> keras.KerasTensor:
    """The panels, cut out and laid over each other as channels."""
    rows = spec.shape[0]
    cut = []
    for k, name in enumerate(spec.panels):
        top = k * spec.panel_height
        bottom = rows - top - spec.panel_height
        cut.append(layers.Cropping2D(((top, bottom), (0, 0)), name=f"panel_{name}")(plane))
    return cut[0] if len(cut) == 1 else layers.Concatenate(name="panels")(cut)


def _rhythm(plane: keras.KerasTensor, spec: CompositeSpec) -> keras.KerasTensor:
    """The strip's grey levels, one value per block, as channels of one pixel."""
    block = spec.width // len(RHYTHM)
    unused = spec.width - block * len(RHYTHM)
    top = len(spec.panels) * spec.panel_height
    strip = layers.Cropping2D(((top, 0), (0, unused)), name="strip")(plane)
    blocks = layers.AveragePooling2D((spec.strip_height, block), name="blocks")(strip)
    # Small deviations matter: a beat 10 % early is at 0.13 of the scale.
    return layers.Rescaling(3.0, name="rhythm_scale")(
        layers.Permute((1, 3, 2), name="rhythm")(blocks)
    )
