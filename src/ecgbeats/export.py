"""A trained network as files: equal networks give equal bytes, so that hashes can be compared."""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ecgbeats.errors import ContractError
from ecgbeats.files import written_aside

if TYPE_CHECKING:
    import keras
    import onnx

# The Keras backend whose networks are exported, by tf2onnx.
_EXPORTS = "tensorflow"
_ELEMENTWISE = {"Add", "Sub", "Mul", "Div"}


def save_keras(model: keras.Model, path: Path) -> None:
    """Save `model` so that equal models give equal bytes.

    Keras puts the time into the archive and its metadata, and addresses of objects into
    the network's description; times become a constant, addresses are counted from one.
    """
    buffer = io.BytesIO()
    with written_aside(path) as aside:
        model.save(aside)
        with zipfile.ZipFile(aside) as source, zipfile.ZipFile(buffer, "w") as target:
            for name in sorted(source.namelist()):
                content = source.read(name)
                if name == "metadata.json":
                    metadata = json.loads(content)
                    metadata["date_saved"] = "1980-01-01@00:00:00"
                    content = json.dumps(metadata).encode()
                elif name == "config.json":
                    content = json.dumps(_renumbered(json.loads(content), {})).encode()
                target.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)
        aside.write_bytes(buffer.getvalue())


def _renumbered(value: Any, seen: dict[int, int]) -> Any:
    if isinstance(value, dict):
        return {
            key: seen.setdefault(item, len(seen) + 1)
            if key == "shared_object_id"
            else _renumbered(item, seen)
            for key, item in value.items()
        }
    return [_renumbered(item, seen) for item in value] if isinstance(value, list) else value


def save_onnx(model: keras.Model, path: Path) -> None:
    """Export `model` for ONNX Runtime so that equal models give equal bytes.

    Of a network on another Keras backend the export is done by a process on TensorFlow: from
    JAX, Keras goes through jax2onnx, whose pooling ONNX Runtime refuses.

    Raises
    ------
    ContractError
        That process failed.
    """
    import keras
    import onnx

    if keras.backend.backend() != _EXPORTS:
        _save_onnx_elsewhere(model, path)
        return
    # Keras exports a network whose graph it has seen: one call traces it.
    model(np.zeros((1, *model.input_shape[1:]), np.float32))
    with written_aside(path) as aside:
        with warnings.catch_warnings(), _repeatable_passes():
            # Keras' own use of a NumPy name that is going away.
            warnings.simplefilter("ignore", FutureWarning)
            model.export(aside, format="onnx", verbose=False)
        network = onnx.load(aside)
    _full_rank(network)
    save_network(network, path)


def _save_onnx_elsewhere(model: keras.Model, path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "model.keras"
        model.save(kept)
        done = subprocess.run(
            [sys.executable, "-m", "ecgbeats.export", str(kept), str(path)],
            env={
                **os.environ,
                "KERAS_BACKEND": _EXPORTS,
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "PYTHONPATH": os.pathsep.join(sys.path),
                # The accelerator is the other backend's, and its memory as well.
                "CUDA_VISIBLE_DEVICES": "",
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    if done.returncode:
        raise ContractError(
            f"{path}: the process on {_EXPORTS} that exports a network of another backend ended "
            f"with {done.returncode}: {done.stderr[-2000:].strip()}"
        )


def save_network(network: onnx.ModelProto, path: Path) -> None:
    """Write an ONNX network so that equal networks give equal bytes; `network` is changed."""
    import onnx

    _canonical(network.graph)
    onnx.checker.check_model(network)
    with written_aside(path) as aside:
        aside.write_bytes(network.SerializeToString(deterministic=True))


@contextmanager
def _repeatable_passes() -> Iterator[None]:
    """Leave out the one pass of tf2onnx that goes by the addresses of its objects.

    It moves transpositions; ONNX Runtime does so too when it loads the network.
    """
    from tf2onnx import optimizer

    passes = optimizer._optimizers
    before = dict(passes)
    del passes["optimize_transpose"]
    try:
        yield
    finally:
        passes.clear()
        passes.update(before)


def _full_rank(network: onnx.ModelProto) -> None:
    """Give numbers that are combined with maps as many axes as these have, each of length one.

    The same by ONNX's rules, but ONNX Runtime 1.31 takes a map whose last axis is one, as that
    of a grey image is, element by element where the number has fewer axes: of a batch of 256
    images four fifths of the time went into scaling their grey levels.
    """
    import onnx
    from onnx import numpy_helper

    inferred = onnx.shape_inference.infer_shapes(network).graph
    axes = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
        if value.type.tensor_type.HasField("shape")
    }
    numbers = {
        tensor.name: tensor for tensor in network.graph.initializer if math.prod(tensor.dims) == 1
    }
    made: dict[str, onnx.TensorProto] = {}
    for node in network.graph.node:
        if node.op_type not in _ELEMENTWISE:
            continue
        rank = axes.get(node.output[0], 0)
        for k, name in enumerate(node.input):
            if name in numbers and len(numbers[name].dims) < rank:
                full = f"{name}_of_{rank}_axes"
                value = numpy_helper.to_array(numbers[name]).reshape((1,) * rank)
                made[full] = numpy_helper.from_array(value, full)
                node.input[k] = full
    network.graph.initializer.extend(made.values())


def _canonical(graph: onnx.GraphProto) -> None:
    """Order and name nodes and constants by the structure of the graph alone.

    tf2onnx does so by counters and sets of the process, so that two exports of one
    network differ. Here both follow the way from the output back to the inputs.
    """
    maker = {name: node for node in graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    outer = {value.name for value in (*graph.input, *graph.output)}
    names: dict[str, str] = {}
    nodes: list[Any] = []
    tensors: list[Any] = []

    def visit(name: str) -> None:
        if not name or name in names or (name in outer and name not in maker):
            return
        if name in constants:
            names[name] = f"constant_{len(tensors)}"
            tensors.append(constants[name])
            return
        node = maker[name]
        for needed in node.input:
            visit(needed)
        for k, made in enumerate(node.output):
            names[made] = made if made in outer else f"{node.op_type}_{len(nodes)}_{k}"
        nodes.append(node)

    for output in graph.output:
        visit(output.name)
    for k, node in enumerate(nodes):
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names[name] for name in node.output]
        node.name = f"{node.op_type}_{k}"
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    graph.doc_string = ""
    for tensor in tensors:
        tensor.name = names[tensor.name]
    ordered, kept = list(nodes), list(tensors)
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(ordered)
    graph.initializer.extend(kept)


def _main(kept: str, path: str) -> None:
    import keras

    save_onnx(keras.saving.load_model(kept, compile=False), Path(path))


if __name__ == "__main__":
    _main(*sys.argv[1:])
