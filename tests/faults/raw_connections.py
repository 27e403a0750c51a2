"""Connections that say exactly what they are told to, as slowly as they are told to."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

PATIENCE_S = 90


@dataclass(frozen=True, slots=True)
class Heard:
    """What came back: status 0 when the connection ended without an answer. `fields` are the headers, in lower case."""

    status: int
    content_type: str
    body: bytes
    seconds: float
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def problem(self) -> Any:
        return json.loads(self.body)


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def say(port: int, data: bytes) -> Heard:
    """Everything at once, and the answer."""
    async with asyncio.timeout(PATIENCE_S), connected(port) as (reader, writer):
        writer.write(data)
        return await hear(reader, time.monotonic())


async def trickle(port: int, at_once: bytes, then: bytes, pause_s: float) -> Heard:
    """`at_once` and after that one byte of `then` every `pause_s`, over and over, until the other side ends it."""
    since = time.monotonic()
    async with asyncio.timeout(PATIENCE_S), connected(port) as (reader, writer):
        writer.write(at_once)
        dripping = asyncio.create_task(_drip(writer, then, pause_s))
        try:
            return await hear(reader, since)
        finally:
            dripping.cancel()


async def pace(port: int, head: bytes, body: bytes, rate: int) -> Heard:
    """A body at so many bytes a second, in ten pieces a second."""
    since, step = time.monotonic(), rate // 10
    async with asyncio.timeout(PATIENCE_S), connected(port) as (reader, writer):
        writer.write(head)
        for number, start in enumerate(range(0, len(body), step), 1):
            writer.write(body[start : start + step])
            await asyncio.sleep(max(0.0, since + number / 10 - time.monotonic()))
        return await hear(reader, since)


async def hear(reader: asyncio.StreamReader, since: float) -> Heard:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return Heard(0, "", b"", time.monotonic() - since)
    line, *fields = head.decode("latin-1").split("\r\n")
    named = dict(field.lower().split(": ", 1) for field in fields if field)
    body = await reader.readexactly(int(named.get("content-length", 0)))
    return Heard(int(line.split()[1]), named.get("content-type", ""), body, time.monotonic() - since, named)


async def _drip(writer: asyncio.StreamWriter, then: bytes, pause_s: float) -> None:
    while then and not writer.is_closing():
        for byte in then:
            writer.write(bytes([byte]))
            await asyncio.sleep(pause_s)
