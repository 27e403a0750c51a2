"""The HTTP server's settings and limits, in one place, and a deadline for every state of a connection.

aiohttp knows none for a head that comes byte by byte, nor for an answer that nobody reads, and says in plain text what
it can't parse, quoting it. `make_runner` is what `serve` and every test run the application by.
"""

import asyncio
import resource
from contextlib import suppress
from typing import Any, cast

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from checkin_service.usecases.refusals import Refusal
from checkin_service.web.body import CONTINUE
from checkin_service.web.context import SERVICES
from checkin_service.web.draining import DRAIN
from checkin_service.web.problems import answer_unread, place_of

HEAD_S = 15.0
"""From the first byte of a request, or from connecting, to the end of its headers."""
ANSWER_S = 150.0
"""From there to the answer, and once more until the answer has been read: more than a body may take and a verdict."""
IDLE_S = 75.0
"""Between two requests: more than the minute after which proxies give up an idle connection themselves."""
LINGER_S = 5
"""How long what is left of a body is still read once it is answered, so that the sender sees the answer and no reset;
not after `too_slow`."""

LINE_LIMIT = 8190
HEADERS_LIMIT = 64
HEAD_LIMIT = 32 * 1024
"""Bytes of a request line and all headers. A token has 8 KB at most."""

BACKLOG = 128
"""How many may wait to be accepted."""
LAST_S = 1
"""In `drain`, after the listener's end: how long whoever got in at the last moment may take to a first word."""
HURRY_S = 20
"""Since its beginning: from here on, who still sends is told to send it again elsewhere."""
DRAINED_S = 26
"""Since its beginning: from here on nothing is waited for. An orchestrator kills after 30 s."""
CUT_S = 1
"""What a request still gets after that."""

CONNECTIONS_LIMIT = 8192
FILES_KEPT = 256
"""File descriptors that connections leave to databases, workers and evidence."""

# one value each, or a proxy before us may have gone by the other one
_SINGLE = ("Authorization", "Content-Encoding", "Expect", "Idempotency-Key")

log = structlog.get_logger("checkin_service.server")


def make_runner(app: web.Application, connections: int | None = None) -> web.AppRunner:
    """The application behind this server, not yet listening. So many `connections` at once, by default as many as the
    process may have files, up to `CONNECTIONS_LIMIT`; one more takes the place of the one that has longest had no
    whole request to answer."""
    return _Runner(app, shutdown_timeout=CUT_S, connections=connections or _connections_allowed())


