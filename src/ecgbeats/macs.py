"""Multiplications that a network needs for one image, counted over its ONNX graph.

What is counted is what costs: convolutions, matrix products, recurrent layers and the
kernels of support vector machines. Additions of biases, activations, pooling and
normalisation are not, as usual where MACs are stated.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

Shape = tuple[int | None, ...]

# Gates of each recurrent layer: a matrix product of input and state each.
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
# Comparisons, or a body that runs an unknown number of times: no count would be honest.
_UNCOUNTED = {"Loop", "Scan", "If", "Einsum", "ConvTranspose", "SVMRegressor"}
_UNCOUNTED |= {"QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"}


def macs_of(path: Path) -> int | None:
    """Multiply-accumulate operations of the network in the file `path` for one image.

    Returns
    -------
    int or None
        None where they cannot be told: a loop in the graph, or a shape that depends on
        the input. Decision trees compare and multiply nothing, so they count 0.
    """
    import onnx

    network = onnx.load(path)
    for value in network.graph.input:
        dims = value.type.tensor_type.shape.dim
        if dims and not dims[0].HasField("dim_value"):
            dims[0].dim_value = 1
    # What an exporter noted down of inner shapes says "batch"; it is inferred anew.
    del network.graph.value_info[:]
    for value in network.graph.output:
        for dim in value.type.tensor_type.shape.dim:
            dim.Clear()
    inferred = onnx.shape_inference.infer_shapes(network, data_prop=True)
    shapes = _shapes(inferred.graph)
    total = 0
    for node in inferred.graph.node:
        count = _macs(node, shapes)
        if count is None:
            return None
        total += count
    return total


def _shapes(graph: onnx.GraphProto) -> dict[str, Shape]:
    found: dict[str, Shape] = {
        tensor.name: tuple(int(n) for n in tensor.dims) for tensor in graph.initializer
    }
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape"):
            found[value.name] = tuple(
                int(dim.dim_value) if dim.HasField("dim_value") else None
                for dim in value.type.tensor_type.shape.dim
            )
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    found[node.output[0]] = tuple(int(n) for n in attribute.t.dims)
    return found


def _macs(node: onnx.NodeProto, shapes: dict[str, Shape]) -> int | None:
    if node.op_type in _UNCOUNTED:
        return None
    if node.op_type == "Conv":
        # Weights: (filters, channels of a group, *kernel).
        out, weights = shapes.get(node.output[0]), shapes.get(node.input[1])
        return _product(out, weights[1:]) if weights is not None else None
    if node.op_type in ("MatMul", "Gemm"):
        left, out = shapes.get(node.input[0]), shapes.get(node.output[0])
        if left is None:
            return None
        inner = left[0] if node.op_type == "Gemm" and _attribute(node, "transA") else left[-1]
        return _product(out, (inner,))
    if node.op_type in _GATES:
        # Input: (steps, batch, features); weights: (directions, gates * state, features).
        data, weights = shapes.get(node.input[0]), shapes.get(node.input[1])
        if data is None or weights is None or len(data) != 3:
            return None
        state = int(_attribute(node, "hidden_size") or 0)
        directions, _, features = weights
        each = None if features is None else features + state
        return _product(data[:2], (directions, _GATES[node.op_type] * state, each))
    if node.op_type == "SVMClassifier":
        vectors = next((a.floats for a in node.attribute if a.name == "support_vectors"), ())
        return len(vectors)
    return 0


def _attribute(node: onnx.NodeProto, name: str) -> int | None:
    return next((int(a.i) for a in node.attribute if a.name == name), None)


def _product(*shapes: Shape | None) -> int | None:
    numbers: list[int] = []
    for shape in shapes:
        for n in shape if shape is not None else (None,):
            if n is None:
                return None
            numbers.append(n)
    return math.prod(numbers)
