"""What operators and orchestrators ask."""

import asyncio
from functools import cache
from importlib import resources

import asyncpg
from aiohttp import web

from checkin_service.adapters.postgres import tasks
from checkin_service.adapters.postgres.database import DATABASE_FAILURES
from checkin_service.adapters.postgres.installation import read_installation
from checkin_service.web.answers import Answer
from checkin_service.web.context import Services, services
from checkin_service.web.draining import DRAIN

MAX_CLOCK_SKEW_S = 2


async def livez(_: web.Request) -> web.Response:
    """The process answers. Says nothing of what it depends on: a restart would not mend that."""
    return Answer(200, {"status": "alive"}).response()


async def readyz(request: web.Request) -> web.Response:
    """Whether check-ins can be judged here now, by a process that stays. Redis is told but not required: no verdict
    needs it."""
    wired = services(request)
    database, key_store, object_store, redis = await asyncio.gather(
        _database(wired), _key_store(wired), _object_store(wired), _redis(wired)
    )
    needed = {
        "database": database,
        "key_store": key_store,
        "face_workers": _face_workers(wired),
        "object_store": object_store,
        "process": "leaving" if request.app[DRAIN].begun else "ok",
    }
    ready = all(state == "ok" for state in needed.values())
    told = {"redis": redis, **_face_tier(wired)}
    body = {"status": "ready" if ready else "not_ready", "checks": {**needed, **told}}
    return Answer(200 if ready else 503, body).response()


async def metrics(request: web.Request) -> web.Response:
    wired = services(request)
    wired.metrics.observe_faces(wired.faces.stats)
    return web.Response(
        body=wired.metrics.render(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
    )


async def openapi(_: web.Request) -> web.Response:
    return web.Response(text=_openapi_text(), content_type="application/yaml")


@cache
def _openapi_text() -> str:
    return resources.files("checkin_service").joinpath("openapi.yaml").read_text("utf-8")


async def _database(wired: Services) -> str:
    """Also compares clocks: tokens are judged by ours, everything else by the database's."""
    try:
        async with wired.database.connection() as connection:
            asked_at = wired.clock()
            theirs = (await tasks.read_now(connection)).timestamp()
            answered_at = wired.clock()
    except DATABASE_FAILURES as error:
        return f"away: {type(error).__name__}"
    # a slow answer is no skew: theirs was read at some moment in between
    skew_s = max(asked_at - theirs, theirs - answered_at)
    return "ok" if skew_s < MAX_CLOCK_SKEW_S else f"clocks differ by {skew_s:.0f} s"


async def _key_store(wired: Services) -> str:
    try:
        async with wired.keys.store.connection() as connection:
            theirs = await read_installation(connection)
    except (*DATABASE_FAILURES, asyncpg.UndefinedTableError) as error:
        return f"away: {type(error).__name__}"
    return "ok" if theirs == wired.installation_id else "another installation's"


async def _object_store(wired: Services) -> str:
    fault = await wired.evidence.fault()
    return f"away: {fault}" if fault else "ok"


async def _redis(wired: Services) -> str:
    return "ok" if await wired.rate_limit.alive() else "away: requests are not limited"


def _face_tier(wired: Services) -> dict[str, str]:
    """Nothing where there is none. With workers here to fall back on it is not needed."""
    absent = wired.faces.stats.absent
    if absent is None:
        return {}
    return {"face_tier": ", ".join(f"{name} {why}" for name, why in absent.items()) or "ok"}


def _face_workers(wired: Services) -> str:
    stats = wired.faces.stats
    return "ok" if stats.ready else stats.start_fault or "no worker is ready"
