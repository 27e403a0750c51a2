"""MiniFASNet's networks, for onnxruntime to run well."""

import onnx
from onnx import numpy_helper

from face.conversion.graph import read, without_prelu


def minifasnet(weights: bytes) -> onnx.ModelProto:
    """The same network without PRelu. Raises ``ValueError`` for bytes that are no network."""
    model = read(weights)
    arrays = {constant.name: numpy_helper.to_array(constant) for constant in model.graph.initializer}
    nodes = [plain for node in model.graph.node for plain in without_prelu(node, arrays)]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    return model
