"""Promise 22: the audit log shows tampering, also to somebody who may write everything in the database."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest

from checkin_service.adapters.embedded.postgres import as_role
from checkin_service.adapters.postgres.audit import read_rows
from checkin_service.domain import audit
from checkin_service.domain.audit import AuditChain, AuditFault, AuditHead, AuditRow, row_hash
from checkin_service.domain.retention import RECORD
from checkin_service.usecases.verify_audit import verify_audit
from tests.faults.record import Record
from tests.service.stage import FAR, Stage
from tests.service.test_purge import purged
from tests.service.window import NOON, task_at_noon

Found = list[tuple[int, AuditFault]]
Attack = Callable[[Stage], Awaitable[object]]


async def written(stage: Stage, members: int = 3) -> AuditHead:
    """An audit of some length, and the head that the platform is given of it."""
    people = [f"p-{n}" for n in range(members)]
    await task_at_noon(stage, "T1", *people)
    for person_id in people:
        await stage.check_in(person_id, "T1", at=FAR)
        await stage.check_in(person_id, "T1")
    return await told(stage)


async def told(stage: Stage) -> AuditHead:
    reply = await stage.platform("GET", "/v1/audit/head")
    assert reply.status == 200, reply.body
    return AuditHead(reply.body["seq"], bytes.fromhex(reply.body["hash"]))


async def verified(stage: Stage, *heads: AuditHead, since: AuditHead | None = None) -> Found:
    """As `audit-verify` sees it, with the rights that it has."""
    return (await verify_audit(as_role(stage.database_url, "checkin_auditor"), since, heads)).end()


async def rows(stage: Stage) -> list[AuditRow]:
    connection = await asyncpg.connect(stage.database_url)
    try:
        return [row async for row in read_rows(connection, 0)]
    finally:
        await connection.close()


async def rewrite(stage: Stage, row: AuditRow) -> None:
    """With a hash that is right for the row as it is now."""
    await stage.sql(
        "UPDATE audit SET actor = $2, prev = $3, hash = $4 WHERE seq = $1",
        *(row.seq, row.actor, row.prev, row_hash(row)),
    )


# --- What somebody may do who can write everything ---


async def change_a_field(stage: Stage) -> None:
    await stage.sql("UPDATE audit SET actor = 'somebody-else' WHERE seq = 5")


async def change_the_instant(stage: Stage) -> None:
    await stage.sql("UPDATE audit SET at = at + interval '1 microsecond' WHERE seq = 5")


async def change_details(stage: Stage) -> None:
    await stage.sql("""UPDATE audit SET details = '{"reason": "another"}' WHERE seq = 5""")


async def change_with_a_new_hash(stage: Stage) -> None:
    row = (await rows(stage))[4]
    await rewrite(stage, replace(row, actor="somebody-else"))


async def empty_details(stage: Stage) -> None:
    await stage.sql("UPDATE audit SET details = NULL, salt = NULL WHERE seq = 5")


async def delete_a_row(stage: Stage) -> None:
    await stage.sql("DELETE FROM audit WHERE seq = 5")


async def delete_and_close_the_gap(stage: Stage) -> None:
    await stage.sql("DELETE FROM audit WHERE seq = 5")
    for seq in range(6, len(await rows(stage)) + 2):
        await stage.sql("UPDATE audit SET seq = seq - 1 WHERE seq = $1", seq)


async def delete_the_beginning(stage: Stage) -> None:
    await stage.sql("DELETE FROM audit WHERE seq <= 4")


async def swap_rows(stage: Stage) -> None:
    for before, after in ((5, -5), (6, 5), (-5, 6)):
        await stage.sql("ALTER TABLE audit DROP CONSTRAINT IF EXISTS audit_seq_check")
        await stage.sql("UPDATE audit SET seq = $2 WHERE seq = $1", before, after)


async def insert_in_between(stage: Stage) -> None:
    await stage.sql("ALTER TABLE audit DROP CONSTRAINT audit_pkey")
    await stage.sql("INSERT INTO audit SELECT (a).* FROM (SELECT a FROM audit a WHERE seq = 5) b")


async def insert_at_the_end(stage: Stage) -> None:
    await stage.sql(
        """
        INSERT INTO audit SELECT seq + 1, at, iss, actor, action, task_id, details, salt, details_digest, prev, hash
        FROM audit ORDER BY seq DESC LIMIT 1
        """
    )


async def cut_the_tail(stage: Stage) -> None:
    await stage.sql("DELETE FROM audit WHERE seq > (SELECT max(seq) - 2 FROM audit)")


async def truncate(stage: Stage) -> None:
    await stage.sql("TRUNCATE audit")


async def truncate_and_go_on(stage: Stage) -> None:
    await truncate(stage)
    await stage.enrol("p-0")


async def rewrite_all_that_follows(stage: Stage) -> None:
    """The whole chain anew from the changed row on, right in itself."""
    prev = None
    for row in (await rows(stage))[4:]:
        changed = replace(row, actor="somebody-else" if row.seq == 5 else row.actor, prev=prev or row.prev)
        await rewrite(stage, changed)
        prev = row_hash(changed)


async def pretend_a_purge(stage: Stage) -> None:
    """The beginning taken out with a row that tells of a purge."""
    row = (await rows(stage))[3]
    details = f'{{"seq": 4, "hash": "{row.hash.hex()}"}}'
    await stage.sql("SELECT append_audit('checkin_service', 'system', 'purge_audit', NULL, $1)", details)
    await delete_the_beginning(stage)


SEEN: Mapping[Attack, tuple[int, AuditFault]] = {
    change_a_field: (5, AuditFault.CHANGED),
    change_the_instant: (5, AuditFault.CHANGED),
    change_details: (5, AuditFault.CHANGED),
    change_with_a_new_hash: (6, AuditFault.UNCHAINED),
    empty_details: (5, AuditFault.EMPTIED),
    delete_a_row: (5, AuditFault.MISSING),
    delete_and_close_the_gap: (5, AuditFault.UNCHAINED),
    delete_the_beginning: (4, AuditFault.MISSING),
    swap_rows: (5, AuditFault.CHANGED),
    insert_in_between: (5, AuditFault.INSERTED),
    insert_at_the_end: (14, AuditFault.CHANGED),
}
# what only somebody sees who kept a head
BY_THE_HEAD = (cut_the_tail, truncate, truncate_and_go_on, rewrite_all_that_follows)


async def test_what_was_written_is_found_right(stage: Stage) -> None:
    head = await written(stage)
    assert head.seq == 13
    assert await verified(stage, head) == []
    page = (await stage.platform("GET", "/v1/changes")).body
    assert page["audit_head"] == {"seq": head.seq, "hash": head.hash.hex()}


@pytest.mark.parametrize("attack", SEEN, ids=lambda attack: attack.__name__)
async def test_tampering_is_found_and_the_row_named(stage: Stage, attack: Attack, record: Record) -> None:
    head = await written(stage)
    await attack(stage)
    assert SEEN[attack] in await verified(stage)
    assert SEEN[attack] in await verified(stage, head)
    record.kept(f"{attack.__name__} found")


@pytest.mark.parametrize("attack", BY_THE_HEAD, ids=lambda attack: attack.__name__)
async def test_the_tail_is_found_by_the_head_and_control_without_it_is_not(
    stage: Stage, attack: Attack, record: Record
) -> None:
    head = await written(stage)
    await attack(stage)
    assert await verified(stage, head) in (
        [(head.seq, AuditFault.MISSING)],
        [(head.seq, AuditFault.NOT_THE_HEAD)],
    )
    record.kept(f"{attack.__name__} found by the head")
    assert await verified(stage) == []
    record.control(f"{attack.__name__} unseen without the head")


async def test_a_purge_that_was_none_is_found_by_a_head_of_what_it_took(stage: Stage) -> None:
    first = (await written(stage), (await rows(stage))[1])[1]
    await pretend_a_purge(stage)
    assert await verified(stage, AuditHead(first.seq, first.hash)) == [(first.seq, AuditFault.MISSING)]
    assert await verified(stage) == []


async def test_control_without_the_chain_a_changed_row_is_not_found(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    """Each row by itself is right."""

    def unchained(chain: AuditChain, row: AuditRow) -> None: ...

    await written(stage)
    await change_with_a_new_hash(stage)
    assert await verified(stage) == [(6, AuditFault.UNCHAINED)]
    monkeypatch.setattr(audit.AuditChain, "_follow", unchained)
    assert await verified(stage) == []
    record.control("a changed row with a new hash unseen without the chain")


async def test_what_was_verified_before_need_not_be_read_again(stage: Stage) -> None:
    since = await written(stage)
    await stage.check_in("p-0", "T1", at=FAR)
    await stage.enrol("p-0")
    assert await verified(stage, since=since) == []
    await change_a_field(stage)
    assert await verified(stage, since=since) == []
    await stage.sql("UPDATE audit SET actor = 'x' WHERE seq = $1", since.seq + 1)
    assert await verified(stage, since=since) == [(since.seq + 1, AuditFault.CHANGED)]


# --- What is allowed is no tampering ---


async def test_writers_at_the_same_time_make_one_chain(stage: Stage, full: bool) -> None:
    writers = 400 if full else 40
    await asyncio.gather(*(stage.register(f"T{n}", "p-1") for n in range(writers)))
    ways = [stage.enrol("p-1"), stage.consent("p-1"), stage.platform("GET", "/v1/persons/p-1/export")]
    reason = {"reason": "x"}
    await asyncio.gather(
        *ways, *(stage.platform("POST", f"/v1/tasks/T{n}/void", reason) for n in range(writers))
    )
    assert (await told(stage)).seq == 2 * writers + len(ways)
    assert await verified(stage, await told(stage)) == []


async def test_an_erasure_empties_rows_and_leaves_the_chain_whole(stage: Stage, record: Record) -> None:
    head = await written(stage)
    assert (await stage.platform("DELETE", "/v1/persons/p-1")).status == 204
    emptied = [row for row in await rows(stage) if row.details is None]
    assert {row.action for row in emptied} == {"judge"}
    assert len(emptied) == 2
    assert "p-1" not in "".join(row.details or "" for row in await rows(stage))
    assert await verified(stage, head, await told(stage)) == []
    record.kept("an erasure is no tampering")


async def test_a_purge_takes_the_oldest_rows_and_leaves_the_chain_whole(stage: Stage) -> None:
    await written(stage)
    await stage.set_clock(NOON + RECORD)
    await purged(stage)
    assert [row.action for row in await rows(stage)][:1] != ["register"]
    assert await verified(stage, await told(stage)) == []
    await stage.set_clock(NOON + RECORD + timedelta(days=1))
    await stage.enrol("p-2")
    assert await verified(stage, await told(stage)) == []


async def test_the_service_and_the_auditor_can_change_nothing_of_it(stage: Stage) -> None:
    await written(stage)
    for url in (stage.service_url, as_role(stage.database_url, "checkin_auditor")):
        connection = await asyncpg.connect(url)
        for change in (
            "UPDATE audit SET actor = 'x'",
            "DELETE FROM audit",
            "TRUNCATE audit",
            "INSERT INTO audit SELECT * FROM audit",
            "ALTER TABLE audit DROP COLUMN hash",
            "DROP TABLE audit",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(change)
        await connection.close()


async def test_the_auditor_reads_the_audit_alone(stage: Stage) -> None:
    connection = await asyncpg.connect(as_role(stage.database_url, "checkin_auditor"))
    for table in ("person", "attempt", "template", "task"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch(f"SELECT * FROM {table}")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.fetch("SELECT append_audit('i', 'a', 'x', NULL, '{}')")
    await connection.close()
