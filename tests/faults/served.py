"""`serve` with an engine of fixed answers, on given stores and made to be killed:

python -m tests.faults.served --database URL --redis URL --data-dir DIR --port PORT [switch…]

A switch turns one defence off, for the control of a promise's test, or makes it quicker.
"""

import argparse
import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import uvloop
from aiohttp import web

from checkin_service import __main__ as command_line
from checkin_service import app, overload
from checkin_service.adapters.postgres import database, migrate
from checkin_service.adapters.postgres.database import Connection, Database
from checkin_service.adapters.token_keys import development_key_set
from checkin_service.app import Stores
from checkin_service.core_files import leave_no_core_file
from checkin_service.logs import configure_logs
from checkin_service.settings import Settings, read_settings
from checkin_service.usecases import submit_check_in
from checkin_service.usecases.submit_check_in import Judge
from checkin_service.web import admission, body, form, server
from face import Analysis, WorkerPool
from tests.service.databases import service_url
from tests.service.fixed_engine import FixedEngine

ANALYSIS_S = 0.02
ANSWERED_BEFORE_COMMIT_S = 0.2


class UnhurriedEngine(FixedEngine):
    """Takes its time, so that a process can be killed between receipt and verdict."""

    async def analyse(self, photo: bytes) -> Analysis:
        await asyncio.sleep(ANALYSIS_S)
        return await super().analyse(photo)


class AnswersEarly(Database):
    """Lets go of a connection before what was written is committed: the mistake that promise 1 forbids."""

    commits: set[asyncio.Task[None]] = set()  # noqa: RUF012  the event loop alone would let go of them

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        connection = await self._pool.acquire()
        transaction = connection.transaction()
        await transaction.start()
        try:
            yield connection
        except BaseException:
            await transaction.rollback()
            await self._pool.release(connection)
            raise
        self.commits.add(asyncio.create_task(self._commit(connection, transaction)))

    async def _commit(self, connection: Connection, transaction: Any) -> None:
        await asyncio.sleep(ANSWERED_BEFORE_COMMIT_S)
        await transaction.commit()
        await self._pool.release(connection)


def answer_before_commit() -> None:
    settle_in_order = submit_check_in._settle

    async def settle_early(judge: Judge, *case: Any) -> dict[str, Any] | None:
        early = AnswersEarly(judge.database._pool, judge.database._held)
        return await settle_in_order(replace(judge, database=early), *case)

    submit_check_in._settle = settle_early  # type: ignore[assignment]


def commit_asynchronously() -> None:
    """What promise 2 forbids, and what the service refuses to start with."""
    database.SESSION_SETTINGS["synchronous_commit"] = "off"

    async def trust(_: Connection) -> None: ...

    database._assert_durable = trust  # type: ignore[assignment]


def be_impatient() -> None:
    """The limits of time at a tenth, the least rate the same; few connections."""
    body.RATE_WINDOW_S, body.RATE_BYTES = 1, 8_000
    server.HEAD_S, server.ANSWER_S = 1.5, 6
    # longer than usual, to tell what is ended at once from what is not
    server.LINGER_S = 60
    server.CONNECTIONS_LIMIT = 300


def be_patient() -> None:
    """No limit of time: what promise 12 forbids."""
    body.RECEIVE_TIMEOUT_S = body.RATE_WINDOW_S = 3600
    server.HEAD_S = server.IDLE_S = server.ANSWER_S = 3600


def never_analyse() -> None:
    """So slow that the process is dead before a verdict."""
    global ANALYSIS_S
    ANALYSIS_S = 3600


def analyse_slowly() -> None:
    """So that a process is told to stop in the middle of it."""
    global ANALYSIS_S
    ANALYSIS_S = 0.3


def do_not_drain() -> None:
    """What promise 15 forbids: whoever has come is turned out with what still sends."""

    async def stay_on(*_: Any) -> None: ...

    service: Any = command_line
    service.drain = stay_on


def be_in_haste() -> None:
    """To leave: who still sends is sent elsewhere after a second."""
    server.HURRY_S = server.LAST_S = 1


def say_bodies() -> None:
    """What promise 21 forbids: whatever comes is on standard error, too."""
    receive = body.receive

    async def received(
        request: web.Request,
        limit: int,
        take: Callable[[bytes], object],
        told: body.Received = body.nobody_counts,
    ) -> None:
        await receive(request, limit, lambda chunk: (os.write(2, chunk), take(chunk)), told)

    body.receive = form.receive = received  # type: ignore[attr-defined]


