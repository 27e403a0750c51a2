"""The platform's calls about persons: enrolment as a whole or not at all, encrypted templates, erasure."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import numpy as np
import pytest

from checkin_service.adapters.embedded import EmbeddedStores
from checkin_service.adapters.postgres import persons
from checkin_service.adapters.postgres.database import Connection, DatabaseSetupError
from checkin_service.adapters.sealing import SealBroken
from checkin_service.adapters.template_keys import open_template
from face import DLIB_RESNET_MODEL, PoolFull, PoolTimeout, WorkerFailed
from tests.service.conftest import SetClock
from tests.service.fixed_engine import MODEL, MODELS, vectors_of
from tests.service.stage import Json, Reply, Stage, member, photo_of, running_service
from tests.service.window import NOON, OPENS_AT, PROVISIONAL_CLOSES_AT, PROVISIONAL_OPENS_AT

pytestmark = pytest.mark.asyncio(loop_scope="module")
# for tests with a service of their own, because they take its defences away or count everything there is
OWN_SERVICE = pytest.mark.asyncio(loop_scope="function")

APPROVED = {"approved_at": OPENS_AT.isoformat()}
FLOAT32 = np.dtype("<f4")


def new_id(kind: str = "p") -> str:
    return f"{kind}-{uuid4().hex[:12]}"


async def enrol(stage: Stage, person_id: str, *photos: bytes, basis: str | None = None) -> Reply:
    form = aiohttp.FormData()
    for photo in photos:
        form.add_field("photo", photo, filename="photo.jpg", content_type="image/jpeg")
    if basis is not None:
        form.add_field("basis", basis)
    return await stage.platform("PUT", f"/v1/persons/{person_id}/reference", data=form)


async def reference_of(stage: Stage, person_id: str) -> Reply:
    return await stage.platform("GET", f"/v1/persons/{person_id}/reference")


async def templates_of(stage: Stage, person_id: str) -> list[Any]:
    query = """SELECT reference_id, photo, model_id, sealed FROM template JOIN reference USING (reference_id)
               WHERE person_id = $1 ORDER BY reference_id, photo, model_id"""
    return await stage.sql(query, person_id)


async def sealed_by(stage: Stage, person_id: str, model_id: str) -> bytes:
    """The first photograph's template of the model, as it is stored."""
    rows = await templates_of(stage, person_id)
    return next(bytes(row["sealed"]) for row in rows if row["model_id"] == model_id)


async def key_id_of(stage: Stage, person_id: str) -> UUID:
    [row] = await stage.sql("SELECT key_id FROM person WHERE person_id = $1", person_id)
    return UUID(str(row["key_id"]))


async def pseudonym_of(stage: Stage, person_id: str) -> bytes:
    async with stage.keys() as keys:
        return keys.pseudonym(person_id)


async def data_key_of(stage: Stage, person_id: str) -> bytes:
    async with stage.keys() as keys:
        found = await keys.find(await key_id_of(stage, person_id))
        assert found is not None
        return found


async def everything(stage: Stage) -> str:
    """All rows of all tables of both stores as text; bytes as hexadecimal digits."""
    tables = await stage.sql(
        "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('public', 'key_store')"
    )
    rows = [
        await stage.sql(f"SELECT t::text FROM {row['schemaname']}.{row['tablename']} t") for row in tables
    ]
    return "\n".join(row[0] for table in rows for row in table)


# --- Enrolment ---


async def test_an_enrolment_answers_for_every_photograph(shared_stage: Stage) -> None:
    person_id = new_id()
    reply = await enrol(shared_stage, person_id, *(photo_of(person_id, shot) for shot in range(5)))
    assert reply.status == 201
    assert reply.body.keys() == {"person_id", "reference_id", "engine", "photos"}
    assert (reply.body["person_id"], reply.body["engine"]) == (person_id, MODEL)
    assert len(reply.body["photos"]) == 5
    assert all(photo.keys() == {"quality", "warnings"} and photo["quality"] for photo in reply.body["photos"])
    stored = [(row["photo"], row["model_id"]) for row in await templates_of(shared_stage, person_id)]
    assert stored == [(photo, model_id) for photo in range(5) for model_id in sorted(MODELS)]


