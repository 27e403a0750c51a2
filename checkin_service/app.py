"""The composition root: opens what the service depends on, in order, and closes it in reverse."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from uuid import UUID

import aiohttp
import redis.asyncio as redis
import structlog
from aiohttp import web

from checkin_service.adapters.face_tier import Access, open_face_tier
from checkin_service.adapters.head_turns import HeadTurns
from checkin_service.adapters.object_store import bucket_store, directory_store
from checkin_service.adapters.postgres.calendars import read_reach
from checkin_service.adapters.postgres.database import (
    DATABASE_FAILURES,
    Database,
    DatabaseSetupError,
    open_database,
)
from checkin_service.adapters.postgres.installation import note_installation
from checkin_service.adapters.postgres.key_ids import adopt_key
from checkin_service.adapters.postgres.key_store import (
    SCHEMA,
    migrate_key_store_at,
    migrate_key_store_where_allowed,
)
from checkin_service.adapters.postgres.migrate import may_rewrite, migrate_at, migrate_where_allowed
from checkin_service.adapters.postgres.watch import Watch
from checkin_service.adapters.rate_limit import RateLimit
from checkin_service.adapters.receipt_keys import ReceiptKeys, load_receipt_keys
from checkin_service.adapters.template_keys import TemplateKeys
from checkin_service.adapters.token_keys import KeySetError, TokenKeys
from checkin_service.adapters.wechat import WeChatApi, WeChatVerification
from checkin_service.adapters.wrapping_keys import load_wrapping_keys
from checkin_service.domain.decision import OperatingPoint, Policy
from checkin_service.metrics import Metrics
from checkin_service.overload import end_task, look_for_deadlines, run_beside
from checkin_service.ports import Clock, FaceEngine, KeysUnavailable, Liveness, ObjectStore
from checkin_service.settings import SettingError, Settings
from checkin_service.tracing import TracedFaces, Traces
from checkin_service.usecases.after_restore import notice_restore
from checkin_service.usecases.finish_deletions import finish_deletions
from checkin_service.usecases.import_calendar import seed_calendar
from checkin_service.usecases.overdue_reviews import count_overdue
from checkin_service.usecases.pair_key_store import pair_key_store
from checkin_service.usecases.sweep import sweep
from checkin_service.usecases.usable_references import settle_references
from checkin_service.usecases.viewings import Viewings
from checkin_service.web.admission import Admission
from checkin_service.web.check_ins import judge_of
from checkin_service.web.context import SERVICES, Services
from checkin_service.web.draining import DRAIN, Drain
from checkin_service.web.problems import answer_problems, place_of
from checkin_service.web.routes import add_routes
from checkin_service.web.server import check_head
from face import DLIB_RESNET_MODEL, MECHANISMS, SFACE_MODEL, WorkerPool, engine_id, operating_points
from geofence import Box

SWEEP_INTERVAL_S = 30
# Deletions that a crash has cut off are carried out by the next sweep, and whatever is older by the next start.
UNFINISHED = timedelta(hours=1)
SWEEP_FAILURES: tuple[type[BaseException], ...] = (*DATABASE_FAILURES, KeysUnavailable)
# one statement a submission: few serve many
KEY_STORE_CONNECTIONS = 4
# so long before the published days end, a warning a day: windows are provisional from a month before on
LEAST_CALENDAR_DAYS = 60

OpenFaces = Callable[[Settings], AbstractAsyncContextManager[FaceEngine]]

LEAST_TOKEN = 32

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

    `key_store_url`: None for the main database's. `migration_url`, `key_store_migration_url`: the same again, for the
    owner of the tables; None where somebody else migrates them.
    """

    database_url: str
    redis_url: str
    jwks: str
    migration_url: str | None = None
    key_store_url: str | None = None
    key_store_migration_url: str | None = None


def make_app(
    settings: Settings, stores: Stores, open_faces: OpenFaces | None = None, clock: Clock = time.time
) -> web.Application:
    """The application. Its stores must be reachable; migrations run at its start."""
    app = web.Application(middlewares=[answer_problems, check_head])
    app[DRAIN] = Drain()
    add_routes(app)
    app.on_shutdown.append(_end_streams)
    app.cleanup_ctx.append(_wire(settings, stores, open_faces or configured_faces, clock))
    return app


