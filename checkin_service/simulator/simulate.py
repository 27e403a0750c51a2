"""One simulation from registering to the report."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from random import Random
from typing import TypeVar

import aiohttp

from checkin_service.simulator.behaviours import BEHAVIOURS
from checkin_service.simulator.client import Client
from checkin_service.simulator.options import Options
from checkin_service.simulator.phone import Life, Phone, give_consent
from checkin_service.simulator.photographs import read_faces
from checkin_service.simulator.platform import Platform
from checkin_service.simulator.report import Report, rows
from checkin_service.simulator.scenario import Person, scenario

Item = TypeVar("Item")
Result = TypeVar("Result")


async def simulate(options: Options) -> Report:
    """Plays the scenario of the seed against the running service.

    Raises `SimulationError` when the service refuses what it must take, ValueError for options or
    photographs that allow no scenario.
    """
    cast = scenario(
        f"sim-{time.time_ns() // 1000:x}",
        options.seed,
        [BEHAVIOURS[name] for name in options.only] or [b for b in BEHAVIOURS.values() if b.share],
        read_faces(options.photos),
        tasks=options.tasks,
        persons=options.persons,
        approved_at=options.approved_at,
    )
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        return await _play(Client(session, options.url.rstrip("/"), options.data_dir), cast, options)


async def _play(client: Client, cast: Sequence[Person], options: Options) -> Report:
    platform = Platform(client)
    closes_at = await _prepare(platform, cast, options.parallel)
    phones = [(person, Phone(client, person, closes_at[person.task.task_id])) for person in cast]
    started, used = time.perf_counter(), time.process_time()
    async with platform.polling():
        lives, late_s = await _arrive(phones, options)
    seconds, cpu_s = time.perf_counter() - started, time.process_time() - used
    wrong = await platform.differences(lives)
    submissions = sum(len(life.latencies_s) for life in lives)
    return Report(options.seed, rows(lives), submissions, seconds, late_s, cpu_s, client.retries, wrong)


async def _prepare(platform: Platform, cast: Sequence[Person], parallel: int) -> dict[str, datetime]:
    """Registers the tasks, enrols the persons and lets them consent; when each task's window ends."""
    await platform.start()
    tasks = {person.task.task_id: person.task for person in cast}

    async def get_ready(person: Person) -> None:
        if person.behaviour.enrolled:
            await platform.enrol(person)
        if person.behaviour.consents:
            await give_consent(platform.client, person.person_id)

    ends = await _in_parallel(parallel, tasks.values(), platform.register)
    await _in_parallel(parallel, cast, get_ready)
    return dict(zip(tasks, ends, strict=True))


async def _arrive(phones: Sequence[tuple[Person, Phone]], options: Options) -> tuple[list[Life], float]:
    """Everybody's life, and by how many seconds the latest arrival was later than it should have been."""
    calm = [phone for person, phone in phones if not person.behaviour.rushes]
    rush = [phone for person, phone in phones if person.behaviour.rushes]
    if options.rate is None:
        lives = await _in_parallel(options.parallel, calm, Phone.live)
        return [*lives, *await asyncio.gather(*map(Phone.live, rush))], 0.0
    started: list[asyncio.Task[Life]] = []
    random = Random(options.seed)  # noqa: S311  a scenario, not a secret
    due, late_s = time.perf_counter(), 0.0
    for phone in calm:
        due += random.expovariate(options.rate)
        await asyncio.sleep(due - time.perf_counter())
        late_s = max(late_s, time.perf_counter() - due)
        started.append(asyncio.create_task(phone.live()))
    return await asyncio.gather(*started, *map(Phone.live, rush)), late_s


async def _in_parallel(
    width: int, items: Iterable[Item], work: Callable[[Item], Awaitable[Result]]
) -> list[Result]:
    """The results in the items' order, of at most `width` at a time."""
    free = asyncio.Semaphore(width)

    async def one(item: Item) -> Result:
        async with free:
            return await work(item)

    return await asyncio.gather(*map(one, items))
