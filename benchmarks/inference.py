"""A network's answers: Keras' two ways, TensorFlow's own, and the ONNX file that is served.

The network of the recipe mitdb-aami5, untrained, one thread. Run: make benchmark
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import numpy as np
import onnxruntime
import tensorflow as tf
from by_turns import by_turns, print_ratios

from ecgbeats.config import read_params
from ecgbeats.export import save_onnx
from ecgbeats.models import build_model, together

RECIPE, BATCH, ROUNDS = "mitdb-aami5", 256, 7


def main() -> None:
    params = read_params(Path(__file__).parents[1] / "params.yaml")
    recipe, classes = params.recipe(RECIPE), params.scheme_of(RECIPE).names
    members = [recipe.model.of_member(k) for k in range(recipe.train.members)]
    network = together(
        [build_model(member.name, recipe.image, classes, **member.options) for member in members]
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory() as scratch:
        save_onnx(network, Path(scratch) / "model.onnx")
        session = onnxruntime.InferenceSession(
            str(Path(scratch) / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
    name = session.get_inputs()[0].name
    graph = tf.function(lambda x: network(x, training=False), reduce_retracing=True)
    rng = np.random.default_rng(1)
    for count, again in ((1, 20), (BATCH, 3)):
        x = rng.integers(0, 256, (count, *recipe.image.shape, 1)).astype(np.float32)
        tensor = tf.constant(x)
        answers = [session.run(None, {name: x})[0], graph(tensor).numpy()]
        apart = float(np.abs(answers[0] - answers[1]).max())
        ways = {
            "Keras, predict": lambda x=x: network.predict(x, verbose=0),
            "Keras, predict_on_batch": lambda x=x: network.predict_on_batch(x),
            "TensorFlow, a traced function": lambda x=tensor: graph(x).numpy(),
            "ONNX Runtime": lambda x=x: session.run(None, {name: x}),
        }
        sides = {
            key: (lambda way=way, again=again: [way() for _ in range(again)])
            for key, way in ways.items()
        }
        seconds = by_turns(sides, ROUNDS)
        print(f"{count} image{'s' if count > 1 else ''} of {RECIPE}; answers differ by {apart:.0e}")
        print_ratios(seconds, "Keras, predict", "an image", count * again)


if __name__ == "__main__":
    main()
