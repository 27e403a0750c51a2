"""Good photographs made worse by code, one fault at a time and in several degrees.

They show where a measure begins to tell and where a comparison begins to fail. A real mask hangs otherwise, a real hand
has a shadow, and a phone makes of the dark what its maker likes: no rate of the field follows from these.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from face.align import similarity
from face.faces import Landmarks
from face.picture import Pixels

Floats = npt.NDArray[np.float64]
Points = Sequence[tuple[float, float]]

FRAME_PX = (480, 640)
"""Width and height of a frame as the front camera of a phone gives it."""

EYES_PX = 90.0
"""Between the eyes in such a frame."""

_EYES_AT = (240.0, 270.0)
# Landmarks from the front, in distances between the eyes from the middle of the eyes; so are all shapes below.
_FACE = np.array([(-0.5, 0), (0.5, 0), (0, 0.54), (-0.43, 1.03), (0.43, 1.03)])


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """An upright picture of one face."""

    pixels: Pixels
    landmarks: Landmarks

    @property
    def eyes_px(self) -> float:
        right_eye, left_eye = self.landmarks[:2]
        return float(np.linalg.norm(left_eye - right_eye))

    def places(self, points: Points | Floats) -> list[tuple[float, float]]:
        """Points of the face, in distances between the eyes, as places in the picture."""
        move = similarity(_FACE, self.landmarks)
        moved = np.asarray(points, dtype=np.float64) @ move[:, :2].T + move[:, 2]
        return [(float(x), float(y)) for x, y in moved]


_PERSON = [(-1.3, -1.6), (1.3, -1.6), (1.3, 1.6), (3, 2.6), (3, 6), (-3, 6), (-3, 2.6), (-1.3, 1.6)]
_HEAD = [(1.2 * np.cos(a), 0.4 + 1.7 * np.sin(a)) for a in np.linspace(0, 2 * np.pi, 40)]
_FLARE = 0.005

PLACES = ("beside", "behind the shoulder")
BYSTANDER_SHARES = (0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.8)

Make = Callable[[Scene, float, np.random.Generator], Pixels]


@dataclass(frozen=True, slots=True)
class Species:
    """One way to spoil a photograph. ``fault`` is the one that its copies should be refused for, ``unit`` what its
    ``degrees`` count, from the mildest."""

    name: str
    fault: str
    unit: str
    degrees: tuple[float, ...]
    make: Make


def framed(scene: Scene, eyes_px: float = EYES_PX) -> Scene:
    """The face in a frame of a phone's size, not cut off: where the picture ends, its edge goes on."""
    scale = eyes_px / scene.eyes_px
    height, width = (round(side * scale) for side in scene.pixels.shape[:2])
    resized = np.asarray(Image.fromarray(scene.pixels).resize((width, height), Image.Resampling.LANCZOS))
    left, top = (scene.landmarks[:2].mean(axis=0) * scale - _EYES_AT).round().astype(int)
    rows = np.clip(np.arange(FRAME_PX[1]) + top, 0, height - 1)
    columns = np.clip(np.arange(FRAME_PX[0]) + left, 0, width - 1)
    return Scene(resized[rows][:, columns], scene.landmarks * scale - (left, top))


def exposed(scene: Scene, stops: float, rng: np.random.Generator) -> Pixels:
    """With so many stops more or less of light, and the noise of a small sensor."""
    light = (scene.pixels / 255.0) ** 2.2 * 2.0**stops
    return _developed(light, rng)


def backlit(scene: Scene, stops: float, rng: np.random.Generator) -> Pixels:
    """The person so many stops darker (less than 0), in front of a bright window, some of whose light strays into the
    lens."""
    light = (scene.pixels / 255.0) ** 2.2
    person = _soft_mask(scene, [_PERSON], 0.15)
    window = 0.75 + 0.25 * light
    return _developed(light * 2.0**stops * person + window * (1 - person) + _FLARE, rng)


def _developed(light: Floats, rng: np.random.Generator) -> Pixels:
    """0-1, linear, to pixels: shot noise, noise of reading, and the curve of sRGB."""
    noisy = light + rng.normal(0, 1, light.shape[:2])[..., None] * np.sqrt(light * 4e-4 + 1e-6)
    return _as_pixels(255 * np.clip(noisy, 0, 1) ** (1 / 2.2))


