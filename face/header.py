"""Everything that can be said against a picture before a pixel of it is decoded.

Cheap enough for an event loop (milliseconds for a photograph, 0.1 s for 6 MB made to be slow) and without Pillow, so
that a service can refuse a hostile upload before it queues for a worker.
"""

import re
from typing import NoReturn

from face import jpeg_header, png_header
from face.image_errors import ImageUnreadable, UnsupportedMediaType
from face.picture import LIMITS, Header, ImageLimits

_FOREIGN = (
    ("webp", "a WebP picture", re.compile(rb"RIFF.{4}WEBP", re.DOTALL)),
    ("gif", "a GIF picture", re.compile(rb"GIF8")),
    ("avif", "an AVIF picture", re.compile(rb".{4}ftypavi[fs]", re.DOTALL)),
    ("heic", "a HEIC picture", re.compile(rb".{4}ftyp(he[iv]|mif1|msf1)", re.DOTALL)),
    (
        "svg",
        "an SVG drawing",
        re.compile(rb"(\xef\xbb\xbf)?\s{0,99}<(\?xml|svg|!DOCTYPE svg)", re.IGNORECASE),
    ),
    ("unknown", "an unknown kind of file", re.compile(b"")),
)


def check_header(data: bytes, limits: ImageLimits = LIMITS) -> Header:
    """Read the header of a JPEG or PNG, told by its bytes and not by any name.

    Raises :class:`UnsupportedMediaType` for everything else (an animated PNG included) and
    :class:`ImageUnreadable` for an incomplete or damaged file and for one outside ``limits``.

    >>> check_header(b"GIF89a")
    Traceback (most recent call last):
    face.image_errors.UnsupportedMediaType: This is a GIF picture, not a JPEG or PNG. Take the photograph as a JPEG.
    """
    if not data:
        raise ImageUnreadable("empty", "The photograph is empty. Take it again and send it.")
    if data.startswith(jpeg_header.SIGNATURE):
        header = jpeg_header.read_jpeg(data, limits)
    elif data.startswith(png_header.SIGNATURE):
        header = png_header.read_png(data, limits)
    else:
        _refuse_foreign(data)
    _check_sides(header, limits)
    _check_pixels(header, limits)
    return header


def _refuse_foreign(data: bytes) -> NoReturn:
    found, name = next((code, name) for code, name, pattern in _FOREIGN if pattern.match(data))
    advice = " (iPhone: Settings, Camera, Formats, Most Compatible)" if found == "heic" else ""
    raise UnsupportedMediaType(
        found, f"This is {name}, not a JPEG or PNG. Take the photograph as a JPEG{advice}.", found=found
    )


def _check_sides(header: Header, limits: ImageLimits) -> None:
    short, long = sorted((header.width, header.height))
    sides = {"width": header.width, "height": header.height}
    if short < limits.shortest_side_px:
        raise ImageUnreadable(
            "too_few_pixels",
            f"The photograph has {header.width} by {header.height} pixels; "
            f"each side needs {limits.shortest_side_px}. Take it with the phone's camera.",
            **sides,
            shortest_side_px=limits.shortest_side_px,
        )
    if long > short * limits.longest_to_shortest:
        raise ImageUnreadable(
            "too_long",
            "The photograph is far longer than wide. Take an ordinary one, not a panorama.",
            **sides,
            longest_to_shortest=limits.longest_to_shortest,
        )


def _check_pixels(header: Header, limits: ImageLimits) -> None:
    pixels = header.width * header.height
    most = limits.in_rows_pixels if header.in_rows else limits.whole_pixels
    if pixels > most:
        _refuse_pixels(header, most)
    if not header.in_rows and header.scans * pixels > limits.pixel_scans:
        jpeg_header.refuse_scans(limits.pixel_scans // pixels)


def _refuse_pixels(header: Header, most: int) -> NoReturn:
    kind = "baseline JPEG" if header.in_rows else "progressive JPEG or a PNG"
    raise ImageUnreadable(
        "too_many_pixels",
        f"The photograph has {header.width} by {header.height} pixels; a {kind} may have {most / 1e6:g} "
        "megapixels. Choose a lower resolution in the camera.",
        width=header.width,
        height=header.height,
        most_pixels=most,
    )
