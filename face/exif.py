"""The one thing we want from EXIF: which way up the picture is.

Read here, in a few lines and a few of the bytes, so that hostile EXIF meets no larger reader: thousands of
directory entries may all point to the same 64 KB (in a PNG, to megabytes).
"""

import struct

_ORIENTATION = 0x0112
_MOST_ENTRIES = 512
_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}


def orientation(tiff: bytes) -> int:
    """The orientation 1-8 in the first directory of a TIFF structure; 1 when it is absent or broken.

    >>> orientation(b"MM\\0*" + b"\\0\\0\\0\\x08" + b"\\0\\x01" + b"\\x01\\x12\\0\\x03\\0\\0\\0\\x01\\0\\x06\\0\\0")
    6
    >>> orientation(b"MM\\0*\\xff\\xff\\xff\\xff")
    1
    """
    order = _BYTE_ORDERS.get(tiff[:4])
    if order is None:
        return 1
    try:
        return _first_orientation(tiff, order)
    except struct.error:
        return 1


def _first_orientation(tiff: bytes, order: str) -> int:
    (directory,) = struct.unpack_from(order + "L", tiff, 4)
    (entries,) = struct.unpack_from(order + "H", tiff, directory)
    for entry in range(min(entries, _MOST_ENTRIES)):
        tag, _kind, _count, value = struct.unpack_from(order + "HHLH", tiff, directory + 2 + 12 * entry)
        if tag == _ORIENTATION:
            return value if value in range(1, 9) else 1
    return 1
