"""Each kind of data just before its time and at it; purges beside check-ins, twice, cut off, and without the store."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from checkin_service.adapters.object_store import directory_store
from checkin_service.adapters.postgres import purge as purges
from checkin_service.adapters.postgres.database import Database, open_database
from checkin_service.adapters.postgres.purge import PurgeReceipt
from checkin_service.domain.retention import LAWSUIT, OBJECTION, POLICY, POLICY_VERSION, RECORD, SWEPT, Kind
from checkin_service.ports import ObjectStore, StoreUnavailable
from checkin_service.usecases import purge as usecase
from checkin_service.usecases.purge import find_overdue, purge
from checkin_service.usecases.sweep import sweep
from tests.service.situations import ordered
from tests.service.stage import FAR, Stage, photo_of
from tests.service.window import (
    CLOSES_AT,
    MICROSECOND,
    NOON,
    PROVISIONAL_CLOSES_AT,
    PROVISIONAL_OPENS_AT,
    task_at_noon,
)

DAYS_90 = timedelta(days=90)


@asynccontextmanager
async def opened(stage: Stage) -> AsyncIterator[Database]:
    async with open_database(stage.service_url, 4) as database:
        yield database


def store_of(stage: Stage) -> ObjectStore:
    return directory_store(stage.settings.data_dir / "evidence")


async def purged(stage: Stage, store: ObjectStore | None = None) -> PurgeReceipt:
    async with opened(stage) as database, stage.keys() as keys:
        return await purge(database, keys, store or store_of(stage), lambda removed: None)


async def overdue(stage: Stage) -> Mapping[Kind, int]:
    async with opened(stage) as database:
        return await find_overdue(database, store_of(stage))


async def count(stage: Stage, source: str) -> int:
    return int((await stage.sql(f"SELECT count(*) FROM {source}"))[0][0])


def objects(stage: Stage) -> list[Path]:
    folder = stage.settings.data_dir / "evidence"
    return sorted(folder.iterdir()) if folder.exists() else []


def put_at(stage: Stage, instant: datetime) -> None:
    """Makes every object as old as if it had been put at an instant: the store has a clock of its own."""
    for path in objects(stage):
        os.utime(path, (instant.timestamp(), instant.timestamp()))


# --- Each kind at its time ---


async def much(stage: Stage) -> None:
    """A task with something of every kind: three members, whose last is held for review and rejected by a reviewer who
    says why; a manual request that is accepted by nobody."""
    await task_at_noon(stage, "T1", "p-1", "p-2", "p-3")
    await stage.check_in("p-1", "T1", at=(114.0600123, 22.5440123), device={"device_id": "d-1"})
    await stage.check_in("p-1", "T1")  # a repeat: a receipt without an attempt
    await stage.check_in("p-2", "T1", at=FAR)
    await stage.check_in("p-3", "T1", selfie=photo_of("p-3"))
    await reviewed(stage, "p-3", "reject")
    await stage.challenge("p-2", "T1")
    await stage.sql(
        """
        INSERT INTO burst_frame (challenge_id, photo, model_id, sealed)
        SELECT challenge_id, 0, 'm', '' FROM challenge WHERE expires_at = (SELECT max(expires_at) FROM challenge)
        """
    )
    await stage.sql(
        """
        INSERT INTO deferred_submission (check_in_id, received_at, sealed)
        SELECT check_in_id, received_at, '' FROM receipt WHERE person_id = 'p-2'
        """
    )
    await stage.sql(
        """
        INSERT INTO idempotency_key (iss, sub, method, path, idempotency_key, body_digest, claimed_at)
        VALUES ('i', 's', 'PUT', '/', 'k', '', checkin_now())
        """
    )
    await ask_manually(stage, "p-2")
    await reviewed(stage, "p-2", "reject")
    await stage.person("p-3", "DELETE", "/v1/me/consent")


async def ask_manually(stage: Stage, person_id: str) -> None:
    body = {"task_id": "T1", "reason": "my face is bandaged"}
    asked = await stage.person(
        person_id, "POST", "/v1/manual-requests", body, headers={"Idempotency-Key": "asked"}
    )
    assert asked.status == 201, asked.body


async def reviewed(stage: Stage, person_id: str, decision: str) -> None:
    [row] = await stage.sql(
        "SELECT review_id FROM review WHERE person_id = $1 AND state LIKE 'pending%'", person_id
    )
    reply = await stage.call(
        "POST",
        f"/v1/reviews/{row['review_id']}/decision",
        "reviewer",
        "review",
        json={"decision": decision, "note": "it is the old picture"},
        headers={"Idempotency-Key": f"{person_id}-{decision}"},
    )
    assert reply.status == 200, reply.body


@dataclass(frozen=True, slots=True)
class Case:
    """What is `there` until `due`, and stays no longer."""

    there: str
    due: datetime


ACCEPTED = "attempt WHERE outcome = 'accepted'"
CASES: Mapping[Kind, Case] = {
    Kind.DEFERRED_SUBMISSION: Case("deferred_submission", NOON + timedelta(minutes=10)),
    Kind.BURST_FRAME: Case("burst_frame", NOON + timedelta(seconds=180, minutes=10)),
    Kind.CHALLENGE: Case("challenge", NOON + timedelta(seconds=180, days=1)),
    Kind.IDEMPOTENCY_KEY: Case("idempotency_key", NOON + timedelta(days=1)),
    Kind.LAST_POSITION: Case("last_position", NOON + timedelta(days=1)),
    Kind.SENT_FIX: Case("sent_fix", NOON + DAYS_90),
    Kind.EVIDENCE: Case("evidence", CLOSES_AT + OBJECTION),
    Kind.KEPT_PHOTOGRAPH: Case("kept_photograph", CLOSES_AT + OBJECTION),
    Kind.REFERENCE: Case("template", CLOSES_AT + DAYS_90),
    Kind.MANUAL_REQUEST: Case("manual_request WHERE reason <> ''", CLOSES_AT + OBJECTION),
    Kind.REVIEW_NOTE: Case("review_decision WHERE note <> ''", CLOSES_AT + LAWSUIT),
    Kind.REFUSED_ATTEMPT: Case("attempt WHERE outcome = 'rejected'", CLOSES_AT + LAWSUIT),
    Kind.ATTEMPT_FIGURES: Case(f"{ACCEPTED} AND device IS NOT NULL", CLOSES_AT + LAWSUIT),
    Kind.ANSWER: Case("receipt WHERE answer->>'location' IS NOT NULL", CLOSES_AT + LAWSUIT),
    Kind.RECEIPT: Case(
        "receipt LEFT JOIN attempt USING (check_in_id) WHERE outcome IS NULL", CLOSES_AT + LAWSUIT
    ),
    Kind.MEMBER_NAME: Case("member WHERE name <> ''", CLOSES_AT + LAWSUIT),
    Kind.CONSENT: Case("consent WHERE withdrawn_at IS NOT NULL", NOON + RECORD),
    Kind.PROCESSING_RECORD: Case("processing_record", NOON + RECORD),
    Kind.AUDIT: Case("audit WHERE action = 'register'", NOON + RECORD),
}


def test_every_kind_has_its_case() -> None:
    assert {*CASES, Kind.EVIDENCE_OBJECT} == set(Kind)
    assert list(POLICY) == list(Kind)


@pytest.mark.parametrize("kind", CASES)
async def test_a_kind_is_there_until_its_time_and_no_longer(stage: Stage, kind: Kind) -> None:
    case = CASES[kind]
    await much(stage)
    put_at(stage, NOON)
    there = await count(stage, case.there)
    assert there
    await stage.set_clock(case.due - MICROSECOND)
    before = await purged(stage)
    assert await count(stage, case.there) == there
    assert kind not in before.counts
    await stage.set_clock(case.due)
    assert (await overdue(stage))[kind]
    after = await purged(stage)
    assert after.counts[kind]
    assert await count(stage, case.there) == 0
    assert await overdue(stage) == {}


# --- When a task is over ---


async def test_a_task_counts_from_its_closing_when_that_comes_first(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await stage.check_in("p-1", "T1")
    await ordered(stage, "T1", "close")
    await stage.set_clock(NOON + OBJECTION)
    await purged(stage)
    assert await count(stage, "evidence") == 0


async def test_a_voided_task_counts_from_then(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await stage.check_in("p-1", "T1", selfie=photo_of("p-1"))
    await ordered(stage, "T1", "void")
    await stage.set_clock(NOON + OBJECTION)
    await purged(stage)
    assert await count(stage, "evidence") == 0


async def test_what_is_still_to_be_decided_keeps_its_evidence(stage: Stage) -> None:
    """And from the decision on it is kept as long as any other."""
    await task_at_noon(stage, "T1")
    await stage.check_in("p-1", "T1", selfie=photo_of("p-1"))
    decided_at = CLOSES_AT + timedelta(days=300)
    await stage.set_clock(decided_at)
    assert await overdue_of_tasks(stage) == {}
    await purged(stage)
    await reviewed(stage, "p-1", "reject")
    await stage.set_clock(decided_at + OBJECTION - MICROSECOND)
    await purged(stage)
    assert await count(stage, "evidence") == 1
    await stage.set_clock(decided_at + OBJECTION)
    await purged(stage)
    assert await count(stage, "evidence") == 0


async def overdue_of_tasks(stage: Stage) -> dict[Kind, int]:
    of_tasks = {kind for kind, rule in POLICY.items() if rule.since == POLICY[Kind.EVIDENCE].since}
    return {kind: number for kind, number in (await overdue(stage)).items() if kind in of_tasks}


async def test_a_suspended_task_is_not_over(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2")
    await stage.check_in("p-1", "T1")
    await ordered(stage, "T1", "suspend")
    await stage.set_clock(CLOSES_AT + timedelta(days=300))
    await purged(stage)
    assert (await count(stage, "evidence"), await count(stage, "reference")) == (1, 2)


async def test_a_provisional_end_is_none(stage: Stage) -> None:
    await stage.set_clock(PROVISIONAL_OPENS_AT)
    await stage.ready_task("T1", approved_at=PROVISIONAL_OPENS_AT.isoformat())
    await stage.set_clock(PROVISIONAL_CLOSES_AT + DAYS_90)
    await purged(stage)
    assert (await stage.status("T1"))["members"][0]["reference"] == "ready"


async def test_a_revoked_acceptance_counts_from_the_revocation(stage: Stage) -> None:
    await task_at_noon(stage, "T1", flow="routine")
    await stage.check_in("p-1", "T1")
    revoked_at = CLOSES_AT + timedelta(days=30)
    await stage.set_clock(revoked_at)
    await ordered(stage, "T1", "members/p-1/revoke")
    await stage.set_clock(revoked_at + OBJECTION - MICROSECOND)
    await purged(stage)
    assert await count(stage, "evidence") == 1


# --- References ---


async def test_a_reference_without_any_task_goes_ninety_days_after_its_enrolment(stage: Stage) -> None:
    await stage.set_clock(NOON)
    await stage.enrol("p-1")
    await stage.set_clock(NOON + DAYS_90 - MICROSECOND)
    assert (await purged(stage)).counts == {}
    await stage.set_clock(NOON + DAYS_90)
    assert (await purged(stage)).counts == {Kind.REFERENCE: 1}
    assert (await stage.platform("GET", "/v1/persons/p-1/reference")).status == 404
    [key] = await stage.sql("SELECT wrapped_key, deletion::text FROM key_store.data_key")
    assert tuple(key) == (None, "forgotten")


async def test_a_reference_of_a_live_task_stays_however_old_the_others_are(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2")
    await stage.set_clock(CLOSES_AT + DAYS_90)
    await register_meanwhile(stage)
    assert (await purged(stage)).counts[Kind.REFERENCE] == 1
    members = {member["person_id"]: member["reference"] for member in (await stage.status("T1"))["members"]}
    assert members == {"p-1": "ready", "p-2": "missing"}


async def test_a_reference_that_goes_is_told_once_to_each_task_that_shows_it(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await stage.set_clock(CLOSES_AT + DAYS_90)
    rev = (await stage.status("T1"))["rev"]
    await purged(stage)
    await purged(stage)
    assert [change["type"] for change in await stage.changes()][-1] == "material_missing"
    status = await stage.status("T1")
    assert (status["rev"], status["members"][0]["reference"]) == (rev + 1, "missing")


async def wait_at_the_locks(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], Awaitable[Any]]
) -> PurgeReceipt:
    """A purge between whose look and whose locks something happens."""
    look = purges.persons_due

    async def look_and_wait(*arguments: Any) -> list[str]:
        due = await look(*arguments)
        await meanwhile()
        return due

    monkeypatch.setattr(purges, "persons_due", look_and_wait)
    return await purged(stage)


async def register_meanwhile(stage: Stage) -> None:
    assert (await stage.register("T2", approved_at=(CLOSES_AT + DAYS_90).isoformat())).status == 201


async def extend_meanwhile(stage: Stage) -> None:
    order = {"reason": "x", "deadline_at": "2027-06-01T00:00:00+08:00", "document_no": "1"}
    await ordered(stage, "T1", "extend", order)


async def enrol_meanwhile(stage: Stage) -> None:
    await stage.enrol("p-1", photo_of("p-1", 3))


MEANWHILE = {"registered": register_meanwhile, "extended": extend_meanwhile, "enrolled": enrol_meanwhile}


@pytest.mark.parametrize("what", MEANWHILE)
async def test_a_reference_that_is_needed_again_meanwhile_stays(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    await task_at_noon(stage, "T1")
    await stage.set_clock(CLOSES_AT + DAYS_90)
    await wait_at_the_locks(stage, monkeypatch, lambda: MEANWHILE[what](stage))
    assert (await stage.status("T1"))["members"][0]["reference"] == "ready"


async def test_without_the_second_look_it_would_go(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the test above."""

    async def trust(*_: Any) -> bool:
        return True

    await task_at_noon(stage, "T1")
    await stage.set_clock(CLOSES_AT + DAYS_90)
    monkeypatch.setattr(purges, "person_is_due", trust)
    await wait_at_the_locks(stage, monkeypatch, lambda: register_meanwhile(stage))
    assert (await stage.status("T2"))["members"][0]["reference"] == "missing"


