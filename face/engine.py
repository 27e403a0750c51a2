"""The engine: decode, find, measure, align, describe."""

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from PIL import Image

from face.analysis import Analysis, FaceBox
from face.detector import Detector, Look
from face.dlib_encoder import DlibEncoder
from face.faces import Face, comparable_faces
from face.image import Photograph, decode
from face.manifest import DLIB_FIVE_LANDMARKS, verified_path
from face.memory import keep_freed_memory
from face.models import (
    DLIB_NETWORK,
    MINIFASNET_V1SE_NETWORK,
    MINIFASNET_V2_NETWORK,
    SFACE_NETWORK,
    YUNET_LARGE_NETWORK,
    YUNET_NETWORK,
    Recipe,
    ready_network,
)
from face.network import Network
from face.pad import MiniFasNet
from face.picture import Pixels
from face.quality import measure
from face.sface import SFaceEncoder, align
from face.yunet import STRIDES, YuNet

EncoderName = Literal["sface", "dlib"]

# A selfie is found and described well at the first; what is small or doubtful in it is decoded again at the second.
_NEAR_SHORT_SIDE_PX = 480
_FAR_SHORT_SIDE_PX = 1080
_WELL_SHOWN_PX = 120


class Encoder(Protocol):
    """Describes a face by vectors, each under the id of what it is compared by."""

    model_id: str

    def describe(self, pixels: Pixels, face: Face, chip: Pixels) -> dict[str, tuple[float, ...]]:
        """``chip`` is the face as ``face.sface.align`` cuts it out of ``pixels``."""


class PhotoEngine:
    """The port :class:`face.analysis.Engine`. The first encoder's model is the one that decides."""

    def __init__(
        self, detector: Detector, encoders: Sequence[Encoder], passive_pad: MiniFasNet | None = None
    ) -> None:
        self._detector = detector
        self._encoders = encoders
        self._passive_pad = passive_pad

    @property
    def model_id(self) -> str:
        return self._encoders[0].model_id

    def analyse(self, photo: bytes) -> Analysis:
        """Analyse a JPEG or PNG. Raises ``ImageError`` when it cannot be read."""
        return self._describe(*self._look(photo))

    def warm_up(self) -> None:
        """Run everything once, on a face of made-up landmarks; also what Pillow loads when it is first needed."""
        for kind in ("JPEG", "PNG"):
            file = BytesIO()
            Image.new("RGB", (_NEAR_SHORT_SIDE_PX, _NEAR_SHORT_SIDE_PX)).save(file, kind)
            decode(file.getvalue())
        grey = np.full((_NEAR_SHORT_SIDE_PX, _NEAR_SHORT_SIDE_PX, 3), 128, np.uint8)
        places = np.array([[200, 200], [280, 200], [240, 240], [210, 290], [270, 290]], np.float64)
        self._detector.find(grey)
        self._describe(grey, Look(0, 1.0, (Face(160, 140, 160, 200, 1.0, places),)))

    def _look(self, photo: bytes) -> tuple[Pixels, Look]:
        photograph = Photograph(photo, _FAR_SHORT_SIDE_PX)
        near, is_scaled = photograph.pixels(_NEAR_SHORT_SIDE_PX), photograph.is_scaled(_NEAR_SHORT_SIDE_PX)
        look = self._detector.find(near, is_largest=not is_scaled)
        if not is_scaled or (look.is_sure and comparable_faces(look.faces)[0].width >= _WELL_SHOWN_PX):
            return near, look
        far = photograph.pixels(_FAR_SHORT_SIDE_PX)
        return far, self._detector.find(far)

    def _describe(self, pixels: Pixels, look: Look) -> Analysis:
        if look.turned_deg:
            pixels = look.turn(pixels)
        faces = comparable_faces(look.faces)
        height, width = pixels.shape[:2]
        boxes = tuple(FaceBox(*face.box) for face in faces)
        if len(faces) != 1:
            return Analysis(width, height, look.turned_deg, boxes, None, {})
        face = self._detector.refined(pixels, faces[0])
        chip = align(pixels, face)
        quality = measure(face, chip, (width, height))
        templates: dict[str, tuple[float, ...]] = {}
        for encoder in self._encoders:
            templates |= encoder.describe(pixels, face, chip)
        live = self._passive_pad.score(pixels, face.box) if self._passive_pad else None
        points = tuple((float(x), float(y)) for x, y in face.landmarks)
        return Analysis(width, height, look.turned_deg, boxes, quality, templates, live, points)


def build_engine(
    cache_dir: str,
    models_dir: str | None = None,
    encoders: Sequence[EncoderName] = ("sface", "dlib"),
    passive_pad: bool = False,
    recognises_copies: bool = True,
) -> PhotoEngine:
    """A warm engine: every network has run once.

    Networks are made in ``cache_dir`` when they are not there yet; weights are looked for in ``models_dir`` first, and
    those for ``passive_pad`` only there. ``recognises_copies`` adds dlib's fingerprint of a photograph.
    Freed memory stays with the process (:mod:`face.memory`), which should have no other work.
    Raises ``WeightsError`` for a missing or altered file.
    """
    keep_freed_memory()
    parts = _Parts(Path(cache_dir), Path(models_dir) if models_dir else None)
    build: Mapping[EncoderName, Callable[[], Encoder]] = {
        "sface": parts.sface,
        "dlib": lambda: parts.dlib(recognises_copies),
    }
    engine = PhotoEngine(
        parts.detector(),
        [build[name]() for name in encoders],
        parts.passive_pad() if passive_pad else None,
    )
    engine.warm_up()
    return engine


class _Parts:
    """Networks from the cache and files from the manifest."""

    def __init__(self, cache_dir: Path, models_dir: Path | None) -> None:
        self._cache_dir = cache_dir
        self._models_dir = models_dir

    def network(self, recipe: Recipe) -> Network:
        return Network(ready_network(recipe, self._cache_dir, self._models_dir))

    def detector(self) -> Detector:
        close = YuNet(self.network(YUNET_LARGE_NETWORK), STRIDES[-1:])
        return Detector(YuNet(self.network(YUNET_NETWORK)), close)

    def sface(self) -> SFaceEncoder:
        return SFaceEncoder(self.network(SFACE_NETWORK))

    def dlib(self, recognises_copies: bool) -> DlibEncoder:
        landmarks = verified_path(DLIB_FIVE_LANDMARKS, self._models_dir)
        return DlibEncoder(self.network(DLIB_NETWORK), landmarks, recognises_copies)

    def passive_pad(self) -> MiniFasNet:
        return MiniFasNet(self.network(MINIFASNET_V2_NETWORK), self.network(MINIFASNET_V1SE_NETWORK))
