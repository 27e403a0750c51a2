"""Chips: a face cut out upright, at the size and place a network was trained on."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from face.faces import Landmarks
from face.picture import Pixels

_LEAST_SCALE = 1e-3


def similarity(source: Landmarks, target: Landmarks) -> npt.NDArray[np.float64]:
    """The rotation, scale and shift, 2 x 3, that brings ``source`` nearest to ``target`` (least squares).

    Umeyama, IEEE TPAMI 13(4), 1991, for the plane; without reflection.
    """
    from_mean, to_mean = source.mean(axis=0), target.mean(axis=0)
    a, b = source - from_mean, target - to_mean
    along, across = (a * b).sum(), (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()
    cosine, sine = np.array([along, across]) / max((a * a).sum(), 1e-9)
    turn = np.array([[cosine, -sine], [sine, cosine]])
    return np.column_stack([turn, to_mean - turn @ from_mean])


def cut_chip(pixels: Pixels, transform: npt.NDArray[np.float64], size_px: int) -> Pixels:
    """``transform`` (2 x 3, picture to chip) applied: ``size_px`` square, black where the picture ends."""
    turn, shift = transform[:, :2], transform[:, 2]
    scale = float(np.sqrt(abs(np.linalg.det(turn))))
    if scale < _LEAST_SCALE:  # landmarks in one point: nothing can be cut out, and its quality will say so
        return np.zeros((size_px, size_px, 3), np.uint8)
    # Averaging first keeps fine patterns from turning into coarse ones when much is scaled away.
    factor = max(1, int(1 / scale))
    back = np.linalg.inv(turn)
    corners = (np.array([[0, 0], [0, size_px], [size_px, 0], [size_px, size_px]]) - shift) @ back.T
    first = np.floor(corners.min(axis=0) / factor - 2).astype(int) * factor
    last = np.ceil(corners.max(axis=0) / factor + 2).astype(int) * factor
    picture, corner = part(pixels, (*first, *last))
    # Both count pixels at their centres: ours from 0, a reduced picture's and Pillow's from half a pixel.
    start = (back @ (-shift - 0.5) + 0.5 - corner) / factor
    data = (*back[0] / factor, start[0], *back[1] / factor, start[1])
    size = size_px, size_px
    chip = picture.reduce(factor).transform(size, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)
    return np.asarray(chip)


def part(pixels: Pixels, box: tuple[int, int, int, int]) -> tuple[Image.Image, tuple[int, int]]:
    """What of ``box`` (left, top, right, bottom, exclusive) lies in the picture, one pixel at least, and its upper left
    corner there."""
    height, width = pixels.shape[:2]
    left, top = min(max(box[0], 0), width - 1), min(max(box[1], 0), height - 1)
    right, bottom = max(box[2], left + 1), max(box[3], top + 1)
    return Image.fromarray(pixels[top:bottom, left:right]), (left, top)