def break_down() -> None:
    """Over whoever is called so, with everything that is known of them in the error's message."""
    usecase: Any = submit_check_in
    weigh_face = usecase.weigh_face

    def weigh_or_break_down(*given: Any) -> Any:
        if "breaks-down" in repr(given):
            raise RuntimeError(repr(given))
        return weigh_face(*given)

    usecase.weigh_face = weigh_or_break_down


def analyse_for_real() -> None:
    """In workers with the service's own engine."""
    command_line.make_app = app.make_app  # type: ignore[attr-defined]


def analyse_at_pace(analysis_s: float) -> None:
    """In workers as `serve` has them, that take so long over each photograph."""

    def open_faces(settings: Settings) -> WorkerPool:
        return WorkerPool(
            "tests.faults.paced_engine:PacedEngine",
            {"analysis_s": analysis_s},
            workers=settings.face_workers,
            queue_limit=settings.face_queue,
            deadline_s=settings.face_deadline_s,
            patience_s=settings.face_deadline_s,
        )

    command_line.make_app = partial(app.make_app, open_faces=open_faces)  # type: ignore[attr-defined]


def analyse_in_workers() -> None:
    """That obey a marked photograph."""
    service: Any = app
    service.worker_pool = lambda _: WorkerPool("tests.faults.marked_engine:marked", workers=1)
    command_line.make_app = app.make_app  # type: ignore[attr-defined]


def know_also(folder: Path) -> None:
    """As a version does to which these migrations have been added."""
    ours = migrate.migration_scripts

    def scripts(series: str = migrate.MAIN) -> dict[str, str]:
        added = {file.name: file.read_text("utf-8") for file in sorted(folder.glob(series))}
        return ours(series) | added

    migrate.migration_scripts = scripts


def judge_nothing_later() -> None:
    """What promise 24 forbids: what was put off is put off for ever."""

    async def judge_nothing(*_: Any) -> None: ...

    overload._judge_for_ever = judge_nothing  # type: ignore[assignment]


def admit_everybody() -> None:
    """What promise 13 forbids."""
    admission.Admission.admits = lambda *_: True  # type: ignore[method-assign]


SWITCHES = {
    "--admit-everybody": admit_everybody,
    "--analyse-for-real": analyse_for_real,
    "--analyse-in-workers": analyse_in_workers,
    "--analyse-slowly": analyse_slowly,
    "--answer-early": answer_before_commit,
    "--break-down": break_down,
    "--commit-asynchronously": commit_asynchronously,
    "--do-not-drain": do_not_drain,
    "--impatient": be_impatient,
    "--in-haste": be_in_haste,
    "--judge-nothing-later": judge_nothing_later,
    "--never-analyse": never_analyse,
    "--patient": be_patient,
    "--say-bodies": say_bodies,
}


async def serve(options: argparse.Namespace) -> None:
    settings = read_settings(
        {
            "CHECKIN_DATA_DIR": options.data_dir,
            "CHECKIN_PORT": str(options.port),
            "CHECKIN_PERSON_CHALLENGES_PER_MINUTE": "1000000",
            **dict(setting.split("=", 1) for setting in options.set),
        }
    )
    named = service_url(options.database), options.redis, str(development_key_set(settings.data_dir))
    stores = Stores(*named, key_store_url=settings.key_store_url)
    orphaned = asyncio.create_task(end_with(os.getppid()))
    await command_line._serve_until_stopped(settings, stores)
    orphaned.cancel()


async def end_with(test: int) -> None:
    while os.getppid() == test:  # noqa: ASYNC110  no event tells that the test has died
        await asyncio.sleep(1)
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("database", "redis", "data-dir"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--migrations", type=Path, help="a newer version's, beside this one's")
    parser.add_argument("--analysis-s", type=float, help="what a photograph takes in a face worker")
    parser.add_argument("--set", action="append", default=[], help="a setting, NAME=VALUE")
    for switch, turn_off in SWITCHES.items():
        parser.add_argument(switch, action="append_const", dest="switched_off", const=turn_off)
    options = parser.parse_args()
    configure_logs()
    leave_no_core_file()
    make_fixed = partial(app.make_app, open_faces=lambda _: UnhurriedEngine().running())
    command_line.make_app = make_fixed  # type: ignore[attr-defined]
    if options.analysis_s is not None:
        analyse_at_pace(options.analysis_s)
    for turn_off in options.switched_off or ():
        turn_off()
    if options.migrations:
        know_also(options.migrations)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options))


if __name__ == "__main__":
    main()
