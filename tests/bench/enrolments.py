"""Enrolments through the API, one photograph each, on all cores."""

from itertools import count

import aiohttp

from tests.bench.cost import GENERATOR
from tests.bench.people import reference_photo
from tests.bench.plan import Plan
from tests.bench.reads import WIDTH, many
from tests.bench.report import Row, Table
from tests.bench.site import Site, calling


async def measure(site: Site, plan: Plan) -> list[Table]:
    photo, numbers = reference_photo(), count()
    async with site.serving() as [process], calling(site, process.base) as api:

        async def enrol() -> None:
            form = aiohttp.FormData()
            form.add_field("photo", photo, filename="photo.jpg", content_type="image/jpeg")
            await api.call("PUT", f"/v1/persons/enrolled-{next(numbers)}/reference", 201, data=form)

        seen = await many(enrol, plan.enrolments)
    number = len(seen.times_s)
    rows = [Row("enrolments", number / seen.cost.wall_s, "/s")]
    rows += [
        Row(kind, seen.cost.ms(number, kind), "ms") for kind in ("service", "postgres", "face", GENERATOR)
    ]
    return [Table("Enrolments", f"{number} persons, a photograph of 480×640 each, {WIDTH} at a time.", rows)]
