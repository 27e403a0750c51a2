"""Whom else of the roster a matching face resembles: who is compared, who is left out and counted, and at what cost."""

import asyncio
import re
from collections import Counter
from typing import Any
from uuid import UUID

import pytest

from checkin_service.adapters.postgres import persons
from checkin_service.usecases import look_alikes
from face import DLIB_RESNET_MODEL, FINGERPRINT, SFACE_MODEL, compare
from tests.service.fixed_engine import FixedEngine, vectors_of
from tests.service.stage import FAR, Reply, Stage, photo_of, running_service
from tests.service.window import OPENS_AT, task_at_noon

# Nearly as much like p-2 as like p-1, and much more like p-1.
BOTH, MOSTLY_P1 = "p-1+p-2", "p-1+p-1+p-2"


async def look_alike(stage: Stage, **submission: Any) -> Reply:
    return await stage.check_in("p-1", "T1", selfie=photo_of(BOTH, 1), **submission)


async def left_out(stage: Stage) -> Counter[str]:
    async with stage.client.get("/metrics") as metrics:
        found = re.findall(
            r'^checkin_look_alike_left_out_total\{why="(\w+)"\} (.+)$', await metrics.text(), re.MULTILINE
        )
    return Counter({why: int(float(number)) for why, number in found if float(number)})


