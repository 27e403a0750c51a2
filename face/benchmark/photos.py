"""Photographs of exactly the sizes that are measured, as the bytes of a JPEG."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageOps

from face.benchmark.fault import BenchmarkFault

SIZES = ("480x640", "720x1280", "1080x1920", "3024x4032")
"""Width and height, in pixels."""

_QUALITY = 90
# Portraits in the public domain that other packages bring along; the packages are not imported.
_INSTALLED = (
    ("skimage", "data/astronaut.png"),
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
)


@dataclass(frozen=True, slots=True)
class Photo:
    """``data`` are the bytes of a JPEG, ``name`` the file that it was made of."""

    name: str
    data: bytes


def read_pictures(files: Sequence[Path]) -> dict[str, Image.Image]:
    """The pictures, upright, by path. Raises :class:`BenchmarkFault` for a file that is not one."""
    return {str(file): _read(file) for file in files}


def installed_files() -> list[Path]:
    """The portraits there are. Raises :class:`BenchmarkFault` when there are none."""
    files = [file for package, path in _INSTALLED if (file := _file(package, path)) and file.is_file()]
    if not files:
        raise BenchmarkFault(
            "no portrait is installed (scikit-image and matplotlib bring one): give --photo FILE"
        )
    return files


def fitted(picture: Image.Image, size: str) -> Image.Image:
    """Scaled until it covers ``size``, and cropped to it around its middle.

    >>> fitted(Image.new("RGB", (1000, 200)), "480x640").size
    (480, 640)
    """
    width, height = map(int, size.split("x"))
    return ImageOps.fit(picture, (width, height), Image.Resampling.BICUBIC)


def as_jpeg(picture: Image.Image) -> bytes:
    file = BytesIO()
    picture.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


def _read(file: Path) -> Image.Image:
    try:
        with Image.open(file) as picture:
            return ImageOps.exif_transpose(picture).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as fault:
        raise BenchmarkFault(f"{file} cannot be read as a photograph: {fault}") from fault


def _file(package: str, path: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent / path if spec and spec.origin else None
