"""dlib's face recognition network as a model for onnxruntime, read from dlib's own file.

The file is what dlib's ``serialize`` writes for the network's C++ type (``dlib/dnn/core.h``, ``layers.h``,
``tensor.h``, ``float_details.h``): the version of every layer, the outermost first, and then the layers' contents in
the order they are computed. So one walk along :func:`_network` both reads the file and builds the model.
"""

import math
from itertools import chain
from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

_CHIP_PX = 150
_TEMPLATE_NUMBERS = 128
# Of learning and of decay, for weights and for biases: of use in training only.
_RATES = 4
# Filters and stride of every residual block; a stride of two halves the map.
_BLOCKS = (
    *[(32, 1)] * 3,
    *[(64, 2)] + [(64, 1)] * 3,
    *[(128, 2)] + [(128, 1)] * 2,
    *[(256, 2)] + [(256, 1)] * 2,
    (256, 2),
)
# Fixed, so that another version of onnx makes the same bytes.
_OPSET = 21
_IR_VERSION = 10

Values = npt.NDArray[np.float64]


def dlib_resnet(weights: bytes) -> onnx.ModelProto:
    """The network of ``dlib_face_recognition_resnet_model_v1.dat`` (David King, CC0), which ``weights`` holds.

    Input ``chips`` is uint8 N × 150 × 150 × 3, RGB as ``dlib.get_face_chip`` cuts them; output ``templates`` is
    float32 N × 128, what ``compute_face_descriptor(chip, 1)`` gives. The same bytes give the same model, byte for
    byte. Raises ``ValueError`` with the place in the file when the bytes are not this network; that a weight has
    another value only the digest of :mod:`face.manifest` can tell.
    """
    file, graph = _File(weights), _Graph()
    templates = _network(_Layers(file, graph))
    file.end()
    return graph.model(templates)


class _Map(NamedTuple):
    """A value of the graph: N × channels × side × side."""

    name: str
    channels: int
    side: int


def _network(layers: "_Layers") -> str:
    layers.opening()
    x = layers.convolution(layers.input(), filters=32, size=7, stride=2, is_innermost=True)
    x = layers.max_pool(layers.relu(x))
    for filters, stride in _BLOCKS:
        x = _block(layers, x, filters, stride)
    return layers.fully_connected(layers.average_of_all(x))


def _block(layers: "_Layers", x: _Map, filters: int, stride: int) -> _Map:
    y = layers.relu(layers.convolution(x, filters, 3, stride))
    y = layers.convolution(y, filters, 3, 1)
    shortcut = layers.average_pool(x) if stride == 2 else x
    return layers.relu(layers.add(y, shortcut))


