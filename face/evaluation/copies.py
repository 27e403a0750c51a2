"""Flat copies of portraits, held up and turned, made by code: no paper, no screen and no camera was involved.

They show what a network makes of the geometry and of a rough look of prints and screens, not how it does against
real ones.
"""

from collections.abc import Callable
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from face.evaluation.heads import rotation

Look = Callable[[Image.Image, np.random.Generator], Image.Image]

_FRAME_PX = (480, 640)
_CARD_PX = (360, 480)
# The card's width, and how many such widths it is away.
_CARD_SHARE = 0.75
_DISTANCE = 3.0


def held_up(
    picture: Image.Image, look: Look, angles_deg: tuple[float, float, float], rng: np.random.Generator
) -> bytes:
    """A frame of a room, 480 x 640, JPEG, with the picture on a card in front: yaw to the right, pitch up, roll
    clockwise."""
    card = look(picture.resize(_CARD_PX, Image.Resampling.LANCZOS), rng)
    places = _corners(angles_deg)
    mask = Image.new("L", _CARD_PX, 255)
    data = _perspective(places, _CARD_PX)
    room = _room(rng)
    room.paste(_transformed(card, data), mask=_transformed(mask, data))
    file = BytesIO()
    room.save(file, "JPEG", quality=88)
    return file.getvalue()


def on_paper(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Less contrast, a little softer, with the grain of paper and a white margin."""
    soft = np.asarray(picture.filter(ImageFilter.GaussianBlur(0.8)), dtype=np.float64)
    paper = 35 + soft * 0.78 + rng.normal(0, 4, (*soft.shape[:2], 1))
    return _framed(paper, (236, 234, 228))


def on_screen(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Brighter and bluer, with the stripes of a panel, a streak of reflected light and a black edge."""
    glow = np.asarray(picture, dtype=np.float64) ** 0.95 * 255**0.05
    columns = np.arange(glow.shape[1])
    stripes = 0.75 + 0.25 * np.cos(2 * np.pi * (columns[:, None] / 2.6 - np.arange(3) / 3))
    streak = 60 * np.exp(-(((columns - rng.uniform(0, columns[-1])) / 40) ** 2))
    return _framed(glow * stripes * (1.05, 1.08, 1.2) + streak[:, None], (8, 8, 10))


def _framed(values: npt.NDArray[np.float64], colour: tuple[int, int, int]) -> Image.Image:
    edge = values.shape[1] // 25
    values[:edge], values[-edge:], values[:, :edge], values[:, -edge:] = (colour,) * 4
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def _corners(angles_deg: tuple[float, float, float]) -> npt.NDArray[np.float64]:
    """4 x 2 pixels of the frame: where the card's corners are, clockwise from the upper left."""
    width, height = _CARD_PX
    card = np.array([(-1, -1, 0), (1, -1, 0), (1, 1, 0), (-1, 1, 0)]) * (0.5, 0.5 * height / width, 0)
    turned = card @ rotation(*angles_deg).T
    seen = turned[:, :2] * _DISTANCE / (_DISTANCE - turned[:, 2:])
    return np.asarray(seen * _CARD_SHARE * _FRAME_PX[0] + np.array(_FRAME_PX) / 2)


def _perspective(places: npt.NDArray[np.float64], size: tuple[int, int]) -> list[float]:
    """Pillow's eight numbers, which take a place in the frame to one in the card."""
    width, height = size
    rows, right = [], []
    for (x, y), corner in zip(places, ((0, 0), (width, 0), (width, height), (0, height)), strict=True):
        u, v = corner
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        right += [u, v]
    return [float(number) for number in np.linalg.solve(np.array(rows), np.array(right))]


def _transformed(picture: Image.Image, data: list[float]) -> Image.Image:
    return picture.transform(_FRAME_PX, Image.Transform.PERSPECTIVE, data, Image.Resampling.BICUBIC)


def _room(rng: np.random.Generator) -> Image.Image:
    width, height = _FRAME_PX
    light = np.linspace(170, 110, height)[:, None, None] + np.linspace(-20, 20, width)[None, :, None]
    wall = light * (1.0, 0.97, 0.92) + rng.normal(0, 3, (height, width, 1))
    return Image.fromarray(wall.clip(0, 255).astype(np.uint8))
