"""Photographs of the simulated persons, read from a folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path


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
    # Not before: a service reads the same command line, and is not to load what decodes pictures.
    from checkin_service.simulator.alterations import altered

    reference = (folder / "reference.jpg").read_bytes()
    selfies = [file.read_bytes() for file in sorted(folder.glob("selfie*.jpg"))]
    if not selfies:
        raise ValueError(f"{folder} holds no selfie*.jpg")
    return Face(reference, selfies, altered(reference, selfies[0]))
