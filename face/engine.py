"""The engine on dlib: decode, find, align, measure, describe."""

import numpy as np

from face.analysis import Analysis, FaceBox
from face.comparison import DLIB_RESNET_MODEL
from face.detector import HogDetector
from face.dlib_encoder import DlibEncoder
from face.faces import Face, comparable_faces
from face.image import decode
from face.picture import Pixels
from face.quality import Quality, measure


class DlibEngine:
    """The port :class:`face.analysis.Engine`, filled with one detector and one encoder."""

    def __init__(self, detector: HogDetector, encoder: DlibEncoder) -> None:
        self._detector = detector
        self._encoder = encoder

    @property
    def model_id(self) -> str:
        return DLIB_RESNET_MODEL

    def analyse(self, photo: bytes) -> Analysis:
        """Analyse a JPEG or PNG. Raises ``ImageError`` when it cannot be read."""
        return self.analyse_pixels(decode(photo))

    def analyse_pixels(self, pixels: Pixels) -> Analysis:
        look = self._detector.find(pixels)
        faces = comparable_faces(look.faces)
        quality, templates = self._describe(look.pixels, faces[0]) if len(faces) == 1 else (None, {})
        height, width = look.pixels.shape[:2]
        boxes = tuple(FaceBox(face.left, face.top, face.width, face.height) for face in faces)
        return Analysis(width, height, look.turned_deg, boxes, quality, templates)

    def _describe(self, pixels: Pixels, face: Face) -> tuple[Quality, dict[str, tuple[float, ...]]]:
        aligned = self._encoder.align(pixels, face)
        template = self._encoder.template(aligned.chip)
        height, width = pixels.shape[:2]
        quality = measure(aligned.landmarks, aligned.chip, face, (width, height))
        return quality, {DLIB_RESNET_MODEL: tuple(map(float, template))}


def dlib_engine() -> DlibEngine:
    """A warm engine: both networks have run once. Raises ``WeightsError`` for a missing or altered file."""
    detector, encoder = HogDetector(), DlibEncoder()
    grey = np.full((480, 480, 3), 128, np.uint8)
    detector.find(grey)
    encoder.template(encoder.align(grey, Face(160, 160, 160, 160, 1.0)).chip)
    return DlibEngine(detector, encoder)
