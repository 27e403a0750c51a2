"""A worker that is taken over finds no key, no database, no network and no program to start."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import uvloop

from face import ENGINE_FACTORY, ImageUnreadable, WorkerPool
from face.confinement import MECHANISMS
from face.engine import PhotoEngine
from tests.face import pictures, test_image

ENGINES = "tests.face.escapes:"
REFUSALS = {"EPERM", "EACCES", "not allowed to raise maximum limit"}


def only_linux() -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux confines workers")


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[Any]]]:
    """What lies around a worker: a key, a folder, a database's two sockets, programs, the service itself."""
    only_linux()
    folder = tmp_path_factory.mktemp("outside")
    key = folder / "wrapping-keys.json"
    key.write_text("a key")
    # not this process: one that leaves no core files is closed to its own user, too
    service = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    with service, socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(folder / ".s.PGSQL.5432"))
        unix.listen()
        yield {
            "read a key": ["read", str(key)],
            "read the service's environment": ["read", f"/proc/{service.pid}/environ"],
            "read what its user can read": ["read", "/etc/passwd"],
            "list a folder": ["list", str(folder)],
            "write": ["write", str(folder / "written")],
            "overwrite": ["write", str(key)],
            "connect by TCP": ["tcp", *tcp.getsockname()],
            "connect to a local socket": ["unix", str(folder / ".s.PGSQL.5432")],
            "open a socket": ["udp"],
            "fork": ["fork"],
            "start a program": ["execute", "/bin/true"],
            "signal the service": ["signal", service.pid],
            "raise its limits": ["limits"],
        }


async def outcomes(pool: WorkerPool, attempts: dict[str, list[Any]]) -> dict[str, str]:
    return {name: await outcome(pool, *attempt) for name, attempt in attempts.items()}


async def outcome(pool: WorkerPool, *attempt: Any) -> str:
    with pytest.raises(ImageUnreadable) as caught:
        await pool.analyse(json.dumps(attempt).encode())
    return str(caught.value.detail["outcome"])


def one_worker(factory: str, **options: Any) -> WorkerPool:
    return WorkerPool(ENGINES + factory, options, workers=1, spares=0)


async def test_nothing_outside_can_be_reached(outside: dict[str, list[Any]]) -> None:
    async with one_worker("confined") as pool:
        assert pool.stats.confined_by == MECHANISMS
        found = await outcomes(pool, outside)
        assert set(found.values()) <= REFUSALS, found
        assert pool.stats.failures == 0


async def test_control_without_confinement_everything_can(outside: dict[str, list[Any]]) -> None:
    async with one_worker("unconfined") as pool:
        assert pool.stats.confined_by == ()
        assert set((await outcomes(pool, outside)).values()) == {"done"}


async def test_the_filter_alone_holds_all_of_it_and_says_so(outside: dict[str, list[Any]]) -> None:
    async with one_worker("without_landlock") as pool:
        assert pool.stats.confined_by == ("seccomp",)
        assert set((await outcomes(pool, outside)).values()) == {"EPERM"} | {
            "not allowed to raise maximum limit"
        }


async def test_landlock_alone_holds_files_programs_and_tcp_and_says_so(
    outside: dict[str, list[Any]],
) -> None:
    async with one_worker("without_seccomp") as pool:
        assert pool.stats.confined_by == ("landlock",)
        found = await outcomes(pool, outside)
    reached = {name for name, what in found.items() if what == "done"}
    assert reached <= {"connect to a local socket", "open a socket", "fork", "raise its limits"}, found


async def test_late_imports_still_work() -> None:
    only_linux()
    async with one_worker("confined") as pool:
        assert await outcome(pool, "import", "wave") == "done"


def test_nothing_is_inherited() -> None:
    """Under uvloop, which is what the service runs on."""
    only_linux()

    async def seen() -> str:
        async with one_worker("confined") as pool:
            return await outcome(pool, "inherited")

    ours, theirs = os.pipe()
    os.set_inheritable(theirs, True)
    try:
        found = uvloop.run(seen()).split()
    finally:
        os.close(ours)
        os.close(theirs)
    assert [target.partition(":")[0] for target in found] == ["socket"]


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=[ENGINE_FACTORY, ENGINES + "real_without_landlock"]
)
async def real_pool(request: pytest.FixtureRequest, networks: Path) -> AsyncIterator[WorkerPool]:
    """Workers with the real engine, as they are and where the kernel has no Landlock: then no file can be opened."""
    only_linux()
    async with WorkerPool(request.param, {"cache_dir": str(networks)}, workers=1, spares=0) as pool:
        yield pool


@pytest.mark.asyncio(loop_scope="module")
async def test_the_real_engine_runs_confined_on_every_kind_of_picture(
    real_pool: WorkerPool, engine: PhotoEngine
) -> None:
    assert "seccomp" in real_pool.stats.confined_by
    photos = {name: make() for name, make in {**test_image.MODES, **test_image.GREYS}.items()}
    photos["transparent"] = test_image.transparent()
    photos["large"] = pictures.jpeg((2400, 1800))
    for name, photo in photos.items():
        assert await real_pool.analyse(photo) == engine.analyse(photo), name
    assert real_pool.stats.failures == 0


@pytest.mark.asyncio(loop_scope="module")
async def test_a_damaged_picture_is_still_called_damaged(real_pool: WorkerPool) -> None:
    photo = bytearray(pictures.png())
    photo[60] ^= 0xFF
    with pytest.raises(ImageUnreadable) as caught:
        await real_pool.analyse(bytes(photo))
    assert caught.value.fault == "damaged"
