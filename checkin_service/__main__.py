"""The command line: `python -m checkin_service`, with one of the commands that README.md lists."""

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import asyncpg
import uvloop
from aiohttp import web

from checkin_service.adapters.embedded import (
    EmbeddedError,
    as_role,
    claim_data_dir,
    embedded_stores,
    reachable_data_dir,
)
from checkin_service.adapters.key_file import KeyFileError
from checkin_service.adapters.notice_file import read_notice
from checkin_service.adapters.postgres.database import DatabaseSetupError, open_database
from checkin_service.adapters.postgres.key_store import migrate_key_store_at
from checkin_service.adapters.postgres.migrate import migrate_at
from checkin_service.adapters.receipt_keys import receipt_key_id, verify_receipt
from checkin_service.adapters.template_keys import ErasureLog
from checkin_service.adapters.token_keys import (
    DEVELOPMENT_ISSUER,
    KeySetError,
    TokenKeys,
    development_key_set,
    development_token,
)
from checkin_service.app import (
    Stores,
    configured_faces,
    evidence_store,
    make_app,
    models_of,
    open_key_store,
    open_template_keys,
    policy_of,
    tier_engine,
    tier_token,
    worker_pool,
)
from checkin_service.bulk.enrol import Enroller, Rest, enough_at_once, enrol_list
from checkin_service.bulk.enrolment_list import Listed, ListFaults, read_list
from checkin_service.bulk.photo_folder import PhotoFolder
from checkin_service.bulk.report import told, written_report
from checkin_service.core_files import leave_no_core_file
from checkin_service.domain.audit import AuditHead
from checkin_service.domain.retention import POLICY_VERSION
from checkin_service.logs import configure_logs
from checkin_service.ports import StoreUnavailable
from checkin_service.progress import Progress
from checkin_service.settings import SettingError, Settings, read_settings
from checkin_service.simulator import SimulationError, add_options, read_options, simulate
from checkin_service.usecases.after_restore import after_restore
from checkin_service.usecases.caller import SYSTEM, Caller
from checkin_service.usecases.coverage import measure_coverage
from checkin_service.usecases.enrol_listed import Standing
from checkin_service.usecases.finish_deletions import finish_deletions
from checkin_service.usecases.import_calendar import Imported, import_calendar
from checkin_service.usecases.pair_key_store import record_adoption
from checkin_service.usecases.purge import find_overdue, purge
from checkin_service.usecases.rekey import record_rekey, rekey
from checkin_service.usecases.sweep import sweep
from checkin_service.usecases.verify_audit import compare_audit, verify_audit
from checkin_service.web.messages import Language
from checkin_service.web.persons import MAX_PHOTOS
from checkin_service.web.routes import SCOPES
from checkin_service.web.server import BACKLOG, drain, make_runner, raise_file_limit
from face import FINGERPRINT, WorkerFailed

# Roles of the database, see migrations/0002_rights.sql; the owner is the embedded server's.
OWNER, SERVICE, AUDITOR = "checkin", "checkin_service", "checkin_auditor"

