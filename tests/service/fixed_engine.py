"""A face engine that reads its answer from the photograph's own comment, so that tests say who is on it."""

import asyncio
import hashlib
import io
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from face import (
    DLIB_RESNET_MODEL,
    FINGERPRINT,
    SFACE_MODEL,
    Analysis,
    FaceBox,
    ImageUnreadable,
    PoolStats,
)
from tests.qualities import GOOD

MODEL = SFACE_MODEL  # comparison knows real models only
MODELS = (SFACE_MODEL, DLIB_RESNET_MODEL, FINGERPRINT)
DARK = replace(GOOD, luminance=5)
# Two photographs of one person are about 0.3 apart for dlib and nearly equal for SFace; of two persons, 1.4.
_SHOTS_APART = {DLIB_RESNET_MODEL: 0.21, SFACE_MODEL: 0.05}
Copy = Literal["", "altered", "mirrored", "retaken"]


@dataclass(frozen=True, slots=True)
class Shown:
    """What is on a photograph: see `stage.photo_of`."""

    identity: str
    shot: int = 0
    copy: Copy = ""
    live: float | None = None
    yaw_deg: float | None = None


class FixedEngine:
    """Knows every identity by name; `nobody`, `crowd`, `dark` and `broken` are pictures that can't be judged.

    It describes a face by its `models`; one that is unknown to it is dlib's under another name. `gate` holds every
    analysis back while it is clear, for tests that need something to happen meanwhile.
    """

    stats = PoolStats(
        ready=1,
        busy=0,
        starting=0,
        waiting=0,
        jobs=0,
        failures=0,
        recycled=0,
        start_fault=None,
        confined_by=("landlock", "seccomp"),
    )

    def __init__(self, models: Sequence[str] = MODELS) -> None:
        self.models = models
        self.analysed: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    @property
    def model_id(self) -> str:
        return self.models[0]

    @asynccontextmanager
    async def running(self) -> AsyncIterator["FixedEngine"]:
        yield self

    async def analyse(self, photo: bytes) -> Analysis:
        shown = Shown(**json.loads(Image.open(io.BytesIO(photo)).info["comment"]))
        self.analysed.append(shown.identity)
        await self.gate.wait()
        if shown.identity == "broken":
            raise ImageUnreadable("truncated", "The picture is incomplete; take it again.")
        return self._analysis(shown)

    def _analysis(self, shown: Shown) -> Analysis:
        boxes = (FaceBox(8, 8, 48, 48),) * {"nobody": 0, "crowd": 2}.get(shown.identity, 1)
        if len(boxes) != 1:
            return Analysis(64, 64, 0, boxes, None, {})
        quality = DARK if shown.identity == "dark" else GOOD
        known = vectors_of(shown.identity, shown.shot, shown.copy)
        templates = {model: known.get(model, known[DLIB_RESNET_MODEL]) for model in self.models}
        return Analysis(64, 64, 0, boxes, quality, templates, shown.live, landmarks_at(shown.yaw_deg or 0))


def landmarks_at(yaw_deg: float) -> tuple[tuple[float, float], ...]:
    """Five points of a head, nose in front, turned to the picture's right: the person's left."""
    head = np.array([[-0.5, 0, 0], [0.5, 0, 0], [0, 0.5, 0.4], [-0.4, 1, 0], [0.4, 1, 0]])
    turn = np.radians(yaw_deg)
    across = head[:, 0] * np.cos(turn) + head[:, 2] * np.sin(turn)
    return tuple((float(x), float(y)) for x, y in 30 * np.column_stack([across, head[:, 1]]) + 32)


def vectors_of(identity: str, shot: int = 0, copy: Copy = "") -> dict[str, tuple[float, ...]]:
    """What the engine measures on such a photograph."""
    taken = f"{identity}#{shot}"
    sides = [(_dlib(identity, side), _bits(side)) for side in (taken, f"{taken} mirrored")]
    if copy == "mirrored":
        sides.reverse()
    (template, code), (mirrored, mirrored_code) = sides
    if copy in {"altered", "retaken"}:
        template = template + 0.02 * _direction(copy)
    if copy == "altered":
        code = np.r_[1 - code[:2], code[2:]]
    if copy == "retaken":
        code, mirrored_code = _bits(f"{taken} {copy}"), _bits(f"{taken} {copy} mirrored")
    vectors = {
        SFACE_MODEL: _face(identity) + _SHOTS_APART[SFACE_MODEL] * _direction(taken),
        DLIB_RESNET_MODEL: template,
        FINGERPRINT: np.concatenate([mirrored, code, mirrored_code]),
    }
    return {model: tuple(vector.tolist()) for model, vector in vectors.items()}


def _dlib(identity: str, side: str) -> npt.NDArray[np.float64]:
    return _face(identity) + _SHOTS_APART[DLIB_RESNET_MODEL] * _direction(side)


def _face(identity: str) -> npt.NDArray[np.float64]:
    mixed = np.sum([_direction(person) for person in identity.split("+")], axis=0)
    return np.asarray(mixed / np.linalg.norm(mixed))


def _direction(name: str) -> npt.NDArray[np.float64]:
    """A unit vector that is far from every other name's."""
    vector = _random(name).normal(size=128)
    return np.asarray(vector / np.linalg.norm(vector))


def _bits(name: str) -> npt.NDArray[np.float64]:
    return _random(name).integers(0, 2, size=64).astype(np.float64)


def _random(name: str) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]))
