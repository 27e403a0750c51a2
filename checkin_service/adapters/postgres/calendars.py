"""Calendars as notices by version, and the windows that they move."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from typing import Any

from checkin_service.adapters.postgres.database import Connection
from checkin_service.domain.calendar import Calendar, Notice, calendar_of, shanghai_time
from checkin_service.domain.window import Window

# Held from the reading of the newest version to the commit of the next: versions come one after the other.
CALENDAR_LOCK = 0x63616C

_WINDOW = {field.name: field.name for field in fields(Window)} | {"basis": "window_basis"}


@dataclass(frozen=True, slots=True)
class Reach:
    """How far the published calendar reaches, how many tasks wait for the next, and the day of reading in Shanghai."""

    last_day: date
    provisional_tasks: int
    today: date

    @property
    def days_ahead(self) -> int:
        return (self.last_day - self.today).days


async def lock_calendar(connection: Connection) -> None:
    await connection.execute("SELECT pg_advisory_xact_lock($1)", CALENDAR_LOCK)


async def read_calendar(connection: Connection, from_year: int = 0) -> Calendar:
    """The newest calendar from the start of a year on, or of its last year alone when it does not reach that far.

    The caller has made sure that there is one.
    """
    rows = await connection.fetch(
        """
        SELECT DISTINCT ON (y.year) y.year, y.days_off, y.workdays,
               (SELECT calendar_version FROM calendar_version ORDER BY number DESC LIMIT 1) AS newest
        FROM calendar_year y JOIN calendar_version v USING (calendar_version)
        WHERE y.year >= least($1, (SELECT max(year) FROM calendar_year))
        ORDER BY y.year, v.number DESC
        """,
        from_year,
    )
    return calendar_of(rows[0]["newest"], map(_notice, rows))


async def read_notices(connection: Connection) -> dict[int, Notice]:
    """The notices in force by year; none in a database without a calendar."""
    rows = await connection.fetch(
        """
        SELECT DISTINCT ON (y.year) y.year, y.days_off, y.workdays
        FROM calendar_year y JOIN calendar_version v USING (calendar_version) ORDER BY y.year, v.number DESC
        """
    )
    return {row["year"]: _notice(row) for row in rows}


async def has_calendar(connection: Connection) -> bool:
    found: bool = await connection.fetchval("SELECT EXISTS (SELECT FROM calendar_version)")
    return found


async def add_version(
    connection: Connection,
    version: str,
    notices: Sequence[Notice],
    changed: tuple[date, date],
    source: str,
    actor: str,
) -> None:
    """The next version. `changed`: the first and the last day of which it tells something else."""
    await connection.execute(
        """
        INSERT INTO calendar_version (number, calendar_version, changed_from, changed_to, source, actor)
        SELECT coalesce(max(number), 0) + 1, $1, $2, $3, $4, $5 FROM calendar_version
        """,
        version,
        *changed,
        source,
        actor,
    )
    await connection.executemany(
        "INSERT INTO calendar_year (calendar_version, year, days_off, workdays) VALUES ($1, $2, $3, $4)",
        [(version, n.year, sorted(n.days_off), sorted(n.workdays)) for n in notices],
    )


async def next_version(connection: Connection, last_year: int) -> str:
    """The name of a calendar that ends with a year: `cn-2027.2` is the second of those."""
    versions: int = await connection.fetchval(
        "SELECT count(*) FROM calendar_version WHERE calendar_version LIKE $1", f"cn-{last_year}.%"
    )
    return f"cn-{last_year}.{versions + 1}"


# Windows that rest on days of which a later version than theirs tells something else. An order's end is left as it was
# given, except while it is provisional.
_OUTDATED = """
    FROM task t
    JOIN calendar_version w USING (calendar_version)
    JOIN calendar_version v ON v.number > w.number AND v.changed_from <= t.last_day AND v.changed_to >= t.nominal_day
    WHERE t.voided_at IS NULL AND t.closed_at IS NULL AND (t.window_basis = 'one_month' OR t.provisional)
"""


async def outdated_tasks(connection: Connection, *, ended: bool) -> list[str]:
    """All of them in order; with those that have ended for good only if `ended`."""
    # no page by page: a LIMIT would have the planner walk through all tasks
    rows = await connection.fetch(
        f"SELECT DISTINCT t.task_id {_OUTDATED} AND ($1 OR t.announced_end IS DISTINCT FROM 'expired')",  # noqa: S608
        ended,
    )
    return sorted(row["task_id"] for row in rows)


async def read_outdated(connection: Connection, task_id: str) -> Window | None:
    """The task's window while it is outdated."""
    columns = ", ".join(f"t.{column}" for column in _WINDOW.values())
    row = await connection.fetchrow(f"SELECT {columns} {_OUTDATED} AND t.task_id = $1 LIMIT 1", task_id)
    return row and _window(row)


async def replace_window(connection: Connection, task_id: str, window: Window) -> None:
    """The passing of another end will be announced anew."""
    await connection.execute(
        """
        UPDATE task SET announced_end = CASE WHEN closes_at = $2 THEN announced_end END,
                        closes_at = $2, window_basis = $3, last_day = $4, rolled_over = $5, provisional = $6,
                        calendar_version = $7
        WHERE task_id = $1
        """,
        task_id,
        window.closes_at,
        window.basis,
        window.last_day,
        list(window.rolled_over),
        window.provisional,
        window.calendar_version,
    )


async def read_reach(connection: Connection) -> Reach:
    row = await connection.fetchrow(
        """
        SELECT max(year) AS year, checkin_now() AS now,
               (SELECT count(*) FROM task WHERE provisional AND voided_at IS NULL AND closed_at IS NULL) AS provisional
        FROM calendar_year
        """
    )
    now: datetime = row["now"]
    return Reach(date(row["year"], 12, 31), row["provisional"], shanghai_time(now).date())


def _notice(row: Any) -> Notice:
    return Notice(row["year"], frozenset(row["days_off"]), frozenset(row["workdays"]))


def _window(row: Any) -> Window:
    values = {name: row[column] for name, column in _WINDOW.items()}
    return Window(**values | {"rolled_over": tuple(row["rolled_over"])})
