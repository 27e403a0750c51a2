"""multipart/form-data within limits, parsed by a push parser while it arrives."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from aiohttp import web
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from checkin_service.usecases.refusals import FieldFault, Refusal
from checkin_service.web.body import Received, nobody_counts, receive, require_content_type
from checkin_service.web.shape import escape

MEGABYTE = 1024 * 1024
FILE_LIMIT = 6 * MEGABYTE
TEXT_LIMIT = 64 * 1024
PARTS_LIMIT = 32
_PLAIN_TRANSFER = {"7bit", "8bit", "binary"}


@dataclass(slots=True)
class Form:
    """Text fields and files by name, each in the order in which they came."""

    texts: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, list[bytes]] = field(default_factory=dict)

    def digest(self) -> bytes:
        """SHA-256 over the values and the files' hashes: boundaries, order of parts and file names do not count."""
        lines = sorted(_digest_lines(self))
        return hashlib.sha256(b"\n".join(lines)).digest()


async def read_form(
    request: web.Request,
    file_counts: Mapping[str, int],
    text_names: set[str],
    received: Received = nobody_counts,
) -> Form:
    """The form's fields. `file_counts` says how many files each file field may carry; see `receive` for `received`.

    Raises `Refusal`: unsupported_media_type, payload_too_large, too_slow, malformed, and invalid with every
    unknown or repeated field at once.
    """
    require_content_type(request, "multipart/form-data")
    parts = await _read_parts(request, sum(file_counts.values()), received)
    faults = list(_name_faults(parts, file_counts, text_names))
    if faults:
        raise Refusal("invalid", faults)
    form = Form()
    for name, content in parts:
        if name in file_counts:
            form.files.setdefault(name, []).append(content)
        else:
            form.texts.setdefault(name, []).append(_text(content))
    return form


async def _read_parts(request: web.Request, files: int, received: Received) -> list[tuple[str, bytes]]:
    boundary = _boundary(request)
    parts: list[tuple[str, bytearray]] = []
    try:
        # Not its strict mode, which refuses a form whose last line break comes in a packet of its own.
        with PushMultipartParser(boundary, max_segment_count=PARTS_LIMIT) as parser:

            def take(chunk: bytes) -> None:
                for event in parser.parse(chunk):
                    _collect(parts, event)

            await receive(request, files * FILE_LIMIT + MEGABYTE, take, received)
    except MultipartError as error:
        raise Refusal("malformed") from error
    return [(name, bytes(content)) for name, content in parts]


def _boundary(request: web.Request) -> str:
    """The boundary from the Content-Type; 400 without a usable one (RFC 2046: 1 to 70 characters)."""
    _, options = parse_options_header(request.headers["Content-Type"])
    boundary: str = options.get("boundary", "")
    if not 1 <= len(boundary) <= 70:
        raise Refusal("malformed")
    return boundary


def _collect(parts: list[tuple[str, bytearray]], event: MultipartSegment | bytearray | None) -> None:
    if isinstance(event, MultipartSegment):
        _require_plain(event)
        parts.append((event.name or "", bytearray()))
    elif event:
        content = parts[-1][1]
        content += event
        if len(content) > FILE_LIMIT:
            raise Refusal("payload_too_large", limit_mb=FILE_LIMIT // MEGABYTE)


def _require_plain(segment: MultipartSegment) -> None:
    """A part is what it is: no transfer or content encoding that would have to be undone."""
    headers = {name.lower(): value.lower() for name, value in segment.headerlist}
    if headers.get("content-encoding", "identity") != "identity":
        raise Refusal("unsupported_media_type", expected="identity")
    if headers.get("content-transfer-encoding", "binary") not in _PLAIN_TRANSFER:
        raise Refusal("unsupported_media_type", expected="binary")


def _name_faults(
    parts: list[tuple[str, bytes]], file_counts: Mapping[str, int], text_names: set[str]
) -> Iterator[FieldFault]:
    names = [name for name, _ in parts]
    for name in dict.fromkeys(names):
        allowed = file_counts.get(name, 1 if name in text_names else 0)
        if not allowed:
            yield FieldFault(f"/{escape(name)}", "unknown_field")
        elif names.count(name) > allowed:
            yield FieldFault(
                f"/{name}", "duplicate_field" if allowed == 1 else "too_long", {"maximum": allowed}
            )
    yield from (
        FieldFault(f"/{name}", "too_long", {"maximum": TEXT_LIMIT})
        for name, content in parts
        if name in text_names and len(content) > TEXT_LIMIT
    )


def _text(content: bytes) -> str:
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise Refusal("malformed") from error
    if "\0" in text:
        raise Refusal("malformed")
    return text


def _digest_lines(form: Form) -> Iterator[bytes]:
    for name, values in form.texts.items():
        yield from (f"{name}={hashlib.sha256(value.encode()).hexdigest()}".encode() for value in values)
    for name, files in form.files.items():
        yield from (
            f"{name}:{index}@{hashlib.sha256(data).hexdigest()}".encode() for index, data in enumerate(files)
        )
