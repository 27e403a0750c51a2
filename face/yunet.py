"""YuNet, the detector: boxes with five landmarks, in one look at a picture of one size.

Wu, Peng, Yu: YuNet: A Tiny Millisecond-level Face Detector, 2023; weights and decoding as in OpenCV's
``FaceDetectorYN``.
"""

import numpy as np
import numpy.typing as npt

from face.faces import Face
from face.network import Network
from face.picture import Pixels

_STRIDES = (8, 16, 32)
_LEAST_CONFIDENCE = 0.5
_MOST_OVERLAP = 0.3
# A crowd has this many; more are noise.
_MOST_FACES = 50

Floats = npt.NDArray[np.float32]


class YuNet:
    """The detector on its network (``face.models.YUNET_NETWORK``)."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def find(self, pixels: Pixels) -> tuple[Face, ...]:
        """Every face of 10 to 300 pixels, the most certain first. Time grows with the pixels."""
        padded = _padded(pixels)
        outputs = self._network.run(padded[np.newaxis])
        levels = len(_STRIDES)
        kinds = [outputs[start : start + levels] for start in range(0, len(outputs), levels)]
        columns = padded.shape[1]
        found = [
            _candidates(stride, columns // stride, *level)
            for stride, *level in zip(_STRIDES, *kinds, strict=True)
        ]
        return _separate(np.concatenate(found))


def _padded(pixels: Pixels) -> Pixels:
    """With black at the right and the bottom, to whole steps of the coarsest stride."""
    height, width = pixels.shape[:2]
    step = _STRIDES[-1]
    return np.pad(pixels, ((0, -height % step), (0, -width % step), (0, 0)))


def _candidates(
    stride: int, columns: int, classes: Floats, objects: Floats, boxes: Floats, points: Floats
) -> Floats:
    """Rows of confidence, left, top, width, height, and five landmarks: one for each cell that saw a face."""
    confidence = np.sqrt(np.clip(classes[0, :, 0], 0, 1) * np.clip(objects[0, :, 0], 0, 1))
    (cells,) = np.nonzero(confidence >= _LEAST_CONFIDENCE)
    corner = np.stack([cells % columns, cells // columns], axis=1)
    middle = (corner + boxes[0, cells, :2]) * stride
    size = np.exp(boxes[0, cells, 2:]) * stride
    landmarks = (np.tile(corner, 5) + points[0, cells]) * stride
    return np.hstack([confidence[cells, None], middle - size / 2, size, landmarks]).astype(np.float32)


def _separate(candidates: Floats) -> tuple[Face, ...]:
    """The most certain of every heap that overlaps (non-maximum suppression)."""
    left = candidates[np.argsort(-candidates[:, 0], kind="stable")]
    kept: list[Face] = []
    while len(left) and len(kept) < _MOST_FACES:
        kept.append(_face(left[0]))
        left = left[1:][_overlap(left[0], left[1:]) <= _MOST_OVERLAP]
    return tuple(kept)


def _overlap(one: Floats, others: Floats) -> Floats:
    """Intersection over union."""
    near, far = one[1:3], one[1:3] + one[3:5]
    shared = np.minimum(far, others[:, 1:3] + others[:, 3:5]) - np.maximum(near, others[:, 1:3])
    intersection = np.clip(shared, 0, None).prod(axis=1)
    union = one[3:5].prod() + others[:, 3:5].prod(axis=1) - intersection
    return np.asarray(intersection / np.maximum(union, 1e-9), dtype=np.float32)


def _face(row: Floats) -> Face:
    confidence, left, top, width, height = map(float, row[:5])
    return Face(left, top, width, height, confidence, row[5:].reshape(5, 2).astype(np.float64))
