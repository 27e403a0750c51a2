"""Passive presentation attack detection: does one frame look like a live face, or like a picture of a picture?

MiniFASNet by minivision (Silent-Face-Anti-Spoofing, Apache-2.0): two small networks, one on the face and its
nearest surroundings, one on a wider cut. The weights are not part of this project; they come from a configured folder
(``face.models.MINIFASNET_V2_NETWORK`` and ``MINIFASNET_V1SE_NETWORK``).
"""

from math import isfinite

import numpy as np
import numpy.typing as npt
from PIL import Image

from face.network import Network
from face.picture import Pixels

Box = tuple[float, float, float, float]
"""Left, top, width and height of the detector's face box, in pixels; it may cross the picture's edge."""

_SIDE_PX = 80
_V2_SCALE = 2.7
_V1SE_SCALE = 4.0
# Of the three classes one is live; the other two are kinds of attacks.
_LIVE = 1


class MiniFasNet:
    """Both networks, as their authors use them: together."""

    def __init__(self, v2: Network, v1se: Network) -> None:
        self._networks = (v2, _V2_SCALE), (v1se, _V1SE_SCALE)

    def score(self, pixels: Pixels, box: Box) -> float:
        """How live the face in ``box`` looks, 0-1: the mean of the two networks. Not a probability of anything.

        Raises ``ValueError`` for a box without an area.
        """
        lives = [network.run(_input(pixels, box, scale))[0][0, _LIVE] for network, scale in self._networks]
        return float(np.mean(lives))


def _input(pixels: Pixels, box: Box, scale: float) -> npt.NDArray[np.float32]:
    """1 x 3 x 80 x 80, blue, green, red, 0-255: what the networks were trained on."""
    height, width = pixels.shape[:2]
    left, top, right, bottom = crop_window((width, height), box, scale)
    crop = Image.fromarray(np.ascontiguousarray(pixels[top:bottom, left:right]))
    # Not `resize`, which averages where it makes smaller: the networks learnt from plain bilinear samples.
    sampled = crop.transform(
        (_SIDE_PX, _SIDE_PX), Image.Transform.EXTENT, (0, 0, *crop.size), Image.Resampling.BILINEAR
    )
    return np.asarray(sampled, dtype=np.float32)[:, :, ::-1].transpose(2, 0, 1)[np.newaxis].copy()


def crop_window(size: tuple[int, int], box: Box, scale: float) -> tuple[int, int, int, int]:
    """Left, top, right, bottom (exclusive) of ``box`` enlarged by ``scale`` about its middle, in a picture of ``size``.

    What would cross an edge is shifted into the picture; what is larger than the picture is made smaller, in the
    box's own proportions. As ``CropImage._get_new_box`` of minivision's ``src/generate_patches.py`` does it.

    >>> crop_window((640, 480), (300, 200, 40, 60), 2.0)
    (280, 170, 361, 291)
    >>> crop_window((640, 480), (10, 400, 40, 60), 2.0)
    (0, 359, 81, 480)
    """
    left, top, width, height = box
    if not (all(map(isfinite, box)) and width > 0 and height > 0):
        raise ValueError(f"a face box needs an area: {box}")
    scale = min(scale, (size[0] - 1) / width, (size[1] - 1) / height)
    start_x, end_x = _shifted(left + width / 2, width * scale, size[0] - 1)
    start_y, end_y = _shifted(top + height / 2, height * scale, size[1] - 1)
    return start_x, start_y, end_x + 1, end_y + 1


def _shifted(middle: float, length: float, last: int) -> tuple[int, int]:
    """The first and the last pixel of a stretch, moved between 0 and ``last``."""
    start = middle - length / 2
    end = start + length
    if start < 0:
        start, end = 0.0, length
    if end > last:
        start, end = start - (end - last), float(last)
    return max(int(start), 0), int(end)
