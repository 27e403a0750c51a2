"""Who takes part: ``face_recognition`` as its documentation uses it, and the paths through the engine."""

import importlib.util
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import ImageFile

from face import engine
from face.benchmark.fault import BenchmarkFault
from face.benchmark.timing import Contender, Stopwatch, replaced
from face.detector import Detector
from face.dlib_encoder import DlibEncoder
from face.image import Photograph
from face.manifest import MINIFASNET_V1SE, MINIFASNET_V2
from face.pad import MiniFasNet
from face.sface import SFaceEncoder

STOCK = "face_recognition"

PATHS: Mapping[str, Mapping[str, Any]] = {
    "dlib": {"encoders": ("dlib",)},
    "sface": {"encoders": ("sface",)},
    "both": {},
    "both_pad": {"passive_pad": True},
    "both_copies": {"recognises_copies": True},
}
"""What each path asks of ``face.engine.build_engine`` beside the defaults below; the last is what a check-in runs."""

_DEFAULTS = {"encoders": ("sface", "dlib"), "recognises_copies": False}

_STAGES = {
    "decode": (Photograph, "pixels"),
    "near looks": (Detector, "find"),
    "refining looks": (Detector, "refined"),
    "align": (engine, "align"),
    "quality": (engine, "measure"),
    "SFace net": (SFaceEncoder, "templates"),
    "dlib landmarks, chip": (DlibEncoder, "align"),
    "dlib net": (DlibEncoder, "templates"),
    "PAD": (MiniFasNet, "score"),
}


@dataclass(frozen=True, slots=True)
class Models:
    """Where converted networks are kept, and where weights are looked for before their packages."""

    cache_dir: Path
    models_dir: Path | None = None

    @property
    def pad_missing(self) -> str | None:
        """Why the paths with passive PAD cannot be run; None when they can."""
        if self.models_dir is None:
            return "no models directory is configured (CHECKIN_MODELS_DIR or --models-dir)"
        names = [weights.name for weights in (MINIFASNET_V2, MINIFASNET_V1SE)]
        missing = [name for name in names if not (self.models_dir / name).is_file()]
        return f"{self.models_dir} lacks {' and '.join(missing)}" if missing else None

    def options(self, path: str) -> dict[str, Any]:
        """What ``build_engine`` is called with for a path, in values that are JSON as well."""
        models_dir = str(self.models_dir) if self.models_dir else None
        return {"cache_dir": str(self.cache_dir), "models_dir": models_dir, **_DEFAULTS, **PATHS[path]}

    @property
    def worker_options(self) -> dict[str, Any]:
        """Everything a worker can hold: fingerprints, and passive PAD where its files are."""
        return self.options("both_copies") | {"passive_pad": self.pad_missing is None}


def paths(models: Models) -> dict[str, Contender]:
    """The paths that can be run. Raises ``WeightsError`` for a missing or altered file."""
    return {path: _path(models, path) for path in PATHS if path != "both_pad" or models.pad_missing is None}


def _path(models: Models, path: str) -> Contender:
    analyse = engine.build_engine(**models.options(path)).analyse
    return lambda photo: analyse(photo).faces


@contextmanager
def stages_of_engine(stopwatch: Stopwatch) -> Iterator[None]:
    """The engine's parts with a stopwatch around them."""
    with replaced(
        [
            (owner, name, stopwatch.timed(stage, getattr(owner, name)))
            for stage, (owner, name) in _STAGES.items()
        ]
    ):
        yield


def stock(stopwatch: Stopwatch) -> Contender:
    """``load_image_file``, ``face_locations`` and ``face_encodings``, with their defaults."""
    if importlib.util.find_spec("pkg_resources") is None:  # without it, the import prints a hint and exits
        raise BenchmarkFault("face_recognition needs pkg_resources: install setuptools below 81")
    # The import would change Pillow for the engine as well.
    unchanged = replaced([(ImageFile, "LOAD_TRUNCATED_IMAGES", ImageFile.LOAD_TRUNCATED_IMAGES)])
    with unchanged, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import face_recognition

    load = stopwatch.timed("load_image_file", face_recognition.load_image_file)
    locate = stopwatch.timed("face_locations", face_recognition.face_locations)
    encode = stopwatch.timed("face_encodings", face_recognition.face_encodings)

    def describe(photo: bytes) -> int:
        pixels = load(BytesIO(photo))
        return len(encode(pixels, locate(pixels)))

    return describe
