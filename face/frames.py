"""What passes between the pool and a worker: frames of four length bytes and a body.

A request's body is the photograph, a reply's is JSON. Nothing is unpickled: a worker that decodes hostile
pictures is not trusted.
"""

import json
import struct
from typing import Any

PREFIX = struct.Struct(">I")
MOST_PHOTO_BYTES = 32 * 1024 * 1024
MOST_REPLY_BYTES = 1024 * 1024


def frame(body: bytes) -> bytes:
    """The body with its length before it.

    >>> frame(b"abc")
    b'\\x00\\x00\\x00\\x03abc'
    """
    return PREFIX.pack(len(body)) + body


def body_length(prefix: bytes, most: int) -> int:
    """The length of the body that follows. Raises ``ValueError`` when it is over ``most``."""
    (length,) = PREFIX.unpack(prefix)
    if length > most:
        raise ValueError(f"a frame of {length} bytes, at most {most} are allowed")
    return int(length)


def reply_from(body: bytes) -> dict[str, Any]:
    """The JSON object of a reply. Raises ``ValueError`` for anything else.

    >>> reply_from(b'[]')
    Traceback (most recent call last):
    ValueError: a reply is a JSON object
    """
    reply = json.loads(body)
    if not isinstance(reply, dict):
        raise ValueError("a reply is a JSON object")  # noqa: TRY004 (one kind for the caller to catch)
    return reply
