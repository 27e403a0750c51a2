"""Finding faces: YuNet on scaled copies of the picture, from the cheapest look to the dearest.

How well a face is compared hangs on its landmarks more than on anything else: those of one look at the whole picture
cost one person in twelve of those whose face fills a third of it (docs/accuracy.md). So the face that counts is looked
at twice more from near, once mirrored, because what a look errs by to one side the mirrored one errs by to the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from face.align import part
from face.faces import SURE, Face, Landmarks
from face.picture import Pixels
from face.yunet import YuNet

_NEAR_LONG_SIDE_PX = 256
_FAR_LONG_SIDES_PX = (640, 1280)
_MOST_ENLARGED = 2.0
# A narrower face is found, but one of a company may be missed.
_LEAST_CLOSE_PX = 32
_UPRIGHT_DEG = 45
# The most that any of 243 photographs reached in a wrong position: .873 where the face is 82 pixels wide (.883 at 86,
# where one was pasted upside down); where it is 205 wide, .878 on a side and .922 upside down.
_CLEAR = 0.88
_MOST_RELIABLE_PX = 80
_WINDOW_PER_FACE = 1.15
_WINDOW_PX = 224
# right eye and left eye, right and left corner of the mouth change places in a mirror
_MIRRORED = [1, 0, 2, 4, 3]


@dataclass(frozen=True, slots=True)
class Look:
    """One pass of the detector: the faces in the picture after it was turned, the most certain first.

    ``turned_deg`` is how far it was turned counter-clockwise before (0, 90, 180, 270), ``scale`` the size of the copy
    that was searched against the picture.
    """

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
        return self._width_px >= _LEAST_CLOSE_PX

    @property
    def fills(self) -> bool:
        return self._width_px > _MOST_RELIABLE_PX

    @property
    def _width_px(self) -> float:
        """Of the largest face, as the detector saw it."""
        return max((face.width for face in self.faces), default=0.0) * self.scale

    def turn(self, pixels: Pixels) -> Pixels:
        """The picture as these faces lie in it."""
        return np.ascontiguousarray(np.rot90(pixels, self.turned_deg // 90))


class Detector:
    """The looks that find a face, in a picture of any size; ``close`` need only see large ones."""

    def __init__(self, yunet: YuNet, close: YuNet) -> None:
        self._yunet = yunet
        self._close = close

    def find(self, pixels: Pixels, *, is_largest: bool = True) -> Look:
        """The surest of a few near looks, or else of finer ones; it may show no face at all.

        Where there is a larger copy of the picture, the finer looks are left to that.
        """
        best = self._best_turn(*_near_copy(pixels))
        if not is_largest or (best.is_sure and best.is_close):
            return best
        for long_side_px in _FAR_LONG_SIDES_PX:
            finer = self._look(*_copy(pixels, long_side_px))
            if finer.is_sure:
                return finer
            best = max(best, finer, key=_confidence)
        return best

    def _best_turn(self, copy: Pixels, scale: float) -> Look:
        """Upright, unless another position is surer: a face that fills the picture is taken for one in every position,
        but never more surely than in its own."""
        upright = self._look(copy, scale)
        if upright.confidence >= _CLEAR and not upright.fills:
            return upright
        best = max(upright, self._look(copy, scale, 180), key=_confidence)
        if best.confidence >= _CLEAR:
            return best
        sides = [self._look(copy, scale, turned_deg) for turned_deg in (90, 270)]
        return max(best, *sides, key=_confidence)

    def _look(self, copy: Pixels, scale: float, turned_deg: int = 0) -> Look:
        faces = self._yunet.find(np.rot90(copy, turned_deg // 90))
        return Look(turned_deg, scale, tuple(face.scaled(1 / scale) for face in faces))

    def refined(self, pixels: Pixels, face: Face) -> Face:
        """The same face by two looks from near: the mean landmarks of those that see it, and the mean confidence of
        both, 0 where a look does not see it. That is how clearly it is a face, whatever its size in the picture."""
        window, corner, scale = _window(pixels, face)
        plain, mirrored = (_largest(self._close.find(side)) for side in (window, window[:, ::-1]))
        seen = [look for look in (plain, mirrored and _mirrored(mirrored)) if look]
        if not seen:
            return replace(face, confidence=0.0)
        # pixels are counted at their centres
        landmarks = (np.mean([look.landmarks for look in seen], axis=0) + 0.5) / scale - 0.5 + corner
        return replace(face, landmarks=landmarks, confidence=sum(look.confidence for look in seen) / 2)


def _confidence(look: Look) -> float:
    return look.confidence


def _near_copy(pixels: Pixels) -> tuple[Pixels, float]:
    """The picture with a whole number of its pixels in one, and its scale."""
    factor = -(-max(pixels.shape[:2]) // _NEAR_LONG_SIDE_PX)
    return np.asarray(Image.fromarray(pixels).reduce(factor)), 1 / factor


def _copy(pixels: Pixels, long_side_px: int) -> tuple[Pixels, float]:
    """The picture at another size, and its scale."""
    height, width = pixels.shape[:2]
    scale = min(long_side_px / max(height, width), _MOST_ENLARGED)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    copy = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR, reducing_gap=1.0)
    return np.asarray(copy), scale


def _window(pixels: Pixels, face: Face) -> tuple[Pixels, Landmarks, float]:
    """A square around the face, black where the picture ends; its upper left corner there, and its scale."""
    least_px = _WINDOW_PER_FACE * max(face.width, face.height)
    factor = max(1, int(least_px / _WINDOW_PX))
    side = factor * max(1, round(least_px / factor))
    left = round(face.left + (face.width - side) / 2)
    top = round(face.top + (face.height - side) / 2)
    shown, (x, y) = part(pixels, (left, top, left + side, top + side))
    cut = shown.crop((left - x, top - y, left + side - x, top + side - y))
    # Smoother sampling takes ten times as long and gives no better landmarks.
    window = cut.reduce(factor).resize((_WINDOW_PX, _WINDOW_PX), Image.Resampling.NEAREST)
    return np.asarray(window), np.array([left, top]), _WINDOW_PX / side


def _largest(faces: Sequence[Face]) -> Face | None:
    return max(faces, key=lambda face: face.width, default=None)


def _mirrored(face: Face) -> Face:
    """As it lies in the window that was not mirrored; only its box stays where it was."""
    return replace(face, landmarks=(np.array([_WINDOW_PX - 1, 0]) + face.landmarks * (-1, 1))[_MIRRORED])
