"""The segments of a JPEG (ITU-T T.81, annex B), read without decoding."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn

from face.exif import orientation
from face.image_errors import ImageUnreadable
from face.picture import Header, ImageLimits

SIGNATURE = b"\xff\xd8"

_SOI, _EOI, _SOS, _APP0, _APP1 = 0xD8, 0xD9, 0xDA, 0xE0, 0xE1
_PROGRESSIVE = 0xC2
_FRAMES = {0xC0, 0xC1, _PROGRESSIVE}  # baseline, extended, progressive: Huffman coded, lossy
_OTHER_FRAMES = set(range(0xC3, 0xD0)) - {0xC4, 0xC8, 0xCC}
_TABLES = {
    0xC4,
    0xCC,
    0xDB,
    0xDD,
    0xEE,
}  # Huffman, arithmetic, quantisation, restart interval, Adobe's colours
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xDA)}

_MARKER = re.compile(rb"\xff([^\x00\xff])", re.DOTALL)
_MARKER_AFTER_SCAN = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])", re.DOTALL)


@dataclass(slots=True)
class _Jpeg:
    """What has been read so far."""

    width: int = 0
    height: int = 0
    components: int = 0
    progressive: bool = False
    scans: int = 0
    in_rows: bool = False
    orientation: int = 1
    needed: list[tuple[int, int]] = field(default_factory=lambda: [(0, 2)])


def read_jpeg(data: bytes, limits: ImageLimits) -> Header:
    """The header of a whole JPEG: every scan is counted, and the end must be there.

    Raises :class:`ImageUnreadable`: ``truncated``, ``damaged``, ``unsupported_coding``, ``too_many_scans`` or
    ``too_many_segments``. What follows the end of the picture (a motion photo's film, say) is ignored.
    """
    jpeg = _Jpeg()
    for marker, start, end in _segments(data, limits.segments):
        _read_segment(jpeg, marker, data[start + 4 : min(end, start + 2 + 65_535)], limits)
        if _is_needed(marker, data[start + 4 : start + 9]):
            jpeg.needed.append((start, end))
    if not jpeg.scans:
        _refuse_damaged("it holds no picture")
    return Header(
        "JPEG", jpeg.width, jpeg.height, jpeg.scans, jpeg.in_rows, jpeg.orientation, tuple(jpeg.needed)
    )


def _segments(data: bytes, most: int) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of each segment; a scan's compressed data belongs to its segment."""
    position = len(SIGNATURE)
    for _ in range(most):
        found = _next_marker(_MARKER, data, position)
        marker = found[1][0]
        position = found.end() if marker in _WITHOUT_LENGTH else _end_of_segment(data, found.end())
        if marker == _SOS:
            position = _next_marker(_MARKER_AFTER_SCAN, data, position).start()
        yield marker, found.start(), position
        if marker == _EOI:
            return
    raise ImageUnreadable(
        "too_many_segments",
        f"The photograph's file has more than {most} segments. Take it again with the phone's camera.",
        most_segments=most,
    )


def _next_marker(pattern: re.Pattern[bytes], data: bytes, position: int) -> re.Match[bytes]:
    found = pattern.search(data, position)
    if not found:
        _refuse_truncated(data)
    return found


def _end_of_segment(data: bytes, position: int) -> int:
    if position + 2 > len(data):
        _refuse_truncated(data)
    (length,) = struct.unpack_from(">H", data, position)
    if length < 2:
        _refuse_damaged("a segment has no length")
    return position + int(length)


def _read_segment(jpeg: _Jpeg, marker: int, body: bytes, limits: ImageLimits) -> None:
    if marker in _FRAMES:
        _read_frame(jpeg, marker, body)
    elif marker in _OTHER_FRAMES:
        raise ImageUnreadable(
            "unsupported_coding",
            "The photograph is a rare kind of JPEG. Save it as an ordinary one.",
            marker=marker,
        )
    elif marker == _SOS:
        _read_scan(jpeg, body, limits)
    elif marker == _APP1 and body.startswith(b"Exif\0\0") and jpeg.orientation == 1:
        jpeg.orientation = orientation(body[6:])
    elif marker == _SOI:
        _refuse_damaged("a second picture starts inside it")


def _read_frame(jpeg: _Jpeg, marker: int, body: bytes) -> None:
    if jpeg.components or len(body) < 6:
        _refuse_damaged("its frame is broken or comes twice")
    bits, jpeg.height, jpeg.width, jpeg.components = struct.unpack_from(">BHHB", body)
    if bits != 8 or jpeg.components not in (1, 3, 4):
        raise ImageUnreadable(
            "unsupported_coding",
            "The photograph is a rare kind of JPEG. Save it as an ordinary one.",
            bits=bits,
            components=jpeg.components,
        )
    jpeg.progressive = marker == _PROGRESSIVE


def _read_scan(jpeg: _Jpeg, body: bytes, limits: ImageLimits) -> None:
    if not jpeg.components or not body:
        _refuse_damaged("a scan comes before the frame")
    jpeg.scans += 1
    if jpeg.scans == 1:  # libjpeg, too, decides on the first scan whether it must hold the whole picture
        jpeg.in_rows = not jpeg.progressive and body[0] == jpeg.components
    if jpeg.scans > limits.scans:
        refuse_scans(limits.scans)


def refuse_scans(most: int) -> NoReturn:
    raise ImageUnreadable(
        "too_many_scans",
        f"The photograph is a progressive JPEG of more than {most} scans. Save it as an ordinary (baseline) JPEG.",
        most_scans=most,
    )


def _is_needed(marker: int, body: bytes) -> bool:
    # JFIF's segment stays: it tells the decoder which colours are meant.
    return marker in _FRAMES | _TABLES | {_SOS, _EOI} or (marker == _APP0 and body.startswith(b"JFIF\0"))


def _refuse_truncated(data: bytes) -> NoReturn:
    raise ImageUnreadable(
        "truncated", "The photograph did not arrive whole. Send it again.", received_bytes=len(data)
    )


def _refuse_damaged(what: str) -> NoReturn:
    raise ImageUnreadable("damaged", f"The photograph is damaged: {what}. Take it again and send it.")
