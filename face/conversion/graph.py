"""ONNX files and their graphs: reading them, and PRelu in operators that onnxruntime is quick at."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

Arrays = dict[str, npt.NDArray[np.generic]]
"""Constants of a graph by name."""


def read(weights: bytes) -> onnx.ModelProto:
    """Raises ``ValueError`` for bytes that are no network."""
    try:
        return onnx.load_model_from_string(weights)
    except Exception as fault:
        # protobuf's own kind of error is no public name
        raise ValueError("not an ONNX file") from fault


def without_prelu(node: onnx.NodeProto, arrays: Arrays) -> Iterator[onnx.NodeProto]:
    """PRelu as a * x + (1 - a) * relu(x), which stays in the blocked layout: half the time of a network full of them.
    Every other node as it is."""
    if node.op_type != "PRelu":
        yield node
        return
    x, slope = node.input
    (y,) = node.output
    rest, part, above, everywhere = (f"{y}_{name}" for name in ("rest", "part", "above", "everywhere"))
    arrays[rest] = np.float32(1) - arrays[slope].astype(np.float32)
    if np.all(arrays[slope] <= np.float32(1)):  # then the factor may go first, and the Relu costs nothing
        yield helper.make_node("Mul", [x, rest], [part])
        yield helper.make_node("Relu", [part], [above])
    else:
        yield helper.make_node("Relu", [x], [part])
        yield helper.make_node("Mul", [part, rest], [above])
    yield helper.make_node("Mul", [x, slope], [everywhere])
    yield helper.make_node("Add", [everywhere, above], [y])