async def _end_streams(app: web.Application) -> None:
    """Whoever listens would else hold up the end until it is forced."""
    await app[SERVICES].watch.close()


@asynccontextmanager
async def configured_faces(settings: Settings) -> AsyncIterator[FaceEngine]:
    """The face workers of this process, or the face tier's, with these in its place while it is away."""
    async with AsyncExitStack() as stack:
        is_local = not settings.face_tier_urls or settings.face_tier_fallback == "local"
        local = await stack.enter_async_context(worker_pool(settings)) if is_local else None
        if settings.face_tier_urls:
            tier = open_face_tier(
                _tier_access(settings),
                local,
                _tell_lost_worker,
                places=settings.face_workers,
                queue_limit=settings.face_queue,
                patience_s=settings.face_deadline_s,
            )
            yield await stack.enter_async_context(tier)
        elif local:
            yield local


def _tier_access(settings: Settings) -> Access:
    return Access(
        settings.face_tier_urls,
        tier_token(settings),
        tier_engine(settings),
        models_of(settings)[0],
        settings.face_tier_ca_file,
    )


def tier_engine(settings: Settings) -> str:
    """The engine that these settings make, by name."""
    return engine_id(ENCODERS[settings.face_engine], settings.passive_pad)


def tier_token(settings: Settings) -> str:
    """The secret that the face tier and its callers share. Raises `SettingError`."""
    try:
        path = settings.face_tier_token_file
        token = path.read_text("ascii").strip() if path else ""
    except (OSError, ValueError):
        token = ""
    if len(token) < LEAST_TOKEN or not token.isprintable():
        raise SettingError(
            f"CHECKIN_FACE_TIER_TOKEN_FILE must name a file with one line of {LEAST_TOKEN} characters or more"
        )
    return token


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
        on_loss=_tell_lost_worker,
    )


def _tell_lost_worker(job: str, cause: str) -> None:
    """`job`: the request whose photograph it was."""
    log.error("face_worker_lost", job=job, cause=cause)


def _wire(
    settings: Settings, stores: Stores, open_faces: OpenFaces, clock: Clock
) -> Callable[[web.Application], AsyncIterator[None]]:
    async def wired(app: web.Application) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            app[SERVICES] = await _open_services(stack, settings, stores, open_faces, clock)
            # before the first who comes may be near one
            await look_for_deadlines(app[SERVICES].database, app[SERVICES].admission)
            run_beside(stack, judge_of(app[SERVICES]), app[SERVICES].admission)
            sweeper = asyncio.create_task(_sweep_for_ever(app[SERVICES]))
            yield
            sweeper.cancel()
            with suppress(asyncio.CancelledError):
                await sweeper

    return wired


async def _open_services(
    stack: AsyncExitStack, settings: Settings, stores: Stores, open_faces: OpenFaces, clock: Clock
) -> Services:
    receipt_keys = load_receipt_keys(settings.receipt_key_path, may_create=settings.receipt_key_file is None)
    evidence = evidence_store(settings)
    token_keys = TokenKeys(stores.jwks)
    await token_keys.load()
    metrics = Metrics()
    traces = _open_traces(stack, settings, metrics)
    database = await stack.enter_async_context(_prepared_database(settings, stores, metrics, traces))
    keys = await stack.enter_async_context(_prepared_keys(settings, stores, database))
    await _adopt_receipt_keys(settings, database, receipt_keys)
    await _finish_deletions(database, keys, evidence, None)
    client = redis.from_url(stores.redis_url, socket_timeout=1, socket_connect_timeout=1)
    stack.push_async_callback(client.aclose)
    faces = await stack.enter_async_context(open_faces(settings))
    if traces:
        faces = TracedFaces(faces, traces)
    if missing := tuple(name for name in MECHANISMS if name not in faces.stats.confined_by):
        log.warning("faces_not_confined", missing=missing)
    policy = policy_of(settings)
    await _settle_references(database, models_of(settings))
    return Services(
        settings=settings,
        database=database,
        installation_id=await _installation(database),
        keys=keys,
        token_keys=token_keys,
        receipt_keys=receipt_keys,
        evidence=evidence,
        faces=faces,
        policy=policy,
        liveness=await _open_liveness(stack, settings, metrics),
        rate_limit=RateLimit(client, settings.person_challenges_per_minute, metrics, clock),
        metrics=metrics,
        admission=Admission(settings, faces, database, metrics),
        traces=traces,
        box=Box(*settings.service_box),
        clock=clock,
        watch=Watch(database, settings.event_streams),
        viewings=Viewings(database),
    )


