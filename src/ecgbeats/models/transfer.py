"""Networks of keras.applications, trained on photographs, with a head of our own."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
from keras import layers

from ecgbeats.errors import ConfigError
from ecgbeats.files import sha256_file
from ecgbeats.imaging.spec import Spec
from ecgbeats.models import parts
from ecgbeats.progress import say

_APPLICATIONS: dict[str, Callable[..., keras.Model]] = {
    "vgg16": keras.applications.VGG16,
    "resnet50": keras.applications.ResNet50,
}
# Both were trained on blue, green, red less these means, unscaled (Keras' mode "caffe").
_MEANS = (103.939, 116.779, 123.68)
_LEAST_SIDE = 32
_CONNECT_S = 10.0


def build(
    spec: Spec,
    classes: int,
    *,
    application: str,
    weights: str | None = None,
    weights_sha256: str | None = None,
    trainable: bool | int = False,
    image_size: tuple[int, int] | list[int] | None = None,
    dense: int = 256,
    dropout: float = 0.5,
) -> keras.Model:
    """`application` without its top, its mean activations, a dense layer, softmax.

    Grey is repeated to three channels.

    Parameters
    ----------
    application : {"vgg16", "resnet50"}
        Simonyan and Zisserman 2015, arXiv 1409.1556; He et al. 2016, arXiv 1512.03385.
    weights : None, "imagenet" or path of a file
        None: random. "imagenet": from Keras' cache (KERAS_HOME), else downloaded; where
        neither can be done, random, and that is said. A file: weights of the application
        without top, as Keras saves (.weights.h5) or publishes (.h5) them.
    weights_sha256 : str, optional
        The SHA-256 that the file must have. Without it the same recipe may mean other weights
        when the file has changed.
    trainable : bool or int
        Whether the application is trained as well as the head; a number: its last so many
        layers. Layers that are not trained normalise by their stored statistics.
    image_size : (rows, columns), optional
        The image is scaled to this; by default it is taken as it is.

    Raises
    ------
    ConfigError
        The image is under 32 pixels high or wide, or the file is missing, not the one of
        `weights_sha256`, or does not fit the application.
    """
    rows, columns = image_size or spec.shape
    if min(rows, columns) < _LEAST_SIDE:
        raise ConfigError(
            f"model.options of {application}: expected images of at least {_LEAST_SIDE} x "
            f"{_LEAST_SIDE} pixels, got {rows} x {columns}; set image_size"
        )
    base = _application(application, (rows, columns, 3), weights, weights_sha256)
    _freeze(base, trainable)
    image = parts.image_input(spec)
    x = image
    if (rows, columns) != spec.shape:
        x = layers.Resizing(rows, columns, name="resize")(x)
    # Grey has the same blue, green and red, so their order needs no change.
    x = layers.Concatenate(name="bgr")([x, x, x])
    x = layers.Rescaling(1.0, offset=[-mean for mean in _MEANS], name="less_mean")(x)
    x = layers.GlobalAveragePooling2D(name="mean", keepdims=True)(base(x))
    x = parts.dense(x, dense, name="dense", activation="relu")
    x = layers.Dropout(dropout, name="drop")(x)
    return parts.answer(image, parts.dense(x, classes, name="logits"), application)


def _application(
    name: str, shape: tuple[int, int, int], weights: str | None, sha256: str | None
) -> keras.Model:
    make = _APPLICATIONS[name]

    def untrained() -> keras.Model:
        return make(include_top=False, weights=None, input_shape=shape, name=name)

    if sha256 is not None and weights in (None, "imagenet"):
        raise ConfigError(f"model.options of {name}: weights_sha256 goes with a file of weights")
    if weights is None:
        return untrained()
    if weights == "imagenet":
        try:
            with _impatient():
                return make(include_top=False, weights="imagenet", input_shape=shape, name=name)
        except Exception as error:  # Keras raises the base class where a download fails.
            say(
                f"WARNING: {name}: the weights learnt on ImageNet are not in Keras' cache and "
                f"cannot be downloaded ({' '.join(str(error).split())}); going on with RANDOM "
                "weights: this is no transfer learning"
            )
            return untrained()
    path = Path(weights)
    if not path.is_file():
        raise ConfigError(f'{name}: weights: expected null, "imagenet" or a file; got {weights!r}')
    if sha256 is not None and (found := sha256_file(path)) != sha256:
        raise ConfigError(f"{path}: expected SHA-256 {sha256}, found {found}")
    base = untrained()
    # A file of something else may load in part without a word: what is then left is no number.
    base.set_weights([np.full(weight.shape, np.nan, np.float32) for weight in base.weights])
    try:
        base.load_weights(path)
        if any(np.isnan(weight).any() for weight in base.get_weights()):
            raise ValueError("some weights of the network are not in the file")
    except Exception as error:  # h5py, zip and Keras: each has errors of its own.
        raise ConfigError(
            f"{path}: expected weights of {name} without top; "
            f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        ) from error
    return base


def _freeze(base: keras.Model, trainable: bool | int) -> None:
    if trainable is True:
        return
    count = int(trainable)
    if not 0 <= count <= len(base.layers):
        raise ConfigError(
            f"{base.name}: trainable: expected true, false or a number of layers from 0 to "
            f"{len(base.layers)}; got {trainable}"
        )
    for layer in base.layers[: len(base.layers) - count]:
        layer.trainable = False


@contextmanager
def _impatient() -> Iterator[None]:
    """Give up on an address that does not answer: offline, it may take minutes to say so."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_CONNECT_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
