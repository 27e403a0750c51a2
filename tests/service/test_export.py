"""A person's export holds everything that is stored of them: no table can be forgotten, and nothing of anybody else."""

import json

from checkin_service.adapters.postgres.person_export import STORED, WITHHELD
from tests.contract.document import SCHEMAS
from tests.service.stage import FAR, Json, Reply, Stage
from tests.service.test_purge import ask_manually, much, reviewed
from tests.service.window import NOON, task_at_noon

SECRETS = {"sealed", "wrapped_key", "key_id", "fix_digest"}


async def own(stage: Stage, person_id: str = "p-1") -> Json:
    reply = await stage.person(person_id, "GET", "/v1/me/export")
    assert reply.status == 200, reply.body
    body: Json = reply.body
    return body


async def platforms(stage: Stage, person_id: str) -> Reply:
    return await stage.platform("GET", f"/v1/persons/{person_id}/export")


async def names(stage: Stage, query: str) -> set[str]:
    return {row[0] for row in await stage.sql(query)}


async def test_every_table_that_names_a_person_is_exported(stage: Stage) -> None:
    """A new table can't be forgotten: neither one with the person's id, nor one whose rows refer to such a row."""
    named = await names(
        stage,
        """
        SELECT c.table_name
        FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name)
        WHERE table_schema = 'public' AND table_type = 'BASE TABLE'
          AND column_name IN ('person_id', 'pseudonym', 'sub')
        """,
    )
    referring = await names(
        stage,
        """
        SELECT DISTINCT child.relname FROM pg_constraint JOIN pg_class child ON child.oid = conrelid
        JOIN information_schema.columns c ON c.table_name = confrelid::regclass::text AND c.column_name = 'person_id'
        WHERE contype = 'f'
        """,
    )
    assert {"attempt", "sent_fix", "processing_record", "idempotency_key"} <= named
    assert {"template", "evidence", "review_decision", "manual_request", "burst_frame"} <= referring
    assert (named | referring) - STORED.keys() == set()


async def test_the_document_names_the_tables() -> None:
    assert list(SCHEMAS["PersonExport"]["properties"]["stored"]["properties"]) == list(STORED)


async def test_every_row_and_column_is_there_but_the_withheld(stage: Stage) -> None:
    """Everybody's rows are somebody's: the exports of all members together are the tables."""
    await much(stage)
    exports = [await own(stage, f"p-{n}") for n in (1, 2, 3)]
    for table in STORED.keys() - {"idempotency_key", "audit", "task"}:
        rows = [row for export in exports for row in export["stored"][table]]
        stored = await stage.sql(f"SELECT to_jsonb(x) AS row FROM {table} x")
        assert len(rows) == len(stored) > 0, table
        columns = {name for row in stored for name in json.loads(row["row"])}
        assert {name for row in rows for name in row} == columns - set(WITHHELD), table


async def test_what_is_told_of_a_check_in(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    accepted = await stage.check_in("p-1", "T1", device={"model": "HUAWEI P60"})
    stored = (await own(stage))["stored"]
    [attempt] = stored["attempt"]
    assert (attempt["check_in_id"], attempt["outcome"]) == (accepted.body["check_in_id"], "accepted")
    assert attempt["score"] >= attempt["threshold"]
    assert (attempt["zone"], attempt["device"]["model"]) == ("inside", "HUAWEI P60")
    assert attempt["received_at"] == stored["acceptance"][0]["accepted_at"] == NOON.isoformat()
    assert (stored["task"][0]["task_id"], stored["member"][0]["name"]) == ("T1", "张*")
    assert [entry["kind"] for entry in stored["processing_record"]] == ["enrolled", "consent_given"]


async def test_of_a_review_the_reasons_are_told_and_not_the_reviewer(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await ask_manually(stage, "p-1")
    await reviewed(stage, "p-1", "reject")
    export = await own(stage)
    stored = export["stored"]
    assert stored["manual_request"][0]["reason"] == "my face is bandaged"
    [decision] = stored["review_decision"]
    assert (decision["decision"], decision["note"]) == ("reject", "it is the old picture")
    assert "decide_review" in [entry["action"] for entry in stored["audit"]]
    assert "reviewer" not in json.dumps(export)


async def test_neither_vector_nor_key_is_in_it(stage: Stage) -> None:
    await much(stage)
    rows = await stage.sql(
        """
        SELECT encode(sealed, 'hex') FROM template UNION SELECT encode(sealed, 'hex') FROM kept_photograph
        UNION SELECT key_id::text FROM person UNION SELECT encode(wrapped_key, 'hex') FROM evidence
        UNION SELECT encode(fix_digest, 'hex') FROM sent_fix
        """
    )
    secrets = {row[0] for row in rows if row[0]}
    assert len(secrets) > 5
    told = json.dumps([await own(stage, f"p-{n}") for n in (1, 2, 3)])
    assert not any(secret in told for secret in secrets)
    assert set(WITHHELD) > SECRETS


async def test_it_is_nobody_elses(stage: Stage) -> None:
    await much(stage)
    told = json.dumps(await own(stage, "p-1"))
    assert "p-2" not in told
    assert "p-3" not in told
    assert "bandaged" not in told


async def test_the_platform_gets_the_same_and_its_name_is_written_down(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await stage.check_in("p-1", "T1", at=FAR)
    mine, theirs = await own(stage), await platforms(stage, "p-1")
    assert theirs.status == 200
    for export in (mine, theirs.body):
        export["stored"].pop("audit")
    assert mine == theirs.body
    rows = await stage.sql("SELECT actor FROM audit WHERE action = 'export' ORDER BY seq")
    assert rows[1]["actor"] == "platform"
    assert "p-1" not in rows[0]["actor"]


async def test_whoever_is_unknown_has_an_empty_export_of_their_own_and_none_for_the_platform(
    stage: Stage,
) -> None:
    assert (await platforms(stage, "p-1")).status == 404
    stored = (await own(stage))["stored"]
    assert [table for table, rows in stored.items() if rows] == ["person"]


async def test_after_an_erasure_the_bare_facts_are_exported(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await stage.check_in("p-1", "T1")
    await stage.platform("DELETE", "/v1/persons/p-1")
    stored = (await platforms(stage, "p-1")).body["stored"]
    left = {"person", "processing_record", "member", "task", "receipt", "attempt", "acceptance", "audit"}
    assert {table for table, rows in stored.items() if rows} == left
