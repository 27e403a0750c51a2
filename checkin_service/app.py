"""The composition root: opens what the service depends on, in order, and closes it in reverse."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import date

import redis.asyncio as redis
import structlog
from aiohttp import web

from checkin_service.adapters.head_turns import HeadTurns
from checkin_service.adapters.object_store import bucket_store, directory_store
from checkin_service.adapters.postgres.calendars import read_reach
from checkin_service.adapters.postgres.database import (
    DATABASE_FAILURES,
    Database,
    DatabaseSetupError,
    open_database,
)
from checkin_service.adapters.postgres.key_ids import adopt_key
from checkin_service.adapters.postgres.migrate import may_rewrite, migrate_at, migrate_where_allowed
from checkin_service.adapters.rate_limit import RateLimit
from checkin_service.adapters.receipt_keys import ReceiptKeys, load_receipt_keys
from checkin_service.adapters.template_keys import TemplateKeys, load_template_keys
from checkin_service.adapters.token_keys import TokenKeys
from checkin_service.domain.decision import OperatingPoint, Policy
from checkin_service.metrics import Metrics
from checkin_service.ports import Clock, FaceEngine, ObjectStore
from checkin_service.settings import Settings
from checkin_service.usecases.after_restore import notice_restore
from checkin_service.usecases.import_calendar import seed_calendar
from checkin_service.usecases.overdue_reviews import count_overdue
from checkin_service.usecases.sweep import sweep
from checkin_service.usecases.usable_references import settle_references
from checkin_service.web.context import SERVICES, Services
from checkin_service.web.problems import answer_problems, place_of
from checkin_service.web.routes import add_routes
from checkin_service.web.server import check_head
from face import DLIB_RESNET_MODEL, MECHANISMS, SFACE_MODEL, WorkerPool, operating_points
from geofence import Box

SWEEP_INTERVAL_S = 30
# so long before the published days end, a warning a day: windows are provisional from a month before on
LEAST_CALENDAR_DAYS = 60

OpenFaces = Callable[[Settings], AbstractAsyncContextManager[FaceEngine]]

# The first decides.
ENCODERS = {"sface": ("sface", "dlib"), "dlib": ("dlib",)}
MODELS = {"sface": SFACE_MODEL, "dlib": DLIB_RESNET_MODEL}

LOOK_ALIKE_MARGINS = {SFACE_MODEL: 0.05}
"""How near another member of the roster may come to the person's own score. How often honest members are then taken for
look-alikes stands in docs/accuracy.md; no margin of dlib's score keeps that below 5 %, so by dlib nobody is looked
for."""

log = structlog.get_logger("checkin_service.app")


@dataclass(frozen=True, slots=True)
class Stores:
    """Where the stores are: configured ones, or the embedded ones once they run.

    `migration_url`: the database again, for the owner of its tables; None where somebody else migrates it.
    """

    database_url: str
    redis_url: str
    jwks: str
    migration_url: str | None = None


def make_app(
    settings: Settings, stores: Stores, open_faces: OpenFaces | None = None, clock: Clock = time.time
) -> web.Application:
    """The application. Its stores must be reachable; migrations run at its start."""
    app = web.Application(middlewares=[answer_problems, check_head])
    add_routes(app)
    app.cleanup_ctx.append(_wire(settings, stores, open_faces or worker_pool, clock))
    return app


def worker_pool(settings: Settings) -> AbstractAsyncContextManager[FaceEngine]:
    """The face engine in processes of its own."""
    return WorkerPool(
        options={
            "cache_dir": str(settings.data_dir / "models"),
            "models_dir": str(settings.models_dir) if settings.models_dir else None,
            "encoders": ENCODERS[settings.face_engine],
            "passive_pad": settings.passive_pad,
        },
        workers=settings.face_workers,
        queue_limit=settings.face_queue,
        deadline_s=settings.face_deadline_s,
        patience_s=settings.face_deadline_s,
    )


def _wire(
    settings: Settings, stores: Stores, open_faces: OpenFaces, clock: Clock
) -> Callable[[web.Application], AsyncIterator[None]]:
    async def wired(app: web.Application) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            app[SERVICES] = await _open_services(stack, settings, stores, open_faces, clock)
            sweeper = asyncio.create_task(_sweep_for_ever(app[SERVICES].database, app[SERVICES].metrics))
            yield
            sweeper.cancel()
            with suppress(asyncio.CancelledError):
                await sweeper

    return wired


async def _open_services(
    stack: AsyncExitStack, settings: Settings, stores: Stores, open_faces: OpenFaces, clock: Clock
) -> Services:
    keys = load_template_keys(settings.key_path, may_create=settings.key_file is None)
    receipt_keys = load_receipt_keys(settings.receipt_key_path, may_create=settings.receipt_key_file is None)
    evidence = evidence_store(settings)
    token_keys = TokenKeys(stores.jwks)
    await token_keys.load()
    metrics = Metrics()
    database = await stack.enter_async_context(
        _prepared_database(settings, stores, keys, receipt_keys, metrics)
    )
    client = redis.from_url(stores.redis_url, socket_timeout=1, socket_connect_timeout=1)
    stack.push_async_callback(client.aclose)
    faces = await stack.enter_async_context(open_faces(settings))
    if missing := tuple(name for name in MECHANISMS if name not in faces.stats.confined_by):
        log.warning("faces_not_confined", missing=missing)
    policy = _policy(settings)
    await _settle_references(database, models_of(settings))
    return Services(
        settings=settings,
        database=database,
        keys=keys,
        token_keys=token_keys,
        receipt_keys=receipt_keys,
        evidence=evidence,
        faces=faces,
        policy=policy,
        liveness=HeadTurns() if settings.liveness else None,
        rate_limit=RateLimit(client, settings.person_challenges_per_minute, metrics, clock),
        metrics=metrics,
        box=Box(*settings.service_box),
        clock=clock,
    )


def evidence_store(settings: Settings) -> ObjectStore:
    """Where encrypted selfies lie: the configured bucket, or a directory beside the embedded stores."""
    if settings.evidence_url:
        return bucket_store(settings.evidence_url)
    return directory_store(settings.data_dir / "evidence")


@asynccontextmanager
async def _prepared_database(
    settings: Settings, stores: Stores, keys: TemplateKeys, receipt_keys: ReceiptKeys, metrics: Metrics
) -> AsyncIterator[Database]:
    if stores.migration_url:
        await migrate_at(stores.migration_url)
    held = metrics.connection_seconds.inc
    async with open_database(stores.database_url, settings.database_connections, held) as database:
        async with database.connection() as connection:
            await migrate_where_allowed(connection)
            if await may_rewrite(connection):
                log.warning("database_role_may_rewrite")
        async with database.transaction() as connection:
            if unknown := await adopt_key(connection, "wrapping_key", keys.current, keys.wrapping):
                raise DatabaseSetupError(
                    f"this database holds data wrapped by {', '.join(unknown)}, which is not in "
                    f"{settings.key_path}: point CHECKIN_KEY_FILE at the file that all replicas share"
                )
            if unknown := await adopt_key(
                connection, "receipt_key", receipt_keys.key_id, receipt_keys.key_ids
            ):
                raise DatabaseSetupError(
                    f"receipts here were signed by {', '.join(unknown)}, which is not in "
                    f"{settings.receipt_key_path}: "
                    "point CHECKIN_RECEIPT_KEY_FILE at the file that all replicas share"
                )
        await seed_calendar(database)
        await _notice_restore(database)
        yield database


def models_of(settings: Settings) -> tuple[str, ...]:
    """The models that faces are compared by, the deciding one first."""
    return tuple(MODELS[encoder] for encoder in ENCODERS[settings.face_engine])


def _policy(settings: Settings) -> Policy:
    points = [operating_points(model_id)[settings.operating_point] for model_id in models_of(settings)]
    return Policy(
        settings.attempts_per_day,
        [OperatingPoint(p.name, p.model_id, p.threshold, LOOK_ALIKE_MARGINS.get(p.model_id)) for p in points],
    )


async def _settle_references(database: Database, models: Sequence[str]) -> None:
    if changed := await settle_references(database, models):
        log.warning("references_settled", persons=changed, models=models)


async def _notice_restore(database: Database) -> None:
    if await notice_restore(database):
        log.warning("restored")


async def _sweep_for_ever(database: Database, metrics: Metrics) -> None:
    warned_on: date | None = None
    while True:
        try:
            await _notice_restore(database)
            await sweep(database)
            warned_on = await _observe(database, metrics, warned_on)
        except DATABASE_FAILURES as error:
            # the next round finds the same work; the status never waited for it
            log.warning("sweep_failed", error=type(error).__name__)
        except Exception as error:  # noqa: BLE001  a defect of ours must not end the sweeping
            log.critical("defect", error=type(error).__name__, at=place_of(error))
        await asyncio.sleep(SWEEP_INTERVAL_S)


async def _observe(database: Database, metrics: Metrics, warned_on: date | None) -> date:
    """Sets the metrics of what somebody has to do soon, and says it once a day: what was due then, due now."""
    async with database.connection() as connection:
        reach, overdue = await read_reach(connection), await count_overdue(connection)
    metrics.observe_calendar(reach)
    metrics.overdue_reviews.set(overdue)
    if reach.today != warned_on:
        if reach.days_ahead < LEAST_CALENDAR_DAYS:
            log.warning("calendar_ends", last_day=str(reach.last_day), days_ahead=reach.days_ahead)
        if overdue:
            log.warning("review_overdue", reviews=overdue)
    return reach.today