SAME, UNLIKE = ["same_photo"], ["unlike_others"]
SETS: dict[str, tuple[list[bytes], list[list[str]]]] = {
    "one": ([photo_of("a")], [[]]),
    "of one person": ([photo_of("a", shot) for shot in range(5)], [[]] * 5),
    "the same twice": ([photo_of("a"), photo_of("a")], [[], SAME]),
    "copies": (
        [photo_of("a"), photo_of("a", copy="altered"), photo_of("a", 1), photo_of("a", copy="mirrored")],
        [[], SAME, [], SAME],
    ),
    "a stranger among them": ([photo_of("a"), photo_of("b"), photo_of("a", 1)], [[], UNLIKE, []]),
    "two strangers": ([photo_of("a"), photo_of("b")], [UNLIKE, UNLIKE]),
    "a stranger twice": ([photo_of("a"), photo_of("a", 1), photo_of("b"), photo_of("b")], [[], [], [], SAME]),
    "somebody between": ([photo_of("a"), photo_of("a+b"), photo_of("b")], [[], [], []]),
}


@pytest.mark.parametrize("name", SETS)
async def test_an_enrolment_warns_of_copies_and_strangers_in_the_set_and_takes_them(
    shared_stage: Stage, name: str
) -> None:
    photos, warnings = SETS[name]
    reply = await enrol(shared_stage, new_id(), *photos)
    assert reply.status == 201
    told = [[warning["code"] for warning in photo["warnings"]] for photo in reply.body["photos"]]
    assert told == warnings


async def test_a_warning_is_told_in_the_callers_language(shared_stage: Stage) -> None:
    messages = []
    for language in ("zh-CN", "zh-HK", "en"):
        form = aiohttp.FormData()
        for _ in range(2):
            form.add_field("photo", photo_of("a"), filename="photo.jpg", content_type="image/jpeg")
        path, headers = f"/v1/persons/{new_id()}/reference", {"Accept-Language": language}
        reply = await shared_stage.platform("PUT", path, data=form, headers=headers)
        messages += [warning["message"] for warning in reply.body["photos"][1]["warnings"]]
    assert len(set(messages)) == 3
    assert messages[2].isascii()


async def test_a_reference_is_shown_without_its_content(shared_stage: Stage) -> None:
    person_id = new_id()
    enrolled = await enrol(shared_stage, person_id, photo_of(person_id), photo_of(person_id, 1))
    shown = await reference_of(shared_stage, person_id)
    assert shown.status == 200
    created_at = shown.body.pop("created_at")
    assert created_at.endswith("+08:00")
    assert shown.body == {
        "person_id": person_id,
        "reference_id": enrolled.body["reference_id"],
        "engine": MODEL,
        "photos": 2,
        "basis": {"kind": "separate_consent", "document": None},
    }


@pytest.mark.parametrize("known", [False, True])
async def test_who_has_no_reference_has_nothing_to_show(shared_stage: Stage, known: bool) -> None:
    person_id = new_id()
    if known:
        await shared_stage.register(new_id("T"), person_id)
    reply = await reference_of(shared_stage, person_id)
    assert (reply.status, reply.code) == (404, "not_found")


async def test_a_person_may_be_enrolled_before_any_roster_names_them(shared_stage: Stage) -> None:
    person_id = new_id()
    assert (await shared_stage.enrol(person_id)).status == 201
    registered = await shared_stage.register(new_id("T"), person_id)
    assert (registered.body["state"], registered.body["members"][0]["reference"]) == ("open", "ready")


async def test_a_new_enrolment_replaces_the_whole_set(shared_stage: Stage) -> None:
    person_id, task_id = new_id(), new_id("T")
    await shared_stage.ready_task(task_id, person_id)
    first = await enrol(shared_stage, person_id, *(photo_of("before", shot) for shot in range(3)))
    second = await enrol(shared_stage, person_id, photo_of("after"))
    assert first.body["reference_id"] != second.body["reference_id"]
    held = await templates_of(shared_stage, person_id)
    assert {str(row["reference_id"]) for row in held} == {second.body["reference_id"]}
    old_face = await shared_stage.check_in(person_id, task_id, selfie=photo_of("before", 7))
    assert old_face.reasons == ["non_match"]
    new_face = await shared_stage.check_in(person_id, task_id, selfie=photo_of("after", 7))
    assert new_face.body["outcome"] == "accepted"


