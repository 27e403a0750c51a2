"""The embedded stores: take the data directory, start both servers side by side, wait, hand out the URLs."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from checkin_service.adapters.embedded.account import EmbeddedError
from checkin_service.adapters.embedded.place import taken
from checkin_service.adapters.embedded.postgres import key_store_url, launch_postgres, make_key_store
from checkin_service.adapters.embedded.server import running, wait_until_ready
from checkin_service.adapters.embedded.valkey import launch_valkey

NO_SETTINGS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class EmbeddedStores:
    """Where the servers answer; None for one that was not asked for. Only this user can connect."""

    database_url: str | None
    redis_url: str | None

    @property
    def key_store_url(self) -> str | None:
        """A database of its own, on the same server."""
        return self.database_url and key_store_url(self.database_url)


@contextmanager
def embedded_stores(
    data_dir: Path,
    *,
    postgres: bool = True,
    valkey: bool = True,
    postgres_settings: Mapping[str, str] = NO_SETTINGS,
) -> Iterator[EmbeddedStores]:
    """Run PostgreSQL and Valkey until the block ends; both answer when it begins.

    PostgreSQL's data are kept in `data_dir` between runs; Valkey's end with the run. The servers listen on
    unix sockets only, run as `server_account()` and end with this process, however it ends.
    `postgres_settings` are server settings by name, over ours, for this run.

    Blocks, and belongs in the main thread before an event loop starts. Raises `EmbeddedError`.
    """
    with ExitStack() as stack:
        try:
            stores = _started(stack, data_dir, postgres, valkey, postgres_settings)
        except OSError as error:
            raise EmbeddedError(
                f"the embedded stores cannot use {data_dir}: {error}. Make it writable for this user and "
                "leave some space, or set CHECKIN_DATA_DIR to another directory"
            ) from error
        yield stores


def _started(
    stack: ExitStack, data_dir: Path, postgres: bool, valkey: bool, postgres_settings: Mapping[str, str]
) -> EmbeddedStores:
    _refuse_other_threads()
    place = stack.enter_context(taken(data_dir))
    cache = stack.enter_context(running(launch_valkey(place))) if valkey else None
    database = stack.enter_context(running(launch_postgres(place, postgres_settings))) if postgres else None
    for server in (cache, database):
        if server:
            wait_until_ready(server)
    if database:
        make_key_store(place)
    return EmbeddedStores(database.url if database else None, cache.url if cache else None)


def _refuse_other_threads() -> None:
    # The kernel ties the servers to the thread that starts them, not to its process.
    if threading.current_thread() is not threading.main_thread():
        raise EmbeddedError("start the embedded stores from the main thread: they end with their thread")
