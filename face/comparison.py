"""Comparing templates: a similarity, higher is more alike, that belongs to one model.

Pure numpy and no threshold: whoever calls decides what is alike enough, for the model that is named.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Templates = Mapping[str, Sequence[float]]
"""One photograph's vectors, by the id of the model that made them."""

DLIB_RESNET_MODEL = "dlib-resnet-v1"
_LENGTHS = {DLIB_RESNET_MODEL: 128}


@dataclass(frozen=True, slots=True)
class Score:
    """How alike two templates of ``model_id`` are. For dlib: 1 minus the L2 distance, so that the distance
    0.45 of ``face_recognition`` is 0.55 here."""

    value: float
    model_id: str


class ModelMismatch(Exception):
    """Templates of different models, or of one that is not known here, cannot be compared."""


def compare(reference: Templates, probe: Templates, model_id: str) -> Score:
    """The similarity of two photographs by the model named.

    Raises :class:`ModelMismatch` when the model is unknown or one side has no template of it, ``ValueError``
    for a vector of the wrong length or with a number that is not finite.

    >>> same, other = [0.0] * 128, [0.45] + [0.0] * 127
    >>> round(compare({"dlib-resnet-v1": same}, {"dlib-resnet-v1": other}, "dlib-resnet-v1").value, 4)
    0.55
    >>> compare({"sface": same}, {"dlib-resnet-v1": other}, "dlib-resnet-v1")
    Traceback (most recent call last):
    face.comparison.ModelMismatch: no template of dlib-resnet-v1, only of: sface
    """
    distance = np.linalg.norm(_vector(reference, model_id) - _vector(probe, model_id))
    return Score(float(1 - distance), model_id)


def best_score(references: Iterable[Templates], probe: Templates, model_id: str) -> Score:
    """The highest score of several photographs of one person. Raises as :func:`compare`, and ``ValueError``
    without a reference."""
    return max(
        (compare(reference, probe, model_id) for reference in references), key=lambda score: score.value
    )


def _vector(templates: Templates, model_id: str) -> npt.NDArray[np.float32]:
    if model_id not in _LENGTHS:
        raise ModelMismatch(f"the model {model_id} is not known")
    if model_id not in templates:
        raise ModelMismatch(f"no template of {model_id}, only of: {', '.join(templates) or 'none'}")
    vector = np.asarray(templates[model_id], dtype=np.float32)
    if vector.shape != (_LENGTHS[model_id],) or not np.isfinite(vector).all():
        raise ValueError(f"a template of {model_id} is {_LENGTHS[model_id]} finite numbers")
    return vector
