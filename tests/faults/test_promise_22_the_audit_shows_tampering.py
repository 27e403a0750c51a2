"""Promise 22: the audit log shows tampering, also to somebody who may write everything in the database."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from checkin_service.adapters.embedded.postgres import as_role
from checkin_service.adapters.postgres.audit import read_rows
from checkin_service.domain import audit
from checkin_service.domain.audit import AuditChain, AuditFault, AuditHead, AuditRow, row_hash
from checkin_service.domain.retention import LAWSUIT, RECORD
from checkin_service.usecases.verify_audit import compare_audit, verify_audit
from tests.faults.record import Record
from tests.service.reviewing import SECOND, asked, decide, doubtful
from tests.service.stage import FAR, Reply, Stage
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
    calls = [stage.register(f"T{n}", "p-1") for n in range(writers)]
    done = await carried_out(calls)
    calls = [stage.enrol("p-1"), stage.consent("p-1"), stage.platform("GET", "/v1/persons/p-1/export")]
    calls += [stage.platform("POST", f"/v1/tasks/T{n}/void", {"reason": "x"}) for n in range(writers)]
    done += await carried_out(calls)
    # one that was done may still be told to come again, when there is no connection to read its answer by
    assert (await told(stage)).seq >= done > writers / 2
    assert await verified(stage, await told(stage)) == []


async def carried_out(calls: list[Coroutine[Any, Any, Reply]]) -> int:
    """How many: more at once than there are connections, some may be told to come again."""
    return sum(reply.status < 300 for reply in await asyncio.gather(*calls))


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


async def test_the_auditor_reads_little_but_the_audit(stage: Stage) -> None:
    connection = await asyncpg.connect(as_role(stage.database_url, "checkin_auditor"))
    for what in (
        "* FROM person",
        "score FROM attempt",
        "device FROM attempt",
        "* FROM template",
        "* FROM task",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch(f"SELECT {what}")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.fetch("SELECT append_audit('i', 'a', 'x', NULL, '{}')")
    await connection.close()


# --- Facts that were written past the service ---


async def happened(stage: Stage) -> None:
    """p-0 accepted, p-1 refused, p-2 held, p-3 with a manual request, p-4 not there at all."""
    await task_at_noon(stage, "T1", *(f"p-{n}" for n in range(5)))
    await stage.check_in("p-0", "T1")
    await stage.check_in("p-1", "T1", at=FAR)
    await doubtful(stage, "p-2", "T1")
    await asked(stage, "p-3", "T1")


async def by_hand(stage: Stage, statements: str) -> None:
    """As an administrator who heeds no foreign key. `p0`, `p1`: the attempts' ids."""
    ids = {row["person_id"]: row["check_in_id"] for row in await stage.sql("SELECT * FROM attempt")}
    text = statements.format(p0=ids["p-0"], p1=ids["p-1"], new="11111111-1111-4111-8111-111111111111")
    await stage.sql(f"DO $$ BEGIN SET LOCAL session_replication_role = replica; {text} END $$")


COMPLETION = """
    INSERT INTO acceptance (check_in_id, task_id, person_id, accepted_at, method, outcome, opens_at, closes_at)
    SELECT '{id}', task_id, '{person}', accepted_at, method, outcome, opens_at, closes_at FROM acceptance
    WHERE check_in_id = '{{p0}}';
"""
REVIEWED = """
    UPDATE review SET state = 'accepted', decided_at = checkin_now() WHERE person_id = '{person}';
    INSERT INTO acceptance (check_in_id, task_id, person_id, accepted_at, method, outcome, review_state, decided_at,
                            opens_at, closes_at)
    SELECT review_id, task_id, person_id, received_at, '{method}', outcome, state, decided_at, opens_at, closes_at
    FROM review JOIN task USING (task_id) WHERE person_id = '{person}';
"""
BY_HAND = {
    "an acceptance with its attempt": """
        INSERT INTO receipt SELECT (jsonb_populate_record(r, jsonb_build_object(
            'check_in_id', '{new}', 'person_id', 'p-4', 'idempotency_key', 'x', 'challenge_id', '{new}'))).*
        FROM receipt r WHERE check_in_id = '{p0}';
        INSERT INTO attempt SELECT (jsonb_populate_record(a, jsonb_build_object(
            'check_in_id', '{new}', 'person_id', 'p-4'))).* FROM attempt a WHERE check_in_id = '{p0}';
    """
    + COMPLETION.format(id="{new}", person="p-4"),
    "a refused attempt made an accepted one": """
        UPDATE attempt SET outcome = 'accepted', reasons = '{{}}', distance_m = -9, score = 0.9, threshold = 0.5
        WHERE check_in_id = '{p1}';
    """
    + COMPLETION.format(id="{p1}", person="p-1"),
    "a held one accepted": REVIEWED.format(person="p-2", method="face"),
    "a request accepted": REVIEWED.format(person="p-3", method="manual"),
    "another instant": "UPDATE attempt SET received_at = received_at - interval '1 h' WHERE check_in_id = '{p0}';",
    "another person": "UPDATE attempt SET person_id = 'p-4' WHERE check_in_id = '{p0}';",
    "an acceptance gone": "DELETE FROM acceptance WHERE check_in_id = '{p0}';",
    "an attempt without its entry, as if erased": """
        INSERT INTO attempt SELECT (jsonb_populate_record(a, jsonb_build_object(
            'check_in_id', '{new}', 'person_id', 'p-4', 'erased_at', checkin_now()))).*
        FROM attempt a WHERE check_in_id = '{p0}';
    """,
}


async def contradicted(stage: Stage) -> int:
    return len(await compare_audit(as_role(stage.database_url, "checkin_auditor")))


@pytest.mark.parametrize("name", BY_HAND)
async def test_what_was_written_past_the_service_is_found_and_control_the_chain_is_whole(
    stage: Stage, name: str, record: Record
) -> None:
    await happened(stage)
    assert await contradicted(stage) == 0
    await by_hand(stage, BY_HAND[name])
    assert await contradicted(stage) == 1
    record.kept(f"{name} found")
    assert await verified(stage, await told(stage)) == []
    record.control(f"{name} unseen by the chain alone")


async def test_what_people_decide_an_erasure_and_a_purge_contradict_nothing(stage: Stage) -> None:
    await happened(stage)
    for [review_id] in await stage.sql("SELECT review_id FROM review"):
        for reviewer in ("r-1", SECOND):
            await decide(stage, str(review_id), reviewer=reviewer)
    assert (await stage.sql("SELECT count(*) FROM acceptance"))[0][0] == 3
    assert await contradicted(stage) == 0
    for person_id in ("p-0", "p-2", "p-3"):
        assert (await stage.platform("DELETE", f"/v1/persons/{person_id}")).status == 204
    assert await contradicted(stage) == 0
    await stage.set_clock(NOON + LAWSUIT * 2)
    await purged(stage)
    assert await contradicted(stage) == 0
    await stage.set_clock(NOON + RECORD * 2)
    await purged(stage)
    assert await contradicted(stage) == 0
    assert (await stage.sql("SELECT count(*) FROM acceptance"))[0][0] == 3
