"""How many attempts a member has on a day in Shanghai, and what uses one up."""

from datetime import datetime, timedelta

from tests.service.stage import FAR, Reply, Stage, photo_of, running_service
from tests.service.window import MICROSECOND, NOON, OPENS_AT, task_at_noon

MIDNIGHT = datetime.fromisoformat("2026-03-21T00:00:00+08:00")


async def miss(stage: Stage, person_id: str = "p-1", task_id: str = "T1") -> Reply:
    """One counted attempt."""
    reply = await stage.check_in(person_id, task_id, at=FAR)
    assert reply.status == 201, reply.body
    return reply


async def use_up(stage: Stage) -> Reply:
    """All ten of p-1 on T1; the last one's answer."""
    return [await miss(stage) for _ in range(10)][-1]


async def stored(stage: Stage, reason: str) -> int:
    [row] = await stage.sql("SELECT count(*) FROM attempt WHERE $1 = ANY(reasons)", reason)
    return int(row["count"])


async def test_each_counted_attempt_leaves_one_fewer(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    assert [(await miss(stage)).body["attempts_left"] for _ in range(10)] == list(range(9, -1, -1))


async def test_non_match_counts_and_what_the_phone_did_wrong_does_not(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    assert (await stage.check_in("p-1", "T1", selfie=photo_of("p-2"))).body["attempts_left"] == 9
    for identity in ("nobody", "crowd", "dark"):
        assert (await stage.check_in("p-1", "T1", selfie=photo_of(identity))).body["attempts_left"] == 9
    for fixes in ([], [{"lon": 0, "lat": 0, "at": NOON.isoformat()}]):
        assert (await stage.check_in("p-1", "T1", fixes=fixes)).body["attempts_left"] == 9


async def test_a_refusal_of_the_task_or_the_reference_counts_nothing(stage: Stage) -> None:
    await stage.set_clock(NOON)
    await stage.register("T1", approved_at=OPENS_AT.isoformat())
    await stage.consent("p-1")
    assert (await stage.check_in("p-1", "T1")).body["attempts_left"] == 10
    await stage.set_clock(OPENS_AT - MICROSECOND)
    assert (await stage.check_in("p-1", "T1")).body["attempts_left"] == 10


async def test_the_tenth_attempt_is_judged_and_can_be_accepted(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    for _ in range(9):
        await miss(stage)
    tenth = await stage.check_in("p-1", "T1")
    assert (tenth.body["outcome"], tenth.body["attempts_left"]) == ("accepted", 1)


async def test_after_ten_nothing_is_processed_until_midnight(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    assert (await use_up(stage)).body["attempts_left"] == 0
    stage.engine.analysed.clear()
    refused = await stage.check_in("p-1", "T1")
    assert (refused.body["outcome"], refused.reasons) == ("rejected", ["too_many_attempts"])
    assert (refused.body["retry_at"], refused.body["attempts_left"]) == (MIDNIGHT.isoformat(), 0)
    assert refused.body["location"] is None
    assert stage.engine.analysed == []


async def test_retry_at_is_given_with_no_other_reason(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    assert "retry_at" not in (await use_up(stage)).body


async def test_too_many_attempts_is_one_row_a_day(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await use_up(stage)
    for _ in range(3):
        assert (await stage.check_in("p-1", "T1")).reasons == ["too_many_attempts"]
    assert await stored(stage, "too_many_attempts") == 1
    await stage.set_clock(NOON + timedelta(days=1))
    await use_up(stage)
    await stage.check_in("p-1", "T1")
    assert await stored(stage, "too_many_attempts") == 2


async def test_every_answer_of_too_many_attempts_can_be_read_and_retried(stage: Stage) -> None:
    """Also those that add no row."""
    await task_at_noon(stage, "T1")
    await use_up(stage)
    for _ in range(2):
        refused = await stage.check_in("p-1", "T1")
        read = await stage.person("p-1", "GET", f"/v1/check-ins/{refused.body['check_in_id']}")
        assert (read.status, read.body) == (200, refused.body)


async def test_attempts_are_counted_by_the_day_in_shanghai(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await stage.set_clock(MIDNIGHT - MICROSECOND)
    await use_up(stage)
    assert (await stage.check_in("p-1", "T1")).reasons == ["too_many_attempts"]
    await stage.set_clock(MIDNIGHT)
    assert (await miss(stage)).body["attempts_left"] == 9
    assert (await stage.check_in("p-1", "T1")).body["outcome"] == "accepted"


async def test_a_days_attempts_end_at_midnight_in_shanghai_and_not_of_utc(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await stage.set_clock(datetime.fromisoformat("2026-03-20T07:59:00+08:00"))
    await use_up(stage)
    await stage.set_clock(datetime.fromisoformat("2026-03-20T08:01:00+08:00"))
    assert (await stage.check_in("p-1", "T1")).reasons == ["too_many_attempts"]


async def test_attempts_are_counted_by_task_and_person(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2")
    await stage.register("T2", approved_at=OPENS_AT.isoformat())
    await use_up(stage)
    assert (await miss(stage, "p-1", "T2")).body["attempts_left"] == 9
    assert (await miss(stage, "p-2", "T1")).body["attempts_left"] == 9


async def test_the_limit_is_a_setting(stage: Stage) -> None:
    redis_url = "redis://127.0.0.1:1/0"
    async with running_service(
        stage.database_url, redis_url, stage.settings.data_dir, CHECKIN_ATTEMPTS_PER_DAY="2"
    ) as strict:
        await task_at_noon(strict, "T1")
        assert [(await miss(strict)).body["attempts_left"] for _ in range(2)] == [1, 0]
        assert (await strict.check_in("p-1", "T1")).reasons == ["too_many_attempts"]