def raise_file_limit() -> None:
    """As many files as the system allows this process: each connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _connections_allowed() -> int:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, min(CONNECTIONS_LIMIT, files - FILES_KEPT))


class Server(web.Server):
    """Makes a `Connection` of each that comes. `waiting` are those with no request to answer, longest first; `at_work`
    counts requests, also of those who have hung up."""

    def __init__(self, app: web.Application, made: web.Server, connections: int) -> None:
        super().__init__(
            self._count,
            request_factory=made.request_factory,
            access_log=None,
            # we refuse compressed bodies ourselves; inflating them is the sender's lever
            auto_decompress=False,
            max_line_size=LINE_LIMIT,
            max_field_size=LINE_LIMIT,
            max_headers=HEADERS_LIMIT,
            lingering_time=LINGER_S,
        )
        self._answer = made.request_handler
        self.at_work = 0
        self.app = app
        self.limit = connections
        self.open = 0
        self.waiting: dict[Connection, None] = {}

    def __call__(self) -> "Connection":
        return Connection(self, self._loop, self._kwargs)

    async def _count(self, request: web.BaseRequest) -> web.StreamResponse:
        self.at_work += 1
        try:
            return await self._answer(request)
        finally:
            self.at_work -= 1

    def make_room(self) -> None:
        """Gives up who has waited longest when there are too many: at the latest, who has just come."""
        if self.open > self.limit:
            next(iter(self.waiting)).cut("crowded")


class Connection(web.RequestHandler):
    """aiohttp's connection, with one timer that is set anew in each state and ends with the connection only.

    States: waiting for the head of a request, serving it until it is answered, the answer being read.
    """

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop, settings: dict[str, Any]) -> None:
        super().__init__(server, loop=loop, **settings)
        self._server = server
        self._serving = False
        self._head_bytes = 0
        self._refusal = "malformed"
        self._timer: asyncio.TimerHandle | None = None
        # aiohttp forgets its own when it closes, before what it has written is read
        self._wire: asyncio.Transport | None = None

    # --- What comes ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # uvloop's is no subclass, but has all of it
        self._wire = cast(asyncio.Transport, transport)
        self._server.open += 1
        self._wait(HEAD_S)
        self._server.make_room()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._wire = None
        self._server.open -= 1
        self._server.waiting.pop(self, None)
        self._end_in(0)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._feed(data)
        if self._serving or not data:
            return
        if not self._head_bytes:
            self._end_in(HEAD_S)
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_LIMIT:
            self._break_off("malformed")

    def _feed(self, data: bytes) -> None:
        super().data_received(data)
        if self._messages:
            self._server.waiting.pop(self, None)
            self._head_bytes = 0
            if not self._serving:
                self._serving = True
                self._end_in(ANSWER_S)

    def _break_off(self, code: str) -> None:
        """Ends a head that has not come to its end: the parser takes a NUL nowhere in it, and answers by
        `handle_error`."""
        self._refusal = code
        self._feed(b"\0\n")

    # --- What goes ---

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  it quotes what was sent
    ) -> web.StreamResponse:
        """What is no HTTP, or escaped from everything else. Nothing of it is quoted or logged."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was begun")
        if status >= 500:
            self.log_exception("unhandled", exc_info=exc)
            response = answer_unread(self._server.app[SERVICES], request, Refusal("unavailable"), 500)
        else:
            response = answer_unread(self._server.app[SERVICES], request, Refusal(self._refusal))
        response.force_close()
        return response

    def log_exception(self, *_: Any, **kw: Any) -> None:
        error = kw.get("exc_info")
        if isinstance(error, BaseException):
            log.critical("defect", error=type(error).__name__, at=place_of(error))

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        if isinstance(resp, web.HTTPException):
            # refused before any middleware: an `Expect` that nobody knows on a path that nobody knows
            resp = answer_unread(self._server.app[SERVICES], request, Refusal("malformed"), resp.status)
        if self._server.app[DRAIN].begun:
            # the next request goes to a process that stays
            resp.force_close()
        self._end_in(ANSWER_S)
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            if resp.status == 408:
                self.force_close()
            elif not self._messages:
                # while the rest of a body is read, what comes is no head
                self._wait(IDLE_S, serving=not request.content.is_eof())

    # --- The deadline ---

    def _wait(self, seconds: float, *, serving: bool = False) -> None:
        """For who sends next: from now on another may need the place more."""
        if self._wire:
            self._serving = serving
            self._server.waiting[self] = None
            self._end_in(seconds)

    def _end_in(self, seconds: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._expire) if self._wire else None

    def _expire(self) -> None:
        if self._head_bytes:
            self._break_off("too_slow")
        else:
            self.cut("answer" if self._serving else "idle")

    # --- The end of the process ---

    def leave(self) -> None:
        """Closes it if nothing was begun on it."""
        if not self._serving and not self._head_bytes:
            self.force_close()

    def hurry(self) -> None:
        """Sends a head elsewhere that still has not come to its end."""
        if self._head_bytes:
            self._break_off("unavailable")

    def cut(self, why: str) -> None:
        """Ends the connection at once, whatever is still unread on the other side."""
        self._server.waiting.pop(self, None)
        self._server.app[SERVICES].metrics.cut_connections.labels(why).inc()
        if self._wire:
            self._wire.abort()


class _Runner(web.AppRunner):
    def __init__(self, app: web.Application, *, shutdown_timeout: float, connections: int) -> None:
        super().__init__(app, shutdown_timeout=shutdown_timeout)
        self._connections = connections

    async def _make_server(self) -> web.Server:
        return Server(self.app, await super()._make_server(), self._connections)


async def drain(runner: web.AppRunner, grace_s: float) -> None:
    """Lets everybody who has come be answered, and returns when nobody is left, or `DRAINED_S` from now.

    For `grace_s` the listener goes on, while readiness is red; after that nobody new gets in.
    """
    since, server = asyncio.get_running_loop().time(), cast(Server, runner.server)
    runner.app[DRAIN].begun = True
    log.info("draining", grace_s=grace_s)
    with suppress(TimeoutError):
        async with asyncio.timeout_at(since + DRAINED_S):
            await asyncio.sleep(grace_s)
            # after the listener's end who waits to be accepted is reset, and a round of the loop accepts one of them
            for _ in range(BACKLOG + 1):
                await asyncio.sleep(0)
            for site in runner.sites:
                await site.stop()
            await asyncio.sleep(LAST_S)
            for connection in list(server.waiting):
                connection.leave()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(since + HURRY_S):
                    await _nobody_left(server)
            runner.app[DRAIN].hurry()
            for connection in list(server.waiting):
                connection.hurry()
            await _nobody_left(server)
    log.info("drained", connections=server.open, requests=server.at_work)


async def _nobody_left(server: Server) -> None:
    while server.open or server.at_work:  # noqa: ASYNC110  two counts, looked at for seconds in a process's life
        await asyncio.sleep(0.02)


@web.middleware
async def check_head(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Raises `Refusal` malformed for a head that is too long or says one thing twice, unsupported_media_type for a body
    that would have to be decoded on the way."""
    headers = request.headers
    if sum(len(name) + len(value) for name, value in request.raw_headers) > HEAD_LIMIT:
        raise Refusal("malformed")
    if any(len(headers.getall(name, ())) > 1 for name in _SINGLE):
        raise Refusal("malformed")
    if headers.get("Transfer-Encoding", "chunked").lower() != "chunked":
        raise Refusal("unsupported_media_type", expected="identity")
    if headers.get("Expect", CONTINUE).lower() != CONTINUE:
        raise web.HTTPExpectationFailed
    return await handler(request)