# What goes wrong before the service runs: a sentence that says what to do, not a stack trace.
START_FAILURES = (
    EmbeddedError,
    DatabaseSetupError,
    KeyFileError,
    KeySetError,
    WorkerFailed,
    SimulationError,
    StoreUnavailable,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    OSError,
    ValueError,  # an address that can't be read
)


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    configure_logs()
    leave_no_core_file()
    try:
        settings = read_settings()
        run: Callable[[Settings, argparse.Namespace], None] = options.run
        run(settings, options)
    except START_FAILURES as error:
        print(f"checkin_service {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m checkin_service")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, run, summary in (
        ("serve", _serve, "run the service until SIGTERM or Ctrl-C"),
        ("face-tier", _face_tier, "run a replica of the face tier until SIGTERM, docs/deploy.md"),
        ("migrate", _migrate, "bring the database to this version's schema"),
        ("sweep", _sweep, "write down the windows that have ended (every running service does so too)"),
        (
            "after-restore",
            _after_restore,
            "settle that the database was restored, docs/operations.md (a start notices most restores by itself)",
        ),
        (
            "rekey",
            _rekey,
            "wrap every data key by the current wrapping key, and say which old ones may go, docs/keys.md",
        ),
        (
            "adopt-key-store",
            _adopt_key_store,
            "take an empty key store for this database, because its own is lost without a dump, docs/keys.md",
        ),
        (
            "coverage",
            _coverage,
            "count the references by model, and the persons whom the deciding one misses",
        ),
    ):
        commands.add_parser(name, help=summary).set_defaults(run=run)
    enrolled = commands.add_parser(
        "enrol", help="enrol everybody on a list, docs/operations.md; again, it goes on where it was cut off"
    )
    enrolled.add_argument(
        "list", type=Path, help="CSV in UTF-8: person_id, photo, and what else the page names"
    )
    enrolled.add_argument(
        "--photos", type=Path, metavar="FOLDER", help="where the files lie; else beside the list"
    )
    enrolled.add_argument(
        "--report", type=Path, metavar="FILE", help="who was not enrolled and why; else LIST.refused.csv"
    )
    enrolled.add_argument("--language", type=Language, choices=list(Language), default=Language.ZH_CN)
    enrolled.add_argument("--actor", default="operator", help="who answers for it, for the audit")
    enrolled.set_defaults(run=_enrol)
    imported = commands.add_parser(
        "calendar-import", help="put a year's rest days in force, as the State Council has published them"
    )
    imported.add_argument("file", type=Path, help="the notice as docs/calendar.md describes it")
    imported.add_argument("--actor", default="operator", help="who answers for it, for the audit")
    imported.set_defaults(run=_calendar_import)
    removed = commands.add_parser(
        "purge", help="remove what is older than docs/retention.md allows, and print the receipt"
    )
    removed.add_argument(
        "--check",
        action="store_true",
        help="change nothing: list what is older, and end with 1 if anything is",
    )
    removed.set_defaults(run=_purge)
    verified = commands.add_parser(
        "audit-verify", help="say whether the audit is what was written, and which rows are not"
    )
    verified.add_argument(
        "--head",
        action="append",
        default=[],
        metavar="SEQ:HASH",
        help="what GET /v1/audit/head once told; may be given several times",
    )
    verified.add_argument("--since", metavar="SEQ:HASH", help="begin at a row that was verified before")
    verified.set_defaults(run=_audit_verify)
    token = commands.add_parser("token", help="print a token signed by the development key")
    token.add_argument("--sub", required=True, help="who: a person_id, or the platform's name")
    token.add_argument(
        "--scope", required=True, type=_scopes, help=f"what for: {', '.join(SCOPES)}; several by space"
    )
    token.add_argument("--minutes", type=int, default=15, choices=range(1, 16), metavar="1-15")
    token.set_defaults(run=_token)
    verify = commands.add_parser("verify-receipt", help="say what a receipt says, or why it is none")
    verify.add_argument("receipt", help="the receipt as it was shown")
    verify.add_argument(
        "--keys", help="file or URL of the published keys, …/v1/receipt-keys; else this service's own"
    )
    verify.set_defaults(run=_verify_receipt)
    played = commands.add_parser(
        "simulate", help="play platform and persons against a running service, and say what differs"
    )
    add_options(played)
    played.set_defaults(run=_simulate)
    return parser


def _scopes(text: str) -> str:
    """Raises `argparse.ArgumentTypeError` for a scope that no call asks for."""
    unknown = sorted(set(text.split()) - set(SCOPES))
    if unknown or not text.strip():
        raise argparse.ArgumentTypeError(f"not of {', '.join(SCOPES)}: {' '.join(unknown) or 'nothing'}")
    return text


def _with_reachable_data(settings: Settings) -> Settings:
    """With the data directory where the embedded servers' user can reach it: elsewhere, if a parent is closed.

    The same directory always moves to the same place, so that the next run and `token` find it.
    """
    data_dir = reachable_data_dir(settings.data_dir)
    if data_dir.resolve() != settings.data_dir.resolve():
        print(
            f"PostgreSQL's user can't reach {settings.data_dir}; data is kept in {data_dir}", file=sys.stderr
        )
    claim_data_dir(data_dir)
    return replace(settings, data_dir=data_dir)


def _serve(settings: Settings, _: argparse.Namespace) -> None:
    with _stores(settings) as (reachable, stores):
        _run(_serve_until_stopped(reachable, stores))


def _face_tier(settings: Settings, _: argparse.Namespace) -> None:
    try:
        # nobody else has its packages
        from checkin_service.face_tier import serve_tier
    except ModuleNotFoundError as error:
        raise SettingError(f"{error}: install requirements/face-tier.txt") from None
    serve_tier(settings, worker_pool, tier_engine(settings), tier_token(settings))


def _migrate(settings: Settings, _: argparse.Namespace) -> None:
    async def work(url: str, key_store_url: str) -> None:
        owners = settings.migration_database_url
        applied = await migrate_at(owners or url)
        applied += await migrate_key_store_at(settings.key_store_url or owners or key_store_url)
        print("\n".join(f"applied {name}" for name in applied) or "nothing to apply")

    with _databases(settings, OWNER) as found:
        _run(work(*found[1:]))


