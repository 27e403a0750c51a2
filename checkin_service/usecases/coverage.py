"""How far the stored references reach: by which models they can be compared, and whom the deciding one misses.

Page by page in one snapshot, so that a hundred thousand persons take no more memory than a thousand, and no statement
longer. It changes nothing: whoever cuts it off asks again.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

from checkin_service.adapters.postgres import persons
from checkin_service.adapters.postgres.database import Connection, Database

PAGE = 2000


@dataclass(frozen=True, slots=True)
class Coverage:
    """`having`: references with a template, by model id; the fingerprint counts like a model. `lacking`: persons on
    tasks that are not over who have no template of the deciding model."""

    references: int
    having: Mapping[str, int]
    persons: int
    lacking: int


async def measure_coverage(database: Database, deciding: str, tell: Callable[[int, int], None]) -> Coverage:
    """`tell` is given how many references and persons were looked at, of how many, after each page."""
    async with database.snapshot() as connection:
        references, everybody = await persons.count_all(connection)

        def seen(number: int) -> None:
            tell(number, references + everybody)

        having = await _count_models(connection, seen)
        live, lacking = await _count_persons(connection, deciding, lambda number: seen(references + number))
    return Coverage(references, having, live, lacking)


async def _count_models(connection: Connection, seen: Callable[[int], None]) -> Mapping[str, int]:
    having: Counter[str] = Counter()
    number, last = 0, UUID(int=0)
    while page := await persons.next_references(connection, last, PAGE):
        having.update(await persons.count_models(connection, page))
        number, last = number + len(page), page[-1]
        seen(number)
    return having


async def _count_persons(
    connection: Connection, deciding: str, seen: Callable[[int], None]
) -> tuple[int, int]:
    live = lacking = number = 0
    last = ""
    while page := await persons.next_persons(connection, last, PAGE):
        found = await persons.count_on_live_tasks(connection, page, deciding)
        live, lacking = live + found[0], lacking + found[1]
        number, last = number + len(page), page[-1]
        seen(number)
    return live, lacking