class _Layers:
    """Every method reads one layer, adds it to the graph and names what it computes."""

    def __init__(self, file: "_File", graph: "_Graph") -> None:
        self._file = file
        self._graph = graph

    def opening(self) -> None:
        self._file.numbers(1)
        self._file.text("loss_metric_2")
        self._file.reals(2)  # the loss's margin and distance, of use in training only
        self._file.numbers(*_versions())

    def input(self) -> _Map:
        self._file.text("input_rgb_image_sized")
        average = np.array(self._file.reals(3), np.float32)
        self._file.numbers(_CHIP_PX, _CHIP_PX)
        # Transposed while they are bytes, a quarter of the size.
        planes = self._graph.node("Transpose", "chips", perm=(0, 3, 1, 2))
        levels = self._graph.node("Cast", planes, to=onnx.TensorProto.FLOAT)
        centred = self._graph.node("Sub", levels, self._graph.constant(average.reshape(3, 1, 1)))
        return _Map(self._graph.node("Mul", centred, self._graph.constant(np.float32(1 / 256))), 3, _CHIP_PX)

    def convolution(self, x: _Map, filters: int, size: int, stride: int, is_innermost: bool = False) -> _Map:
        """A ``con`` and the ``affine`` on it, which is folded into its weights."""
        padding = size // 2 if stride == 1 else 0
        kernel, bias = self._con((filters, x.channels, size, size), stride, padding)
        self._file.tail(is_innermost)
        scale, shift = self._affine(filters)
        self._file.tail()
        folded = (kernel * scale.reshape(-1, 1, 1, 1), bias * scale + shift)
        names = [self._graph.constant(values.astype(np.float32)) for values in folded]
        y = self._graph.node("Conv", x.name, *names, strides=(stride,) * 2, pads=(padding,) * 4)
        return _Map(y, filters, (x.side + 2 * padding - size) // stride + 1)

    def relu(self, x: _Map) -> _Map:
        self._file.layer("relu_")
        return x._replace(name=self._graph.node("Relu", x.name))

    def max_pool(self, x: _Map) -> _Map:
        self._file.layer("max_pool_2", 3, 3, 2, 2, 0, 0)
        pooled = self._graph.node("MaxPool", x.name, kernel_shape=(3, 3), strides=(2, 2))
        return _Map(pooled, x.channels, (x.side - 3) // 2 + 1)

    def average_pool(self, x: _Map) -> _Map:
        self._file.layer("avg_pool_2", 2, 2, 2, 2, 0, 0)
        pooled = self._graph.node("AveragePool", x.name, kernel_shape=(2, 2), strides=(2, 2))
        return _Map(pooled, x.channels, x.side // 2)

    def add(self, x: _Map, y: _Map) -> _Map:
        """dlib adds maps of two sizes as if zeros followed the smaller one's channels, rows and columns."""
        self._file.layer("add_prev_")
        size = (max(x.channels, y.channels), max(x.side, y.side))
        return _Map(self._graph.node("Add", self._padded(x, *size), self._padded(y, *size)), *size)

    def average_of_all(self, x: _Map) -> _Map:
        self._file.layer("avg_pool_2", 0, 0, 1, 1, 0, 0)
        return _Map(self._graph.node("GlobalAveragePool", x.name), x.channels, 1)

    def fully_connected(self, x: _Map) -> str:
        shape = (x.channels, _TEMPLATE_NUMBERS, 1, 1)
        self._file.text("fc_2")
        self._file.numbers(_TEMPLATE_NUMBERS, x.channels)
        matrix = self._file.tensor(*shape).reshape(shape[:2])
        self._file.numbers(*_alias(*shape), *_alias(0, 0, 0, 0), 1)
        self._file.reals(_RATES)
        self._file.tail()
        return self._graph.node("MatMul", self._graph.node("Flatten", x.name), self._graph.constant(matrix))

    def _con(self, shape: tuple[int, int, int, int], stride: int, padding: int) -> tuple[Values, Values]:
        filters, size = shape[0], shape[2]
        self._file.text("con_4")
        values = self._file.tensor(math.prod(shape) + filters, 1, 1, 1).astype(np.float64)
        self._file.numbers(filters, size, size, stride, stride, padding, padding)
        self._file.numbers(*_alias(*shape), *_alias(1, filters, 1, 1))
        self._file.reals(_RATES)
        return values[:-filters].reshape(shape), values[-filters:]

    def _affine(self, filters: int) -> tuple[Values, Values]:
        self._file.text("affine_")
        values = self._file.tensor(2 * filters, 1, 1, 1).astype(np.float64)
        self._file.numbers(*_alias(1, filters, 1, 1), *_alias(1, filters, 1, 1), 0)
        return values[:filters], values[filters:]

    def _padded(self, x: _Map, channels: int, side: int) -> str:
        after = (0, channels - x.channels, side - x.side, side - x.side)
        if not any(after):
            return x.name
        return self._graph.node("Pad", x.name, self._graph.constant(np.array((0, 0, 0, 0, *after), np.int64)))


def _versions() -> tuple[int, ...]:
    """Of the layers, the outermost first: 2 of a layer, 1 of the tags and skips, 3 of the innermost layer."""
    block = (2, 2, 2, 2, 2, 2, 2, 1)
    halving_block = (2, 2, 2, 1, 1, 2, 2, 2, 2, 2, 1)
    blocks = (block if stride == 1 else halving_block for _, stride in reversed(_BLOCKS))
    return (2, 2, *chain.from_iterable(blocks), 2, 2, 2, 3)


def _alias(*shape: int) -> tuple[int, ...]:
    """A view into a tensor: version and shape."""
    return (1, *shape)


class _File:
    """Reads what dlib's ``serialize`` wrote, and refuses everything that is not expected."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def layer(self, name: str, *settings: int) -> None:
        """A layer without weights."""
        self.text(name)
        self.numbers(*settings)
        self.tail()

    def tail(self, is_innermost: bool = False) -> None:
        """What ends a layer: three flags and three empty tensors, left over from its training."""
        if not set(self._take(3)) <= set(b"01"):
            self._refuse("a layer's flags")
        self.numbers(*(2, 0, 0, 0, 0) * 3)
        if is_innermost:
            self.numbers(1)

    def text(self, expected: str) -> None:
        self.numbers(len(expected))
        if self._take(len(expected)) != expected.encode():
            self._refuse(expected)

    def numbers(self, *expected: int) -> None:
        for number in expected:
            if self._number() != number:
                self._refuse(str(number))

    def reals(self, count: int) -> list[float]:
        return [self._real() for _ in range(count)]

    def tensor(self, *shape: int) -> npt.NDArray[np.float32]:
        """The values of a tensor of this shape, flat."""
        self.numbers(2, *shape)
        values = np.frombuffer(self._take(4 * math.prod(shape)), "<f4")
        if not np.isfinite(values).all():
            self._refuse("finite weights")
        return values

    def end(self) -> None:
        if self._at != len(self._content):
            self._refuse("the end")

    def _number(self) -> int:
        """A byte with the sign (highest bit) and the count of bytes that follow, the lowest first."""
        header = self._take(1)[0]
        if header & 0x7F not in range(1, 9):
            self._refuse("a number")
        number = int.from_bytes(self._take(header & 0x0F), "little")
        return -number if header & 0x80 else number

    def _real(self) -> float:
        mantissa, exponent = self._number(), self._number()
        if abs(exponent) > 900:  # dlib writes infinity and NaN as exponents of 32,000 and more
            self._refuse("a finite number")
        return math.ldexp(mantissa, exponent)

    def _take(self, count: int) -> bytes:
        taken = self._content[self._at : self._at + count]
        if len(taken) < count:
            self._refuse(f"{count} more bytes")
        self._at += count
        return taken

    def _refuse(self, expected: str) -> NoReturn:
        raise ValueError(f"not dlib's face recognition network: {expected} expected near byte {self._at}")


class _Graph:
    """Nodes and constants, named in the order they come."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def constant(self, values: npt.NDArray[np.generic] | np.generic) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"{operator}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def model(self, templates: str) -> onnx.ModelProto:
        self._nodes.append(helper.make_node("Identity", [templates], ["templates"], "templates"))
        graph = helper.make_graph(
            self._nodes,
            "dlib_resnet",
            [helper.make_tensor_value_info("chips", onnx.TensorProto.UINT8, ["N", _CHIP_PX, _CHIP_PX, 3])],
            [helper.make_tensor_value_info("templates", onnx.TensorProto.FLOAT, ["N", _TEMPLATE_NUMBERS])],
            self._constants,
        )
        opset = helper.make_opsetid("", _OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION)
