"""What can be measured: each engine describes a photograph and scores all pairs of descriptions at once.

An engine is built only when it is asked for; ``face_recognition`` in particular loads five models and changes
Pillow for the whole process when imported.
"""

import importlib.util
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from face.analysis import Engine
from face.comparison import DLIB_RESNET_MODEL, Templates
from face.evaluation.fault import EvaluationFault
from face.image_errors import ImageError

Scores = npt.NDArray[np.float64]
Describe = Callable[[bytes], Templates | None]
"""A photograph's templates; None when no face, or more than one, is found or the file is refused."""

ScoreAll = Callable[[Sequence[Templates]], Scores]
"""n descriptions → n × n similarities, higher is more alike; the same numbers as :func:`face.compare`."""


@dataclass(frozen=True, slots=True)
class NamedEngine:
    """``build`` makes the warm engine; ``operating_points`` are thresholds on its score, by name."""

    build: Callable[[], Describe]
    score_all: ScoreAll
    operating_points: Mapping[str, float] = field(default_factory=dict)


def nearness(model_id: str) -> ScoreAll:
    """1 minus the L2 distance between the vectors of ``model_id``."""
    return lambda templates: 1 - _distances(_vectors(templates, model_id))


def cosine(model_id: str) -> ScoreAll:
    """The cosine of the angle between the vectors of ``model_id``."""

    def scores(templates: Sequence[Templates]) -> Scores:
        vectors = _vectors(templates, model_id)
        units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(units @ units.T)

    return scores


def _vectors(templates: Sequence[Templates], model_id: str) -> Scores:
    return np.array([template[model_id] for template in templates], dtype=np.float64)


def _distances(vectors: Scores) -> Scores:
    squares = (vectors**2).sum(axis=1)
    return np.asarray(np.sqrt(np.maximum(squares[:, None] + squares[None, :] - 2 * vectors @ vectors.T, 0)))


def describer(engine: Engine) -> Describe:
    """An engine of this library as a describer."""

    def describe(photo: bytes) -> Templates | None:
        try:
            return engine.analyse(photo).templates or None
        except ImageError:
            return None

    return describe


def _dlib() -> Describe:
    from face.engine import dlib_engine

    return describer(dlib_engine())


def _stock() -> Describe:
    """``face_recognition`` as its documentation uses it: HOG, five landmarks, no EXIF, one face a photograph."""
    if importlib.util.find_spec("pkg_resources") is None:  # without it, the import prints a hint and exits
        raise EvaluationFault("face_recognition needs pkg_resources: install setuptools below 81")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import face_recognition

    def describe(photo: bytes) -> Templates | None:
        try:
            pixels = face_recognition.load_image_file(BytesIO(photo))
        except (OSError, ValueError, Image.DecompressionBombError):
            return None
        places = face_recognition.face_locations(pixels)
        if len(places) != 1:
            return None
        return {DLIB_RESNET_MODEL: face_recognition.face_encodings(pixels, places)[0]}

    return describe


DEFAULT_ENGINE = "sface"
STOCK_TOLERANCE = 0.6
"""The distance up to which ``face_recognition.compare_faces`` calls two faces one person's."""

ENGINES: Mapping[str, NamedEngine] = {
    "dlib": NamedEngine(_dlib, nearness(DLIB_RESNET_MODEL)),
    "face_recognition": NamedEngine(
        _stock, nearness(DLIB_RESNET_MODEL), {f"stock_{STOCK_TOLERANCE}": 1 - STOCK_TOLERANCE}
    ),
}


def named_engine(name: str) -> NamedEngine:
    """The engine of that name. Raises :class:`EvaluationFault` for one that is not there."""
    if name not in ENGINES:
        raise EvaluationFault(f"there is no engine {name}, only: {', '.join(ENGINES)}")
    return ENGINES[name]
