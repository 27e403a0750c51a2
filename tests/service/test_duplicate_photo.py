"""A photograph of the person that was there before is told again: what is compared, what is kept, and when it goes."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from checkin_service.adapters.postgres import check_ins
from face import DLIB_RESNET_MODEL, FINGERPRINT, WorkerFailed, resemblance
from tests.service.fixed_engine import Copy, vectors_of
from tests.service.rows import accepted_rows, store
from tests.service.stage import FAR, Reply, Stage, photo_of
from tests.service.window import NOON, OPENS_AT, PROVISIONAL_CLOSES_AT, PROVISIONAL_OPENS_AT, task_at_noon

COPIES: tuple[Copy, ...] = ("", "altered", "mirrored")
DAY = timedelta(days=1)
ACCEPTED: list[str] = []


async def two_tasks(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2")
    await stage.register("T2", "p-1", "p-2", approved_at=OPENS_AT.isoformat())


async def kept(stage: Stage) -> list[tuple[str, str, str]]:
    rows = await stage.sql(
        "SELECT person_id, outcome, model_id FROM kept_photograph ORDER BY person_id, check_in_id, model_id"
    )
    return [tuple(row) for row in rows]


def told_by(person_id: str, outcome: str = "accepted") -> list[tuple[str, str, str]]:
    """The rows of one photograph."""
    return [(person_id, outcome, model_id) for model_id in (DLIB_RESNET_MODEL, FINGERPRINT)]


# --- What is compared ---


@pytest.mark.parametrize("copy", COPIES)
async def test_the_references_own_photograph_is_no_selfie(stage: Stage, copy: Copy) -> None:
    await task_at_noon(stage, "T1")
    refused = await stage.check_in("p-1", "T1", selfie=photo_of("p-1", 0, copy))
    assert (refused.body["outcome"], refused.reasons) == ("review", ["duplicate_photo"])
    assert refused.body["attempts_left"] == 9
    assert (await stage.check_in("p-1", "T1")).reasons == ACCEPTED


async def test_any_of_several_reference_photographs(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await stage.enrol("p-1", *(photo_of("p-1", shot) for shot in (10, 11, 12)))
    for shot in (10, 11, 12):
        refused = await stage.check_in("p-1", "T1", selfie=photo_of("p-1", shot, "altered"))
        assert refused.reasons == ["duplicate_photo"]
    # what is replaced is forgotten
    assert (await stage.check_in("p-1", "T1", selfie=photo_of("p-1", 0))).reasons == ACCEPTED


@pytest.mark.parametrize("later", [timedelta(0), DAY])
@pytest.mark.parametrize("copy", COPIES)
async def test_an_accepted_selfie_serves_once_on_whatever_task(
    stage: Stage, copy: Copy, later: timedelta
) -> None:
    await two_tasks(stage)
    assert (await stage.check_in("p-1", "T1", selfie=photo_of("p-1", 1))).reasons == ACCEPTED
    await stage.set_clock(NOON + later)
    again = await stage.check_in("p-1", "T2", selfie=photo_of("p-1", 1, copy))
    assert (again.body["outcome"], again.reasons) == ("review", ["duplicate_photo"])
    assert (await stage.check_in("p-1", "T2", selfie=photo_of("p-1", 2))).reasons == ACCEPTED


@pytest.mark.parametrize(("later", "reasons"), [(timedelta(0), ACCEPTED), (DAY, ["duplicate_photo"])])
async def test_two_selfies_of_one_sitting_are_no_copies_on_their_day(
    stage: Stage, later: timedelta, reasons: list[str]
) -> None:
    """How near they may come is not measured, so that on one day the hash alone tells; on another the distance too."""
    await two_tasks(stage)
    await stage.check_in("p-1", "T1", selfie=photo_of("p-1", 1))
    await stage.set_clock(NOON + later)
    assert (await stage.check_in("p-1", "T2", selfie=photo_of("p-1", 1, "retaken"))).reasons == reasons


async def test_a_day_is_one_in_shanghai(stage: Stage) -> None:
    await two_tasks(stage)
    before_midnight = NOON.replace(hour=23, minute=59)
    await stage.set_clock(before_midnight)
    await stage.check_in("p-1", "T1", selfie=photo_of("p-1", 1))
    await stage.set_clock(before_midnight + timedelta(minutes=2))
    refused = await stage.check_in("p-1", "T2", selfie=photo_of("p-1", 1, "retaken"))
    assert refused.reasons == ["duplicate_photo"]


async def test_a_held_selfie_serves_once_too(stage: Stage) -> None:
    await stage.set_clock(PROVISIONAL_OPENS_AT)
    await stage.ready_task("T1", approved_at=PROVISIONAL_OPENS_AT.isoformat())
    await stage.set_clock(PROVISIONAL_CLOSES_AT)
    held = await stage.check_in("p-1", "T1", selfie=photo_of("p-1", 1))
    assert held.body["outcome"] == "review"
    assert await kept(stage) == told_by("p-1", "review")
    again = await stage.check_in("p-1", "T1", selfie=photo_of("p-1", 1))
    assert again.reasons == ["duplicate_photo"]


async def test_a_copy_of_somebody_else_has_both_reasons_in_order(stage: Stage) -> None:
    await two_tasks(stage)
    await stage.check_in("p-1", "T1", selfie=photo_of("p-1", 1))
    await stage.enrol("p-1", photo_of("p-9"))
    refused = await stage.check_in("p-1", "T2", selfie=photo_of("p-1", 1))
    assert refused.reasons == ["non_match", "duplicate_photo"]
    assert refused.body["attempts_left"] == 9


async def test_anothers_photographs_are_not_looked_at(stage: Stage) -> None:
    await two_tasks(stage)
    await stage.check_in("p-1", "T1", selfie=photo_of("p-1", 1))
    assert (await stage.check_in("p-2", "T1", selfie=photo_of("p-1", 1))).reasons == ["non_match"]


async def test_how_near_it_came_is_stored(stage: Stage) -> None:
    await two_tasks(stage)
    accepted = await stage.check_in("p-1", "T1", selfie=photo_of("p-1", 1))
    near = resemblance(vectors_of("p-1"), vectors_of("p-1", 1))
    assert near is not None
    query = "SELECT copy_distance, copy_bits FROM attempt WHERE check_in_id = $1"
    [row] = await stage.sql(query, UUID(accepted.body["check_in_id"]))
    assert row["copy_distance"] == pytest.approx(near.distance)
    assert row["copy_bits"] == near.hash_bits


async def test_bytes_alone_tell_where_there_is_no_fingerprint(stage: Stage) -> None:
    await two_tasks(stage)
    stage.engine.models = [model for model in stage.engine.models if model != FINGERPRINT]
    await stage.check_in("p-1", "T1", selfie=photo_of("p-1", 1))
    assert (await stage.check_in("p-1", "T2", selfie=photo_of("p-1", 1))).reasons == ["duplicate_photo"]
    assert (await stage.check_in("p-1", "T2", selfie=photo_of("p-1", 1, "altered"))).reasons == ACCEPTED


# --- What is kept ---


async def test_what_passed_is_kept(stage: Stage) -> None:
    await two_tasks(stage)
    await stage.check_in("p-1", "T1")
    assert await kept(stage) == told_by("p-1")
    await stage.check_in("p-1", "T2")
    await stage.check_in("p-2", "T1")
    assert await kept(stage) == told_by("p-1") * 2 + told_by("p-2")


async def test_an_attempt_that_stopped_at_the_position_does_not_count(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    selfie = photo_of("p-1", 1)
    stopped: list[dict[str, Any]] = [{"at": FAR}, {"fixes": []}]
    for fields in stopped:
        assert (await stage.check_in("p-1", "T1", selfie=selfie, **fields)).body["outcome"] == "rejected"
    assert await kept(stage) == []
    assert (await stage.check_in("p-1", "T1", selfie=selfie)).reasons == ACCEPTED


@pytest.mark.parametrize("identity", ["p-2", "dark", "crowd"])
async def test_a_face_that_was_refused_does_not_count(stage: Stage, identity: str) -> None:
    await task_at_noon(stage, "T1")
    first = await stage.check_in("p-1", "T1", selfie=photo_of(identity, 1))
    again = await stage.check_in("p-1", "T1", selfie=photo_of(identity, 1))
    assert first.reasons == again.reasons != ["duplicate_photo"]
    assert await kept(stage) == []


async def test_a_failure_of_ours_does_not_count(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_: bytes) -> None:
        raise WorkerFailed("it crashed")

    await task_at_noon(stage, "T1")
    selfie = photo_of("p-1", 1)
    with monkeypatch.context() as broken:
        broken.setattr(stage.engine, "analyse", fail)
        assert (await stage.check_in("p-1", "T1", selfie=selfie)).status == 503
    assert (await stage.check_in("p-1", "T1", selfie=selfie)).reasons == ACCEPTED


async def test_a_verdict_that_fails_after_all_keeps_nothing(stage: Stage) -> None:
    """The last thing that a verdict writes is the feed's entry."""
    await task_at_noon(stage, "T1")
    selfie = photo_of("p-1", 1)
    await stage.sql("ALTER TABLE change RENAME TO gone")
    assert (await stage.check_in("p-1", "T1", selfie=selfie)).status == 500
    await stage.sql("ALTER TABLE gone RENAME TO change")
    assert await kept(stage) == []
    assert (await stage.check_in("p-1", "T1", selfie=selfie)).reasons == ACCEPTED


