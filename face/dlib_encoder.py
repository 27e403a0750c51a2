"""dlib's ResNet: the 128 numbers that ``face_recognition.face_encodings`` calls an encoding.

The same box in the same pixels gives the same numbers as ``face_recognition`` (``num_jitters=1``,
``model="small"``); here they are called a template.
"""

from dataclasses import dataclass

import dlib
import numpy as np
import numpy.typing as npt

from face.faces import Face
from face.manifest import DLIB_FIVE_LANDMARKS, DLIB_RESNET, verified_path
from face.picture import Pixels

CHIP_PX = 150
_CHIP_PADDING = 0.25


@dataclass(frozen=True, slots=True)
class AlignedFace:
    """A face turned upright and scaled: ``chip`` 150 × 150 × 3.

    ``landmarks`` is 5 × 2, x and y in the picture's pixels: the outer and inner corner of the eye on the
    picture's right, the outer and inner corner of the one on its left, the base of the nose.
    """

    landmarks: npt.NDArray[np.float64]
    chip: Pixels


class DlibEncoder:
    """Landmarks and templates from the two files of the manifest. Raises ``WeightsError`` when built."""

    def __init__(self) -> None:
        self._landmarks = dlib.shape_predictor(str(verified_path(DLIB_FIVE_LANDMARKS)))
        self._network = dlib.face_recognition_model_v1(str(verified_path(DLIB_RESNET)))

    def align(self, pixels: Pixels, face: Face) -> AlignedFace:
        """Find the face's five landmarks and cut out its chip (parts outside the picture are black)."""
        box = dlib.rectangle(face.left, face.top, face.left + face.width - 1, face.top + face.height - 1)
        shape = self._landmarks(pixels, box)
        points = np.array([(point.x, point.y) for point in shape.parts()], dtype=np.float64)
        return AlignedFace(points, dlib.get_face_chip(pixels, shape, CHIP_PX, _CHIP_PADDING))

    def template(self, chip: Pixels) -> npt.NDArray[np.float32]:
        """The 128 numbers of a chip; the L2 distance between two of one person is small."""
        return np.asarray(self._network.compute_face_descriptor(chip, 1), dtype=np.float32)
