"""Copies of a photograph, altered by code as somebody would who hopes that it passes for a new one."""

from collections.abc import Callable, Mapping
from io import BytesIO

from PIL import Image, ImageEnhance, ImageOps

from face.image import decode

Picture = Image.Image

_USUAL_QUALITY = 90


def _copy(alter: Callable[[Picture], Picture], quality: int = _USUAL_QUALITY) -> Callable[[bytes], bytes]:
    """Through a JPEG of that quality, as it would be sent."""

    def copied(photo: bytes) -> bytes:
        file = BytesIO()
        alter(Image.fromarray(decode(photo))).save(file, "JPEG", quality=quality)
        return file.getvalue()

    return copied


def _cropped(picture: Picture, share: float, across: float = 0.5, down: float = 0.5) -> Picture:
    """Without ``share`` of each side; of what is cut off, ``across`` lies on the left and ``down`` at the top."""
    width, height = (int(side * (1 - share)) for side in picture.size)
    left, top = int((picture.width - width) * across), int((picture.height - height) * down)
    return picture.crop((left, top, left + width, top + height))


def _bright(picture: Picture, times: float) -> Picture:
    return ImageEnhance.Brightness(picture).enhance(times)


ALTERED: Mapping[str, Callable[[bytes], bytes]] = {
    "re-encoded at quality 40": _copy(lambda picture: picture, 40),
    "scaled to 60 %": _copy(
        lambda p: p.resize((p.width * 3 // 5, p.height * 3 // 5), Image.Resampling.LANCZOS)
    ),
    "cropped by 5 %": _copy(lambda picture: _cropped(picture, 0.05)),
    "cropped by 10 %": _copy(lambda picture: _cropped(picture, 0.1)),
    "cropped by 12 %, off centre": _copy(lambda picture: _cropped(picture, 0.12, 0.3, 0.7)),
    "mirrored": _copy(ImageOps.mirror),
    "turned by 4°": _copy(lambda picture: picture.rotate(4, Image.Resampling.BICUBIC)),
    "darkened to 60 %": _copy(lambda picture: _bright(picture, 0.6)),
    "brightened × 1.15": _copy(lambda picture: _bright(picture, 1.15)),
    "brightened × 1.4": _copy(lambda picture: _bright(picture, 1.4)),
    "contrast × 1.4": _copy(lambda picture: ImageEnhance.Contrast(picture).enhance(1.4)),
    "mirrored, cropped by 6 %, 280 × 280, quality 70": _copy(
        lambda picture: _cropped(ImageOps.mirror(picture), 0.06).resize((280, 280)), 70
    ),
    "cropped by 8 % off centre, brightened × 1.3, quality 60": _copy(
        lambda picture: _bright(_cropped(picture, 0.08, 0.2, 0.2), 1.3), 60
    ),
}
"""By what was done: a JPEG or PNG to its altered copy, a JPEG. Raises ``ImageError`` as :func:`face.image.decode`."""
