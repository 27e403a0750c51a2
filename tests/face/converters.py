"""Converters for tests of the cache of networks; the weights tell them what to do."""

import json
from pathlib import Path

import onnx
from onnx import helper

IDENTITY = helper.make_model(
    helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "identity",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])],
    )
)


def counted(weights: bytes) -> onnx.ModelProto:
    """Writes one more byte to the file that ``weights`` names, so that a test sees how often it was called."""
    with Path(json.loads(weights)["calls"]).open("ab") as calls:
        calls.write(b".")
    return IDENTITY


def refusing(weights: bytes) -> onnx.ModelProto:
    raise ValueError(f"these {len(weights)} bytes are no network")
