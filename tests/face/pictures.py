"""Pictures that tests make: good, damaged and hostile ones."""

import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

SIDES = (200, 150)


def scene(size: tuple[int, int] = SIDES) -> Image.Image:
    """A picture that looks different from every side: red grows to the right, green downwards."""
    width, height = SIDES
    pixels = np.full((height, width, 3), 128, np.uint8)
    pixels[:, :, 0] = np.linspace(0, 255, width)[None, :]
    pixels[:, :, 1] = np.linspace(0, 255, height)[:, None]
    return Image.fromarray(pixels).resize(size)


def saved(picture: Image.Image, kind: str, **settings: Any) -> bytes:
    file = BytesIO()
    picture.save(file, kind, **settings)
    return file.getvalue()


def jpeg(size: tuple[int, int] = SIDES, **settings: Any) -> bytes:
    return saved(scene(size), "JPEG", **settings)


def png(size: tuple[int, int] = SIDES, mode: str = "RGB", **settings: Any) -> bytes:
    return saved(scene(size).convert(mode), "PNG", **settings)


def jpeg_segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def with_segments(photo: bytes, *segments: bytes) -> bytes:
    """The JPEG with segments put in right after its start."""
    return photo[:2] + b"".join(segments) + photo[2:]


def exif(orientation: int, order: str = ">") -> bytes:
    """A TIFF structure with one entry."""
    signature = b"MM\0*" if order == ">" else b"II*\0"
    entry = struct.pack(order + "HHLHH", 0x0112, 3, 1, orientation, 0)
    return signature + struct.pack(order + "LH", 8, 1) + entry + b"\0" * 4


def exif_bomb() -> bytes:
    """Some 5,000 entries that all point to the same 60 KB: 300 MB for a reader
    that copies each (Pillow 13 stops in time)."""
    entries = 5_000
    directory = struct.pack(">H", entries) + b"".join(
        struct.pack(">HHLL", 0x8000 + number, 7, 60_000, 8) for number in range(entries)
    )
    return (b"MM\0*" + struct.pack(">L", 8) + directory).ljust(65_000, b"\0")


def jpeg_with_frame(width: int, height: int, frame: int = 0xC0, components: int = 3) -> bytes:
    """A small JPEG whose frame header claims another size, coding or number of components."""
    photo = bytearray(jpeg(progressive=frame == 0xC2))
    at = photo.index(b"\xff\xc2" if frame == 0xC2 else b"\xff\xc0")
    photo[at + 1] = frame
    photo[at + 5 : at + 9] = struct.pack(">HH", height, width)
    photo[at + 9] = components
    return bytes(photo)


def jpeg_with_scans(size: tuple[int, int], scans: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    photo = jpeg(size, progressive=True)
    last = photo.rindex(b"\xff\xda")
    missing = scans - photo.count(b"\xff\xda")
    return photo[:-2] + photo[last:-2] * missing + photo[-2:]


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body))


def with_chunks(photo: bytes, *chunks: bytes) -> bytes:
    """The PNG with chunks put in right after its header."""
    return photo[:33] + b"".join(chunks) + photo[33:]


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header claims another size than its pixels fill."""
    header = struct.pack(">LLBBBBB", width, height, 8, 2, 0, 0, 0)
    return png()[:8] + png_chunk(b"IHDR", header) + png()[33:]
