"""The network of Jun et al. 2018: VGG's idea, smaller, with ELU.

T. J. Jun, H. M. Nguyen, D. Kang, D. Kim, D. Kim and Y.-H. Kim, ECG arrhythmia classification
using a 2-D convolutional neural network, arXiv 1804.06812. Theirs is for waveforms of
128 x 128 pixels; its nine crops are training's (`train.augment.nine_crop`).
"""

from __future__ import annotations

import keras
from keras import layers

from ecgbeats.imaging.spec import Spec
from ecgbeats.models import parts

_FILTERS = (64, 128, 256)


def build(
    spec: Spec,
    classes: int,
    *,
    width: float = 1.0,
    dense: int = 2048,
    dropout: float = 0.5,
) -> keras.Model:
    """Three times two convolutions 3 x 3 and a pooling, a dense layer, softmax.

    ELU, then batch normalisation, after each convolution and the dense layer; Glorot's
    start, as published.

    Parameters
    ----------
    width : float
        Factor on the number of filters of each layer; the published network has 1.
    dense : int
        Units of the dense layer. It holds nearly all weights: 134 of 135 million at
        128 x 128.
    """
    image = parts.image_input(spec)
    x = parts.centred(image)
    for i, filters in enumerate(_FILTERS, start=1):
        for j in "ab":
            x = layers.Conv2D(
                max(1, round(filters * width)),
                3,
                padding="same",
                activation="elu",
                name=f"conv{i}{j}",
            )(x)
            x = layers.BatchNormalization(name=f"norm{i}{j}")(x)
        x = layers.MaxPooling2D(2, name=f"pool{i}")(x)
    x = parts.dense(x, dense, name="dense", activation="elu")
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Dropout(dropout, name="drop")(x)
    return parts.answer(image, parts.dense(x, classes, name="logits"), "jun2018")
