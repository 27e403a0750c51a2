"""How well a face was photographed: measured facts, and a rule that names what is wrong.

The facts carry no judgement; the thresholds come with the call. What each threshold catches and refuses is measured by
``python -m face.evaluate_quality``.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from face.faces import Face, Landmarks
from face.liveness import yaw_deg
from face.picture import Pixels

Floats = npt.NDArray[np.float64]

_LUMA = np.array([0.299, 0.587, 0.114])
_BLUR_PX = 7
_LEAST_GRADIENT = 1e-3
# Rows and columns of a chip. The face without hair and background, brows to lower lip; the eyes; the mouth.
_INNER = np.s_[40:100, 30:82]
_EYES = np.s_[46:56, 31:45], np.s_[46:56, 66:80]
_MOUTH = np.s_[86:100, 44:70]
_BURNT = 247  # as ISO/IEC 29794-5 counts pixels that are too bright
# As complex numbers: landmarks from the front, in distances between the eyes from the middle of the eyes; and points
# all over such a face, from temple to temple and from above the brows to the chin.
_FRONTAL = np.array([-0.5, 0.5, 0.54j, -0.43 + 1.03j, 0.43 + 1.03j])
_SPREAD = np.add.outer(np.linspace(-0.7, 1.7, 25) * 1j, np.linspace(-1, 1, 21)).ravel()
_PROFILE_DEG = 90.0


class QualityFault(StrEnum):
    """What can be wrong with a photograph of a face; the order is the order of the answer."""

    TOO_SMALL = "too_small"
    TOO_DARK = "too_dark"
    TOO_BRIGHT = "too_bright"
    BLURRED = "blurred"
    TURNED_AWAY = "turned_away"
    CUT_OFF = "cut_off"
    COVERED = "covered"


@dataclass(frozen=True, slots=True)
class Quality:
    """Facts about one face.

    ``eye_distance_px`` between the eyes' centres in the picture that was analysed. ``luminance`` the mean of the inner
    face, 0-255, ``contrast`` its standard deviation, and ``burnt_share`` the share of it that is white, 0-1.
    ``sharpness`` 0-1, the share of gradients that a further blur takes away (after Crété et al. 2007), in the direction
    in which it is least: small when blurred. ``yaw_deg`` positive towards the picture's right
    (:func:`face.liveness.yaw_deg`). ``outside_share`` the share of the face beyond the picture's edge, 0-1.
    ``confidence`` how surely the detector knew it for a face from near, 0-1. ``eye_contrast``, of the plainer eye, and
    ``mouth_contrast`` are standard deviations over that of the inner face.
    """

    eye_distance_px: float
    luminance: float
    contrast: float
    burnt_share: float
    sharpness: float
    yaw_deg: float
    outside_share: float
    confidence: float
    eye_contrast: float
    mouth_contrast: float


@dataclass(frozen=True, slots=True)
class QualityThresholds:
    """Where a comparison is likely to fail; between here and a good photograph the comparison itself decides."""

    least_eye_distance_px: float = 16.0
    least_luminance: float = 20.0
    least_contrast: float = 7.0
    most_burnt_share: float = 0.5
    least_sharpness: float = 0.25
    most_yaw_deg: float = 45.0
    most_outside_share: float = 0.25
    least_confidence: float = 0.86
    least_eye_contrast: float = 0.2
    least_mouth_contrast: float = 0.36


def quality_faults(
    quality: Quality,
    thresholds: QualityThresholds = QualityThresholds(),
) -> tuple[QualityFault, ...]:
    """All that is wrong with the photograph; empty when nothing is.

    A face is called covered only when nothing else is wrong: dark, blur, a turn and an edge hide eyes and mouth too.

    >>> quality_faults(Quality(80, 120, 35, 0.0, 0.4, 5, 0.0, confidence=0.94, eye_contrast=0.8, mouth_contrast=0.1))
    (<QualityFault.COVERED: 'covered'>,)
    >>> quality_faults(Quality(80, 20, 5, 0.0, 0.4, -50, 0.0, confidence=0.94, eye_contrast=0.8, mouth_contrast=0.1))
    (<QualityFault.TOO_DARK: 'too_dark'>, <QualityFault.TURNED_AWAY: 'turned_away'>)
    """
    verdicts = {
        QualityFault.TOO_SMALL: quality.eye_distance_px < thresholds.least_eye_distance_px,
        QualityFault.TOO_DARK: _is_dark(quality, thresholds),
        QualityFault.TOO_BRIGHT: quality.burnt_share > thresholds.most_burnt_share,
        QualityFault.BLURRED: quality.sharpness < thresholds.least_sharpness,
        QualityFault.TURNED_AWAY: abs(quality.yaw_deg) > thresholds.most_yaw_deg,
        QualityFault.CUT_OFF: quality.outside_share > thresholds.most_outside_share,
    }
    faults = tuple(fault for fault, found in verdicts.items() if found)
    return faults or ((QualityFault.COVERED,) if _is_covered(quality, thresholds) else ())


def _is_dark(quality: Quality, thresholds: QualityThresholds) -> bool:
    """Against a bright window, stray light makes a dark face grey, but not clearer; a burnt one lacks contrast too."""
    is_flat = quality.contrast < thresholds.least_contrast
    is_burnt = quality.burnt_share > thresholds.most_burnt_share
    return quality.luminance < thresholds.least_luminance or (is_flat and not is_burnt)


def _is_covered(quality: Quality, thresholds: QualityThresholds) -> bool:
    return (
        quality.confidence < thresholds.least_confidence
        or quality.eye_contrast < thresholds.least_eye_contrast
        or quality.mouth_contrast < thresholds.least_mouth_contrast
    )


def measure(face: Face, chip: Pixels, picture_size: tuple[int, int]) -> Quality:
    """The facts of one face, as :meth:`face.detector.Detector.refined` gives it.

    ``chip`` is as ``face.sface.align`` cuts it out, ``picture_size`` width and height.
    """
    luma = chip @ _LUMA
    inner = luma[_INNER]
    contrast = float(inner.std())
    divisor = max(contrast, 1e-9)
    right_eye, left_eye = face.landmarks[:2]
    return Quality(
        eye_distance_px=float(np.linalg.norm(left_eye - right_eye)),
        luminance=float(inner.mean()),
        contrast=contrast,
        burnt_share=float((inner >= _BURNT).mean()),
        sharpness=_sharpness(luma),
        yaw_deg=_yaw_deg(face.landmarks),
        outside_share=_outside_share(face.landmarks, picture_size),
        confidence=face.confidence,
        eye_contrast=min(float(luma[eye].std()) for eye in _EYES) / divisor,
        mouth_contrast=float(luma[_MOUTH].std()) / divisor,
    )


def _sharpness(luma: Floats) -> float:
    """Of the inner face, by the covariance of its gradients after a blur and before: their largest ratio, over all
    directions, belongs to the one along which the photograph is smeared already."""
    even = _LEAST_GRADIENT * np.eye(2)
    before, after = _covariance(luma[_INNER]) + even, _covariance(_blurred(luma)) + even
    kept = np.linalg.eigvals(np.linalg.solve(before, after)).real.max()
    return float(1 - np.sqrt(max(kept, 0)))


def _covariance(luma: Floats) -> Floats:
    down, right = np.gradient(luma)
    gradients = np.array([down.ravel(), right.ravel()])
    return np.asarray(gradients @ gradients.T / gradients.shape[1])


def _blurred(luma: Floats) -> Floats:
    """The inner face, each pixel the mean of a square around it."""
    rows, columns = _INNER
    edge = _BLUR_PX // 2
    around = luma[rows.start - edge - 1 : rows.stop + edge, columns.start - edge - 1 : columns.stop + edge]
    sums = around.cumsum(axis=0).cumsum(axis=1)
    below = sums[_BLUR_PX:] - sums[:-_BLUR_PX]
    return np.asarray((below[:, _BLUR_PX:] - below[:, :-_BLUR_PX]) / _BLUR_PX**2)


def _yaw_deg(landmarks: Landmarks) -> float:
    try:
        return yaw_deg(landmarks)
    except ValueError:  # all in one line: whatever it is, it does not face the camera
        return _PROFILE_DEG


def _outside_share(landmarks: Landmarks, picture_size: tuple[int, int]) -> float:
    """By where the landmarks say that the face is: the detector's own box gives way to the picture's edge."""
    found = landmarks @ (1, 1j)
    frontal = _FRONTAL - _FRONTAL.mean()
    # turn and scale by least squares, in one number
    turn = (found * frontal.conj()).sum() / (abs(frontal) ** 2).sum()
    places = found.mean() + turn * (_SPREAD - _FRONTAL.mean())
    width, height = picture_size
    inside = (abs(places.real - (width - 1) / 2) <= width / 2) & (
        abs(places.imag - (height - 1) / 2) <= height / 2
    )
    return float(1 - inside.mean())