async def test_who_resembles_another_member_as_much_goes_to_review(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2", "p-3")
    refused = await look_alike(stage)
    assert (refused.body["outcome"], refused.reasons) == ("review", ["look_alike"])
    assert refused.body["attempts_left"] == 10
    [attempt] = await stage.sql("SELECT score, rival_score FROM attempt")
    own, other = (compare(vectors_of(p), vectors_of(BOTH, 1), SFACE_MODEL).value for p in ("p-1", "p-2"))
    assert (attempt["score"], attempt["rival_score"]) == (pytest.approx(own), pytest.approx(other))


async def test_who_resembles_another_member_less_is_accepted(stage: Stage) -> None:
    """Though the other one's score is a match by itself."""
    await task_at_noon(stage, "T1", "p-1", "p-2")
    assert compare(vectors_of("p-2"), vectors_of(MOSTLY_P1, 1), SFACE_MODEL).value > 0.41
    accepted = await stage.check_in("p-1", "T1", selfie=photo_of(MOSTLY_P1, 1))
    assert accepted.body["outcome"] == "accepted"


async def test_alone_on_a_roster_nobody_is_a_look_alike(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1")
    await stage.register("T2", "p-2", approved_at=OPENS_AT.isoformat())
    await stage.enrol("p-2")
    await stage.consent("p-2")
    assert (await look_alike(stage)).body["outcome"] == "accepted"
    [attempt] = await stage.sql("SELECT rival_score FROM attempt")
    assert attempt["rival_score"] is None


async def test_below_the_threshold_nobody_elses_templates_are_read(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: Any) -> None:
        pytest.fail("the roster was read")

    await task_at_noon(stage, "T1", "p-1", "p-2")
    monkeypatch.setattr(persons, "read_roster", never)
    assert (await stage.check_in("p-1", "T1", selfie=photo_of("p-2", 1))).reasons == ["non_match"]
    assert (await look_alike(stage, at=FAR)).reasons == ["outside_geofence"]
    assert (await stage.check_in("p-1", "T1", selfie=photo_of("dark"))).reasons == ["poor_quality"]


async def test_the_best_of_another_members_photographs_counts(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2")
    await stage.enrol("p-2", photo_of("p-8"), photo_of("p-2"), photo_of("p-9"))
    assert (await look_alike(stage)).reasons == ["look_alike"]


async def test_a_copy_of_a_look_alike_has_both_reasons_in_order(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2")
    await stage.enrol("p-1", photo_of(BOTH, 5), photo_of("p-1", 6))
    await stage.enrol("p-2", photo_of(BOTH, 6))
    refused = await stage.check_in("p-1", "T1", selfie=photo_of(BOTH, 5))
    assert refused.reasons == ["duplicate_photo", "look_alike"]
    assert refused.body["attempts_left"] == 9


# --- Who is left out ---


async def withdraw(stage: Stage) -> None:
    assert (await stage.person("p-2", "DELETE", "/v1/me/consent")).status == 204


async def narrow(stage: Stage) -> None:
    await stage.consent("p-2", ["location"])


async def never_consent(stage: Stage) -> None:
    await stage.sql("DELETE FROM consent WHERE person_id = 'p-2'")


@pytest.mark.parametrize("without_consent", [withdraw, narrow, never_consent])
async def test_members_without_consent_to_face_are_left_out_and_counted(
    stage: Stage, without_consent: Any
) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2", "p-3")
    await without_consent(stage)
    # also when the platform enrols them on another legal basis
    await stage.enrol("p-2")
    assert (await look_alike(stage)).body["outcome"] == "accepted"
    assert await left_out(stage) == {"consent": 1}


async def test_consent_to_face_alone_is_enough_to_be_compared_with(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2")
    await stage.consent("p-2", ["face"])
    assert (await look_alike(stage)).reasons == ["look_alike"]
    assert await left_out(stage) == {}


async def test_members_without_a_template_of_the_model_are_left_out_and_counted(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2", "p-3", "p-4")
    await stage.sql(
        """
        DELETE FROM template t USING reference r
        WHERE r.reference_id = t.reference_id AND r.person_id = 'p-2' AND t.model_id = $1
        """,
        SFACE_MODEL,
    )
    await stage.register("T2", "p-1", "p-9", approved_at=OPENS_AT.isoformat())
    await stage.consent("p-9")
    assert (await look_alike(stage)).body["outcome"] == "accepted"
    assert await left_out(stage) == {"template": 1}
    await stage.check_in("p-1", "T2")
    assert await left_out(stage) == {"template": 2}


async def test_anothers_broken_row_keeps_nobody_from_checking_in(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2", "p-3")
    await stage.sql(
        """
        UPDATE template t SET sealed = '\\x00' FROM reference r
        WHERE r.reference_id = t.reference_id AND r.person_id = 'p-2'
        """
    )
    assert (await stage.check_in("p-1", "T1")).body["outcome"] == "accepted"
    assert await left_out(stage) == {"seal": 1}


async def test_by_dlib_nobody_is_looked_for(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its scores would take one honest member in twenty for a look-alike."""

    async def never(*_: Any) -> None:
        pytest.fail("the roster was read")

    monkeypatch.setattr(persons, "read_roster", never)
    engine, alone = FixedEngine((DLIB_RESNET_MODEL, FINGERPRINT)), {"CHECKIN_FACE_ENGINE": "dlib"}
    redis_url, data_dir = "redis://127.0.0.1:1/0", stage.settings.data_dir
    async with running_service(stage.database_url, redis_url, data_dir, engine, **alone) as dlib:
        await task_at_noon(dlib, "T1", "p-1", "p-2")
        await dlib.enrol("p-2", photo_of("p-1", 9))
        assert (await dlib.check_in("p-1", "T1")).body["outcome"] == "accepted"


# --- Beside other things ---


async def test_a_large_roster_is_compared_beside_the_event_loop(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads, compared = [], look_alikes._best

    def in_thread(*arguments: Any) -> Any:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        threads.append(arguments)
        return compared(*arguments)

    monkeypatch.setattr(look_alikes, "_MANY", 1)
    monkeypatch.setattr(look_alikes, "_best", in_thread)
    await task_at_noon(stage, "T1", "p-1", "p-2", "p-3")
    assert (await look_alike(stage)).reasons == ["look_alike"]
    assert len(threads) == 1


async def test_a_reference_that_matches_only_at_the_verdict_is_looked_around_for_then(stage: Stage) -> None:
    """At the first look the face does not match; the verdict sees another reference and wants to know of rivals."""
    await task_at_noon(stage, "T1", "p-1", "p-2")
    await stage.enrol("p-1", photo_of("p-9"))
    async with stage.while_analysing(look_alike(stage)) as submitted:
        await stage.enrol("p-1", photo_of("p-1"))
    assert (await submitted).reasons == ["look_alike"]


async def test_a_check_in_of_one_look_alike_does_not_hold_the_other_ones(stage: Stage) -> None:
    """The roster is read without locks, so two check-ins on one roster cannot wait for each other."""
    await task_at_noon(stage, "T1", "p-1", "p-2")
    async with stage.holding("SELECT FROM person WHERE person_id = 'p-2' FOR UPDATE"):
        accepted = await stage.check_in("p-1", "T1")
    assert accepted.body["outcome"] == "accepted"
    [attempt] = await stage.sql(
        "SELECT * FROM attempt WHERE check_in_id = $1", UUID(accepted.body["check_in_id"])
    )
    assert attempt["rival_score"] < attempt["score"] - 0.05
