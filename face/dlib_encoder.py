"""dlib's ResNet: the 128 numbers that ``face_recognition.face_encodings`` calls an encoding.

The same box in the same pixels gives the same numbers as ``face_recognition`` (``num_jitters=1``,
``model="small"``) to 1e-4 in L2; here they are called a template.
"""

from pathlib import Path

import dlib
import numpy as np
import numpy.typing as npt

from face.comparison import DLIB_RESNET_MODEL, FINGERPRINT
from face.faces import Face, Landmarks
from face.fingerprint import fingerprint
from face.network import Network
from face.picture import Pixels

CHIP_PX = 150
_CHIP_PADDING = 0.25
# dlib's own detector draws a square; this one lies nearest to it in its encodings (docs/accuracy.md).
_SIDE_PER_EYE_TO_MOUTH = 2.2
_DOWN_PER_SIDE = 0.04


class DlibEncoder:
    """The encoder on its network (``face.models.DLIB_NETWORK``) and the file of dlib's five landmarks."""

    model_id = DLIB_RESNET_MODEL

    def __init__(self, network: Network, five_landmarks: Path, recognises_copies: bool = True) -> None:
        self._network = network
        self._landmarks = dlib.shape_predictor(str(five_landmarks))
        self._recognises_copies = recognises_copies

    def describe(self, pixels: Pixels, face: Face, chip: Pixels) -> dict[str, tuple[float, ...]]:
        """dlib's template, and the photograph's fingerprint when copies are to be recognised."""
        own_chip = self.align(pixels, _square(face.landmarks))
        if not self._recognises_copies:
            return {DLIB_RESNET_MODEL: tuple(map(float, self.templates(own_chip[np.newaxis])[0]))}
        template, mirrored = self.templates(np.stack([own_chip, own_chip[:, ::-1]]))
        return {
            DLIB_RESNET_MODEL: tuple(map(float, template)),
            FINGERPRINT: fingerprint(chip, mirrored),
        }

    def align(self, pixels: Pixels, box: tuple[int, int, int, int]) -> Pixels:
        """The chip, 150 x 150 x 3, of a box (left, top, right, bottom, inclusive) by dlib's own landmarks; parts
        outside the picture are black."""
        shape = self._landmarks(pixels, dlib.rectangle(*box))
        chip: Pixels = dlib.get_face_chip(pixels, shape, CHIP_PX, _CHIP_PADDING)
        return chip

    def templates(self, chips: Pixels) -> npt.NDArray[np.float32]:
        """N x 150 x 150 x 3 to N x 128; the L2 distance between two of one person is small."""
        (vectors,) = self._network.run(chips)
        return vectors


def _square(landmarks: Landmarks) -> tuple[int, int, int, int]:
    eyes, mouth = landmarks[:2].mean(axis=0), landmarks[3:].mean(axis=0)
    side = _SIDE_PER_EYE_TO_MOUTH * float(np.linalg.norm(mouth - eyes))
    left, top = (eyes + mouth) / 2 - side / 2 + (0, _DOWN_PER_SIDE * side)
    return round(left), round(top), round(left + side), round(top + side)
