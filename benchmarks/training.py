"""A training step against what the machine's own matrix products reach, and what raises the share.

Multiplications of the network for one image (`ecgbeats.macs`), twice for multiply and add, three
times for forward and backward, over processor seconds; the ceiling is a product of two float32
matrices in the same process and thread. An epoch has as many steps as one of the recipe: what `fit`
does once an epoch would count too much in a few. Run: make benchmark
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import keras
import numpy as np
import tensorflow as tf

from ecgbeats.config import read_params
from ecgbeats.export import save_onnx
from ecgbeats.macs import macs_of
from ecgbeats.models import build_model

RECIPE, BATCH, LARGE, STEPS, ROUNDS, SIDE = "mitdb-aami5", 256, 1024, 72, 3, 1024


class Batches(keras.utils.PyDataset):
    """The same ready batch again and again: a step alone, without the making of batches."""

    def __init__(self, batch: tuple[np.ndarray, ...]) -> None:
        super().__init__()
        self._batch = batch

    def __len__(self) -> int:
        return STEPS

    def __getitem__(self, _: int) -> tuple[np.ndarray, ...]:
        return self._batch


def ceiling() -> float:
    """Operations a processor second of a product of two square matrices: the best of some."""
    left = tf.random.normal((SIDE, SIDE))
    product = tf.function(lambda a: tf.matmul(a, a))
    product(left)
    best = 0.0
    for _ in range(8):
        began = time.process_time()
        product(left).numpy()
        best = max(best, 2 * SIDE**3 / (time.process_time() - began))
    return best


def network() -> keras.Model:
    """The recipe's last member, which reads panels: the one that takes time."""
    params = read_params(Path(__file__).parents[1] / "params.yaml")
    recipe, classes = params.recipe(RECIPE), params.scheme_of(RECIPE).names
    member = recipe.model.of_member(recipe.train.members - 1)
    return build_model(member.name, recipe.image, classes, **member.options)


def drawn(batch: int) -> tuple[np.ndarray, ...]:
    """A batch of noise: images, classes, weights."""
    rng = np.random.default_rng(1)
    shapes = network()
    x = rng.integers(0, 256, (batch, *shapes.input_shape[1:])).astype(np.float32)
    return x, rng.integers(0, shapes.output_shape[1], batch), np.ones(batch, np.float32)


def sides() -> Iterator[tuple[str, int, Callable[[], object]]]:
    """Name, size of a batch, and what does STEPS steps."""
    given, large = drawn(BATCH), drawn(LARGE)

    def model(jit: bool = False, policy: str = "float32", at_once: int = 1) -> keras.Model:
        keras.config.set_dtype_policy(policy)
        made = network()
        keras.config.set_dtype_policy("float32")
        made.compile(
            optimizer=keras.optimizers.AdamW(1e-3, 1e-2),
            loss="sparse_categorical_crossentropy",
            weighted_metrics=["accuracy"],
            jit_compile=jit,
            steps_per_execution=at_once,
        )
        return made

    def fit(made: keras.Model, batch: tuple[np.ndarray, ...] = given) -> Callable[[], object]:
        return lambda: made.fit(Batches(batch), epochs=1, verbose=0, shuffle=False)

    def on_batch(made: keras.Model) -> Callable[[], object]:
        return lambda: [made.train_on_batch(*given) for _ in range(STEPS)]

    yield "fit, not deterministic", BATCH, fit(model())
    yield "steps without fit", BATCH, on_batch(model())
    yield "XLA", BATCH, fit(model(jit=True))
    yield "bfloat16", BATCH, fit(model(policy="mixed_bfloat16"))
    # Last: it cannot be taken back.
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(1)
    yield "fit, as it is trained", BATCH, fit(model())
    yield "the same, 8 steps at once", BATCH, fit(model(at_once=8))
    yield f"the same, batches of {LARGE}", LARGE, fit(model(), large)


def operations() -> float:
    """For one image of a step: multiply and add, forward and twice that backward."""
    with tempfile.TemporaryDirectory() as scratch:
        save_onnx(network(), Path(scratch) / "model.onnx")
        macs = macs_of(Path(scratch) / "model.onnx")
    assert macs is not None
    return 2.0 * 3.0 * macs


def main() -> None:
    top = ceiling()
    print(
        f"{RECIPE}, one thread; a product of {SIDE} x {SIDE}: {top / 1e9:.1f} GFLOP a processor s"
    )
    each = operations()
    for name, batch, steps in sides():
        work = each * batch
        steps()
        took = []
        for _ in range(ROUNDS):
            began = time.process_time()
            steps()
            took.append((time.process_time() - began) / STEPS)
        step = statistics.median(took)
        print(
            f"{name:<26} {1e3 * step:>8.1f} ms a step of {batch:>4} "
            f"{work / step / 1e9:>7.2f} GFLOP/s {work / step / top:>7.1%} of the ceiling"
        )


if __name__ == "__main__":
    main()
