"""YuNet, the detector: boxes with five landmarks, in one look at a picture of one size.

Wu, Peng, Yu: YuNet: A Tiny Millisecond-level Face Detector, 2023; weights and decoding as in OpenCV's
``FaceDetectorYN``.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from face.faces import Face
from face.network import Network
from face.picture import Pixels

STRIDES = (8, 16, 32)
_LEAST_CONFIDENCE = 0.5
_MOST_OVERLAP = 0.3
# A crowd has this many; more are noise.
_MOST_FACES = 50

Floats = npt.NDArray[np.float32]


class YuNet:
    """The detector on its network: ``face.models.YUNET_NETWORK``, or with the coarsest of the strides alone
    ``YUNET_LARGE_NETWORK``."""

    def __init__(self, network: Network, strides: tuple[int, ...] = STRIDES) -> None:
        self._network = network
        self._strides = strides

    def find(self, pixels: Pixels) -> tuple[Face, ...]:
        """Every face of 10 to 300 pixels, the most certain first. Time grows with the pixels."""
        padded = _padded(pixels)
        (cells,) = self._network.run(padded[np.newaxis])
        return _separate(_candidates(cells, _places(*padded.shape[:2], self._strides)))


def _padded(pixels: Pixels) -> Pixels:
    """With black at the right and the bottom, to whole steps of the coarsest stride."""
    height, width = pixels.shape[:2]
    step = STRIDES[-1]
    padded = np.zeros((height + -height % step, width + -width % step, 3), np.uint8)
    padded[:height, :width] = pixels
    return padded


@lru_cache(maxsize=16)
def _places(height: int, width: int, strides: tuple[int, ...]) -> Floats:
    """Column, row and stride of every cell."""
    grids = [
        (column, row, stride)
        for stride in strides
        for row in range(height // stride)
        for column in range(width // stride)
    ]
    return np.array(grids, np.float32)


def _candidates(cells: Floats, places: Floats) -> Floats:
    """Rows of confidence, left, top, width, height, and five landmarks: one for each cell that saw a face."""
    confidence = _confidence(cells)
    seen = np.flatnonzero(confidence >= _LEAST_CONFIDENCE)
    found, corner, stride = cells[seen], places[seen, :2], places[seen, 2:]
    middle = (corner + found[:, 2:4]) * stride
    size = np.exp(found[:, 4:6]) * stride
    landmarks = (np.tile(corner, 5) + found[:, 6:]) * stride
    return np.hstack([confidence[seen, None], middle - size / 2, size, landmarks])


def _confidence(cells: Floats) -> Floats:
    """The root of both probabilities' product, from their logits."""
    return np.asarray(np.exp(-np.logaddexp(0, -cells[:, :2]).sum(axis=1) / 2))


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
