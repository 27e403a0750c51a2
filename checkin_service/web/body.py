"""Reads request bodies within limits of size and time, and parses JSON strictly.

Nothing here trusts the sender: size is checked while receiving, encodings are refused, and whatever can't be parsed
is the 4xx of the contract.
"""

import asyncio
import hashlib
import json
import math
import re
from collections.abc import Callable
from typing import Any, NoReturn

from aiohttp import web
from multipart import parse_options_header

from checkin_service.usecases.refusals import Refusal
from checkin_service.web.draining import DRAIN

JSON_LIMIT = 2 * 1024 * 1024
# a minute, and what 6 MB at 100 kB/s take more
RECEIVE_TIMEOUT_S = 64
# 8 kB/s: slower than this for so long is no network, but somebody who holds a place
RATE_WINDOW_S = 10
RATE_BYTES = 80_000
CONTINUE = "100-continue"
MAX_JSON_DEPTH = 64
Received = Callable[[int], object]
"""Is told how many bytes of a body are there."""
_NUL_ESCAPE = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def nobody_counts(_: int) -> None:
    """For bodies that load nothing."""


async def read_json(request: web.Request) -> Any:
    """The parsed JSON body. Raises `Refusal`: unsupported_media_type, payload_too_large, too_slow,
    malformed."""
    require_content_type(request, "application/json")
    return parse_json(await read_bytes(request, JSON_LIMIT))


async def read_bytes(request: web.Request, limit: int, received: Received = nobody_counts) -> bytes:
    """The whole body. Raises `Refusal` as `receive` does."""
    body = bytearray()
    await receive(request, limit, body.extend, received)
    return bytes(body)


def require_content_type(request: web.Request, expected: str) -> None:
    content_type, options = parse_options_header(request.headers.get("Content-Type", ""))
    if content_type != expected or options.get("charset", "utf-8").lower() not in {"utf-8", "utf8"}:
        raise Refusal("unsupported_media_type", expected=expected)


async def receive(
    request: web.Request, limit: int, take: Callable[[bytes], object], told: Received = nobody_counts
) -> None:
    """Hands the body over in chunks, tells how many bytes are there. Raises `Refusal`: unsupported_media_type,
    payload_too_large, too_slow, malformed; unavailable when the process can't wait for it, as it is leaving."""
    _check_announced(request, limit)
    if request.headers.get("Expect", "").lower() == CONTINUE:
        await _ask_for_the_body(request)
    loop, received, due = asyncio.get_running_loop(), 0, RATE_BYTES
    leaving = None
    try:
        async with (
            request.app[DRAIN].receiving() as leaving,
            asyncio.timeout(RECEIVE_TIMEOUT_S),
            asyncio.timeout(RATE_WINDOW_S) as window,
        ):
            async for chunk in request.content.iter_any():
                received += len(chunk)
                if received > limit:
                    raise Refusal("payload_too_large", limit_mb=limit // 1024**2)
                told(received)
                if received >= due:
                    due = received + RATE_BYTES
                    window.reschedule(loop.time() + RATE_WINDOW_S)
                take(chunk)
    except TimeoutError as error:
        raise Refusal("unavailable" if leaving and leaving.expired() else "too_slow") from error
    except web.RequestPayloadError as error:
        raise Refusal("malformed") from error


def _check_announced(request: web.Request, limit: int) -> None:
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Refusal("unsupported_media_type", expected="identity")
    if (request.content_length or 0) > limit:
        raise Refusal("payload_too_large", limit_mb=limit // 1024**2)


async def _ask_for_the_body(request: web.Request) -> None:
    """Only now: who was refused before need not send it."""
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    # the answer itself has not begun
    request.writer.output_size = 0


def parse_json(text: bytes | str) -> Any:
    """Strict JSON: no NaN or infinity, no name twice, no lone surrogate, bounded depth. Raises `Refusal` malformed.

    >>> parse_json('{"lon": 114.059, "lat": 22.543}')
    {'lon': 114.059, 'lat': 22.543}
    """
    try:
        text = text if isinstance(text, str) else text.decode()
        value = json.loads(
            text,
            parse_constant=_not_a_number,
            parse_float=_finite,
            parse_int=_whole,
            object_pairs_hook=_object_without_repeats,
        )
        # UTF-8 holds no lone surrogate, which JSON can escape
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise Refusal("malformed") from error
    # nor does PostgreSQL hold a NUL
    if _NUL_ESCAPE.search(text) or _depth(value) > MAX_JSON_DEPTH:
        raise Refusal("malformed")
    return value


def json_digest(value: object) -> bytes:
    """SHA-256 of the canonical form: two bodies that parse to the same JSON have the same digest."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).digest()


def _not_a_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is beyond what a number can hold")
    return number


def _whole(text: str) -> int:
    _finite(text)
    return int(text)


def _object_without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return names


def _depth(value: object) -> int:
    deepest, level = 0, [value]
    while level:
        deepest += 1
        level = [child for node in level for child in _children(node)]
    return deepest


def _children(node: object) -> list[Any]:
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else []
