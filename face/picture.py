"""What a picture may be, and what its header says it is."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
"""Height × width × 3, RGB, 0-255."""


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What is accepted. Pixels are counted as stored, before EXIF turns the picture; a megapixel is 10^6.

    ``in_rows_pixels`` holds for a JPEG that is decoded row by row and at a scale (baseline, one scan);
    ``whole_pixels`` for every other JPEG, whose coefficients are all held at once, and for PNG.
    ``pixel_scans`` bounds the decoder's time: it goes over the whole picture once a scan.
    """

    in_rows_pixels: int = 25_000_000
    whole_pixels: int = 12_000_000
    scans: int = 100
    pixel_scans: int = 240_000_000
    shortest_side_px: int = 32
    longest_to_shortest: int = 8
    segments: int = 10_000


LIMITS = ImageLimits()


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a JPEG or PNG.

    ``width`` and ``height`` are as stored, ``orientation`` is EXIF's 1-8 that turns them upright (1: as they
    are). ``in_rows`` says whether a decoder may hold a few rows at a time. ``needed`` are the (start, end)
    byte ranges that make up the pixels, in order; comments, profiles and EXIF are not among them.
    """

    format: Literal["JPEG", "PNG"]
    width: int
    height: int
    scans: int
    in_rows: bool
    orientation: int
    needed: tuple[tuple[int, int], ...]
