"""The phone page under /app/, the officers' console under /console/ and the API's under /docs/: static files, read once
and served from memory.

No build makes them, yet every file but the first has its content in its address: `index.html` names a version, the
digest of all files, and with `<base>` everything it loads, and what that loads, is asked for below it.
"""

import asyncio
import gzip
import hashlib
import importlib.util
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web

from checkin_service.usecases.refusals import Refusal
from checkin_service.web.context import services

APP, CONSOLE, DOCS = (Path(__file__).parent / name for name in ("app", "console", "docs"))
# What the console has from the phone page as it is.
SHARED = ("api.js", "clock.js", "frames.js", "icon.svg", "language.js", "retry.js", "session.js", "view.js")
# What shows the API, as its package brings it.
SWAGGER_UI = ("drf_spectacular_sidecar", "static/drf_spectacular_sidecar/swagger-ui-dist")
_OF_SWAGGER_UI = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png")
_FIRST = "index.html"
_PLACE_OF_VERSION = b"VERSION"

_SENSORS = "camera=(self), geolocation=(self)"
_NO_SENSORS = "camera=(), geolocation=()"
_HEADERS = {
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Vary": "Accept-Encoding",
}


def policy(*pictures_from: str) -> str:
    """Nothing of a page runs or loads that does not come from here, but for pictures of named hosts, and no text
    becomes markup or code."""
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            " ".join(("img-src 'self' blob:", *pictures_from)),
            "connect-src 'self'",
            "base-uri 'self'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def docs_policy() -> str:
    """As little as Swagger UI needs: it makes markup of text, which it cleans, and carries its icons as data."""
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            "connect-src 'self'",
            "base-uri 'self'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


@dataclass(frozen=True, slots=True)
class File:
    content_type: str
    content: bytes
    compressed: bytes


@dataclass(frozen=True, slots=True)
class Page:
    version: str
    files: Mapping[str, File]
    policy: str
    sensors: str

    @property
    def etag(self) -> str:
        """Weak: one for both encodings."""
        return f'W/"{self.version}"'

    @property
    def headers(self) -> dict[str, str]:
        others = "microphone=(), display-capture=(), payment=(), usb=()"
        return {
            **_HEADERS,
            "Content-Security-Policy": self.policy,
            "Permissions-Policy": f"{self.sensors}, {others}",
        }


async def redirect(request: web.Request) -> web.Response:
    return web.Response(status=308, headers={"Location": f"{request.path}/"})


async def app_page(request: web.Request) -> web.Response:
    return _first(request, read_page(APP))


async def app_file(request: web.Request) -> web.Response:
    return _further(request, read_page(APP))


async def console_page(request: web.Request) -> web.Response:
    return _first(request, _console(request))


async def console_file(request: web.Request) -> web.Response:
    return _further(request, _console(request))


async def docs_page(request: web.Request) -> web.Response:
    return _first(request, await asyncio.to_thread(read_docs))


async def docs_file(request: web.Request) -> web.Response:
    return _further(request, await asyncio.to_thread(read_docs))


def _console(request: web.Request) -> Page:
    settings = services(request).settings
    return read_page(CONSOLE, settings.base_map or "", settings.base_map_frame)


def _first(request: web.Request, page: Page) -> web.Response:
    """The page itself, asked for again each time: a new version shows at once."""
    headers = {"ETag": page.etag, "Cache-Control": "no-cache"}
    if page.etag in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=page.headers | headers)
    return _response(request, page, _FIRST, headers)


def _further(request: web.Request, page: Page) -> web.Response:
    """What the page loads. It never changes under its address, so nobody asks twice."""
    named = request.match_info
    if named["version"] != page.version or named["file"] not in page.files:
        raise Refusal("not_found")
    return _response(request, page, named["file"], {"Cache-Control": "public, max-age=31536000, immutable"})


@cache
def read_page(folder: Path, base_map: str = "", frame: str = "") -> Page:
    """`base_map`: a template of tiles in a frame, which the page is told and may load; empty for none."""
    files = _files(folder)
    if folder == CONSOLE:
        files |= {name: content for name, content in _files(APP).items() if name in SHARED}
    for place, told in ((b"BASE_MAP_FRAME", frame), (b"BASE_MAP", base_map)):
        files[_FIRST] = files[_FIRST].replace(place, escape(told).encode())
    hosts = [f"https://{urlsplit(base_map).netloc}"] if base_map else []
    return _versioned(files, policy(*hosts), _SENSORS if folder == APP else _NO_SENSORS)


@cache
def read_docs() -> Page:
    """Takes a tenth of a second at first."""
    package, folder = SWAGGER_UI
    # not imported: its own code wants a Django
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError(f"the package {package} of requirements/runtime.txt is not installed")
    theirs = Path(spec.submodule_search_locations[0], folder)
    files = _files(DOCS) | {name: (theirs / name).read_bytes() for name in _OF_SWAGGER_UI}
    return _versioned(files, docs_policy(), _NO_SENSORS)


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def _versioned(contents: dict[str, bytes], allowed: str, sensors: str) -> Page:
    lines = (f"{name} {hashlib.sha256(content).hexdigest()}\n" for name, content in sorted(contents.items()))
    version = hashlib.sha256("".join(lines).encode()).hexdigest()[:16]
    contents[_FIRST] = contents[_FIRST].replace(_PLACE_OF_VERSION, version.encode())
    return Page(version, {name: _file(name, content) for name, content in contents.items()}, allowed, sensors)


def _file(name: str, content: bytes) -> File:
    # the machine's own table is not asked: it may know nothing of modules
    content_type = {".js": "text/javascript"}.get(Path(name).suffix) or mimetypes.types_map[Path(name).suffix]
    return File(content_type, content, gzip.compress(content, mtime=0))


def _response(request: web.Request, page: Page, name: str, headers: Mapping[str, str]) -> web.Response:
    file = page.files[name]
    zipped = "gzip" in request.headers.get("Accept-Encoding", "")
    encoding = {"Content-Encoding": "gzip"} if zipped else {}
    return web.Response(
        body=file.compressed if zipped else file.content,
        content_type=file.content_type,
        charset="utf-8",
        headers={**page.headers, **headers, **encoding},
    )
