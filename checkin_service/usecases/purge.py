"""Removes what is older than the policy allows, or says what is.

At any time, in as many processes as there are and again after it was cut off: every batch is a transaction of its own,
looks anew at what is due and takes down in the receipt what it has removed.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from checkin_service.adapters.postgres import persons
from checkin_service.adapters.postgres import purge as purges
from checkin_service.adapters.postgres.audit import write_audit
from checkin_service.adapters.postgres.database import Connection, Database
from checkin_service.adapters.postgres.key_store import Deletion
from checkin_service.adapters.postgres.purge import PurgeReceipt
from checkin_service.adapters.postgres.tasks import lock_tasks_of, read_now
from checkin_service.adapters.template_keys import ErasureLog
from checkin_service.domain.retention import POLICY, POLICY_VERSION, SWEPT, Kind
from checkin_service.ports import ObjectStore, StoreUnavailable
from checkin_service.usecases.caller import SYSTEM
from checkin_service.usecases.consent import forget_face

BATCH = 500
"""Rows of a transaction, and persons that are looked at in one statement."""
TASKS_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class _Run:
    """One kind's part of a purge: what began at `before` or earlier is to go."""

    database: Database
    log: ErasureLog
    store: ObjectStore
    purge_id: int
    kind: Kind
    before: datetime
    removed: Callable[[int], None]

    async def count(self, connection: Connection, number: int) -> None:
        if number:
            await purges.add_to_receipt(connection, self.purge_id, self.kind, number)
        self.removed(number)


async def purge(
    database: Database, log: ErasureLog, store: ObjectStore, tell: Callable[[int], None]
) -> PurgeReceipt:
    """The receipt. `tell` is given how much is removed so far, again and again.

    While the object store is away rows go all the same: nobody can read their objects then, and the next purge removes
    these.
    """
    async with database.transaction() as connection:
        receipt = await purges.begin_receipt(connection, POLICY_VERSION)
        await _audit(connection, receipt, {})
    unfinished: list[Kind] = []
    so_far = 0

    def removed(number: int) -> None:
        nonlocal so_far
        so_far += number
        tell(so_far)

    for kind, rule in POLICY.items():
        work, before = _WORK.get(kind, _purge_rows), receipt.started_at - rule.period
        try:
            await work(_Run(database, log, store, receipt.purge_id, kind, before, removed))
        except StoreUnavailable:
            unfinished.append(kind)
    async with database.transaction() as connection:
        receipt = await purges.finish_receipt(connection, receipt.purge_id, unfinished)
        await _audit(connection, receipt, {"counts": dict(receipt.counts), "unfinished": unfinished})
        return receipt


async def _audit(connection: Connection, receipt: PurgeReceipt, done: dict[str, Any]) -> None:
    """Both that it began and what it did: one that is cut off leaves the first."""
    details = {"purge_id": receipt.purge_id, "policy_version": receipt.policy_version, **done}
    await write_audit(connection, SYSTEM.iss, SYSTEM.sub, "purge", None, details)


async def clear_in_passing(database: Database) -> None:
    """What every sweep removes, without a receipt."""
    async with database.connection() as connection:
        now = await read_now(connection)
        for kind in SWEPT:
            while await purges.remove(connection, kind, now - POLICY[kind].period, (), BATCH) == BATCH:
                pass


async def find_overdue(database: Database, store: ObjectStore) -> Mapping[Kind, int]:
    """How much of each kind is older than the policy allows, where anything is. Changes nothing.

    Raises `StoreUnavailable`.
    """
    async with database.connection() as connection:
        now = await read_now(connection)
    found = {
        kind: await _count_due(database, store, kind, now - rule.period) for kind, rule in POLICY.items()
    }
    return {kind: number for kind, number in found.items() if number}


async def _count_due(database: Database, store: ObjectStore, kind: Kind, before: datetime) -> int:
    if kind is Kind.EVIDENCE_OBJECT:
        return sum([len(page) async for page in _nobodys(database, store, before)])
    if kind is Kind.REFERENCE:
        return sum([len(page) async for page in _persons(database, before)])
    number = 0
    async for task_ids in _tasks(database, kind, before):
        async with database.connection() as connection:
            number += await purges.count_due(connection, kind, before, task_ids)
    return number


async def _tasks(database: Database, kind: Kind, before: datetime) -> AsyncIterator[list[str]]:
    """Whose rows may be due, some at a time; one page of none for a kind that is of no task."""
    if not purges.is_of_tasks(kind):
        yield []
        return
    after: str | None = ""
    while after is not None:
        async with database.connection() as connection:
            page = await purges.tasks_ended_by(connection, before, after, TASKS_AT_ONCE)
        yield page
        after = page[-1] if len(page) == TASKS_AT_ONCE else None


async def _persons(database: Database, before: datetime) -> AsyncIterator[list[str]]:
    """Who has a reference that is to go, some at a time."""
    after: str | None = ""
    while after is not None:
        async with database.connection() as connection:
            page = await purges.enrolled_persons(connection, after, BATCH)
            due = await purges.persons_due(connection, before, page)
        yield due
        after = page[-1] if len(page) == BATCH else None


async def _purge_rows(run: _Run) -> None:
    async for task_ids in _tasks(run.database, run.kind, run.before):
        removed = BATCH
        while removed == BATCH:
            async with run.database.transaction() as connection:
                removed = await purges.remove(connection, run.kind, run.before, task_ids, BATCH)
                await run.count(connection, removed)


async def _purge_references(run: _Run) -> None:
    async for due in _persons(run.database, run.before):
        for person_id in due:
            async with run.database.transaction() as connection:
                await run.count(connection, await _purge_reference(connection, run, person_id))


async def _purge_reference(connection: Connection, run: _Run, person_id: str) -> bool:
    """Looks again under the locks: a task that names the person may have been registered or extended meanwhile."""
    await persons.lock_person(connection, person_id)
    await lock_tasks_of(connection, person_id)
    due = await purges.person_is_due(connection, run.before, person_id)
    if due:
        # its objects, if there are any left, go with those that no row names
        await forget_face(connection, run.log, person_id, Deletion.FORGOTTEN)
    return due


async def _purge_objects(run: _Run) -> None:
    async for page in _nobodys(run.database, run.store, run.before):
        for address in page:
            await run.store.delete(address)
        async with run.database.connection() as connection:
            await run.count(connection, len(page))


async def _nobodys(database: Database, store: ObjectStore, before: datetime) -> AsyncIterator[list[str]]:
    """Addresses, some at a time, of objects put before that which no row names."""
    page: list[str] = []
    async for address in store.list_older_than(before):
        page.append(address)
        if len(page) == BATCH:
            yield await _unnamed(database, page)
            page = []
    yield await _unnamed(database, page)


async def _unnamed(database: Database, addresses: list[str]) -> list[str]:
    async with database.connection() as connection:
        return await purges.unnamed_objects(connection, addresses)


_WORK: Mapping[Kind, Callable[[_Run], Awaitable[None]]] = {
    Kind.REFERENCE: _purge_references,
    Kind.EVIDENCE_OBJECT: _purge_objects,
}