# --- What stays ---


async def test_after_everything_is_purged_the_bare_fact_is_still_shown(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    accepted = await stage.check_in("p-1", "T1")
    status = await stage.status("T1")
    await stage.set_clock(NOON + RECORD)
    await purged(stage)
    [member] = (await stage.status("T1"))["members"]
    assert member == {**status["members"][0], "reference": "missing"}
    read = await stage.person("p-1", "GET", f"/v1/check-ins/{accepted.body['check_in_id']}")
    assert (read.body["outcome"], read.body["location"]) == ("accepted", None)


# --- Objects ---


async def test_objects_that_no_row_names_go_after_an_hour_and_no_others(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await stage.check_in("p-1", "T1")
    [named] = objects(stage)
    store = store_of(stage)
    for address in ("left", "fresh"):
        await store.put(address, b"sealed")
    put_at(stage, NOON)
    at = (NOON + timedelta(seconds=1)).timestamp()
    os.utime(named.with_name("fresh"), (at, at))
    await stage.set_clock(NOON + timedelta(hours=1, seconds=1))
    assert await overdue(stage) == {Kind.EVIDENCE_OBJECT: 1}
    assert (await purged(stage)).counts == {Kind.EVIDENCE_OBJECT: 1}
    assert objects(stage) == sorted([named, named.with_name("fresh")])


async def test_evidence_goes_with_its_object(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await stage.check_in("p-1", "T1")
    put_at(stage, NOON)
    await stage.set_clock(CLOSES_AT + OBJECTION)
    counts = (await purged(stage)).counts
    assert (counts[Kind.EVIDENCE], counts[Kind.EVIDENCE_OBJECT], objects(stage)) == (1, 1, [])


class Away:
    """A store that lists what it has, and then does nothing more."""

    def __init__(self, store: ObjectStore, listing: bool) -> None:
        self.store, self.listing = store, listing

    async def put(self, address: str, content: bytes) -> None:
        raise StoreUnavailable

    async def get(self, address: str) -> bytes:
        raise StoreUnavailable

    async def delete(self, address: str) -> None:
        raise StoreUnavailable

    async def fault(self) -> str | None:
        return "away"

    async def list_older_than(self, instant: datetime) -> AsyncIterator[str]:
        if not self.listing:
            raise StoreUnavailable
        async for address in self.store.list_older_than(instant):
            yield address


@pytest.mark.parametrize("listing", [True, False])
async def test_while_the_store_is_away_rows_go_and_the_receipt_says_so(stage: Stage, listing: bool) -> None:
    await task_at_noon(stage, "T1")
    await stage.check_in("p-1", "T1")
    put_at(stage, NOON)
    await stage.set_clock(CLOSES_AT + OBJECTION)
    cut = await purged(stage, Away(store_of(stage), listing))
    assert (cut.unfinished, cut.counts[Kind.EVIDENCE]) == ([Kind.EVIDENCE_OBJECT], 1)
    assert Kind.EVIDENCE_OBJECT not in cut.counts
    assert len(objects(stage)) == 1
    whole = await purged(stage)
    assert (whole.unfinished, whole.counts, objects(stage)) == ([], {Kind.EVIDENCE_OBJECT: 1}, [])


# --- Receipts, repeats, companions ---


async def test_a_purge_leaves_a_receipt_of_bare_numbers(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2")
    await stage.set_clock(CLOSES_AT + DAYS_90)
    receipt = await purged(stage)
    assert (receipt.policy_version, receipt.counts) == (POLICY_VERSION, {Kind.REFERENCE: 2})
    [row] = await stage.sql("SELECT r::text, finished_at FROM purge_receipt r")
    assert row["finished_at"] == CLOSES_AT + DAYS_90
    assert "p-1" not in row["r"]


async def test_a_second_purge_finds_nothing(stage: Stage) -> None:
    await much(stage)
    await stage.set_clock(NOON + RECORD)
    assert (await purged(stage)).counts
    tables = await everything(stage)
    assert (await purged(stage)).counts == {}
    assert await everything(stage) == tables


async def everything(stage: Stage) -> dict[str, list[str]]:
    """Every row of every table but the receipts of purges, and the audit, which tells of each."""
    names = await stage.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename")
    return {
        name: sorted(row[0] for row in await stage.sql(f"SELECT t::text FROM {name} t"))
        for (name,) in names
        if name not in {"purge_receipt", "audit"}
    }


async def test_a_check_changes_nothing(stage: Stage) -> None:
    await much(stage)
    await stage.set_clock(NOON + RECORD)
    tables = await everything(stage)
    assert set(await overdue(stage)) == set(Kind) - {Kind.EVIDENCE_OBJECT}
    assert await everything(stage) == tables


async def test_a_purge_that_is_cut_off_has_counted_what_it_removed_and_another_goes_on(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def break_off(*_: Any) -> None:
        raise ConnectionError

    await task_at_noon(stage, "T1", "p-1", "p-2")
    await stage.set_clock(CLOSES_AT + LAWSUIT)
    monkeypatch.setattr(usecase, "BATCH", 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(purges, "unnamed_objects", break_off)
        with pytest.raises(ConnectionError):
            await purged(stage)
    [row] = await stage.sql("SELECT counts::text, finished_at FROM purge_receipt")
    assert (row["counts"], row["finished_at"]) == ('{"reference": 2}', None)
    assert (await purged(stage)).counts == {Kind.MEMBER_NAME: 2}


async def test_purges_side_by_side_remove_everything_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = [f"p-{n}" for n in range(12)]
    await task_at_noon(stage, "T1", *people)
    for person_id in people:
        await stage.check_in(person_id, "T1")
    monkeypatch.setattr(usecase, "BATCH", 2)
    await stage.set_clock(CLOSES_AT + LAWSUIT)
    receipts = await asyncio.gather(*(purged(stage) for _ in range(4)))
    for kind in (Kind.EVIDENCE, Kind.REFERENCE, Kind.ATTEMPT_FIGURES, Kind.MEMBER_NAME):
        assert sum(receipt.counts.get(kind, 0) for receipt in receipts) == len(people), kind
    assert (await purged(stage)).counts == {}


async def test_a_purge_beside_check_ins_in_flight_takes_nothing_from_them(stage: Stage) -> None:
    people = [f"p-{n}" for n in range(8)]
    await task_at_noon(stage, "T0", "p-9")
    await stage.check_in("p-9", "T0")
    await stage.set_clock(CLOSES_AT + DAYS_90)
    await stage.ready_task("T1", *people, approved_at=(CLOSES_AT + DAYS_90).isoformat())
    checked_in = asyncio.gather(*(stage.check_in(person_id, "T1") for person_id in people))
    receipt, replies = await asyncio.gather(purged(stage), checked_in)
    assert [reply.body["outcome"] for reply in replies] == ["accepted"] * len(people)
    assert (receipt.counts[Kind.REFERENCE], receipt.counts[Kind.EVIDENCE]) == (1, 1)
    assert await count(stage, "evidence") == len(objects(stage)) - 1 == len(people)


async def test_a_selfie_that_was_put_but_not_yet_judged_is_not_taken(stage: Stage) -> None:
    """Its row comes with the verdict, which a purge can't know of: so objects stay for an hour."""
    async with opened(stage) as database, stage.keys() as keys:
        await task_at_noon(stage, "T1")
        async with stage.while_analysing(stage.check_in("p-1", "T1")) as submitted:
            await store_of(stage).put("ahead-of-its-row", b"sealed")
            put_at(stage, NOON)
            assert (await purge(database, keys, store_of(stage), lambda removed: None)).counts == {}
        assert (await submitted).body["outcome"] == "accepted"
    assert len(objects(stage)) == 2


async def test_a_sweep_clears_what_is_short_lived(stage: Stage) -> None:
    await much(stage)
    await stage.set_clock(NOON + timedelta(days=2))
    assert set(SWEPT) <= set(await overdue(stage))
    async with opened(stage) as database:
        await sweep(database)
    assert not set(SWEPT) & set(await overdue(stage))


# --- The command ---


async def command(stage: Stage, *options: str) -> tuple[int, Any]:
    """How `purge` ends, and what it prints."""
    environment = os.environ | {
        "DATABASE_URL": stage.service_url,
        "CHECKIN_DATA_DIR": str(stage.settings.data_dir),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "checkin_service", "purge", *options),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    return process.returncode or 0, json.loads(printed)


async def test_the_command_prints_the_receipt_and_its_check_ends_with_one_until_then(stage: Stage) -> None:
    await stage.set_clock(NOON)
    await stage.enrol("p-1")
    await stage.set_clock(NOON + DAYS_90)
    assert await command(stage, "--check") == (
        1,
        {"policy_version": POLICY_VERSION, "overdue": {"reference": 1}},
    )
    ended, receipt = await command(stage)
    assert (ended, receipt["counts"], receipt["unfinished"]) == (0, {"reference": 1}, [])
    assert await command(stage, "--check") == (0, {"policy_version": POLICY_VERSION, "overdue": {}})
