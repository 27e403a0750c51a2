"""What is asked about a task of a thousand members, half of them accepted, each with two reference photographs."""

import statistics
from datetime import UTC, datetime, timedelta

import asyncpg

from tests.bench.plan import Plan
from tests.bench.reads import many
from tests.bench.report import Row, Table
from tests.bench.site import Api, Site, calling
from tests.large_case import fill_case
from tests.service.stage import registration

LARGE = "large"
TARGETS_MS = {"": 20.0, "why-not": None, "readiness": 100.0, "statistics": None}


async def measure(site: Site, plan: Plan) -> list[Table]:
    async with site.serving() as [process], calling(site, process.base) as api:
        await _fill(site, api, plan.members)
        rows = [row for name, target in TARGETS_MS.items() for row in await _asked(api, plan, name, target)]
    note = f"{plan.members} members, {plan.asked} calls of each kind in turn; the whole answer as a client gets it."
    return [Table("A large case", note, rows)]


async def _fill(site: Site, api: Api, members: int) -> None:
    person_ids = [f"member-{number}" for number in range(members)]
    approved_at = (datetime.now(UTC) - timedelta(days=2)).isoformat()
    body = registration(*person_ids, approved_at=approved_at)
    await api.call("PUT", f"/v1/tasks/{LARGE}", 201, json=body)
    connection = await asyncpg.connect(site.stage.database_url)
    try:
        async with site.stage.keys() as keys:
            await fill_case(connection, keys, LARGE, person_ids, photos=2)
    finally:
        await connection.close()


async def _asked(api: Api, plan: Plan, name: str, target_ms: float | None) -> list[Row]:
    path = f"/v1/tasks/{LARGE}/{name}".rstrip("/")

    async def ask() -> None:
        await api.call("GET", path, 200)

    seen = await many(ask, plan.asked, width=1)
    return [
        Row(f"{name or 'status'}, median", statistics.median(seen.times_s) * 1000, "ms", most=target_ms),
        Row("fastest", min(seen.times_s) * 1000, "ms"),
        Row("service", seen.cost.ms(plan.asked, "service"), "ms"),
        Row("PostgreSQL", seen.cost.ms(plan.asked, "postgres"), "ms"),
    ]
