"""The face engine at other machines: replicas of a tier that are asked by HTTP, see docs/decisions/0026-face-tier.md.

A replica is one that answers for the same models by the same weights; whoever does not is left alone until it does.
While none does, photographs go to the local pool where there is one, and else nobody is judged: 503, nothing recorded.
Nothing of a picture, an answer or the token is in what is raised or logged.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import structlog

from checkin_service.adapters.inference import (
    Reply,
    analysis_in,
    infer_path,
    introduction_in,
    reply_in,
    request_of,
)
from checkin_service.ports import FaceEngine
from face import JOB_NAME, Analysis, PoolFull, PoolStats, PoolTimeout, WorkerFailed
from face.frames import MOST_REPLY_BYTES

WATCH_INTERVAL_S = 1.0
PROBE_S = 2.0
CONNECT_S = 1.0
CONNECTION_USES = 100
"""After so many photographs a connection is closed, so that replicas behind one address that came later get some."""

_ANALYSIS_S = 0.25
_NEWEST_SHARE = 0.1
_REFUSALS = {401: "token_refused", 404: "other_models"}
_CONNECTING = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
_BROKEN = (aiohttp.ClientError, OSError, ValueError)

log = structlog.get_logger("checkin_service.face_tier")


class TierAway(Exception):
    """A replica that does nothing with a photograph: it can't be reached, or is not ours to ask."""


@dataclass(frozen=True, slots=True)
class Access:
    """How the tier is reached: `token` is the secret that it shares with us, `ca_file` who signs its certificates
    (None: whom this machine trusts)."""

    urls: Sequence[str]
    token: str
    engine: str
    model_id: str
    ca_file: Path | None = None


class Replica:
    """One address. `fault`: why it is not asked, in a word, None while it is; `ready` workers and what holds them are
    as it last said."""

    def __init__(self, session: aiohttp.ClientSession, url: str, access: Access) -> None:
        self.name = urlsplit(url).netloc
        self.fault: str | None = "not_asked"
        self.in_flight = self.ready = 0
        self.confined_by: tuple[str, ...] = ()
        self._session = session
        self._url = url.rstrip("/") + infer_path(access.engine)
        self._model_id = access.model_id
        self._headers = {
            "Authorization": f"Bearer {access.token}",
            "Content-Type": "application/octet-stream",
        }
        self._uses = 0

    async def analyse(self, photo: bytes, within_s: float) -> Analysis:
        """Raises as `FaceEngine.analyse`, and `TierAway`."""
        self.in_flight += 1
        try:
            return analysis_in(await self._asked(photo, within_s))
        finally:
            self.in_flight -= 1

    async def look(self) -> None:
        """Finds out whether it is to be asked."""
        with suppress(TierAway, PoolTimeout, WorkerFailed):
            self._meet(await self._asked(b"", PROBE_S))

    def _meet(self, reply: Reply) -> None:
        try:
            met = introduction_in(reply, self._model_id)
        except ValueError:
            return self._leave("unusable")
        if met is None:
            return self._leave("other_models")
        self.ready, self.confined_by = met
        if self.fault:
            log.warning("face_tier_back", replica=self.name)
        self.fault = None
        return None

    def _leave(self, cause: str) -> None:
        if self.fault != cause:
            log.error("face_tier_away", replica=self.name, cause=cause)
        self.fault = cause

    async def _asked(self, photo: bytes, within_s: float) -> Reply:
        """Raises `TierAway` where nothing was done with it; `WorkerFailed` or `PoolTimeout` where nobody knows."""
        try:
            async with asyncio.timeout(within_s):
                return await self._post(request_of(photo, JOB_NAME.get()))
        except _CONNECTING as error:
            self._leave(type(error).__name__)
            raise TierAway from None
        except TimeoutError:
            self._leave("silent")
            raise PoolTimeout(f"the tier was silent for {within_s:g} s") from None
        except _BROKEN as error:
            self._leave(type(error).__name__)
            raise WorkerFailed("the tier broke off", type(error).__name__) from None

    async def _post(self, body: bytes) -> Reply:
        # the length of a JSON head with nothing binary after it: the protocol's way past a second parser
        headers = {**self._headers, "Inference-Header-Content-Length": str(len(body))}
        self._uses += 1
        if self._uses % CONNECTION_USES == 0:
            headers["Connection"] = "close"
        async with self._session.post(self._url, data=body, headers=headers, allow_redirects=False) as answer:
            if answer.status != 200:
                self._leave(_REFUSALS.get(answer.status, f"status_{answer.status}"))
                raise TierAway
            return reply_in(await _whole(answer.content))


async def _whole(content: aiohttp.StreamReader) -> bytes:
    """Raises `ValueError` for more than an answer can be."""
    body = bytearray()
    async for chunk in content.iter_any():
        body += chunk
        if len(body) > MOST_REPLY_BYTES:
            raise ValueError("too long for an answer")
    return bytes(body)