async def _installation(database: Database) -> UUID:
    async with database.connection() as connection:
        return await note_installation(connection)


def _open_traces(stack: AsyncExitStack, settings: Settings, metrics: Metrics) -> Traces | None:
    if settings.traces_url is None:
        return None
    traces = Traces(settings.traces_url, metrics)
    stack.push_async_callback(end_task, asyncio.create_task(traces.run()))
    return traces


async def _open_liveness(stack: AsyncExitStack, settings: Settings, metrics: Metrics) -> Liveness | None:
    if settings.liveness != "wechat":
        return HeadTurns() if settings.liveness == "on" else None
    app_id, secret = _wechat_credentials(settings)
    session = await stack.enter_async_context(aiohttp.ClientSession())
    api = WeChatApi(session, settings.wechat_url, app_id, secret, metrics)
    return WeChatVerification(api, HeadTurns(), metrics)


def _wechat_credentials(settings: Settings) -> tuple[str, str]:
    if not settings.wechat_app_id or not settings.wechat_secret_file:
        raise SettingError(
            "CHECKIN_LIVENESS=wechat needs CHECKIN_WECHAT_APP_ID and CHECKIN_WECHAT_SECRET_FILE"
        )
    try:
        return settings.wechat_app_id, Path(settings.wechat_secret_file).read_text("ascii").strip()
    except (OSError, ValueError) as error:
        raise SettingError(
            f"CHECKIN_WECHAT_SECRET_FILE={settings.wechat_secret_file!r} can't be read"
        ) from error


def evidence_store(settings: Settings) -> ObjectStore:
    """Where encrypted selfies lie: the configured bucket, or a directory beside the embedded stores."""
    if settings.evidence_url:
        return bucket_store(settings.evidence_url)
    return directory_store(settings.data_dir / "evidence")


@asynccontextmanager
async def _prepared_keys(
    settings: Settings, stores: Stores, database: Database
) -> AsyncIterator[TemplateKeys]:
    owners = stores.key_store_migration_url
    if stores.key_store_url is None:
        log.warning("keys_in_main_database")
        owners = stores.migration_url
    if owners:
        await migrate_key_store_at(owners)
    async with open_template_keys(settings, stores.key_store_url or stores.database_url, database) as keys:
        yield keys


@asynccontextmanager
async def open_template_keys(settings: Settings, url: str, database: Database) -> AsyncIterator[TemplateKeys]:
    """As `open_key_store`, with the keys that wrap what lies in it."""
    wrapping, pseudonym_key = load_wrapping_keys(settings.key_path, may_create=settings.key_file is None)
    async with open_key_store(url, database) as store:
        async with store.transaction() as connection:
            if unknown := await adopt_key(connection, "wrapping_key", wrapping.current, wrapping.key_ids):
                raise DatabaseSetupError(
                    f"the key store holds keys wrapped by {', '.join(unknown)}, which is not in "
                    f"{settings.key_path}: point CHECKIN_KEY_FILE at the keys that all replicas share"
                )
        yield TemplateKeys(store, wrapping, pseudonym_key)


