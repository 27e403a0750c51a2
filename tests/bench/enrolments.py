"""Enrolments through the API, one photograph each, on all cores; and by a list, beside the bare face pipeline."""

import asyncio
import csv
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import aiohttp

from checkin_service.adapters.postgres.database import open_database
from checkin_service.app import policy_of, worker_pool
from checkin_service.bulk.enrol import Enroller, enough_at_once, enrol_list
from checkin_service.bulk.enrolment_list import Listed, read_list
from checkin_service.bulk.photo_folder import PhotoFolder
from checkin_service.usecases.caller import SYSTEM
from checkin_service.usecases.enrol_listed import Standing
from tests.bench.cost import GENERATOR, Cost, measured
from tests.bench.fault import BenchFault
from tests.bench.people import reference_photo
from tests.bench.plan import Plan
from tests.bench.reads import WIDTH, many
from tests.bench.report import Row, Table
from tests.bench.site import Api, Site, calling
from tests.service.stage import until

MANY = 100_000


async def measure(site: Site, plan: Plan) -> list[Table]:
    return [await _by_call(site, plan), await _by_list(site, plan)]


async def _by_call(site: Site, plan: Plan) -> Table:
    async with site.serving() as [process], calling(site, process.base) as api:
        seen = await many(enrolling(api, reference_photo()), plan.enrolments)
    number = len(seen.times_s)
    rows = [Row("enrolments", number / seen.cost.wall_s, "/s")]
    rows += [
        Row(kind, seen.cost.ms(number, kind), "ms") for kind in ("service", "postgres", "face", GENERATOR)
    ]
    return Table("Enrolments", f"{number} persons, a photograph of 480×640 each, {WIDTH} at a time.", rows)


def enrolling(api: Api, photo: bytes) -> Callable[[], Awaitable[None]]:
    """Enrols another person each time: `enrolled-0` and so on."""
    numbers = count()

    async def enrol() -> None:
        form = aiohttp.FormData()
        form.add_field("photo", photo, filename="photo.jpg", content_type="image/jpeg")
        await api.call("PUT", f"/v1/persons/enrolled-{next(numbers)}/reference", 201, data=form)

    return enrol


async def _by_list(site: Site, plan: Plan) -> Table:
    """The bare pipeline has its turn before and after, so that a machine that slows down slows both."""
    number = plan.enrolments
    with tempfile.TemporaryDirectory() as folder:
        path = _written_list(Path(folder), site, number)
        async with _enroller(site, Path(folder)) as enroller:
            listed = read_list(path, enroller.folder, "separate_consent", lambda _: None)
            before = await _analysed(enroller, listed)
            first = await _enrolled(enroller, listed, Standing.ENROLLED)
            after = await _analysed(enroller, listed)
            again = await _enrolled(enroller, listed, Standing.ALREADY)
    bare, rate = 2 * number / (before.wall_s + after.wall_s), number / first.wall_s
    rows = [
        Row("the face pipeline alone", bare, "/s"),
        Row("by the list", rate, "/s"),
        Row("of the face pipeline alone", 100 * rate / bare, "%", least=75),
        Row("the command", first.ms(number, GENERATOR), "ms"),
        *(Row(kind, first.ms(number, kind), "ms") for kind in ("postgres", "face")),
        Row(f"{MANY:,} persons at this rate", MANY / rate / 60, "min"),
        Row("gone through again", number / again.wall_s, "/s"),
        Row(f"{MANY:,} persons at that rate", MANY * again.wall_s / number / 60, "min"),
    ]
    note = f"{number} persons, a photograph of 480×640 each, {enroller.at_once} on their way at once; workers are warm."
    return Table("Enrolments by a list", note, rows)


def _written_list(folder: Path, site: Site, number: int) -> Path:
    path = folder / "list.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("person_id", "photo"))
        for n in range(number):
            person_id = f"listed-{n}"
            writer.writerow((person_id, f"{person_id}.jpg"))
            (folder / f"{person_id}.jpg").write_bytes(site.faces.photo(person_id, n))
    return path


@asynccontextmanager
async def _enroller(site: Site, folder: Path) -> AsyncIterator[Enroller]:
    settings = site.stage.settings
    photos, at_once = PhotoFolder(folder), enough_at_once(settings.face_workers)
    async with (
        open_database(site.stage.service_url, settings.database_connections) as database,
        site.stage.keys() as keys,
        worker_pool(settings) as faces,
    ):
        # all of them, with the spare one
        await until(lambda: faces.stats.ready > settings.face_workers)
        yield Enroller(database, keys, faces, policy_of(settings), SYSTEM, photos, at_once)
    photos.close()


async def _analysed(enroller: Enroller, listed: Sequence[Listed]) -> Cost:
    """What the photographs take that are read by then, and nothing else."""
    photos = [enroller.folder.read(name) for one in listed for name in one.photos]
    waiting = iter(photos)

    async def lane() -> None:
        for photo in waiting:
            await enroller.faces.analyse(photo)

    with measured() as cost:
        await asyncio.gather(*(lane() for _ in range(enroller.at_once)))
    return cost


async def _enrolled(enroller: Enroller, listed: Sequence[Listed], standing: Standing) -> Cost:
    """Raises `BenchFault` when anybody is refused."""
    codes: list[str] = []
    with measured() as cost:
        counts = await enrol_list(enroller, listed, lambda _, why: codes.append(why.code), lambda *_: None)
    if counts[standing] != len(listed):
        raise BenchFault(f"of {len(listed)} listed {dict(counts)}: {', '.join(sorted(set(codes)))}")
    return cost
