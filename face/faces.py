"""Faces as a detector reports them, and which of several is meant."""

from collections.abc import Sequence
from dataclasses import dataclass

# HOG's own threshold is 0. Below 0.5 it takes folds of cloth for faces, and finer looks find the true one.
SURE = 0.5


@dataclass(frozen=True, slots=True)
class Face:
    """A square around a face, in pixels of the picture it was found in; it may cross the picture's edge.

    ``confidence`` is the detector's margin: 0 barely a face, 1 and more clearly one.
    """

    left: int
    top: int
    width: int
    height: int
    confidence: float


def comparable_faces(faces: Sequence[Face], share: float = 0.5) -> tuple[Face, ...]:
    """The main face first, then those at least ``share`` as wide: people in the picture, not passers-by.

    Faces that the detector is unsure of count only where it is sure of none, and then only the best of them.

    >>> main, friend, passer_by = Face(0, 0, 100, 100, 2), Face(9, 0, 60, 60, 1), Face(5, 0, 40, 40, 3)
    >>> comparable_faces([passer_by, friend, main]) == (main, friend)
    True
    """
    sure = [face for face in faces if face.confidence >= SURE]
    if not sure:
        return tuple(faces[:1])
    by_size = sorted(sure, key=lambda face: -face.width)
    return tuple(face for face in by_size if face.width >= share * by_size[0].width)