FAILING: dict[str, tuple[list[str], int, set[tuple[str, str]]]] = {
    "nobody": (["nobody"], 422, {("/photo/0", "no_face")}),
    "crowd": (["crowd"], 422, {("/photo/0", "multiple_faces")}),
    "dark": (["dark"], 422, {("/photo/0", "poor_quality"), ("/photo/0", "too_dark")}),
    "one of several": (["x", "nobody", "x", "x"], 422, {("/photo/1", "no_face")}),
    "all kinds": (
        ["nobody", "x", "crowd", "dark", "x"],
        422,
        {
            ("/photo/0", "no_face"),
            ("/photo/2", "multiple_faces"),
            ("/photo/3", "poor_quality"),
            ("/photo/3", "too_dark"),
        },
    ),
}


@pytest.mark.parametrize("name", FAILING)
async def test_a_failed_enrolment_says_why_for_each_photograph_and_leaves_the_old_set(
    shared_stage: Stage, name: str
) -> None:
    person_id = new_id()
    await shared_stage.enrol(person_id)
    before = (await reference_of(shared_stage, person_id)).body, await templates_of(shared_stage, person_id)
    identities, status, faults = FAILING[name]
    reply = await enrol(shared_stage, person_id, *(photo_of(identity) for identity in identities))
    assert (reply.status, reply.code, reply.faults) == (status, "invalid", faults)
    after = (await reference_of(shared_stage, person_id)).body, await templates_of(shared_stage, person_id)
    assert after == before


async def test_a_picture_that_breaks_while_it_is_read_leaves_the_old_set(shared_stage: Stage) -> None:
    person_id = new_id()
    await shared_stage.enrol(person_id)
    before = await templates_of(shared_stage, person_id)
    reply = await enrol(shared_stage, person_id, photo_of(person_id), photo_of("broken"))
    assert (reply.status, reply.code) == (422, "image_unreadable")
    assert await templates_of(shared_stage, person_id) == before


@pytest.mark.parametrize("failure", [PoolFull, PoolTimeout, WorkerFailed])
async def test_an_enrolment_without_a_worker_is_our_failure_and_leaves_the_old_set(
    shared_stage: Stage, monkeypatch: pytest.MonkeyPatch, failure: type[Exception]
) -> None:
    person_id = new_id()
    await shared_stage.enrol(person_id)
    before = await templates_of(shared_stage, person_id)

    async def fail(_: bytes) -> None:
        raise failure("not now")

    monkeypatch.setattr(shared_stage.engine, "analyse", fail)
    reply = await shared_stage.enrol(person_id)
    assert (reply.status, reply.code) == (503, "unavailable")
    assert "Retry-After" in reply.headers
    assert await templates_of(shared_stage, person_id) == before


async def test_a_first_enrolment_that_fails_leaves_nobody_enrolled(shared_stage: Stage) -> None:
    person_id = new_id()
    assert (await enrol(shared_stage, person_id, photo_of("nobody"))).status == 422
    assert (await reference_of(shared_stage, person_id)).status == 404
    assert await processing_of(shared_stage, person_id) == []


async def enrolled_twice_at_once(stage: Stage) -> tuple[list[Reply], list[str]]:
    """Answers and stored references after two enrolments of an enrolled person that began before either ended.

    No task names the person: its lock would stand in for the one that is tried.
    """
    await stage.enrol("p-1")
    async with stage.holding("SELECT FROM person WHERE person_id = 'p-1' FOR NO KEY UPDATE"):
        enrolling = [asyncio.create_task(enrol(stage, "p-1", photo_of(name))) for name in "ab"]
        await stage.until_waiting(2)
    replies = await asyncio.gather(*enrolling)
    rows = await stage.sql("SELECT reference_id FROM reference")
    return replies, [str(row["reference_id"]) for row in rows]


