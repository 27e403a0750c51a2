"""How well a face was photographed: measured facts, and a rule that names what is wrong.

The facts carry no judgement; the thresholds come with the call.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from face.faces import Face
from face.picture import Pixels

_LUMA = np.array([0.299, 0.587, 0.114])
_BLUR_PX = 9
# rows and columns of a chip from the brows to the chin
_FACE = np.s_[32:108, 22:90]


class QualityFault(StrEnum):
    """What can be wrong with a photograph of a face; the order is the order of the answer."""

    TOO_SMALL = "too_small"
    TOO_DARK = "too_dark"
    TOO_BRIGHT = "too_bright"
    BLURRED = "blurred"
    TURNED_AWAY = "turned_away"
    CUT_OFF = "cut_off"


@dataclass(frozen=True, slots=True)
class Quality:
    """Facts about one face.

    ``eye_distance_px`` between the eyes' centres in the picture that was analysed. ``luminance`` the mean of
    the face, 0-255. ``sharpness`` 0-1, the share of fine contrast that a further blur takes away (Crété et al.
    2007): small in a blurred face. ``turned`` the nose's offset from the middle of the eyes along their line,
    over their distance: 0 facing the camera, negative towards the picture's left. ``outside_share`` the share
    of the face's square beyond the picture's edge, 0-1.
    """

    eye_distance_px: float
    luminance: float
    sharpness: float
    turned: float
    outside_share: float


@dataclass(frozen=True, slots=True)
class QualityThresholds:
    """Where a comparison is bound to fail; between here and a good photograph the comparison itself decides."""

    least_eye_distance_px: float = 20.0
    least_luminance: float = 25.0
    most_luminance: float = 225.0
    least_sharpness: float = 0.15
    most_turned: float = 0.4
    most_outside_share: float = 0.25


def quality_faults(
    quality: Quality,
    thresholds: QualityThresholds = QualityThresholds(),
) -> tuple[QualityFault, ...]:
    """All that is wrong with the photograph; empty when nothing is.

    >>> quality_faults(Quality(80, luminance=20, sharpness=0.3, turned=-0.5, outside_share=0))
    (<QualityFault.TOO_DARK: 'too_dark'>, <QualityFault.TURNED_AWAY: 'turned_away'>)
    """
    verdicts = {
        QualityFault.TOO_SMALL: quality.eye_distance_px < thresholds.least_eye_distance_px,
        QualityFault.TOO_DARK: quality.luminance < thresholds.least_luminance,
        QualityFault.TOO_BRIGHT: quality.luminance > thresholds.most_luminance,
        QualityFault.BLURRED: quality.sharpness < thresholds.least_sharpness,
        QualityFault.TURNED_AWAY: abs(quality.turned) > thresholds.most_turned,
        QualityFault.CUT_OFF: quality.outside_share > thresholds.most_outside_share,
    }
    return tuple(fault for fault, found in verdicts.items() if found)


def measure(face: Face, chip: Pixels, picture_size: tuple[int, int]) -> Quality:
    """The facts of one face: ``chip`` as ``face.sface.align`` cuts it out, ``picture_size`` width and height."""
    right_eye, left_eye, nose = face.landmarks[:3]
    eyes = left_eye - right_eye
    squared = max(float(eyes @ eyes), 1e-9)
    luma = chip[_FACE] @ _LUMA
    return Quality(
        eye_distance_px=float(np.sqrt(squared)),
        luminance=float(luma.mean()),
        sharpness=_sharpness(luma),
        turned=float((nose - (right_eye + left_eye) / 2) @ eyes / squared),
        outside_share=_outside_share(face, picture_size),
    )


def _sharpness(luma: npt.NDArray[np.float64]) -> float:
    """The lesser of the two directions, so that a motion blur counts as well."""
    return min(_lost_by_blurring(luma), _lost_by_blurring(luma.T))


def _lost_by_blurring(luma: npt.NDArray[np.float64]) -> float:
    sums = np.cumsum(luma, axis=1)
    blurred = (sums[:, _BLUR_PX:] - sums[:, :-_BLUR_PX]) / _BLUR_PX
    edge = _BLUR_PX // 2 + 1
    contrast = np.abs(np.diff(luma, axis=1))[:, edge:-edge].sum()
    return float(1 - np.abs(np.diff(blurred, axis=1)).sum() / max(contrast, 1e-9))


def _outside_share(face: Face, picture_size: tuple[int, int]) -> float:
    inside_x = min(face.left + face.width, picture_size[0]) - max(face.left, 0)
    inside_y = min(face.top + face.height, picture_size[1]) - max(face.top, 0)
    return 1 - max(inside_x, 0) * max(inside_y, 0) / (face.width * face.height)
