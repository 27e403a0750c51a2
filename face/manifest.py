"""The weight files this library may load: where they come from, what they must be, and their licences.

Only files named here are opened. dlib's 68-point landmark model lies beside them and is not among them: its
training set (iBUG 300-W) excludes commercial use.
"""

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class WeightFile:
    """A file of weights inside an installed package; ``sha256`` in hexadecimal."""

    name: str
    sha256: str
    package: str
    folder: str
    source: str
    licence: str


DLIB_RESNET = WeightFile(
    name="dlib_face_recognition_resnet_model_v1.dat",
    sha256="55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
    package="face_recognition_models",
    folder="models",
    source="https://github.com/davisking/dlib-models",
    licence="CC0-1.0",
)
DLIB_FIVE_LANDMARKS = WeightFile(
    name="shape_predictor_5_face_landmarks.dat",
    sha256="c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
    package="face_recognition_models",
    folder="models",
    source="https://github.com/davisking/dlib-models",
    licence="CC0-1.0",
)


class WeightsError(Exception):
    """A file of weights is missing or is not the one that was measured; nothing may start without it."""


def verified_path(weights: WeightFile) -> Path:
    """Where the file lies, after its digest was compared. Raises :class:`WeightsError`."""
    path = _package_folder(weights) / weights.folder / weights.name
    if not path.is_file():
        raise WeightsError(f"{weights.name} is missing: expected SHA-256 {weights.sha256}, found no file")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != weights.sha256:
        raise WeightsError(f"{weights.name} was altered: expected SHA-256 {weights.sha256}, found {found}")
    return path


def _package_folder(weights: WeightFile) -> Path:
    # Finding does not import: face_recognition_models needs pkg_resources, which setuptools dropped.
    spec = importlib.util.find_spec(weights.package)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(
            f"{weights.name} is missing: expected SHA-256 {weights.sha256}, "
            f"but the package {weights.package} is not installed"
        )
    return Path(spec.submodule_search_locations[0])