def _sweep(settings: Settings, _: argparse.Namespace) -> None:
    async def work(url: str) -> None:
        async with open_database(url, max_connections=1) as database:
            print(f"{await sweep(database)} windows ended")

    with _database(settings) as url:
        _run(work(url))


def _after_restore(settings: Settings, _: argparse.Namespace) -> None:
    async def work(reachable: Settings, url: str, key_store_url: str) -> None:
        async with (
            open_database(url, max_connections=2) as database,
            open_template_keys(reachable, key_store_url, database) as keys,
        ):
            finished = await finish_deletions(database, keys, evidence_store(reachable), None)
            print(f"deletions carried out again: {finished}")
            print(f"feed epoch {await after_restore(database, 'operator')}")

    with _databases(settings) as found:
        _run(work(*found))


def _calendar_import(settings: Settings, options: argparse.Namespace) -> None:
    notice, source = read_notice(options.file)

    async def work(url: str) -> None:
        async with open_database(url, max_connections=1) as database:
            print(_told(await import_calendar(database, notice, source, options.actor)))

    with _database(settings) as url:
        _run(work(url))


def _told(imported: Imported) -> str:
    """What an import has done, in lines."""
    done = imported.recomputed
    lines = [
        f"{imported.version} is in force"
        if imported.version
        else "nothing to do: the calendar says so already"
    ]
    if done.windows:
        lines.append(f"windows computed again: {done.windows}, of which {done.moved} end later now")
    lines += [f"held submissions {state}: {number}" for state, number in sorted(done.decided.items())]
    if done.missed:
        lines.append(
            f"over before, and left so; by this calendar they would end later: {', '.join(done.missed)}"
        )
    return "\n".join(lines)


def _enrol(settings: Settings, options: argparse.Namespace) -> None:
    """Ends with 1 when the list can't be used, and nobody was enrolled, or when anybody on it could not be enrolled."""
    folder = PhotoFolder(options.photos or options.list.parent)
    try:
        with Progress("lines read") as tell:
            listed = read_list(options.list, folder, settings.enrolment_basis, tell)
    except ListFaults as faults:
        for sentence in told(faults, options.language):
            print(sentence, file=sys.stderr)
        print(f"{options.list}: {faults}; nobody was enrolled", file=sys.stderr)
        sys.exit(1)
    with _databases(settings) as found:
        _run(_enrol_all(*found, options, folder, listed))


async def _enrol_all(
    settings: Settings,
    url: str,
    key_store_url: str,
    options: argparse.Namespace,
    folder: PhotoFolder,
    listed: Sequence[Listed],
) -> None:
    at_once = enough_at_once(settings.face_workers)
    settings = replace(settings, face_queue=max(settings.face_queue, at_once * MAX_PHOTOS))
    report_path = options.report or options.list.with_suffix(".refused.csv")
    async with (
        open_database(url, settings.database_connections) as database,
        open_template_keys(settings, key_store_url, database) as keys,
        configured_faces(settings) as faces,
    ):
        caller = Caller(SYSTEM.iss, options.actor, frozenset())
        enroller = Enroller(database, keys, faces, policy_of(settings), caller, folder, at_once)
        with written_report(report_path, options.language) as report, Progress("persons") as tell:
            counts = await enrol_list(enroller, listed, report, tell)
    print(", ".join(f"{kind}: {counts[kind]}" for kind in (*Standing, *Rest)))
    if counts[Rest.REFUSED] or counts[Rest.UNAVAILABLE] or counts[Rest.LEFT]:
        print(f"who and why: {report_path}; run it again once that is settled")
        sys.exit(1)


def _purge(settings: Settings, options: argparse.Namespace) -> None:
    """Ends with 1 when anything that should go is there, or had to stay because the object store is away."""

    async def work(reachable: Settings, url: str, key_store_url: str) -> None:
        store = evidence_store(reachable)
        async with (
            open_database(url, max_connections=2) as database,
            open_key_store(key_store_url, database) as keys,
        ):
            if options.check:
                overdue = await find_overdue(database, store)
                told: dict[str, Any] = {"policy_version": POLICY_VERSION, "overdue": overdue}
                clean = not overdue
            else:
                with Progress("removed") as tell:
                    receipt = await purge(database, ErasureLog(keys), store, tell)
                told, clean = asdict(receipt), not receipt.unfinished
        print(json.dumps(told, default=str))
        if not clean:
            sys.exit(1)

    with _databases(settings) as found:
        _run(work(*found))


