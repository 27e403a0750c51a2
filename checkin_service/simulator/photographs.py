"""Photographs of the simulated persons, read from a folder and altered by code as their behaviour asks."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter


class Picture(Enum):
    """What a person sends for a selfie. A replay is the reference photograph, cropped and compressed anew."""

    OWN = auto()
    COLLEAGUES = auto()
    NOBODY = auto()
    DARK = auto()
    BLURRED = auto()
    REPLAY = auto()


@dataclass(frozen=True, slots=True)
class Face:
    """One face's photographs, as bytes of JPEG files."""

    reference: bytes
    selfies: Sequence[bytes]
    altered: Mapping[Picture, bytes]


def read_faces(folder: Path) -> list[Face]:
    """A face for each sub-folder that holds `reference.jpg` and at least one `selfie*.jpg`, by name.

    Raises ValueError with fewer than two: nobody could then be taken for a colleague.
    """
    faces = [_face(file.parent) for file in sorted(folder.glob("*/reference.jpg"))]
    if len(faces) < 2:
        raise ValueError(
            f"{folder} must hold two folders or more, each with one face's reference.jpg and selfie*.jpg"
        )
    return faces


def _face(folder: Path) -> Face:
    reference = (folder / "reference.jpg").read_bytes()
    selfies = [file.read_bytes() for file in sorted(folder.glob("selfie*.jpg"))]
    if not selfies:
        raise ValueError(f"{folder} holds no selfie*.jpg")
    altered = {
        Picture.NOBODY: _landscape(),
        Picture.DARK: _altered(selfies[0], _darkened),
        Picture.BLURRED: _altered(selfies[0], _blurred),
        Picture.REPLAY: _altered(reference, _cropped),
    }
    return Face(reference, selfies, altered)


def _altered(photo: bytes, alter: Callable[[Image.Image], Image.Image]) -> bytes:
    """As a JPEG with the comment of the original: a test's face engine reads there whose face it is."""
    with Image.open(io.BytesIO(photo)) as picture:
        return _jpeg(alter(picture.convert("RGB")), picture.info.get("comment", b""))


def _darkened(picture: Image.Image) -> Image.Image:
    return picture.point(lambda value: 5 + value // 8)


def _blurred(picture: Image.Image) -> Image.Image:
    """By an eighth of the distance between the eyes of somebody who fills the picture."""
    return picture.filter(ImageFilter.GaussianBlur(max(picture.size) / 42))


def _cropped(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    return picture.crop((width // 40, height // 40, width - width // 40, height))


def _landscape() -> bytes:
    picture = Image.new("RGB", (480, 640), (150, 190, 230))
    ImageDraw.Draw(picture).polygon([(0, 420), (160, 260), (480, 460), (480, 640), (0, 640)], (70, 110, 60))
    return _jpeg(picture, b"")


def _jpeg(picture: Image.Image, comment: bytes) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=80, comment=comment)
    return file.getvalue()
