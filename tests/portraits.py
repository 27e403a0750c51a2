"""Photographs for the tests and the demonstration, made from files inside installed packages.

Grace Hopper (U.S. Navy, public domain) comes with matplotlib, Eileen Collins (NASA, public domain) with
scikit-image. The packages are not imported. An altered portrait stands for another photograph of the same
person: seen a little from the side and lit from one side, 0.2-0.4 away in dlib's distance, so that only a
comparison of faces, and none of files or pixels, can take it for the same person.
"""

import importlib.util
import sys
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw


def hopper() -> bytes:
    """Grace Hopper's portrait, 512 × 600, JPEG."""
    return _jpeg(_hopper())


def hopper_altered() -> bytes:
    """Another photograph of Grace Hopper."""
    return _jpeg(_altered(_hopper(), turn=0.25, shade=0.8))


@cache
def hopper_selfie(number: int) -> bytes:
    """One of 95 other photographs of Grace Hopper, by the remainder: each in another pattern of light and shadow, by
    which the service tells it from all the others."""
    altered = _altered(_hopper(), turn=0.25, shade=0.5)
    return _jpeg(_dappled(altered, np.random.default_rng(number % 95)))


def astronaut() -> bytes:
    """Eileen Collins's portrait, 360 × 330, JPEG."""
    return _jpeg(_astronaut())


def astronaut_altered() -> bytes:
    """Another photograph of Eileen Collins."""
    return _jpeg(_altered(_astronaut(), turn=0.25, shade=0.8))


def landscape() -> bytes:
    """A picture without a face: hills under a sky, 480 × 640, JPEG."""
    picture = Image.new("RGB", (480, 640), (150, 190, 230))
    pen = ImageDraw.Draw(picture)
    pen.polygon([(0, 420), (160, 260), (330, 430), (480, 330), (480, 640), (0, 640)], fill=(70, 110, 60))
    pen.polygon([(0, 520), (250, 440), (480, 560), (480, 640), (0, 640)], fill=(50, 80, 45))
    return _jpeg(picture)


@cache
def _hopper() -> Image.Image:
    with Image.open(_file("matplotlib", "mpl-data/sample_data/grace_hopper.jpg")) as picture:
        return picture.convert("RGB")


@cache
def _astronaut() -> Image.Image:
    with Image.open(_file("skimage", "data/astronaut.png")) as picture:
        return picture.convert("RGB").crop((60, 0, 420, 330))


def _file(package: str, path: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None, f"{package} is not installed: run `make test` or `make demo` once"
    assert spec.origin is not None
    return Path(spec.origin).parent / path


def _altered(picture: Image.Image, turn: float, shade: float) -> Image.Image:
    """``turn``: by what share of the height the far side shrinks; ``shade``: how dark the far side is, 0-1."""
    width, height = picture.size
    away = round(height * turn)
    corners = (0, 0, 0, height, width, height + away, width, -away)
    seen = picture.transform(picture.size, Image.Transform.QUAD, corners, Image.Resampling.BICUBIC)
    light = np.linspace(1.15, 1.15 - shade, width)[None, :, None]
    return Image.fromarray((np.asarray(seen) * light).clip(0, 255).astype(np.uint8))


def _dappled(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    spots = Image.fromarray(random.uniform(0.35, 1.5, (14, 14)).astype(np.float32))
    light = np.asarray(spots.resize(picture.size, Image.Resampling.BICUBIC))[:, :, None]
    return Image.fromarray((np.asarray(picture) * light).clip(0, 255).astype(np.uint8))


def _jpeg(picture: Image.Image) -> bytes:
    file = BytesIO()
    picture.save(file, "JPEG", quality=90)
    return file.getvalue()


def write_portraits(folder: Path) -> None:
    """Every picture as a file, for trying the API by hand; in `faces` once more, as the simulator takes them."""
    folder.mkdir(parents=True, exist_ok=True)
    for picture in (hopper, hopper_altered, astronaut, astronaut_altered, landscape):
        (folder / f"{picture.__name__}.jpg").write_bytes(picture())
    for reference, selfie in ((hopper, hopper_altered), (astronaut, astronaut_altered)):
        face = folder / "faces" / reference.__name__
        face.mkdir(parents=True, exist_ok=True)
        (face / "reference.jpg").write_bytes(reference())
        (face / "selfie.jpg").write_bytes(selfie())


if __name__ == "__main__":
    write_portraits(Path(sys.argv[1]))
    print(f"written to {sys.argv[1]}")
