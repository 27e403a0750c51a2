"""SFace, the encoder that decides: 128 numbers, compared by their cosine.

Zhong et al.: SFace: Sigmoid-Constrained Hypersphere Loss for Robust Face Recognition, IEEE TIP 2021; weights of the
OpenCV Zoo, aligned as OpenCV's ``FaceRecognizerSF`` does.
"""

import numpy as np
import numpy.typing as npt

from face.align import cut_chip, similarity
from face.comparison import SFACE_MODEL
from face.faces import Face
from face.network import Network
from face.picture import Pixels

CHIP_PX = 112
_PLACES = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ]
)


def align(pixels: Pixels, face: Face) -> Pixels:
    """The face's chip, 112 x 112 x 3; parts outside the picture are black."""
    return cut_chip(pixels, similarity(face.landmarks, _PLACES), CHIP_PX)


class SFaceEncoder:
    """The encoder on its network (``face.models.SFACE_NETWORK``)."""

    model_id = SFACE_MODEL

    def __init__(self, network: Network) -> None:
        self._network = network

    def describe(self, pixels: Pixels, face: Face, chip: Pixels) -> dict[str, tuple[float, ...]]:
        """The chip's template; it needs nothing else of the picture."""
        del pixels, face
        return {SFACE_MODEL: tuple(map(float, self.templates(chip[np.newaxis])[0]))}

    def templates(self, chips: Pixels) -> npt.NDArray[np.float32]:
        """N x 112 x 112 x 3 to N x 128."""
        (vectors,) = self._network.run(chips)
        return vectors
