"""The phone page under /app/: static files, read once and served from memory.

No build makes them, yet every file but the first has its content in its address: `index.html` names a version, the
digest of all files, and with `<base>` everything it loads, and what that loads, is asked for below it.
"""

import gzip
import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from aiohttp import web

from checkin_service.usecases.refusals import Refusal

APP = Path(__file__).parent / "app"
_FIRST = "index.html"
_PLACE_OF_VERSION = b"VERSION"

# Nothing of a page runs or loads that does not come from here, and no text becomes markup or code.
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'self'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Permissions-Policy": "camera=(self), geolocation=(self), microphone=(), display-capture=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Vary": "Accept-Encoding",
}


@dataclass(frozen=True, slots=True)
class File:
    content_type: str
    content: bytes
    compressed: bytes


@dataclass(frozen=True, slots=True)
class Page:
    version: str
    files: Mapping[str, File]

    @property
    def etag(self) -> str:
        """Weak: one for both encodings."""
        return f'W/"{self.version}"'


async def app_redirect(_: web.Request) -> web.Response:
    return web.Response(status=308, headers={"Location": "/app/"})


async def app_page(request: web.Request) -> web.Response:
    """The page itself, asked for again each time: a new version shows at once."""
    page = read_page(APP)
    headers = {"ETag": page.etag, "Cache-Control": "no-cache"}
    if page.etag in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=_HEADERS | headers)
    return _response(request, page.files[_FIRST], headers)


async def app_file(request: web.Request) -> web.Response:
    """What the page loads. It never changes under its address, so no phone asks twice."""
    page, named = read_page(APP), request.match_info
    if named["version"] != page.version or named["file"] not in page.files:
        raise Refusal("not_found")
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return _response(request, page.files[named["file"]], headers)


@cache
def read_page(folder: Path) -> Page:
    contents = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
    lines = (f"{name} {hashlib.sha256(content).hexdigest()}\n" for name, content in contents.items())
    version = hashlib.sha256("".join(lines).encode()).hexdigest()[:16]
    contents[_FIRST] = contents[_FIRST].replace(_PLACE_OF_VERSION, version.encode())
    return Page(version, {name: _file(name, content) for name, content in contents.items()})


def _file(name: str, content: bytes) -> File:
    # the machine's own table is not asked: it may know nothing of modules
    content_type = {".js": "text/javascript"}.get(Path(name).suffix) or mimetypes.types_map[Path(name).suffix]
    return File(content_type, content, gzip.compress(content, mtime=0))


def _response(request: web.Request, file: File, headers: Mapping[str, str]) -> web.Response:
    zipped = "gzip" in request.headers.get("Accept-Encoding", "")
    encoding = {"Content-Encoding": "gzip"} if zipped else {}
    return web.Response(
        body=file.compressed if zipped else file.content,
        content_type=file.content_type,
        charset="utf-8",
        headers={**_HEADERS, **headers, **encoding},
    )
