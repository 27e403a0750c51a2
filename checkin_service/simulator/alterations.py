"""Photographs altered by code, as the behaviour of who sends them asks."""

import io
from collections.abc import Callable, Mapping

from PIL import Image, ImageDraw, ImageFilter

from checkin_service.simulator.photographs import Picture


def altered(reference: bytes, selfie: bytes) -> Mapping[Picture, bytes]:
    """What somebody sends instead of a good selfie, as JPEG files made of these two."""
    return {
        Picture.NOBODY: _landscape(),
        Picture.DARK: _altered(selfie, _darkened),
        Picture.BLURRED: _altered(selfie, _blurred),
        Picture.REPLAY: _altered(reference, _cropped),
    }


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
