"""Comparing templates: a similarity, higher is more alike, that belongs to one model.

Pure numpy and no threshold: whoever calls decides what is alike enough, for the model that is named.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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


def alike_pairs(
    persons: Sequence[Sequence[Templates]], model_id: str, threshold: float
) -> list[tuple[int, int]]:
    """Everybody against everybody: the pairs of persons, by index, of whom any two photographs score at the threshold
    or above; the nearest first.

    Raises as :func:`best_score`, and :class:`ModelMismatch` for a model other than SFace: dlib's takes too many
    strangers for each other.

    >>> right, up, nearly_up = ({"sface-2021dec": [x, y] + [0.0] * 126} for x, y in [(1, 0), (0, 1), (0.1, 1)])
    >>> alike_pairs([[right], [up], [right, nearly_up]], "sface-2021dec", 0.9)
    [(0, 2), (1, 2)]
    """
    if model_id != SFACE_MODEL:
        raise ModelMismatch(f"nobody is told apart in a crowd by {model_id}")
    photos = [(index, _vector(photo, model_id)) for index, of_one in enumerate(persons) for photo in of_one]
    owners = [index for index, _ in photos]
    best: dict[tuple[int, int], float] = {}
    for row, column, score in _matches([vector for _, vector in photos], threshold):
        pair = owners[row], owners[column]
        if pair[0] != pair[1]:
            best[pair] = max(score, best.get(pair, score))
    return sorted(best, key=lambda pair: -best[pair])


def _matches(vectors: Sequence[Vectors], threshold: float) -> Iterator[tuple[int, int, float]]:
    """Each two of the vectors whose cosine is at the threshold or above: lower index, higher index, cosine.

    In blocks, each against what follows: half of the products, and never all of them in memory.
    """
    units = np.reshape(vectors, (-1, _LENGTH))
    units = units / np.maximum(np.linalg.norm(units, axis=1, keepdims=True), 1e-9)
    for start in range(0, len(units), _BLOCK):
        scores = units[start : start + _BLOCK] @ units[start:].T
        rows, columns = np.nonzero(np.triu(scores >= threshold, k=1))
        yield from zip(
            (rows + start).tolist(), (columns + start).tolist(), scores[rows, columns].tolist(), strict=True
        )


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
_BLOCK = 256


def _vector(templates: Templates, model_id: str) -> Vectors:
    if model_id not in templates:
        raise ModelMismatch(f"no template of {model_id}, only of: {', '.join(templates) or 'none'}")
    vector = np.asarray(templates[model_id], dtype=np.float32)
    if vector.shape != (_LENGTH,) or not np.isfinite(vector).all():
        raise ValueError(f"a template of {model_id} is {_LENGTH} finite numbers")
    return vector
