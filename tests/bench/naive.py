"""The naive service under the same submissions, for what this one is worth beside it."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from tests.bench.cost import GENERATOR
from tests.bench.fault import BenchFault
from tests.bench.load import Load, steady
from tests.bench.people import reference_photo
from tests.bench.plan import Plan
from tests.bench.report import Row, Table
from tests.bench.site import Site

EXECUTORS = ("threads", "processes")
READY_WAIT_S = 60
WIDTH = 4
# More than it does, to be made ready for each second.
READY_PER_S = 40


async def measure(site: Site, plan: Plan) -> list[Table]:
    loads = {f"naive, executor of {kind}": await _most(site, plan, kind) for kind in EXECUTORS}
    rates = {name: load.per_second for name, load in loads.items()}
    rows = [Row(name, rate, "/s") for name, rate in rates.items()]
    faster = max(rates, key=rates.__getitem__)
    rows += [
        Row(f"{name}, of the faster one", rate / rates[faster], "times", least=6)
        for name, rate in site.most.items()
    ]
    note = (
        "An aiohttp handler that calls `face_recognition` in an executor with a thread or a process a core, and one "
        "INSERT: no token, no place, no window. The same photographs, generator, database and cores, in the same run."
    )
    plotted: dict[str, dict[str, Any]] = {"rate": rates, "cpu": {faster: _by_kind(loads[faster])}}
    return [Table("Beside the naive service", note, rows, plotted=plotted)]


def _by_kind(load: Load) -> dict[str, float]:
    """CPU in ms a check-in. The executor's processes name nothing of ours in their command lines."""
    number = len(load.judged)
    ours = {kind: load.cost.ms(number, kind) for kind in ("postgres", GENERATOR)}
    return ours | {"naive": load.cost.ms(number, "naive", "other")}


async def _most(site: Site, plan: Plan, executor: str) -> Load:
    calls = await site.calls(round(READY_PER_S * plan.naive_s))
    async with _serving(site, executor) as port:
        # until every process has loaded its models
        await steady(port, calls, WIDTH, 1)
        most = await steady(port, calls, WIDTH, plan.naive_s)
    # nobody has checked in by it
    site.give_back(calls)
    return most


@asynccontextmanager
async def _serving(site: Site, executor: str) -> AsyncIterator[int]:
    reference, port = site.folder / "reference.jpg", _free_port()
    reference.write_bytes(reference_photo())
    options = {
        "database": site.stage.database_url,
        "port": port,
        "executor": executor,
        "reference": reference,
    }
    given = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    with (site.folder / "naive.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.bench.naive_service",
            *given,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        await _answers(port, process)
        yield port
    finally:
        # with the processes of its executor, which would outlive it
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _answers(port: int, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(READY_WAIT_S):
        while process.returncode is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return
    raise BenchFault(f"the naive service ended with {process.returncode}, see naive.log")
