"""A face engine that looks at the light and the sharpness of a picture and reads from its comment whose face it is, and
the folder of photographs that goes with it."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from face import Analysis
from tests.service.fixed_engine import FixedEngine
from tests.service.stage import photo_of

_DARKEST, _LEAST_EDGE = 30, 15


class SeeingEngine(FixedEngine):
    """As the fixed one, which judges nothing by its pixels; and a picture without a comment shows nobody."""

    async def analyse(self, photo: bytes) -> Analysis:
        picture = Image.open(io.BytesIO(photo))
        pixels = np.asarray(picture.convert("L"), np.float64)
        if "comment" not in picture.info:
            return await super().analyse(photo_of("nobody"))
        edge = np.abs(np.diff(pixels)).mean()
        if pixels.mean() < _DARKEST or edge < _LEAST_EDGE:
            return await super().analyse(photo_of("dark"))
        return await super().analyse(photo)


class TrustingEngine(SeeingEngine):
    """Takes everybody for the same person."""

    async def analyse(self, photo: bytes) -> Analysis:
        return await FixedEngine.analyse(self, photo_of("anybody", shot=len(self.analysed)))


def write_faces(folder: Path, count: int) -> Path:
    """So many faces, with a reference and two selfies each."""
    for number in range(count):
        face = folder / f"face-{number:02}"
        face.mkdir(parents=True)
        for shot, name in enumerate(("reference", "selfie1", "selfie2")):
            (face / f"{name}.jpg").write_bytes(textured(photo_of(f"face-{number}", shot)))
    return folder


def textured(photo: bytes) -> bytes:
    """The same with something on it that a blur takes away."""
    comment = Image.open(io.BytesIO(photo)).info["comment"]
    noise = np.random.default_rng(1).integers(40, 220, (64, 64, 1), np.uint8).repeat(3, axis=2)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "JPEG", comment=comment)
    return file.getvalue()
