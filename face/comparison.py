"""Comparing templates: a similarity, higher is more alike, that belongs to one model.

Pure numpy and no threshold: whoever calls decides what is alike enough, for the model that is named.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Templates = Mapping[str, Sequence[float]]
"""One photograph's vectors, by the id of the model that made them."""

SFACE_MODEL = "sface-2021dec"
DLIB_RESNET_MODEL = "dlib-resnet-v1"
FINGERPRINT = "fingerprint-1"
"""Not a model: see :mod:`face.fingerprint`. It stands among a photograph's templates, and nothing is compared by it
alone."""


@dataclass(frozen=True, slots=True)
class Score:
    """How alike two templates of ``model_id`` are. For SFace the cosine, for dlib 1 minus the L2 distance, so that
    the distance 0.45 of ``face_recognition`` is 0.55 here."""

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
    >>> compare({"sface-2021dec": same}, {"dlib-resnet-v1": other}, "dlib-resnet-v1")
    Traceback (most recent call last):
    face.comparison.ModelMismatch: no template of dlib-resnet-v1, only of: sface-2021dec
    """
    return best_score([reference], probe, model_id)


def best_score(references: Iterable[Templates], probe: Templates, model_id: str) -> Score:
    """The highest score of several photographs. Raises as :func:`compare`, and ``ValueError`` without a reference."""
    if model_id not in _SIMILARITIES:
        raise ModelMismatch(f"the model {model_id} is not known")
    stacked = np.stack([_vector(reference, model_id) for reference in references])
    return Score(float(_SIMILARITIES[model_id](stacked, _vector(probe, model_id)).max()), model_id)


def _cosine(references: Vectors, probe: Vectors) -> Vectors:
    norms = np.linalg.norm(references, axis=1) * np.linalg.norm(probe)
    return np.asarray((references @ probe) / np.maximum(norms, 1e-9))


def _nearness(references: Vectors, probe: Vectors) -> Vectors:
    return np.asarray(1 - np.linalg.norm(references - probe, axis=1))


# Of vectors in rows against one: one similarity a row.
_SIMILARITIES: Mapping[str, Callable[[Vectors, Vectors], Vectors]] = {
    SFACE_MODEL: _cosine,
    DLIB_RESNET_MODEL: _nearness,
}
_LENGTH = 128


def _vector(templates: Templates, model_id: str) -> Vectors:
    if model_id not in templates:
        raise ModelMismatch(f"no template of {model_id}, only of: {', '.join(templates) or 'none'}")
    vector = np.asarray(templates[model_id], dtype=np.float32)
    if vector.shape != (_LENGTH,) or not np.isfinite(vector).all():
        raise ValueError(f"a template of {model_id} is {_LENGTH} finite numbers")
    return vector
