"""SFace and YuNet of the OpenCV Zoo: from their block-quantised files to float networks that onnxruntime runs well.

Both then take upright RGB pixels as they are: N x height x width x 3, uint8.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from face.conversion.graph import Arrays, read, without_prelu

Makers = Mapping[str, onnx.NodeProto]
"""By the name of what a node gives."""

_OPSET = 21
_IR_VERSION = 10
_PIXELS = "pixels"
_CELL_NUMBERS = 16
_MICROSOFT = "com.microsoft"
# From -128 to 127 to 0 to 255.
_SIGN = np.uint8(128)


def sface(weights: bytes) -> onnx.ModelProto:
    """``pixels`` N x 112 x 112 x 3 to ``fc1`` N x 128 float32. Raises ``ValueError`` for bytes that are no network."""
    graph, arrays = _in_floats(weights)
    nodes = [
        _in_bytes(plain, arrays) if plain.op_type == "Gemm" else plain
        for node in graph.node
        for plain in without_prelu(node, arrays)
    ]
    return _taking_pixels("data", ("N", 112, 112, 3), nodes, arrays, [("fc1", ("N", 128))])


def yunet(weights: bytes) -> onnx.ModelProto:
    """``pixels`` 1 x H x W x 3, H and W multiples of 32, to ``cells`` with 16 numbers for each place of the strides 8,
    16 and 32: logits of class and object, box, landmarks. Raises ``ValueError`` for bytes that are no network."""
    return _yunet(weights, (8, 16, 32))


def yunet_for_large_faces(weights: bytes) -> onnx.ModelProto:
    """The same for the stride 32 alone, a quarter cheaper: it sees faces that are about four cells wide."""
    return _yunet(weights, (32,))


def _yunet(weights: bytes, strides: Sequence[int]) -> onnx.ModelProto:
    graph, arrays = _in_floats(weights)
    makers = {node.output[0]: node for node in graph.node}
    first = next(node for node in graph.node if node.op_type == "Conv")
    arrays[first.input[1]] = arrays[first.input[1]][:, ::-1]  # its colours were blue, green, red
    arrays["as_rows"] = np.array([-1, _CELL_NUMBERS])
    heads = [node for stride in strides for node in _head(stride, makers, arrays)]
    rows = [f"rows_{stride}" for stride in strides]
    joined = helper.make_node("Concat", rows, ["cells"], axis=0)
    nodes = _needed([*graph.node, *heads, joined], "cells")
    return _taking_pixels("input", (1, "H", "W", 3), nodes, arrays, [("cells", (None, _CELL_NUMBERS))])


def _head(stride: int, makers: Makers, arrays: Arrays) -> list[onnx.NodeProto]:
    """Four heads of two convolutions each as one, which takes a quarter of the steps."""
    seconds = [_convolution(makers[f"{kind}_{stride}"], makers) for kind in ("cls", "obj", "bbox", "kps")]
    firsts = [makers[second.input[0]] for second in seconds]
    planes = f"planes_{stride}"
    return [
        _side_by_side(firsts, firsts[0].input[0], f"mixed_{stride}", arrays),
        _side_by_side(seconds, f"mixed_{stride}", planes, arrays, group=_CELL_NUMBERS),
        helper.make_node("Transpose", [planes], [f"{planes}_last"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", [f"{planes}_last", "as_rows"], [f"rows_{stride}"]),
    ]


def _convolution(node: onnx.NodeProto, makers: Makers) -> onnx.NodeProto:
    """The one whose output ``node`` only puts into another form."""
    return node if node.op_type == "Conv" else _convolution(makers[node.input[0]], makers)


def _side_by_side(
    convolutions: Sequence[onnx.NodeProto], x: str, y: str, arrays: Arrays, group: int = 1
) -> onnx.NodeProto:
    for part, number in (("weights", 1), ("shifts", 2)):
        arrays[f"{y}_{part}"] = np.concatenate([arrays[node.input[number]] for node in convolutions])
    size = arrays[f"{y}_weights"].shape[-1]
    return helper.make_node(
        "Conv", [x, f"{y}_weights", f"{y}_shifts"], [y], group=group, pads=[size // 2] * 4
    )


def _needed(nodes: Sequence[onnx.NodeProto], output: str) -> list[onnx.NodeProto]:
    wanted, kept = {output}, list[onnx.NodeProto]()
    for node in reversed(nodes):
        if wanted & set(node.output):
            wanted |= set(node.input)
            kept.insert(0, node)
    return kept


def _in_floats(weights: bytes) -> tuple[onnx.GraphProto, Arrays]:
    """The graph without the nodes that only unpack weights, and all constants by name."""
    graph = read(weights).graph
    arrays = {constant.name: numpy_helper.to_array(constant) for constant in graph.initializer}
    kept = [node for node in graph.node if not _unpacked(node, arrays)]
    del graph.node[:]
    graph.node.extend(kept)
    return graph, arrays


def _unpacked(node: onnx.NodeProto, arrays: Arrays) -> bool:
    """Whether the node was about constants alone; its result is one as well then."""
    if node.op_type == "DequantizeLinear":
        arrays[node.output[0]] = _dequantised(node, *(arrays[name] for name in node.input))
        return True
    if node.op_type == "Reshape" and node.input[0] in arrays:
        arrays[node.output[0]] = arrays[node.input[0]].reshape(arrays[node.input[1]].astype(int))
        return True
    return False


def _dequantised(
    node: onnx.NodeProto,
    quantised: npt.NDArray[np.generic],
    scales: npt.NDArray[np.generic],
    zeros: npt.NDArray[np.generic],
) -> npt.NDArray[np.float32]:
    """Blocked: each entry of ``scales`` and ``zeros`` is for ``block_size`` entries along ``axis``."""
    settings = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    axis, block = settings["axis"], settings["block_size"]
    length = range(quantised.shape[axis])
    spread = [np.repeat(of, block, axis).take(length, axis).astype(np.float32) for of in (zeros, scales)]
    return (quantised.astype(np.float32) - spread[0]) * spread[1]


def _in_bytes(node: onnx.NodeProto, arrays: Arrays) -> onnx.NodeProto:
    """The last layer with its weights as they are in the file: a quarter of the memory to go through for each face.
    Its input is rounded to bytes as well, by blocks; templates keep a cosine of .99999 to those in floats."""
    x, weights, shift = node.input
    name = weights.removesuffix("_dequantized")
    quantised, scales, zeros = (arrays[f"{name}_{part}"] for part in ("quantized", "scales", "zero_point"))
    rows, blocks = scales.shape
    columns, block = quantised.shape[1], quantised.shape[1] // blocks
    arrays["last_weights"] = (quantised.view(np.uint8) ^ _SIGN).reshape(rows, blocks, block)
    arrays["last_scales"], arrays["last_zeros"] = scales.ravel(), (zeros.view(np.uint8) ^ _SIGN).ravel()
    return helper.make_node(
        "MatMulNBits",
        [x, "last_weights", "last_scales", "last_zeros", "", shift],
        node.output,
        domain=_MICROSOFT,
        K=columns,
        N=rows,
        bits=8,
        block_size=block,
        accuracy_level=4,
    )


def _taking_pixels(
    network_input: str,
    shape: Sequence[int | str],
    nodes: Sequence[onnx.NodeProto],
    arrays: Arrays,
    outputs: Sequence[tuple[str, Sequence[int | str | None]]],
) -> onnx.ModelProto:
    unpack = [
        # Transposed while they are bytes, a quarter of the size.
        helper.make_node("Transpose", [_PIXELS], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], [network_input], to=onnx.TensorProto.FLOAT),
    ]
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        [*unpack, *nodes],
        "face",
        [helper.make_tensor_value_info(_PIXELS, onnx.TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, of) for name, of in outputs],
        [
            numpy_helper.from_array(np.ascontiguousarray(arrays[name]), name)
            for name in sorted(used & arrays.keys())
        ],
    )
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