class FaceTier:
    """The port `FaceEngine`: `places` photographs at once, each at the replica that has the fewest; `queue_limit` more
    wait for `patience_s`. `local` takes them while no replica answers. `on_loss` is told as a pool's is."""

    def __init__(
        self,
        replicas: Sequence[Replica],
        model_id: str,
        local: FaceEngine | None,
        on_loss: Callable[[str, str], None],
        *,
        places: int,
        queue_limit: int,
        patience_s: float,
    ) -> None:
        self.model_id = model_id
        self._replicas = replicas
        self._local = local
        self._on_loss = on_loss
        self._places = asyncio.Semaphore(places)
        self._queue_limit = queue_limit
        self._patience_s = patience_s
        self._waiting = self._jobs = self._failures = 0
        self._analysis_s = _ANALYSIS_S

    @property
    def stats(self) -> PoolStats:
        """The local pool's while that has to do the work. `ready` are the workers of the whole tier, which others ask,
        too; `analysis_s` includes a photograph's wait there."""
        absent = {replica.name: replica.fault for replica in self._replicas if replica.fault}
        local = self._local.stats if self._local else None
        failures = self._failures + (local.failures if local else 0)
        if local and not self._present:
            return replace(local, failures=failures, absent=absent)
        return PoolStats(
            ready=sum(replica.ready for replica in self._present),
            busy=sum(replica.in_flight for replica in self._replicas),
            starting=0,
            waiting=self._waiting,
            jobs=self._jobs,
            failures=failures,
            recycled=0,
            start_fault=_told(absent),
            confined_by=self._confined_by,
            analysis_s=self._analysis_s,
            absent=absent,
        )

    async def analyse(self, photo: bytes) -> Analysis:
        """As the port says."""
        if not self._present:
            return await self._without_tier(photo)
        until = time.monotonic() + 2 * self._patience_s
        await self._take_place()
        try:
            return await self._at_a_replica(photo, until)
        except (PoolTimeout, WorkerFailed) as fault:
            self._failures += 1
            self._on_loss(JOB_NAME.get(), getattr(fault, "cause", type(fault).__name__))
            raise
        except TierAway:
            pass
        finally:
            self._places.release()
            self._jobs += 1
        return await self._without_tier(photo)

    async def watch(self) -> None:
        """Looks at every replica, for ever: at those that are away for their return, at the others so that one which
        hangs is found by us and not by somebody's photograph."""
        while True:
            await self.look()
            await asyncio.sleep(WATCH_INTERVAL_S)

    async def look(self) -> None:
        await asyncio.gather(*(replica.look() for replica in self._replicas))

    @property
    def _present(self) -> list[Replica]:
        return [replica for replica in self._replicas if replica.fault is None]

    @property
    def _confined_by(self) -> tuple[str, ...]:
        """What holds the workers of all of them."""
        held = [replica.confined_by for replica in self._present]
        return tuple(name for name in held[0] if all(name in names for names in held)) if held else ()

    async def _take_place(self) -> None:
        if self._waiting >= self._queue_limit:
            raise PoolFull(f"{self._queue_limit} photographs are waiting")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._patience_s):
                await self._places.acquire()
        except TimeoutError:
            raise PoolTimeout(f"no place was free for {self._patience_s:g} s") from None
        finally:
            self._waiting -= 1

    async def _at_a_replica(self, photo: bytes, until: float) -> Analysis:
        """At the first that takes it. Raises `TierAway` when none is left to ask, `PoolFull` when one was full.

        What a replica has lost is not tried at another: a photograph that costs one may cost the next one, too.
        """
        refusal: Exception = TierAway()
        for replica in sorted(self._present, key=lambda present: present.in_flight):
            since = time.monotonic()
            try:
                analysis = await replica.analyse(photo, max(0.1, until - since))
            except PoolFull as full:
                refusal = full
            except TierAway:
                continue
            else:
                self._analysis_s += _NEWEST_SHARE * (time.monotonic() - since - self._analysis_s)
                return analysis
        raise refusal

    async def _without_tier(self, photo: bytes) -> Analysis:
        if self._local is None:
            raise WorkerFailed("no replica of the face tier answers", "tier_away")
        return await self._local.analyse(photo)


def _told(absent: dict[str, str]) -> str | None:
    return "the face tier: " + ", ".join(f"{name} {why}" for name, why in absent.items()) if absent else None


@asynccontextmanager
async def open_face_tier(
    access: Access,
    local: FaceEngine | None,
    on_loss: Callable[[str, str], None],
    *,
    places: int,
    queue_limit: int,
    patience_s: float,
) -> AsyncIterator[FaceTier]:
    """The tier, once each replica was looked at; it is watched until the block ends. Raises `OSError` for a `ca_file`
    that can't be read."""
    context = ssl.create_default_context(cafile=access.ca_file)
    connector = aiohttp.TCPConnector(limit=places + len(access.urls), ssl=context)
    timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session:
        replicas = [Replica(session, url, access) for url in access.urls]
        tier = FaceTier(
            replicas,
            access.model_id,
            local,
            on_loss,
            places=places,
            queue_limit=queue_limit,
            patience_s=patience_s,
        )
        _warn_of_clear_text(access.urls)
        await tier.look()
        watching = asyncio.create_task(tier.watch())
        try:
            yield tier
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching


def _warn_of_clear_text(urls: Sequence[str]) -> None:
    """Selfies go there: beyond this machine only under TLS, ours or a mesh's."""
    for address in map(urlsplit, urls):
        if address.scheme == "http" and address.hostname not in {"127.0.0.1", "::1", "localhost"}:
            log.warning("face_tier_in_clear", replica=address.netloc)
