"""The yearly notice, and its amendments, become the next version of the calendar."""

from dataclasses import dataclass
from datetime import date

from checkin_service.adapters.notice_file import NoticeFault
from checkin_service.adapters.postgres import calendars
from checkin_service.adapters.postgres.audit import write_audit
from checkin_service.adapters.postgres.database import Connection, Database
from checkin_service.adapters.published_calendar import SOURCE, published_notices
from checkin_service.domain.calendar import Notice, calendar_of, changed_days
from checkin_service.usecases.caller import SYSTEM
from checkin_service.usecases.recompute_windows import Recomputed, recompute_windows


@dataclass(frozen=True, slots=True)
class Imported:
    """`version` None: the calendar said all this already."""

    version: str | None
    recomputed: Recomputed


async def import_calendar(database: Database, notice: Notice, source: str, actor: str) -> Imported:
    """Puts a year's notice in force and moves the windows that rest on what it changes.

    Safe to repeat, also after it was interrupted, and beside check-ins and other imports. Raises `NoticeFault`, and
    nothing is changed, for a year that does not follow the published ones.
    """
    await seed_calendar(database)
    async with database.transaction() as connection:
        await calendars.lock_calendar(connection)
        version = await _put_in_force(connection, notice, source, actor)
    return Imported(version, await recompute_windows(database, ended=True))


async def seed_calendar(database: Database) -> None:
    """An empty database gets what the package knows; from then on imports alone change it."""
    async with database.transaction() as connection:
        if await calendars.has_calendar(connection):
            return
        await calendars.lock_calendar(connection)
        if await calendars.has_calendar(connection):
            return
        notices = published_notices()
        years = notices[0].year, notices[-1].year
        version = await calendars.next_version(connection, years[1])
        changed = date(years[0], 1, 1), date(years[1], 12, 31)
        await calendars.add_version(connection, version, notices, changed, SOURCE, SYSTEM.sub)


async def _put_in_force(connection: Connection, notice: Notice, source: str, actor: str) -> str | None:
    """The new version's name; None when it would say the same as the present one."""
    notices = await calendars.read_notices(connection)
    first, following = min(notices), max(notices) + 1
    if not first <= notice.year <= following:
        raise NoticeFault(
            f"{notice.year} would leave a gap: the calendar begins with {first}, and the next year is {following}"
        )
    before = calendar_of("before", notices.values())
    after = calendar_of("after", (notices | {notice.year: notice}).values())
    changed = changed_days(before, after)
    if not changed:
        return None
    version = await calendars.next_version(connection, after.last_day.year)
    await calendars.add_version(connection, version, [notice], (changed[0], changed[-1]), source, actor)
    details = {"calendar_version": version, "year": notice.year, "source": source}
    await write_audit(connection, SYSTEM.iss, actor, "calendar_import", None, details)
    return version