def _audit_verify(settings: Settings, options: argparse.Namespace) -> None:
    """Ends with 1 when any row is not what was written, or a fact not what a row tells."""
    since = AuditHead.parse(options.since) if options.since else None
    heads = [AuditHead.parse(text) for text in options.head]

    async def work(url: str) -> None:
        chain = await verify_audit(url, since, heads)
        faults = chain.end()
        for seq, fault in faults:
            print(f"row {seq}: {fault}")
        contradictions = await compare_audit(url)
        for found in contradictions:
            what = (
                "not what the audit tells" if found.seq is None else f"no acceptance, against row {found.seq}"
            )
            print(f"check-in {found.check_in_id} on task {found.task_id}: {what}")
        print(f"{chain.rows} rows, {chain.erased} without their details, head {chain.last}")
        if faults or contradictions:
            sys.exit(1)

    if settings.database_url and not settings.audit_database_url:
        raise SettingError(
            "CHECKIN_AUDIT_DATABASE_URL must name the database for who may only read the audit"
        )
    if settings.audit_database_url:
        _run(work(settings.audit_database_url))
        return
    with _database(settings, AUDITOR) as url:
        _run(work(url))


def _adopt_key_store(settings: Settings, _: argparse.Namespace) -> None:
    async def work(_: Settings, url: str, key_store_url: str) -> None:
        async with (
            open_database(url, max_connections=1) as database,
            open_key_store(key_store_url, database, may_be_empty=True),
        ):
            await record_adoption(database, "operator")
        print("the key store is this database's: whoever has no key in it is to be enrolled anew")

    with _databases(settings) as found:
        _run(work(*found))


def _rekey(settings: Settings, _: argparse.Namespace) -> None:
    """Ends with 1 while an older key is still needed."""

    async def work(reachable: Settings, url: str, key_store_url: str) -> None:
        async with (
            open_database(url, max_connections=1) as database,
            open_template_keys(reachable, key_store_url, database) as keys,
        ):
            with Progress("data keys") as tell:
                told = await rekey(keys, tell)
            await record_rekey(database, "operator", told)
        print(f"{told.done} data keys are wrapped by {told.current} now")
        for key_id in told.retired:
            print(f"{key_id} wraps nothing any more: take it out of the keys, and restart every replica")
        for key_id, number in told.needed.items():
            print(
                f"{key_id} still wraps {number}: keep it, and run this again once every replica was restarted"
            )
        if told.needed:
            sys.exit(1)

    with _databases(settings) as found:
        _run(work(*found))


def _coverage(settings: Settings, _: argparse.Namespace) -> None:
    models = models_of(settings)

    async def work(url: str) -> None:
        async with open_database(url, max_connections=1) as database:
            with Progress("references and persons") as tell:
                found = await measure_coverage(database, models[0], tell)
        for model_id in sorted({*models, FINGERPRINT, *found.having}):
            have = found.having.get(model_id, 0)
            print(f"{model_id}: {have} references have it, {found.references - have} lack it")
        print(f"persons on live tasks: {found.persons}, without {models[0]}: {found.lacking}")

    with _database(settings) as url:
        _run(work(url))


def _token(settings: Settings, options: argparse.Namespace) -> None:
    if settings.jwks or not settings.all_embedded:
        raise SettingError(
            "development tokens exist only with the embedded stores: "
            "unset CHECKIN_JWKS, DATABASE_URL and REDIS_URL, or ask your issuer"
        )
    settings = _with_reachable_data(settings)
    print(development_token(settings.data_dir, options.sub, options.scope, options.minutes))


def _simulate(settings: Settings, options: argparse.Namespace) -> None:
    """Ends with 1 on any difference between what should have happened and what did."""

    async def work() -> None:
        report = await simulate(read_options(options))
        if options.json:
            options.json.write_text(json.dumps(report.as_json(), indent=1), "utf-8")
        print(report.as_text())
        if not report.as_expected:
            sys.exit(1)

    options.data_dir = options.data_dir or _with_reachable_data(settings).data_dir
    _run(work())


def _verify_receipt(settings: Settings, options: argparse.Namespace) -> None:
    async def work(source: str) -> None:
        keys = TokenKeys(source)
        await keys.load()
        key_id = receipt_key_id(options.receipt)
        claims = verify_receipt(await keys.find(key_id), options.receipt)
        print(
            f"genuine: {claims['sub']} has checked in to task {claims['task_id']}, at {claims['accepted_at']}, "
            f"method {claims['method']} (check-in {claims['check_in_id']}, signed by {key_id})"
        )

    named = options.keys or settings.receipt_key_file
    _run(work(named or str(_with_reachable_data(settings).receipt_key_path)))


