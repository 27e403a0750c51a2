"""Finding faces: dlib's HOG detector on scaled copies of the picture, from the cheapest look to the dearest.

HOG finds faces 80 pixels wide and more, and only upright ones.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt

import dlib
import numpy as np
from PIL import Image

from face.faces import SURE, Face
from face.picture import Pixels

_SMALLEST_FACE_PX = 80
_NEAR_SHORT_SIDE_PX = 320
_FAR_SHORT_SIDE_PX = 640
_MOST_ENLARGED = 2.0
_MOST_PIXELS = 8_000_000


@dataclass(frozen=True, slots=True)
class Look:
    """One pass of the detector: the picture as it was looked at, and the faces, the most certain first.

    ``turned_deg`` is how far the picture was turned counter-clockwise before (0, 90, 180, 270), ``scale`` the
    size of the copy that was searched against ``pixels``.
    """

    pixels: Pixels
    turned_deg: int
    scale: float
    faces: tuple[Face, ...]

    @property
    def confidence(self) -> float:
        return self.faces[0].confidence if self.faces else -1.0

    @property
    def is_sure(self) -> bool:
        return self.confidence >= SURE

    @property
    def shows_companions(self) -> bool:
        """Whether another face of half the size of the largest would have been found as well."""
        return max(face.width for face in self.faces) * self.scale >= 2 * _SMALLEST_FACE_PX


class HogDetector:
    """dlib's frontal face detector."""

    def __init__(self) -> None:
        self._hog = dlib.get_frontal_face_detector()

    def find(self, pixels: Pixels) -> Look:
        """The first look that is sure: near, farther, turned on its sides and head, enlarged to 8 megapixels.

        Without a sure one, the best of the upright looks, which may be empty.
        """
        near = self._look(pixels, _NEAR_SHORT_SIDE_PX)
        if near.is_sure and near.shows_companions:
            return near
        far = self._look(pixels, _FAR_SHORT_SIDE_PX)
        if far.is_sure or near.is_sure:
            return far if far.is_sure else near
        turned = _best(self._look(pixels, _NEAR_SHORT_SIDE_PX, degrees) for degrees in (90, 270, 180))
        if turned.is_sure:
            return turned
        return _best((near, far, self._look(pixels, _MOST_PIXELS)))

    def _look(self, pixels: Pixels, short_side_px: int, turned_deg: int = 0) -> Look:
        height, width = pixels.shape[:2]
        largest = min(_MOST_ENLARGED, sqrt(_MOST_PIXELS / (width * height)))
        scale = min(short_side_px / min(width, height), largest)
        upright = np.rot90(pixels, turned_deg // 90)
        boxes, confidences, _ = self._hog.run(_scaled(upright, scale), 0, 0.0)
        faces = [_face(box, confidence, scale) for box, confidence in zip(boxes, confidences, strict=True)]
        return Look(
            np.ascontiguousarray(upright),
            turned_deg,
            scale,
            tuple(sorted(faces, key=lambda face: -face.confidence)),
        )


def _best(looks: Iterable[Look]) -> Look:
    return max(looks, key=lambda look: look.confidence)


def _scaled(pixels: Pixels, scale: float) -> Pixels:
    height, width = pixels.shape[:2]
    filtered = Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
    size = round(width * scale), round(height * scale)
    return np.asarray(Image.fromarray(pixels).resize(size, filtered))


def _face(box: dlib.rectangle, confidence: float, scale: float) -> Face:
    return Face(
        round(box.left() / scale),
        round(box.top() / scale),
        round(box.width() / scale),
        round(box.height() / scale),
        float(confidence),
    )