@OWN_SERVICE
async def test_of_two_enrolments_at_once_one_whole_set_stays(stage: Stage) -> None:
    replies, stored = await enrolled_twice_at_once(stage)
    assert [reply.status for reply in replies] == [201, 201]
    shown = (await reference_of(stage, "p-1")).body["reference_id"]
    assert stored == [shown]
    assert shown in {reply.body["reference_id"] for reply in replies}


@OWN_SERVICE
async def test_without_the_person_locked_two_enrolments_at_once_would_leave_two_sets(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def not_lock(connection: Connection, person_id: str) -> UUID:
        return UUID(
            str(await connection.fetchval("SELECT key_id FROM person WHERE person_id = $1", person_id))
        )

    monkeypatch.setattr(persons, "lock_person", not_lock)
    _, stored = await enrolled_twice_at_once(stage)
    assert len(stored) == 2


# --- Legal basis and processing record ---


async def processing_of(stage: Stage, person_id: str) -> list[tuple[str, Any]]:
    """What the processing record holds under the person's pseudonym."""
    query = "SELECT kind, details FROM processing_record WHERE pseudonym = $1 ORDER BY record_id"
    rows = await stage.sql(query, await pseudonym_of(stage, person_id))
    return [(row["kind"], row["details"]) for row in rows]


@pytest.mark.parametrize(
    ("basis", "kind", "document"),
    [
        (None, "separate_consent", None),
        ('{"kind": "statutory_duty", "document": "深建〔2026〕1号"}', "statutory_duty", "深建〔2026〕1号"),
        ('{"kind": "separate_consent", "document": null}', "separate_consent", None),
    ],
)
async def test_the_legal_basis_goes_into_the_processing_record(
    shared_stage: Stage, basis: str | None, kind: str, document: str | None
) -> None:
    person_id = new_id()
    assert (await enrol(shared_stage, person_id, photo_of(person_id), basis=basis)).status == 201
    assert (await reference_of(shared_stage, person_id)).body["basis"] == {"kind": kind, "document": document}
    query = "SELECT details->>'kind', details->>'document' FROM processing_record WHERE pseudonym = $1"
    rows = await shared_stage.sql(query, await pseudonym_of(shared_stage, person_id))
    assert [tuple(row) for row in rows] == [(kind, document)]


@OWN_SERVICE
async def test_the_default_basis_is_a_setting(
    database_url: str, stores: EmbeddedStores, tmp_path: Path
) -> None:
    assert stores.redis_url is not None
    duty = {"CHECKIN_ENROLMENT_BASIS": "statutory_duty"}
    async with running_service(database_url, stores.redis_url, tmp_path, None, **duty) as stage:
        await stage.enrol("p-1")
        assert (await reference_of(stage, "p-1")).body["basis"]["kind"] == "statutory_duty"


# --- What is stored, and how ---


@OWN_SERVICE
async def test_neither_photograph_nor_vector_can_be_read_from_the_database(stage: Stage) -> None:
    photo, selfie = photo_of("p-1"), photo_of("p-1", 1)
    described = [*vectors_of("p-1").values(), *vectors_of("p-1", 1).values()]
    vectors = [np.asarray(vector[:128], FLOAT32).tobytes() for vector in described]
    await stage.ready_task("T1", "p-1")
    await enrol(stage, "p-1", photo)
    assert (await stage.check_in("p-1", "T1", selfie=selfie)).body["outcome"] == "accepted"
    stored = await everything(stage)
    assert "T1" in stored, "the search finds what is there"
    assert all(picture[100:132].hex() not in stored for picture in (photo, selfie))
    pieces = [vector[start : start + 8].hex() for vector in vectors for start in range(0, len(vector), 8)]
    assert not any(piece in stored for piece in pieces)


async def test_a_template_is_what_the_engine_measured_sealed_with_the_persons_key(
    shared_stage: Stage,
) -> None:
    person_id = new_id()
    await shared_stage.enrol(person_id)
    measured, key = vectors_of(person_id), await data_key_of(shared_stage, person_id)
    for row in await templates_of(shared_stage, person_id):
        plain = open_template(key, person_id, row["model_id"], row["sealed"])
        vector = np.asarray(measured.pop(row["model_id"]), FLOAT32)
        assert np.array_equal(np.frombuffer(plain, FLOAT32), vector)
    assert measured == {}


async def test_the_same_face_is_never_sealed_the_same_way(shared_stage: Stage) -> None:
    first, second = new_id(), new_id()
    for person_id in (first, second):
        await enrol(shared_stage, person_id, photo_of("same"), photo_of("same"))
    sealed = [
        row["sealed"] for person_id in (first, second) for row in await templates_of(shared_stage, person_id)
    ]
    assert len(set(sealed)) == 4 * len(MODELS)
    assert await data_key_of(shared_stage, first) != await data_key_of(shared_stage, second)


async def test_a_template_opens_for_its_person_and_model_only(shared_stage: Stage) -> None:
    person_id, other = new_id(), new_id()
    for name in (person_id, other):
        await shared_stage.enrol(name)
    sealed = await sealed_by(shared_stage, person_id, MODEL)
    own, others = await data_key_of(shared_stage, person_id), await data_key_of(shared_stage, other)
    altered = sealed[:-1] + bytes([sealed[-1] ^ 1])
    assert open_template(own, person_id, MODEL, sealed)
    for key, person, model, row in (
        (others, person_id, MODEL, sealed),
        (own, other, MODEL, sealed),
        (own, person_id, DLIB_RESNET_MODEL, sealed),
        (own, person_id, MODEL, altered),
        (own, person_id, MODEL, sealed[:20]),
        (own, person_id, MODEL, sealed[:3]),
    ):
        with pytest.raises(SealBroken):
            open_template(key, person, model, row)


async def test_a_data_key_opens_under_its_number_only(shared_stage: Stage) -> None:
    first, second = new_id(), new_id()
    for person_id in (first, second):
        await shared_stage.enrol(person_id)
    copy = """UPDATE key_store.data_key SET wrapped_key = (
                  SELECT wrapped_key FROM key_store.data_key WHERE key_id = $1) WHERE key_id = $2"""
    await shared_stage.sql(copy, await key_id_of(shared_stage, first), await key_id_of(shared_stage, second))
    with pytest.raises(SealBroken):
        await data_key_of(shared_stage, second)
    assert await data_key_of(shared_stage, first)


TEMPLATE_OF = "(SELECT reference_id FROM person WHERE person_id = '{}')"
SWAPS = {
    "template": f"""UPDATE template t SET sealed = (SELECT sealed FROM template o WHERE o.model_id = t.model_id
                                                    AND o.reference_id = {TEMPLATE_OF})
                    WHERE t.reference_id = {TEMPLATE_OF}""",
    "data key": """UPDATE key_store.data_key SET wrapped_key = (
                       SELECT wrapped_key FROM key_store.data_key JOIN person USING (key_id) WHERE person_id = '{}')
                   WHERE key_id = (SELECT key_id FROM person WHERE person_id = '{}')""",
    "reference": f"UPDATE template SET reference_id = {TEMPLATE_OF}, photo = 1 WHERE reference_id = {TEMPLATE_OF}",
}


@pytest.mark.parametrize("swap", SWAPS)
async def test_rows_swapped_in_the_database_accept_nobody(shared_stage: Stage, swap: str) -> None:
    """Whoever can write rows, but has no key, can't let one person pass for another."""
    person_id, intruder, task_id = new_id(), new_id(), new_id("T")
    await shared_stage.ready_task(task_id, person_id)
    await shared_stage.enrol(intruder)
    pair = (person_id, intruder) if swap == "reference" else (intruder, person_id)
    await shared_stage.sql(SWAPS[swap].format(*pair))
    reply = await shared_stage.check_in(person_id, task_id, selfie=photo_of(intruder, 1))
    assert reply.status == 500
    assert (await shared_stage.status(task_id))["progress"]["accepted"] == 0


@OWN_SERVICE
async def test_a_service_with_another_key_file_does_not_start_on_this_database(
    stage: Stage, stores: EmbeddedStores, tmp_path: Path
) -> None:
    await stage.enrol("p-1")
    assert stores.redis_url is not None
    elsewhere = tmp_path / "elsewhere"
    with pytest.raises(DatabaseSetupError):
        async with running_service(stage.database_url, stores.redis_url, elsewhere):
            pass


# --- Erasure ---


async def erase(stage: Stage, person_id: str) -> Reply:
    return await stage.platform("DELETE", f"/v1/persons/{person_id}")


async def test_an_erasure_keeps_the_bare_fact_of_a_completed_check_in(
    shared_stage: Stage, shared_clock: SetClock
) -> None:
    await shared_clock(NOON)
    person_id, other, task_id = new_id(), new_id(), new_id("T")
    await shared_stage.ready_task(task_id, person_id, other, **APPROVED)
    refused = await shared_stage.check_in(person_id, task_id, selfie=photo_of("x"))
    accepted = await shared_stage.check_in(person_id, task_id)
    before = await shared_stage.status(task_id)
    reply = await erase(shared_stage, person_id)
    assert (reply.status, reply.body) == (204, "")

    after = await shared_stage.status(task_id)
    assert after["rev"] == before["rev"] + 1
    assert after["members_digest"] == before["members_digest"]
    assert after["members"][0] == before["members"][0] | {"reference": "missing"}
    path = f"/v1/check-ins/{accepted.body['check_in_id']}"
    kept = await shared_stage.person(person_id, "GET", path)
    assert (kept.body["outcome"], kept.body["location"]) == ("accepted", None)
    gone = await shared_stage.person(person_id, "GET", f"/v1/check-ins/{refused.body['check_in_id']}")
    assert gone.status == 404


async def test_an_erasure_leaves_no_content(shared_stage: Stage, shared_clock: SetClock) -> None:
    await shared_clock(NOON)
    person_id, task_id = new_id(), new_id("T")
    roster = [member(person_id, lead=True) | {"name": "独一无二的名字"}]
    await shared_stage.ready_task(task_id, person_id, **APPROVED, roster=roster)
    device = {"platform": "ios", "device_id": new_id("device")}
    accepted = await shared_stage.check_in(person_id, task_id, device=device)
    await shared_stage.check_in(person_id, task_id)
    await shared_stage.challenge(person_id, task_id)
    key_id = await key_id_of(shared_stage, person_id)
    await erase(shared_stage, person_id)

    found = await everything(shared_stage)
    assert "独一无二的名字" not in found
    assert device["device_id"] not in found
    for table in ("reference", "consent", "challenge"):
        assert await shared_stage.sql(f"SELECT FROM {table} WHERE person_id = $1", person_id) == []
    assert await key_id_of(shared_stage, person_id) != key_id
    query = "SELECT wrapped_key, deletion::text FROM key_store.data_key WHERE key_id = $1"
    assert tuple((await shared_stage.sql(query, key_id))[0]) == (None, "erased")
    for table in ("receipt", "attempt", "acceptance"):
        rows = await shared_stage.sql(f"SELECT * FROM {table} WHERE person_id = $1", person_id)
        assert [row["check_in_id"] for row in rows] == [UUID(accepted.body["check_in_id"])]
    left = {"check_in_id", "task_id", "person_id", "received_at", "judged_at", "shanghai_day", "outcome"}
    attempt = dict((await shared_stage.sql("SELECT * FROM attempt WHERE person_id = $1", person_id))[0])
    assert attempt.pop("signals") == "[]"
    assert {name for name, value in attempt.items() if value} == left | {"erased_at"}


async def test_an_erasure_makes_every_template_unreadable(shared_stage: Stage) -> None:
    """Also one that somebody kept: the key is gone, and the next enrolment has another."""
    person_id = new_id()
    await shared_stage.enrol(person_id)
    copied = await sealed_by(shared_stage, person_id, MODEL)
    await erase(shared_stage, person_id)
    assert await templates_of(shared_stage, person_id) == []
    await shared_stage.enrol(person_id)
    with pytest.raises(SealBroken):
        open_template(await data_key_of(shared_stage, person_id), person_id, MODEL, copied)


async def test_what_was_processed_stays_known_under_a_pseudonym(shared_stage: Stage) -> None:
    person_id = new_id()
    await shared_stage.ready_task(new_id("T"), person_id)
    await erase(shared_stage, person_id)
    kinds = [kind for kind, _ in await processing_of(shared_stage, person_id)]
    assert kinds == ["enrolled", "consent_given", "consent_withdrawn", "erased"]
    rows = await shared_stage.sql("SELECT p::text FROM processing_record p")
    assert not any(person_id in row[0] for row in rows)
    pseudonym = await pseudonym_of(shared_stage, person_id)
    assert len(pseudonym) == 32
    assert pseudonym != await pseudonym_of(shared_stage, person_id + "x")


async def test_an_erasure_is_audited_under_the_pseudonym(shared_stage: Stage) -> None:
    person_id = new_id()
    await shared_stage.enrol(person_id)
    await erase(shared_stage, person_id)
    query = "SELECT action FROM audit WHERE details->>'pseudonym' = $1 ORDER BY seq"
    rows = await shared_stage.sql(query, (await pseudonym_of(shared_stage, person_id)).hex())
    assert [row["action"] for row in rows] == ["enrol", "erase"]
    texts = await shared_stage.sql("SELECT a::text FROM audit a")
    assert not any(person_id in row[0] for row in texts)


async def test_nobody_is_nobody_to_erase_and_twice_is_once(shared_stage: Stage) -> None:
    person_id = new_id()
    assert (await erase(shared_stage, person_id)).status == 404
    await shared_stage.enrol(person_id)
    assert [(await erase(shared_stage, person_id)).status for _ in range(2)] == [204, 204]


async def test_an_erased_person_may_come_back(shared_stage: Stage) -> None:
    person_id, task_id = new_id(), new_id("T")
    await shared_stage.ready_task(task_id, person_id)
    await erase(shared_stage, person_id)
    refused = await shared_stage.person(person_id, "POST", "/v1/challenges", {"task_id": task_id})
    assert (refused.status, refused.code) == (403, "consent_required")
    await shared_stage.enrol(person_id)
    await shared_stage.consent(person_id)
    assert (await shared_stage.check_in(person_id, task_id)).body["outcome"] == "accepted"


async def test_an_erasure_touches_nobody_else(shared_stage: Stage) -> None:
    person_id, other, task_id = new_id(), new_id(), new_id("T")
    await shared_stage.ready_task(task_id, person_id, other)
    before = await templates_of(shared_stage, other)
    await erase(shared_stage, person_id)
    assert await templates_of(shared_stage, other) == before
    assert (await shared_stage.check_in(other, task_id)).body["outcome"] == "accepted"


@pytest.mark.parametrize("withdrawn", [False, True])
async def test_the_erasure_of_a_held_check_in_is_told(
    shared_stage: Stage, shared_clock: SetClock, withdrawn: bool
) -> None:
    await shared_clock(PROVISIONAL_OPENS_AT)
    person_id, task_id = new_id(), new_id("T")
    await shared_stage.ready_task(task_id, person_id, approved_at=PROVISIONAL_OPENS_AT.isoformat())
    await shared_clock(PROVISIONAL_CLOSES_AT + timedelta(hours=1))
    assert (await shared_stage.check_in(person_id, task_id)).body["outcome"] == "review"
    if withdrawn:
        await shared_stage.person(person_id, "DELETE", "/v1/me/consent")
    before = await _shown(shared_stage, task_id)
    assert before["members"][0]["state"] == "in_review"
    await erase(shared_stage, person_id)
    after = await _shown(shared_stage, task_id)
    assert after["members"][0]["state"] == "not_started"
    assert after["rev"] > before["rev"]


async def _shown(stage: Stage, task_id: str) -> Json:
    """The status, whose revision is that of the task's last entry in the feed."""
    status = await stage.status(task_id)
    last = await stage.sql("SELECT max(rev) FROM change WHERE task_id = $1", task_id)
    assert status["rev"] == last[0][0]
    return status
