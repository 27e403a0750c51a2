"""Finding faces: YuNet on scaled copies of the picture, from the cheapest look to the dearest.

How well a face is compared hangs on its landmarks more than on anything else: those of one look at the whole picture
cost one person in twelve of those whose face fills a third of it (docs/accuracy.md). So the face that counts is looked
at twice more from near, once mirrored, because what a look errs by to one side the mirrored one errs by to the other.
"""

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from face.align import cut_chip
from face.faces import SURE, Face, Landmarks
from face.picture import Pixels
from face.yunet import YuNet

_NEAR_LONG_SIDE_PX = 256
_FAR_LONG_SIDES_PX = (640, 1280)
_MOST_ENLARGED = 2.0
# A narrower face is found, but one of a company may be missed.
_LEAST_CLOSE_PX = 32
_UPRIGHT_DEG = 45
# the most that any of 243 photographs reached in a wrong position but upside down: 0.878
_CLEAR = 0.88
_WINDOW_PER_FACE = 1.15
_WINDOW_PX = 256
# right eye and left eye, right and left corner of the mouth change places in a mirror
_MIRRORED = [1, 0, 2, 4, 3]


@dataclass(frozen=True, slots=True)
class Look:
    """One pass of the detector: the picture as it was looked at, and the faces in it, the most certain first.

    ``turned_deg`` is how far the picture was turned counter-clockwise before (0, 90, 180, 270), ``scale`` the size
    of the copy that was searched against ``pixels``.
    """

    pixels: Pixels
    turned_deg: int
    scale: float
    faces: tuple[Face, ...]

    @property
    def confidence(self) -> float:
        """Of the most certain face that is upright."""
        upright = (face.confidence for face in self.faces if abs(face.roll_deg) <= _UPRIGHT_DEG)
        return next(upright, 0.0)

    @property
    def is_sure(self) -> bool:
        return self.confidence >= SURE

    @property
    def is_close(self) -> bool:
        return max((face.width for face in self.faces), default=0.0) * self.scale >= _LEAST_CLOSE_PX


class Detector:
    """The looks that find a face, in a picture of any size."""

    def __init__(self, yunet: YuNet) -> None:
        self._yunet = yunet

    def find(self, pixels: Pixels) -> Look:
        """The surest of a few near looks, or else of finer ones; it may show no face at all."""
        best = self._best_turn(pixels)
        if best.is_sure and best.is_close:
            return best
        for long_side_px in _FAR_LONG_SIDES_PX:
            finer = self._look(pixels, long_side_px)
            if finer.is_sure:
                return finer
            best = max(best, finer, key=_confidence)
        return best

    def _best_turn(self, pixels: Pixels) -> Look:
        """Upright against upside down, and against the sides unless that is clear: a face that fills the picture is
        taken for one in every position, but never more surely than in its own."""
        best = max((self._look(pixels, _NEAR_LONG_SIDE_PX, turned) for turned in (0, 180)), key=_confidence)
        if best.confidence >= _CLEAR:
            return best
        sides = [self._look(pixels, _NEAR_LONG_SIDE_PX, turned) for turned in (90, 270)]
        return max(best, *sides, key=_confidence)

    def refined(self, pixels: Pixels, face: Face) -> Face:
        """The same face with better landmarks: the mean of two near looks, where these see it."""
        looks = [self._landmarks_near(pixels, face, mirrored) for mirrored in (False, True)]
        seen = [landmarks for landmarks in looks if landmarks is not None]
        return replace(face, landmarks=np.mean(seen, axis=0)) if seen else face

    def _landmarks_near(self, pixels: Pixels, face: Face, mirrored: bool) -> Landmarks | None:
        side = _WINDOW_PER_FACE * max(face.width, face.height)
        corner = np.array([face.left + face.width / 2, face.top + face.height / 2]) - side / 2
        window = _window(pixels, corner, side)
        found = self._yunet.find(np.ascontiguousarray(window[:, ::-1]) if mirrored else window)
        if not found:
            return None
        landmarks = max(found, key=lambda face: face.width).landmarks
        if mirrored:
            landmarks = (np.array([_WINDOW_PX - 1, 0]) - landmarks * (1, -1))[_MIRRORED]
        # pixels are counted at their centres
        return np.asarray((landmarks + 0.5) * side / _WINDOW_PX - 0.5 + corner, dtype=np.float64)

    def _look(self, pixels: Pixels, long_side_px: int, turned_deg: int = 0) -> Look:
        scale = min(long_side_px / max(pixels.shape[:2]), _MOST_ENLARGED)
        upright = np.ascontiguousarray(np.rot90(pixels, turned_deg // 90))
        faces = self._yunet.find(_scaled(upright, scale))
        return Look(upright, turned_deg, scale, tuple(face.scaled(1 / scale) for face in faces))


def _confidence(look: Look) -> float:
    return look.confidence


def _scaled(pixels: Pixels, scale: float) -> Pixels:
    height, width = pixels.shape[:2]
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))


def _window(pixels: Pixels, corner: Landmarks, side: float) -> Pixels:
    """A square of the picture, scaled; black where the picture ends."""
    scale = _WINDOW_PX / side
    return cut_chip(
        pixels, np.array([[scale, 0, -scale * corner[0]], [0, scale, -scale * corner[1]]]), _WINDOW_PX
    )
