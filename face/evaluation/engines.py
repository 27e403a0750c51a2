"""What can be measured: each engine describes a photograph and scores all pairs of descriptions at once.

An engine is built only when it is asked for; ``face_recognition`` in particular loads five models and changes
Pillow for the whole process when imported.
"""

import importlib.util
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from face.analysis import Engine
from face.comparison import DLIB_RESNET_MODEL, SFACE_MODEL, Templates
from face.evaluation.fault import EvaluationFault
from face.image_errors import ImageError
from face.operating_points import operating_points

EncoderName = Literal["sface", "dlib"]
Scores = npt.NDArray[np.float64]
Describe = Callable[[bytes], Templates | None]
"""A photograph's templates; None when no face, or more than one, is found or the file is refused."""

ScoreAll = Callable[[Sequence[Templates]], Scores]
"""n descriptions → n × n similarities, higher is more alike; the same numbers as :func:`face.compare`."""


@dataclass(frozen=True, slots=True)
class ModelPlaces:
    """Where converted networks are kept, and where weights are looked for before their packages."""

    cache_dir: Path
    models_dir: Path | None = None


@dataclass(frozen=True, slots=True)
class NamedEngine:
    """``build`` makes the warm engine; ``operating_points`` are thresholds on its score, by name."""

    build: Callable[[ModelPlaces], Describe]
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


def fused(templates: Sequence[Templates]) -> Scores:
    """The cosine of SFace minus a quarter of dlib's distance."""
    return cosine(SFACE_MODEL)(templates) - 0.25 * _distances(_vectors(templates, DLIB_RESNET_MODEL))


def _ours(*encoders: EncoderName) -> Callable[[ModelPlaces], Describe]:
    def build(places: ModelPlaces) -> Describe:
        from face.engine import build_engine

        models = str(places.models_dir) if places.models_dir else None
        return describer(build_engine(str(places.cache_dir), models, encoders, recognises_copies=False))

    return build


def _stock(places: ModelPlaces) -> Describe:  # noqa: ARG001 - its models come with it
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


def _thresholds(model_id: str) -> dict[str, float]:
    return {name: operating_point.threshold for name, operating_point in operating_points(model_id).items()}


DEFAULT_ENGINE = "sface"
STOCK_TOLERANCE = 0.6
"""The distance up to which ``face_recognition.compare_faces`` calls two faces one person's."""

ENGINES: Mapping[str, NamedEngine] = {
    "sface": NamedEngine(_ours("sface"), cosine(SFACE_MODEL), _thresholds(SFACE_MODEL)),
    "dlib": NamedEngine(_ours("dlib"), nearness(DLIB_RESNET_MODEL), _thresholds(DLIB_RESNET_MODEL)),
    "fused": NamedEngine(_ours("sface", "dlib"), fused),
    "face_recognition": NamedEngine(
        _stock, nearness(DLIB_RESNET_MODEL), {f"stock_{STOCK_TOLERANCE}": 1 - STOCK_TOLERANCE}
    ),
}


def named_engine(name: str) -> NamedEngine:
    """The engine of that name. Raises :class:`EvaluationFault` for one that is not there."""
    if name not in ENGINES:
        raise EvaluationFault(f"there is no engine {name}, only: {', '.join(ENGINES)}")
    return ENGINES[name]
