"""Faces as the detector reports them, and which of several is meant."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import atan2, degrees

import numpy as np
import numpy.typing as npt

Landmarks = npt.NDArray[np.float64]
"""5 x 2, x and y in pixels: right eye, left eye, tip of the nose, right and left corner of the mouth (the person's
right, which in a picture that is not mirrored is on the left)."""

# Below this a face is rather a fold of cloth; larger or turned looks then try to find a better one.
SURE = 0.7


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """A box around a face, in pixels of the picture it was found in; it may cross the picture's edge.

    ``confidence`` is the detector's, 0-1.
    """

    left: float
    top: float
    width: float
    height: float
    confidence: float
    landmarks: Landmarks

    @property
    def roll_deg(self) -> float:
        """How far the head is turned clockwise in the picture: 0 upright, 180 or -180 upside down."""
        right_eye, left_eye = self.landmarks[:2]
        x, y = left_eye - right_eye
        return degrees(atan2(y, x))

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, width, height."""
        return self.left, self.top, self.width, self.height

    def scaled(self, factor: float) -> "Face":
        """The same face in a picture that is larger by ``factor``."""
        left, top, width, height = (factor * length for length in self.box)
        return Face(left, top, width, height, self.confidence, self.landmarks * factor)


def comparable_faces(faces: Sequence[Face], share: float = 0.5) -> tuple[Face, ...]:
    """The main face first, then those at least ``share`` as wide: people in the picture, not passers-by.

    Faces that the detector is unsure of count only where it is sure of none, and then only the best of them.

    >>> points = np.zeros((5, 2))
    >>> sizes = (100, 0.9), (60, 0.8), (40, 0.95), (80, 0.5)
    >>> main, friend, passer_by, unsure = (Face(0, 0, size, size, sure, points) for size, sure in sizes)
    >>> comparable_faces([unsure, passer_by, friend, main]) == (main, friend)
    True
    """
    sure = [face for face in faces if face.confidence >= SURE]
    if not sure:
        return tuple(faces[:1])
    by_size = sorted(sure, key=lambda face: -face.width)
    return tuple(face for face in by_size if face.width >= share * by_size[0].width)
