"""On what a network is trained, and in which numbers: around training, which knows of neither.

Both decide what comes out, so both are parameters of a recipe (`train.devices`,
`train.precision`), in its hash, in dvc.lock and in MLflow. What is exported is float32 on one
device, whatever it was trained in, and must agree with Keras within 1e-5 as ever.

Several devices are TensorFlow's MirroredStrategy, which is what Keras trains with on that
backend; `keras.distribution` is JAX's (on TensorFlow its file begins with "DO NOT USE").
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecgbeats.errors import ConfigError
from ecgbeats.files import read_json, write_json

if TYPE_CHECKING:
    from ecgbeats.config import ModelParams, TrainParams


@contextmanager
def training_as_asked(model: ModelParams, params: TrainParams) -> Iterator[None]:
    """Inside, networks are built and trained on the devices and in the precision of `params`.

    Raises
    ------
    ConfigError
        Of a baseline of scikit-learn; with another backend than TensorFlow; or TensorFlow
        runs already, with fewer devices.
    """
    from ecgbeats.models import is_estimator

    asked = as_asked(params)
    if not asked:
        yield
        return
    if is_estimator(model.name):
        raise ConfigError(f"train.{next(iter(asked))}: {model.name} is no network")
    with ExitStack() as stack:
        if params.devices > 1:
            stack.enter_context(_mirrored(params.devices))
        if params.precision != "float32":
            stack.enter_context(_computing_in(params.precision))
        yield


def as_asked(params: TrainParams) -> dict[str, Any]:
    """Of devices and precision, those that are not as by default."""
    return {
        name: getattr(params, name)
        for name in type(params).LATER
        if getattr(params, name) != type(params).model_fields[name].default
    }


def tell_in_card(card: Path, params: TrainParams) -> None:
    """Add to model.json in what the model was trained, where that is not as by default."""
    asked = as_asked(params)
    if asked:
        content = read_json(card)
        write_json(card, {**content, "training": {**content["training"], **asked}})


@contextmanager
def _computing_in(precision: str) -> Iterator[None]:
    """Layers made inside compute in 16 bits, softmax included; weights are float32.

    Training ends with Keras' state cleared, and this policy with it: the network that is then
    built for export is float32, with the same weights.
    """
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@contextmanager
def _mirrored(count: int) -> Iterator[None]:
    """Networks made inside are trained on `count` devices, each on its part of every batch.

    On the first `count` GPUs; where there are not that many, on as many parts of the processor,
    which is slower than one and gives the same but for rounding.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        raise ConfigError(
            f"train.devices: expected KERAS_BACKEND=tensorflow, got {keras.backend.backend()}"
        )
    import tensorflow as tf

    scope = _strategy(tf, _devices(tf, count)).scope()
    scope.__enter__()
    try:
        yield
    finally:
        # Training ends with Keras' state cleared, TensorFlow's graph included, which knows of the
        # scope: so the network for export is made outside of it, and its end finds itself gone.
        with suppress(IndexError):
            scope.__exit__(None, None, None)


def _devices(tf: Any, count: int) -> list[str]:
    gpus = tf.config.list_physical_devices("GPU")
    if len(gpus) >= count:
        return [f"/gpu:{k}" for k in range(count)]
    (processor,) = tf.config.list_physical_devices("CPU")
    parts = [tf.config.LogicalDeviceConfiguration()] * count
    have = tf.config.get_logical_device_configuration(processor) or []
    if len(have) < count:
        try:
            tf.config.set_logical_device_configuration(processor, parts)
        except RuntimeError as error:
            raise ConfigError(
                f"train.devices: expected {count} devices; TensorFlow runs in this process "
                f"already, with {len(gpus)} GPUs and {max(1, len(have))} parts of the processor"
            ) from error
    return [f"/cpu:{k}" for k in range(count)]


def _strategy(tf: Any, devices: list[str]) -> Any:
    class Mirrored(tf.distribute.MirroredStrategy):  # type: ignore[misc]
        """Answers a batch that was not distributed once.

        `predict_on_batch` hands its batch to all devices as it is, and Keras would then join
        their equal answers into one that is `len(devices)` times as long.
        """

        def run(self, fn: Any, args: Any = (), kwargs: Any = None, options: Any = None) -> Any:
            out = super().run(fn, args, kwargs, options)
            given = tf.nest.flatten((args, kwargs))
            if any(isinstance(value, tf.distribute.DistributedValues) for value in given):
                return out
            return tf.nest.map_structure(lambda v: self.experimental_local_results(v)[0], out)

    return Mirrored(devices)