async def test_a_repeat_of_an_accepted_member_is_not_looked_at(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    for reasons in (ACCEPTED, ["already_checked_in"]):
        assert (await stage.check_in("p-1", "T1", selfie=photo_of("p-1", 1))).reasons == reasons


# --- When it goes ---


async def test_withdrawal_and_erasure_delete_what_was_kept_and_nobody_elses(stage: Stage) -> None:
    await two_tasks(stage)
    for person_id in ("p-1", "p-2"):
        await stage.check_in(person_id, "T1")
    await stage.person("p-1", "DELETE", "/v1/me/consent")
    assert await kept(stage) == told_by("p-2")
    await stage.platform("DELETE", "/v1/persons/p-2")
    assert await kept(stage) == []


async def test_scopes_without_face_delete_what_was_kept(stage: Stage) -> None:
    await two_tasks(stage)
    await stage.check_in("p-1", "T1")
    await stage.consent("p-1", ["location"])
    assert await kept(stage) == []


async def test_a_new_enrolment_keeps_what_was_kept(stage: Stage) -> None:
    await two_tasks(stage)
    await stage.check_in("p-1", "T1", selfie=photo_of("p-1", 1))
    await stage.enrol("p-1", photo_of("p-1", 20))
    assert (await stage.check_in("p-1", "T2", selfie=photo_of("p-1", 1))).reasons == ["duplicate_photo"]


# --- What the database holds by itself ---


async def test_a_kept_photograph_opens_for_its_person_only(stage: Stage) -> None:
    await two_tasks(stage)
    for person_id in ("p-1", "p-2"):
        await stage.check_in(person_id, "T1")
    await stage.sql(
        """
        UPDATE kept_photograph k SET sealed = o.sealed FROM kept_photograph o
        WHERE k.person_id = 'p-1' AND o.person_id = 'p-2' AND k.model_id = o.model_id
        """
    )
    assert (await stage.check_in("p-1", "T2")).status == 500
    assert (await stage.check_in("p-2", "T2")).reasons == ACCEPTED


async def keep(stage: Stage, rows: dict[str, dict[str, Any]], **changes: Any) -> None:
    attempt = rows["attempt"]
    columns = ("check_in_id", "task_id", "person_id", "received_at", "outcome")
    row = {name: attempt[name] for name in columns} | {"model_id": "m", "sealed": b"x"} | changes
    await store(stage, {"kept_photograph": row})


async def test_only_of_attempts_that_passed_and_of_their_own_member(stage: Stage) -> None:
    await two_tasks(stage)
    refused, held = (accepted_rows("T1", outcome=outcome) for outcome in ("rejected", "review"))
    for rows in (refused, held):
        del rows["acceptance"]
        await store(stage, rows)
    with pytest.raises(asyncpg.CheckViolationError):
        await keep(stage, refused)
    for pretended in ({"outcome": "accepted"}, {"outcome": "review"}):
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await keep(stage, refused, **pretended)
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await keep(stage, held, person_id="p-2")
    await keep(stage, held)


# --- Two at once ---


async def one_photograph_for_two_tasks_at_once(stage: Stage) -> list[Reply]:
    """Both are analysed before either is judged."""
    selfie = photo_of("p-1", 1)
    async with stage.holding("SELECT FROM person WHERE person_id = 'p-1' FOR NO KEY UPDATE"):
        submitting = [
            asyncio.create_task(stage.check_in("p-1", task_id, selfie=selfie)) for task_id in ("T1", "T2")
        ]
        await stage.until_waiting(2)
    return await asyncio.gather(*submitting)


async def test_one_photograph_for_two_tasks_at_once_passes_once(stage: Stage) -> None:
    await two_tasks(stage)
    replies = await one_photograph_for_two_tasks_at_once(stage)
    assert sorted(reply.reasons for reply in replies) == [ACCEPTED, ["duplicate_photo"]]
    assert sorted(await kept(stage)) == told_by("p-1") + told_by("p-1", "review")


async def test_control_settled_whatever_has_changed_it_would_pass_twice(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle = check_ins.settle

    async def settle_whatever_has_changed(
        connection: Any, check_in_id: UUID, seen: str, **verdict: Any
    ) -> Any:
        async with connection.transaction():
            await connection.execute("SELECT lock_check_in($1)", check_in_id)
            case = await check_ins.load_case(connection, check_in_id)
            assert case, seen
            return await settle(connection, check_in_id, case.stamp, **verdict)

    await two_tasks(stage)
    monkeypatch.setattr(check_ins, "settle", settle_whatever_has_changed)
    replies = await one_photograph_for_two_tasks_at_once(stage)
    assert [reply.reasons for reply in replies] == [ACCEPTED, ACCEPTED]


async def test_two_photographs_for_two_tasks_at_once_both_pass(stage: Stage) -> None:
    await two_tasks(stage)
    replies = await asyncio.gather(*(stage.check_in("p-1", task_id) for task_id in ("T1", "T2")))
    assert [reply.reasons for reply in replies] == [ACCEPTED, ACCEPTED]