@asynccontextmanager
async def open_key_store(
    url: str, database: Database, *, may_be_empty: bool = False
) -> AsyncIterator[Database]:
    """The key store alone, brought to this version's schema. Raises `DatabaseSetupError` where it is not this main
    database's, see `pair_key_store`."""
    async with open_database(url, KEY_STORE_CONNECTIONS, schema=SCHEMA) as store:
        async with store.connection() as connection:
            await migrate_key_store_where_allowed(connection)
        await pair_key_store(database, store, may_be_empty=may_be_empty)
        yield store


@asynccontextmanager
async def _prepared_database(
    settings: Settings, stores: Stores, metrics: Metrics, traces: Traces | None
) -> AsyncIterator[Database]:
    if stores.migration_url:
        await migrate_at(stores.migration_url)

    def held(seconds: float) -> None:
        metrics.connection_seconds.inc(seconds)
        if traces:
            traces.note("database", seconds)

    async with open_database(stores.database_url, settings.database_connections, held) as database:
        async with database.connection() as connection:
            await migrate_where_allowed(connection)
            if await may_rewrite(connection):
                log.warning("database_role_may_rewrite")
        await seed_calendar(database)
        await _notice_restore(database)
        yield database


async def _adopt_receipt_keys(settings: Settings, database: Database, receipt_keys: ReceiptKeys) -> None:
    async with database.transaction() as connection:
        if unknown := await adopt_key(connection, "receipt_key", receipt_keys.key_id, receipt_keys.key_ids):
            raise DatabaseSetupError(
                f"receipts here were signed by {', '.join(unknown)}, which is not in "
                f"{settings.receipt_key_path}: "
                "point CHECKIN_RECEIPT_KEY_FILE at the file that all replicas share"
            )


def models_of(settings: Settings) -> tuple[str, ...]:
    """The models that faces are compared by, the deciding one first."""
    return tuple(MODELS[encoder] for encoder in ENCODERS[settings.face_engine])


def policy_of(settings: Settings) -> Policy:
    """What photographs are judged by."""
    points = [operating_points(model_id)[settings.operating_point] for model_id in models_of(settings)]
    return Policy(
        settings.attempts_per_day,
        [OperatingPoint(p.name, p.model_id, p.threshold, LOOK_ALIKE_MARGINS.get(p.model_id)) for p in points],
    )


async def _settle_references(database: Database, models: Sequence[str]) -> None:
    if changed := await settle_references(database, models):
        log.warning("references_settled", persons=changed, models=models)


async def _notice_restore(database: Database) -> bool:
    restored = await notice_restore(database)
    if restored:
        log.warning("restored")
    return restored


async def _finish_deletions(
    database: Database, keys: TemplateKeys, evidence: ObjectStore, since: timedelta | None
) -> None:
    if finished := await finish_deletions(database, keys, evidence, since):
        log.warning("deletions_finished", persons=finished)


async def _reload_token_keys(token_keys: TokenKeys) -> None:
    """So that a key which the issuer has withdrawn is forgotten, too. While the issuer is away its known keys serve."""
    try:
        await token_keys.load()
    except KeySetError:
        log.warning("key_set_unread")


async def _sweep_for_ever(services: Services) -> None:
    """One after the other, and none that fails keeps those after it from their turn."""
    warned_on: date | None = None
    restored = False

    async def deletions() -> None:
        nonlocal restored
        restored = await _notice_restore(services.database) or restored
        since = None if restored else UNFINISHED
        await _finish_deletions(services.database, services.keys, services.evidence, since)
        restored = False

    async def observe() -> None:
        nonlocal warned_on
        warned_on = await _observe(services.database, services.metrics, warned_on)

    while True:
        await _attempt(deletions())
        await _attempt(_reload_token_keys(services.token_keys))
        await _attempt(sweep(services.database))
        await _attempt(observe())
        await asyncio.sleep(SWEEP_INTERVAL_S)


async def _attempt(work: Awaitable[object]) -> None:
    try:
        await work
    except SWEEP_FAILURES as error:
        # the next round finds the same work; the status never waited for it
        log.warning("sweep_failed", error=type(error).__name__)
    except Exception as error:  # noqa: BLE001  a defect of ours must not end the sweeping
        log.critical("defect", error=type(error).__name__, at=place_of(error))


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
