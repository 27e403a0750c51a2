"""The chunks of a PNG (ISO/IEC 15948), read without inflating."""

import struct
from collections.abc import Iterator

from face.exif import orientation
from face.image_errors import ImageUnreadable, UnsupportedMediaType
from face.picture import Header, ImageLimits

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_NEEDED = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_HEADER_BYTES = 13


def read_png(data: bytes, limits: ImageLimits) -> Header:
    """The header of a whole, still PNG.

    Raises :class:`UnsupportedMediaType` for an animated one (APNG) and :class:`ImageUnreadable`:
    ``truncated``, ``damaged`` or ``too_many_segments``.
    """
    needed, turned = [(0, len(SIGNATURE))], 1
    for kind, start, end in _chunks(data, limits.segments):
        if kind == b"acTL":
            raise UnsupportedMediaType(
                "apng", "This is an animated PNG, not a photograph. Send a JPEG or a still PNG.", found="apng"
            )
        if kind == b"eXIf":
            turned = orientation(data[start + 8 : end - 4])
        if kind in _NEEDED:
            needed.append((start, end))
    width, height = _size(data)
    return Header("PNG", width, height, 1, in_rows=False, orientation=turned, needed=tuple(needed))


def _chunks(data: bytes, most: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start, end) of each chunk, its length, kind and checksum included, up to IEND."""
    start = len(SIGNATURE)
    for _ in range(most):
        if start + 8 > len(data):
            break
        length, kind = struct.unpack_from(">L4s", data, start)
        end = start + 12 + length
        if end > len(data):
            break
        yield kind, start, end
        if kind == b"IEND":
            return
        start = end
    else:
        raise ImageUnreadable(
            "too_many_segments",
            f"The photograph's file has more than {most} chunks. Take it again with the phone's camera.",
            most_segments=most,
        )
    raise ImageUnreadable(
        "truncated", "The photograph did not arrive whole. Send it again.", received_bytes=len(data)
    )


def _size(data: bytes) -> tuple[int, int]:
    length, kind = struct.unpack_from(">L4s", data, len(SIGNATURE))
    if kind != b"IHDR" or length != _HEADER_BYTES:
        raise ImageUnreadable("damaged", "The photograph is damaged: its header is missing. Take it again.")
    width, height = struct.unpack_from(">LL", data, len(SIGNATURE) + 8)
    return int(width), int(height)