@contextmanager
def _database(settings: Settings, role: str = SERVICE) -> Iterator[str]:
    """The configured database's URL, or the embedded one's for a role, for as long as the command runs."""
    with _databases(settings, role) as (_, url, _):
        yield url


@contextmanager
def _databases(settings: Settings, role: str = SERVICE) -> Iterator[tuple[Settings, str, str]]:
    """The settings with a data directory that can be reached, and the URLs of the main database and the key store."""
    if settings.database_url:
        yield settings, settings.database_url, settings.key_store_url or settings.database_url
        return
    settings = _with_reachable_data(settings)
    with embedded_stores(settings.data_dir, valkey=False) as embedded:
        owners = embedded.database_url or "", embedded.key_store_url or ""
        if role != OWNER:
            asyncio.run(_migrate_both(*owners))
        url, key_store_url = (as_role(owner, role) for owner in owners)
        yield settings, url, settings.key_store_url or key_store_url


async def _migrate_both(url: str, key_store_url: str) -> None:
    await migrate_at(url)
    await migrate_key_store_at(key_store_url)


@contextmanager
def _stores(settings: Settings) -> Iterator[tuple[Settings, Stores]]:
    """The configured stores, or the embedded ones for as long as the command runs; the settings with the data
    directory that these can reach."""
    if settings.jwks is None and not settings.all_embedded:
        raise SettingError(
            "CHECKIN_JWKS must name your issuer's key set when DATABASE_URL or REDIS_URL is configured"
        )
    if settings.database_url and settings.redis_url:
        named = settings.database_url, settings.redis_url, settings.jwks or ""
        yield settings, Stores(*named, key_store_url=settings.key_store_url)
        return
    settings = _with_reachable_data(settings)
    with embedded_stores(
        settings.data_dir, postgres=settings.database_url is None, valkey=settings.redis_url is None
    ) as embedded:
        stores = Stores(
            database_url=settings.database_url or as_role(embedded.database_url or "", SERVICE),
            redis_url=settings.redis_url or embedded.redis_url or "",
            jwks=settings.jwks or str(development_key_set(settings.data_dir)),
            migration_url=embedded.database_url,
            key_store_url=settings.key_store_url or _as_service(embedded.key_store_url),
            key_store_migration_url=None if settings.key_store_url else embedded.key_store_url,
        )
        yield settings, stores


def _as_service(url: str | None) -> str | None:
    return url and as_role(url, SERVICE)


async def _serve_until_stopped(settings: Settings, stores: Stores) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    raise_file_limit()
    runner = make_runner(make_app(settings, stores))
    try:
        await runner.setup()
        await listen(settings, runner)
        _print_banner(settings, runner)
        await stopped.wait()
        await drain(runner, settings.drain_grace_s)
    finally:
        await runner.cleanup()


async def listen(settings: Settings, runner: web.AppRunner) -> None:
    """Raises `SettingError` when the address is not this machine's, or somebody has it."""
    try:
        await web.TCPSite(runner, settings.host, settings.port, backlog=BACKLOG).start()
    except OSError as error:
        raise SettingError(f"CHECKIN_HOST and CHECKIN_PORT name no free address: {error.strerror}") from None


def _print_banner(settings: Settings, runner: web.AppRunner) -> None:
    host, port = runner.addresses[0][:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    print(f"\nThe check-in service listens on {address}", flush=True)
    if settings.jwks:
        return
    here, python = Path.cwd(), Path(sys.executable)
    command = (
        f"{python.relative_to(here) if python.is_relative_to(here) else python} -m checkin_service token"
    )
    print(
        f"""
Development tokens (issuer {DEVELOPMENT_ISSUER}, 15 minutes), in another terminal:
  the main platform   {command} --sub platform --scope tasks
  a person            {command} --sub p-1 --scope checkin

Pages, signed in for these 15 minutes:
  the phone page as p-1 (docs/phone-page.md says more, also for real phones)
    {address}/app/#token={development_token(settings.data_dir, "p-1", "checkin", 15)}
  the reviewing officer's console (docs/console.md)
    {address}/console/#token={development_token(settings.data_dir, "r-1", "review", 15)}
  They show little until something is asked of p-1: the first two calls in README.md, "Call it".

Try next:
  curl {address}/readyz
  curl -H "Authorization: Bearer $({command} --sub platform --scope tasks)" '{address}/v1/changes?limit=10'
  make demo           plays the whole story on real faces and shows the platform's view
  README.md           every call with curl
  {address}/docs/     every call in the browser, to be read and tried
Stop with Ctrl-C; data stays in {settings.data_dir}.
""",
        flush=True,
    )


def _run(work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


if __name__ == "__main__":
    sys.exit(main())
