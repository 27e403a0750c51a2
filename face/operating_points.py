"""Where a score is enough: thresholds by name, each with what it was measured on.

A name says set, group and rate: ``lfw_ea_1e3`` lets one of a thousand pairs of different people pass among the
East-Asian persons of the evaluation set. docs/accuracy.md says what these figures are not; none of them is a rate of
the field.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from face.comparison import DLIB_RESNET_MODEL, SFACE_MODEL


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A threshold on the score of ``model_id`` (at it or above is a match). ``fmr`` is the false match rate that it
    stands for, on the persons of ``group`` in ``set``."""

    name: str
    model_id: str
    threshold: float
    group: str
    set: str
    fmr: float


_POINTS = (
    OperatingPoint("lfw_ea_1e2", SFACE_MODEL, 0.350, "east_asian", "faces_eval", 1e-2),
    OperatingPoint("lfw_ea_1e3", SFACE_MODEL, 0.410, "east_asian", "faces_eval", 1e-3),
    OperatingPoint("lfw_other_1e3", SFACE_MODEL, 0.335, "other", "faces_eval", 1e-3),
    OperatingPoint("lfw_ea_1e2", DLIB_RESNET_MODEL, 0.573, "east_asian", "faces_eval", 1e-2),
    OperatingPoint("lfw_ea_1e3", DLIB_RESNET_MODEL, 0.611, "east_asian", "faces_eval", 1e-3),
    OperatingPoint("lfw_other_1e3", DLIB_RESNET_MODEL, 0.462, "other", "faces_eval", 1e-3),
)


def operating_points(model_id: str) -> Mapping[str, OperatingPoint]:
    """The named thresholds of one model; empty for a model that has none.

    >>> sorted(operating_points("sface-2021dec"))
    ['lfw_ea_1e2', 'lfw_ea_1e3', 'lfw_other_1e3']
    """
    return {point.name: point for point in _POINTS if point.model_id == model_id}
