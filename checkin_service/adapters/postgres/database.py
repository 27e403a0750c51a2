"""The connection pool and the one way to a transaction."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from checkin_service.adapters.postgres.pulse import Pulse

Connection = Any  # asyncpg's pooled proxy and plain connection share their methods but no type

# What a broken, busy or full database raises. None of it is the caller's doing: it becomes 503 and a retry.
DATABASE_FAILURES: tuple[type[BaseException], ...] = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that ended in the middle of a reply
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.PostgresSystemError,
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,
    # a migration has changed what a prepared statement gives; the next time it is prepared anew
    asyncpg.InvalidCachedStatementError,
    ConnectionError,
    TimeoutError,
    asyncio.TimeoutError,
)
# With what follows, a second at most until a 503.
ACQUIRE_TIMEOUT_S = 0.8
SESSION_SETTINGS = {
    "application_name": "checkin_service",
    "timezone": "UTC",
    "statement_timeout": "10s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "15s",
    # an answer follows COMMIT, and COMMIT means on disk
    "synchronous_commit": "on",
    "jit": "off",
    # what is asked for lies in memory or on flash, where a page by key costs hardly more than the next in order: at
    # PostgreSQL's 4 every status of twenty members read all of 2,000 persons
    "random_page_cost": "1.1",
    # every statement finds its rows by key: planning for the values costs more than it could save
    "plan_cache_mode": "force_generic_plan",
}


class DatabaseSetupError(RuntimeError):
    """The database can't serve as it is; the message says what to change."""


class DatabaseAway(ConnectionError):
    """The server can't be reached, or answers nobody."""


class Database:
    """A pool whose waiting and working times are bounded, so that a slow database sheds instead of queueing.

    While nobody is answered no connection is given, and who waits for an answer is not left waiting: see `notice`.
    """

    def __init__(self, pool: asyncpg.Pool, held: Callable[[float], None]) -> None:
        """`held` is told for how many seconds a connection was used, each time one is given back."""
        self._pool = pool
        self._held = held
        self._given: set[Connection] = set()
        self._answers = True
        self.waiting = 0
        """How many wait for a connection now."""

    async def notice(self, answers: bool) -> None:
        """Told by the pulse. Without an answer every statement under way ends with one of `DATABASE_FAILURES`."""
        self._answers = answers
        if not answers:
            await self._pool.expire_connections()
            for connection in list(self._given):
                connection.terminate()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection for single statements. Raises one of `DATABASE_FAILURES` when none is free in a second."""
        self.waiting += 1
        try:
            connection = await self._take()
        finally:
            self.waiting -= 1
        since = time.perf_counter()
        self._given.add(connection)
        try:
            yield connection
        finally:
            self._given.discard(connection)
            self._held(time.perf_counter() - since)
            await self._pool.release(connection)

    async def _take(self) -> Connection:
        if not self._answers:
            raise DatabaseAway("the database does not answer")
        try:
            return await self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S)
        except TimeoutError:  # an OSError too, but not the server's fault
            raise
        except OSError as error:  # such as a socket that is not there
            raise DatabaseAway("the database can't be reached") from error

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """READ COMMITTED: what is counted once rests on constraints and row locks, not on isolation."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Connection]:
        """For several readings of one state of everything; nothing can be written."""
        async with (
            self.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield connection


@asynccontextmanager
async def open_database(
    url: str,
    max_connections: int,
    held: Callable[[float], None] = lambda _: None,
    schema: str | None = None,
) -> AsyncIterator[Database]:
    """Connects, checks that an acknowledged commit is durable, closes at the end. `schema`: where names are found."""
    settings = SESSION_SETTINGS | ({"search_path": schema} if schema else {})
    connect = partial(asyncpg.connect, url, timeout=5, server_settings=settings)
    with reaching(url):
        pool = await asyncpg.create_pool(
            url,
            min_size=min(2, max_connections),
            max_size=max_connections,
            command_timeout=15,
            timeout=5,
            server_settings=settings,
            init=prepare_connection,
            reset=_keep_session,
        )
    try:
        async with pool.acquire() as connection:
            await _assert_durable(connection)
        database = Database(pool, held)
        beating = asyncio.create_task(Pulse(connect, database.notice).beat())
        try:
            yield database
        finally:
            beating.cancel()
            with suppress(asyncio.CancelledError):
                await beating
    finally:
        try:
            await asyncio.wait_for(pool.close(), timeout=10)
        except TimeoutError:
            pool.terminate()


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """For whoever connects once, at a start or for a command: an `OSError` of nobody there names no place, so it
    becomes `DatabaseSetupError`."""
    try:
        yield
    except OSError as error:
        scheme, place, path, *_ = urlsplit(url)
        shown = urlunsplit((scheme, place.rpartition("@")[2], path, "", ""))
        why = str(error) or type(error).__name__
        raise DatabaseSetupError(
            f"no server answers at {shown} ({why}): is it running, and is the address right?"
        ) from error


async def _keep_session(_: asyncpg.Connection) -> None:
    """Nothing to undo when a connection is given back: no session state is ever set, locks end with transactions.

    asyncpg's own reset is a round trip after each use.
    """


async def prepare_connection(connection: asyncpg.Connection) -> None:
    for name in ("json", "jsonb"):
        await connection.set_type_codec(name, schema="pg_catalog", encoder=json.dumps, decoder=json.loads)


async def _assert_durable(connection: Connection) -> None:
    for setting in ("synchronous_commit", "fsync", "full_page_writes"):
        value = await connection.fetchval("SELECT current_setting($1)", setting)
        if value == "off":
            raise DatabaseSetupError(
                f"PostgreSQL runs with {setting}=off: a crash would lose accepted check-ins"
            )