def out_of_focus(scene: Scene, share: float, rng: np.random.Generator) -> Pixels:  # noqa: ARG001 - as all
    """Blurred by a Gaussian of ``share`` of the distance between the eyes."""
    blurred = Image.fromarray(scene.pixels).filter(ImageFilter.GaussianBlur(share * scene.eyes_px))
    return np.asarray(blurred)


def shaken(scene: Scene, share: float, rng: np.random.Generator) -> Pixels:
    """Moved along a straight line of ``share`` of the distance between the eyes, in any direction."""
    angle = rng.uniform(0, np.pi)
    steps = np.linspace(-0.5, 0.5, max(2, round(share * scene.eyes_px))) * share * scene.eyes_px
    shifts = np.rint(np.outer(steps, (np.sin(angle), np.cos(angle)))).astype(int)
    return _as_pixels(np.mean([_shifted(scene.pixels, y, x) for y, x in shifts], axis=0))


def reduced(scene: Scene, eyes_px: float, rng: np.random.Generator) -> Pixels:  # noqa: ARG001
    """The whole frame smaller, until the eyes are so many pixels apart, in a large frame of grey."""
    scale = eyes_px / scene.eyes_px
    width, height = (round(side * scale) for side in FRAME_PX)
    room = Image.new("RGB", FRAME_PX, (128, 128, 128))
    small = Image.fromarray(scene.pixels).resize((width, height), Image.Resampling.BOX)
    room.paste(small, ((FRAME_PX[0] - width) // 2, (FRAME_PX[1] - height) // 2))
    return np.asarray(room)


def cropped(side: str, scene: Scene, share: float, rng: np.random.Generator) -> Pixels:  # noqa: ARG001
    """Without what lies beyond ``share`` of the face (from brow to chin, from temple to temple) on one side."""
    (left, top), (right, bottom) = scene.places([(-1, -0.6), (1, 1.6)])
    x, y = round(left + share * (right - left)), round(bottom - share * (bottom - top))
    return scene.pixels[:, max(x, 0) :] if side == "left" else scene.pixels[:y]


def turned(scene: Scene, yaw_deg: float, rng: np.random.Generator) -> Pixels:
    """The head turned by a rough model of its depth: an upright cylinder with a nose."""
    angle = np.radians(yaw_deg) * rng.choice((-1, 1))
    height, width = scene.pixels.shape[:2]
    move = similarity(scene.landmarks, _FACE)
    unit = float(np.sqrt(np.linalg.det(move[:, :2])))
    middle_x, middle_y = scene.landmarks[:2].mean(axis=0)
    x = (np.arange(width) - middle_x) * unit
    columns = np.empty((height, width))
    for row in range(height):
        depth = _depth(x, (row - middle_y) * unit)
        seen_at = np.maximum.accumulate(x * np.cos(angle) + depth * np.sin(angle))
        columns[row] = np.interp(x, seen_at + np.arange(width) * 1e-9, np.arange(width))
    rows = np.arange(height)[:, None]
    return np.asarray(scene.pixels[rows, np.rint(columns).astype(int)])


def _depth(x: Floats, y: float) -> Floats:
    """Towards the camera from the plane of the eyes; 0 beside the head."""
    cylinder = np.sqrt(np.maximum(1.3**2 - x**2, 0)) - 1.2
    nose = 0.45 * np.exp(-((x / 0.16) ** 2) - ((y - 0.5) / 0.25) ** 2)
    return np.maximum(cylinder, -0.9) + nose


def accompanied(scene: Scene, other: Scene, share: float, place: str) -> Pixels:
    """With the head of ``other``, ``share`` times as large, in the same picture: ``beside`` the head, or higher up and
    partly ``behind the shoulder``."""
    main, bystander = framed(scene, 54), framed(other, 54 * share)
    head = _soft_mask(bystander, [_HEAD], 0.05)
    right, down = (-150, -30) if place == "beside" else (-95, -40)
    head = np.roll(head, (down, right), axis=(0, 1))
    seen = _shifted(bystander.pixels, down, right)
    if place != "beside":
        head = head * (1 - _soft_mask(main, [_PERSON], 0.05))
    return _as_pixels(main.pixels * (1 - head) + seen * head)


_MASK = [
    *[(-1.02, 0.58), (-0.45, 0.41), (0, 0.3), (0.45, 0.41), (1.02, 0.58)],
    *[(0.97, 1.37), (0.57, 1.88), (0, 2.05), (-0.57, 1.88), (-0.97, 1.37)],
]
_CHIN_MASK = [(x, max(y, 0.82)) for x, y in _MASK]
_FOLDS = [[(-0.85, y), (0, y + 0.08), (0.85, y)] for y in (0.95, 1.18, 1.4)]
_LENSES = [
    [(x + 0.45 * np.cos(a), 0.04 + 0.34 * np.sin(a)) for a in np.linspace(0, 2 * np.pi, 40)]
    for x in (-0.53, 0.53)
]
_BRIDGE = [(-0.3, -0.12), (0.3, -0.12), (0.3, 0), (-0.3, 0)]
_BAR = [(-1.2, -0.27), (1.2, -0.27), (1.2, 0.27), (-1.2, 0.27)]


def masked(tone: float | None, scene: Scene, lowered: float, rng: np.random.Generator) -> Pixels:
    """A mask of cloth; ``lowered`` 1 leaves the nose free, 0 covers it."""
    shape = [(x, y + lowered * (below - y)) for (x, y), (_, below) in zip(_MASK, _CHIN_MASK, strict=True)]
    return _covered(scene, [shape], tone, rng, lines=_FOLDS)


def in_sunglasses(scene: Scene, density: float, rng: np.random.Generator) -> Pixels:
    return _covered(scene, [*_LENSES, _BRIDGE], 18, rng, opacity=density)


def barred(tone: float, scene: Scene, height: float, rng: np.random.Generator) -> Pixels:
    """A bar over both eyes, ``height`` times as high as a mask for sleeping."""
    return _covered(scene, [[(x, y * height) for x, y in _BAR]], tone, rng)


def behind_hand(scene: Scene, share: float, rng: np.random.Generator) -> Pixels:
    """A hand of the skin's own tone over ``share`` of the face's width."""
    edge = 1 - 2 * share
    shape = [(edge, -0.9), (edge + 0.1, 1.9), (2.1, 2.0), (2.1, -1.0)]
    fingers = [[(edge, y), (edge + 1.4, y + 0.15)] for y in (-0.35, 0.2, 0.7, 1.2)]
    return _covered(scene, [shape], None, rng, lines=fingers)


def hand_on_mouth(scene: Scene, width: float, rng: np.random.Generator) -> Pixels:
    """Two fingers, ``width`` times as wide as the mouth, over it."""
    x = 0.45 * width
    shape = [(-x, 0.75), (x, 0.65), (x, 1.5), (-x, 1.6)]
    return _covered(scene, [shape], None, rng, lines=[[(-x, 1.15), (x, 1.05)]])


def behind_phone(scene: Scene, share: float, rng: np.random.Generator) -> Pixels:
    """A dark phone over ``share`` of the face's height, from below, as before a mirror."""
    y = 1.7 - 2.3 * share
    return _covered(scene, [[(-0.75, y), (0.75, y), (0.75, 2.6), (-0.75, 2.6)]], 25, rng)


def _covered(
    scene: Scene,
    shapes: Sequence[Points],
    tone: float | None,
    rng: np.random.Generator,
    lines: Sequence[Points] = (),
    opacity: float = 1.0,
) -> Pixels:
    """``tone`` 0-255 grey, None for that of the face's own skin; ``lines`` are folds and the gaps between fingers."""
    mask = opacity * _soft_mask(scene, shapes, 0.02)
    light = np.asarray(
        Image.fromarray(scene.pixels).filter(ImageFilter.GaussianBlur(0.4 * scene.eyes_px)), float
    )
    colour = np.full(3, float(tone)) if tone is not None else _skin(scene)
    cloth = colour * (0.7 + 0.3 * light / max(light.mean(), 1)) + _grain(mask.shape, scene.eyes_px, rng)
    folds = 45 * _soft_lines(scene, lines)
    return _as_pixels(scene.pixels * (1 - mask) + (cloth - folds) * mask)


def _skin(scene: Scene) -> Floats:
    """The median colour of both cheeks and the forehead."""
    height, width = scene.pixels.shape[:2]
    spots = np.array(scene.places([(-0.55, 0.6), (0.55, 0.6), (0, -0.4)])).round().astype(int)
    size = round(0.08 * scene.eyes_px) + 1
    near = [
        scene.pixels[max(y - size, 0) : y + size, max(x - size, 0) : x + size].reshape(-1, 3)
        for x, y in spots.clip(0, (width - 1, height - 1))
    ]
    return np.asarray(np.median(np.concatenate(near), axis=0), dtype=np.float64)


def _grain(shape: tuple[int, ...], eyes_px: float, rng: np.random.Generator) -> Floats:
    """Cloth and skin are not even: spots of a tenth of the distance between the eyes."""
    step = max(2, round(0.1 * eyes_px))
    spots = rng.normal(0, 4, (shape[0] // step + 1, shape[1] // step + 1)).astype(np.float32)
    grown = Image.fromarray(spots).resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    return np.asarray(grown, dtype=np.float64)[..., None]


def _soft_mask(scene: Scene, shapes: Sequence[Points], softness: float) -> Floats:
    """1 inside, 0 outside, with an edge ``softness`` distances between the eyes wide; height x width x 1."""
    picture = _blank(scene)
    pen = ImageDraw.Draw(picture)
    for shape in shapes:
        pen.polygon(scene.places(shape), fill=255)
    return _softened(picture, softness * scene.eyes_px)


def _soft_lines(scene: Scene, lines: Sequence[Points]) -> Floats:
    picture = _blank(scene)
    pen = ImageDraw.Draw(picture)
    for line in lines:
        pen.line(scene.places(line), fill=255, width=max(1, round(0.04 * scene.eyes_px)))
    return _softened(picture, 0.02 * scene.eyes_px)


def _blank(scene: Scene) -> Image.Image:
    height, width = scene.pixels.shape[:2]
    return Image.new("L", (width, height))


def _softened(picture: Image.Image, radius_px: float) -> Floats:
    blurred = picture.filter(ImageFilter.GaussianBlur(radius_px))
    return np.asarray(blurred, dtype=np.float64)[..., None] / 255


def _shifted(pixels: Pixels, down: int, right: int) -> Pixels:
    return np.roll(pixels, (down, right), axis=(0, 1))


def _as_pixels(values: Floats) -> Pixels:
    return values.clip(0, 255).round().astype(np.uint8)


SPECIES = (
    Species("underexposed", "too_dark", "stops", (-2, -3, -4, -5, -6, -7), exposed),
    Species("backlit", "too_dark", "stops", (-2, -3, -4, -5, -6), backlit),
    Species("overexposed", "too_bright", "stops", (1, 1.5, 2, 2.5, 3, 4), exposed),
    Species("out of focus", "blurred", "eye distances", (0.03, 0.05, 0.07, 0.1, 0.14, 0.2), out_of_focus),
    Species("shaken", "blurred", "eye distances", (0.1, 0.2, 0.3, 0.4, 0.5, 0.7), shaken),
    Species("reduced", "too_small", "px between the eyes", (40, 30, 24, 20, 16, 12, 8), reduced),
    Species("turned", "turned_away", "degrees", (15, 25, 35, 45, 55), turned),
    Species(
        "cropped left", "cut_off", "share of the face", (0, 0.1, 0.2, 0.3, 0.4, 0.5), partial(cropped, "left")
    ),
    Species(
        "cropped below", "cut_off", "share of the face", (0, 0.1, 0.2, 0.3, 0.4), partial(cropped, "below")
    ),
    Species("light mask", "covered", "lowered to the mouth", (1, 0), partial(masked, 205.0)),
    Species("dark mask", "covered", "lowered to the mouth", (1, 0), partial(masked, 45.0)),
    Species("skin-coloured mask", "covered", "lowered to the mouth", (1, 0), partial(masked, None)),
    Species("sunglasses", "covered", "density", (0.5, 0.75, 0.9, 1), in_sunglasses),
    Species("dark bar", "covered", "height", (0.7, 1, 1.5), partial(barred, 20.0)),
    Species("light bar", "covered", "height", (0.7, 1, 1.5), partial(barred, 200.0)),
    Species("hand over a side", "covered", "share of the face", (0.25, 0.33, 0.5, 0.6), behind_hand),
    Species("hand on the mouth", "covered", "mouth's width", (1, 1.5, 2), hand_on_mouth),
    Species("phone from below", "covered", "share of the face", (0.33, 0.45, 0.6), behind_phone),
)
