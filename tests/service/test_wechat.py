"""WeChat's face verification as a liveness test, against a server that answers as WeChat's pages say."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import asyncpg
import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from checkin_service.adapters import wechat
from checkin_service.adapters.embedded import EmbeddedStores
from checkin_service.adapters.head_turns import HeadTurns
from checkin_service.adapters.postgres.check_ins import LEASE
from checkin_service.adapters.postgres.reviews import held_reviews
from checkin_service.adapters.wechat import (
    VERDICTS,
    WeChatApi,
    WeChatFailed,
    WeChatVerification,
    cert_hash,
)
from checkin_service.metrics import Metrics
from checkin_service.ports import Holder
from checkin_service.settings import SettingError, read_settings
from checkin_service.usecases.caller import Caller, WeChatAccount
from checkin_service.web.body import json_digest
from tests.service.conftest import UNLIMITED
from tests.service.fake_wechat import (
    APP_ID,
    MISMATCH,
    NOT_FINISHED,
    SECRET,
    FakeWeChat,
    fake_wechat,
    settings_of,
)
from tests.service.stage import Reply, Stage, check_in_fields, photo_of, running_service
from tests.service.test_liveness import frames_of
from tests.service.window import task_at_noon

ZHANG = {"name": "张三", "number": "310101199801011234"}
LI = {"name": "李四", "number": "44030019900101123X"}


@pytest.fixture
async def fake() -> AsyncIterator[FakeWeChat]:
    async with fake_wechat() as running:
        yield running


@pytest.fixture
async def stage(
    database_url: str, stores: EmbeddedStores, tmp_path: Path, fake: FakeWeChat
) -> AsyncIterator[Stage]:
    """A service that asks WeChat."""
    environment = settings_of(fake, tmp_path) | UNLIMITED
    async with running_service(
        database_url, stores.redis_url or "", tmp_path, None, **environment
    ) as running:
        await task_at_noon(running, "T1", "p-1", "p-2")
        yield running


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is waited for is not waited for long."""
    for name, seconds in (("TOTAL_S", 0.6), ("CALL_S", 0.2), ("PAUSE_S", 0.01)):
        monkeypatch.setattr(wechat, name, seconds)


@asynccontextmanager
async def verification(fake: FakeWeChat, app_id: str = APP_ID, secret: str = SECRET) -> AsyncIterator[Any]:
    """The provider by itself, with its metrics as `_metrics`."""
    metrics = Metrics()
    async with aiohttp.ClientSession() as session:
        yield WeChatVerification(WeChatApi(session, fake.url, app_id, secret, metrics), HeadTurns(), metrics)


def token(stage: Stage, person_id: str, card: dict[str, str] | None = None, **claims: Any) -> str:
    """Of an issuer that knows the person's card and account."""
    named = {"wechat_openid": f"openid-of-{person_id}", "wechat_cert_hash": cert_hash(**card)} if card else {}
    plain = stage.token(person_id, "checkin")
    known = jwt.decode(plain, options={"verify_signature": False})
    pem = (stage.settings.data_dir / "keys" / "development-key.pem").read_bytes()
    key = serialization.load_pem_private_key(pem, None)
    headers = {"kid": jwt.get_unverified_header(plain)["kid"]}
    return jwt.encode(known | named | claims, key, "ES256", headers=headers)  # type: ignore[arg-type]


async def ask(
    stage: Stage,
    identity: Any = ZHANG,
    card: dict[str, str] | None = ZHANG,
    person_id: str = "p-1",
    **headers: str,
) -> Reply:
    sent = {"Authorization": f"Bearer {token(stage, person_id, card)}", **headers}
    body = {"task_id": "T1", "identity": identity} if identity else {"task_id": "T1"}
    return await stage.person(person_id, "POST", "/v1/challenges", body, headers=sent)


async def begun(stage: Stage, person_id: str = "p-1", card: dict[str, str] = ZHANG) -> tuple[str, str]:
    """A challenge and what the phone tells WeChat."""
    reply = await ask(stage, card, card, person_id)
    assert reply.status == 201, reply.body
    assert (reply.body["actions"], reply.body["liveness"]["provider"]) == ([], "wechat")
    return reply.body["challenge_id"], reply.body["liveness"]["verify_id"]


async def check_in(stage: Stage, challenge_id: str, person_id: str = "p-1") -> Reply:
    return await stage.submit(person_id, check_in_fields("T1", challenge_id), photo_of(person_id, 7))


async def attempt(stage: Stage) -> tuple[str, str, bool]:
    [row] = await stage.sql("SELECT outcome, liveness, counted FROM attempt")
    return row["outcome"], row["liveness"], row["counted"]


# --- The way it goes ---


async def test_who_showed_their_face_to_wechat_is_let_in(stage: Stage, fake: FakeWeChat) -> None:
    challenge_id, verify_id = await begun(stage)
    fake.finish(verify_id)
    reply = await check_in(stage, challenge_id)
    assert (reply.body["outcome"], reply.reasons) == ("accepted", [])
    assert await attempt(stage) == ("accepted", "passed", False)
    assert fake.calls == {"stable_token": 1, "getverifyid": 1, "queryverifyinfo": 1}


async def test_a_challenge_that_wechat_has_not_seen_is_no_way_in(stage: Stage) -> None:
    """Whatever the phone says: its word is not asked for, and there is no field for it."""
    challenge_id, _ = await begun(stage)
    reply = await check_in(stage, challenge_id)
    assert reply.reasons == ["presentation_attack"]
    assert await attempt(stage) == ("review", "not_shown", True)
    forged = check_in_fields("T1", challenge_id, verify_ret="10000")
    assert (await stage.submit("p-1", forged, photo_of("p-1", 8))).status == 422


@pytest.mark.parametrize(
    ("verify_ret", "outcome", "code", "counted"),
    [
        (10004, "review", "other_face", True),
        (90002, "review", "not_shown", True),
        (10026, "review", "unknown", False),
        (90008, "review", "unknown", False),
        # one that nobody has published
        (12345, "review", "unknown", False),
    ],
)
async def test_what_wechat_has_not_seen_is_left_to_people(
    stage: Stage, fake: FakeWeChat, verify_ret: int, outcome: str, code: str, counted: bool
) -> None:
    challenge_id, verify_id = await begun(stage)
    fake.finish(verify_id, verify_ret)
    await check_in(stage, challenge_id)
    assert await attempt(stage) == (outcome, code, counted)


async def test_every_published_result_has_its_code(fake: FakeWeChat, hurried: None) -> None:
    codes = {"passed": 0, "other_face": 0, "not_shown": 0, "unknown": 0}
    async with verification(fake) as asked:
        test = await asked.ask(uuid4(), Holder("o-1", **ZHANG))
        for verify_ret, code in VERDICTS.items():
            fake.finish(str(test.verify_id), verify_ret)
            assert await asked.judge((), test.actions, test.session) == code, verify_ret
            codes[code] += 1
    assert codes == {"passed": 1, "other_face": 2, "not_shown": 6, "unknown": 41}


async def test_what_wechat_is_told_again_is_sealed_and_goes_with_the_verdict(
    stage: Stage, fake: FakeWeChat
) -> None:
    challenge_id, verify_id = await begun(stage)
    [row] = await stage.sql("SELECT session FROM challenge")
    for personal in (verify_id, ZHANG["number"], cert_hash(**ZHANG), "openid-of-p-1"):
        assert personal.encode() not in row["session"]
    fake.finish(verify_id)
    await check_in(stage, challenge_id)
    assert [dict(row) for row in await stage.sql("SELECT session FROM challenge")] == [{"session": None}]


async def test_nothing_of_the_card_is_stored(stage: Stage) -> None:
    await ask(stage, ZHANG, ZHANG, "p-1", **{"Idempotency-Key": uuid4().hex})
    [row] = await stage.sql("SELECT body_digest, answer::text FROM idempotency_key")
    assert ZHANG["number"] not in row["answer"]
    # a digest that who knows all numbers could try them against would be as good as the number
    assert row["body_digest"] != json_digest({"task_id": "T1", "identity": ZHANG})


def test_what_is_personal_is_not_printed() -> None:
    said = repr((Holder("o-1", **ZHANG), Caller("i", "s", frozenset(), WeChatAccount("o-1", "ab" * 32))))
    assert not any(secret in said for secret in ("o-1", *ZHANG.values(), "abab"))


# --- Somebody else's ---


async def test_another_persons_card_is_refused_before_anybody_is_asked(
    stage: Stage, fake: FakeWeChat
) -> None:
    reply = await ask(stage, LI, ZHANG)
    assert (reply.status, reply.faults) == (422, {("/identity", "not_allowed_value")})
    assert LI["number"] not in json.dumps(reply.body)
    assert not fake.calls


@pytest.mark.parametrize("number", ["310101199801011", "31010119980101123x", "H12345678", ""])
async def test_a_number_of_no_mainland_card_is_refused(stage: Stage, number: str) -> None:
    reply = await ask(stage, {"name": "张三", "number": number})
    assert (reply.status, {pointer for pointer, _ in reply.faults}) == (422, {"/identity/number"})


async def test_another_persons_session_serves_nobody(stage: Stage, fake: FakeWeChat) -> None:
    """p-2 has shown a face; the session of p-1's own challenge is not moved by it, nor may p-1 use p-2's."""
    own, _ = await begun(stage)
    others, verify_id = await begun(stage, "p-2", LI)
    fake.finish(verify_id)
    stolen = await check_in(stage, others)
    assert (stolen.status, stolen.code) == (409, "challenge_invalid")
    assert (await check_in(stage, own)).body["outcome"] == "review"


async def test_a_session_copied_to_another_challenge_does_not_open(stage: Stage, fake: FakeWeChat) -> None:
    challenge_id, _ = await begun(stage)
    _, verify_id = await begun(stage, "p-2", LI)
    fake.finish(verify_id)
    await stage.sql(
        "UPDATE challenge SET session = (SELECT session FROM challenge WHERE person_id = 'p-2')"
        " WHERE person_id = 'p-1'"
    )
    assert (await check_in(stage, challenge_id)).body["outcome"] == "review"
    assert await attempt(stage) == ("review", "unknown", False)


async def test_a_session_serves_once(stage: Stage, fake: FakeWeChat) -> None:
    challenge_id, verify_id = await begun(stage)
    fake.finish(verify_id)
    await check_in(stage, challenge_id)
    again = await stage.submit("p-1", check_in_fields("T1", challenge_id), photo_of("p-1", 9))
    assert (again.status, again.code) == (409, "challenge_invalid")
    assert (await ask(stage)).body["liveness"]["verify_id"] != verify_id


async def test_a_session_that_wechat_takes_for_anothers_is_unknown(stage: Stage, fake: FakeWeChat) -> None:
    challenge_id, verify_id = await begun(stage)
    fake.finish(verify_id)
    fake.sessions[verify_id].openid = "somebody-else"
    assert (await check_in(stage, challenge_id)).body["outcome"] == "review"
    assert await attempt(stage) == ("review", "unknown", False)


@pytest.mark.parametrize(
    "claims",
    [
        {"wechat_openid": 7},
        {"wechat_openid": "o-1"},
        {"wechat_openid": "o-1", "wechat_cert_hash": "no digest"},
        {"wechat_openid": "o-1", "wechat_cert_hash": ["a"]},
    ],
)
async def test_claims_that_are_none_are_refused(stage: Stage, claims: dict[str, Any]) -> None:
    headers = {"Authorization": f"Bearer {token(stage, 'p-1', **claims)}"}
    reply = await stage.person("p-1", "GET", "/v1/me", headers=headers)
    assert (reply.status, reply.code) == (401, "unauthenticated")


# --- Who has no card, and WeChat away ---


@pytest.mark.parametrize(("identity", "card"), [(None, ZHANG), (ZHANG, None), (None, None)])
async def test_whom_wechat_cannot_know_turns_the_head(
    stage: Stage, fake: FakeWeChat, identity: Any, card: dict[str, str] | None
) -> None:
    reply = await ask(stage, identity, card)
    assert reply.body["liveness"] == {"provider": "head_turns"}
    assert len(reply.body["actions"]) == 3
    assert not fake.calls
    burst = frames_of("p-1", reply.body["actions"])
    fields = check_in_fields("T1", reply.body["challenge_id"])
    accepted = await stage.submit("p-1", fields, photo_of("p-1", 7), burst=burst)
    assert (accepted.body["outcome"], accepted.reasons) == ("accepted", [])


@pytest.mark.parametrize("answer", [None, 502, "<html>", "[]", {"errcode": -1, "errmsg": "system error"}])
async def test_while_wechat_is_away_challenges_ask_for_turns(
    stage: Stage, fake: FakeWeChat, hurried: None, answer: Any
) -> None:
    fake.answers.extend([answer] * 20)
    started = time.monotonic()
    reply = await ask(stage)
    assert (reply.status, reply.body["liveness"]) == (201, {"provider": "head_turns"})
    assert time.monotonic() - started < 10
    assert fake.calls["stable_token"] == 2
    # the next one does not wait for it
    assert (await ask(stage)).body["liveness"] == {"provider": "head_turns"}
    assert fake.calls["stable_token"] == 2


@pytest.mark.parametrize("answer", [None, 502, "<html>", {"errcode": -1}, {"errcode": 48001}, {"errcode": 0}])
async def test_a_result_that_cannot_be_had_is_nobodys_fault(
    stage: Stage, fake: FakeWeChat, hurried: None, answer: Any
) -> None:
    challenge_id, verify_id = await begun(stage)
    fake.finish(verify_id)
    fake.answers.extend([answer] * 20)
    reply = await check_in(stage, challenge_id)
    assert (reply.body["outcome"], reply.reasons, reply.body["attempts_left"]) == ("review", [], 10)
    assert await attempt(stage) == ("review", "unknown", False)


async def test_one_failure_is_tried_again(stage: Stage, fake: FakeWeChat, hurried: None) -> None:
    challenge_id, verify_id = await begun(stage)
    fake.finish(verify_id)
    fake.answers.append({"errcode": -1, "errmsg": "system error"})
    assert (await check_in(stage, challenge_id)).body["outcome"] == "accepted"


async def test_a_result_still_in_the_making_is_waited_for(
    stage: Stage, fake: FakeWeChat, hurried: None
) -> None:
    challenge_id, verify_id = await begun(stage)
    fake.finish(verify_id)
    fake.answers.extend([{"errcode": 0, "verify_ret": 10005}] * 3)
    assert (await check_in(stage, challenge_id)).body["outcome"] == "accepted"
    assert fake.calls["queryverifyinfo"] == 4


async def test_a_calendar_does_not_accept_what_nobody_knows(stage: Stage, fake: FakeWeChat) -> None:
    """A review without reasons is held for the calendar alone; one of unknown liveness is held for people."""
    challenge_id, _ = await begun(stage)
    fake.answers.append({"errcode": 48001})
    await check_in(stage, challenge_id)
    connection = await asyncpg.connect(stage.database_url)
    try:
        assert await held_reviews(connection, "T1") == []
        await connection.execute("UPDATE attempt SET liveness = NULL")
        assert len(await held_reviews(connection, "T1")) == 1
    finally:
        await connection.close()


async def test_the_database_accepts_nobody_whose_liveness_is_not_known(
    stage: Stage, fake: FakeWeChat
) -> None:
    challenge_id, verify_id = await begun(stage)
    fake.finish(verify_id)
    await check_in(stage, challenge_id)
    with pytest.raises(Exception, match="accepted_is_proven"):
        await stage.sql("UPDATE attempt SET liveness = 'unknown'")


def test_a_verdict_that_waits_for_wechat_keeps_its_receipt() -> None:
    """Both waits of a photograph at their longest, and WeChat's."""
    longest = float(read_settings({"CHECKIN_FACE_DEADLINE_S": "12"}).face_deadline_s)
    assert timedelta(seconds=2 * longest + wechat.TOTAL_S) < LEASE


# --- The access token ---


async def test_one_token_serves_until_it_is_refused(stage: Stage, fake: FakeWeChat) -> None:
    for _ in range(3):
        await begun(stage)
    assert fake.calls == {"stable_token": 1, "getverifyid": 3}
    fake.withdraw_tokens()
    await begun(stage)
    assert fake.calls == {"stable_token": 2, "getverifyid": 5}


async def test_a_token_that_stays_refused_is_asked_for_once(fake: FakeWeChat) -> None:
    async with aiohttp.ClientSession() as session:
        api = WeChatApi(session, fake.url, APP_ID, SECRET, Metrics())
        refused = {"errcode": 42001, "errmsg": "access_token expired"}
        token = {"access_token": "t", "expires_in": 7200}
        fake.answers.extend([token, refused, token, refused])
        with pytest.raises(WeChatFailed) as failed:
            await api.get_verify_id(uuid4().hex, Holder("o-1", **ZHANG))
        assert failed.value.errcode == 42001
        assert fake.calls == {"stable_token": 2, "getverifyid": 2}


async def test_a_short_lived_token_is_renewed_in_time(
    fake: FakeWeChat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wechat, "LEAST_TOKEN_S", 0)
    fake.lives_s = 300
    async with aiohttp.ClientSession() as session:
        api = WeChatApi(session, fake.url, APP_ID, SECRET, Metrics())
        for _ in range(2):
            await api.get_verify_id(uuid4().hex, Holder("o-1", **ZHANG))
    assert fake.calls["stable_token"] == 2


@pytest.mark.parametrize(("app_id", "secret"), [("wx-other", SECRET), (APP_ID, "wrong")])
async def test_wrong_credentials_are_told_by_number_alone(
    fake: FakeWeChat, capsys: pytest.CaptureFixture[str], app_id: str, secret: str
) -> None:
    async with verification(fake, app_id, secret) as asked:
        test = await asked.ask(uuid4(), Holder("o-1", **ZHANG))
        figures = asked._metrics.render()
    assert test.provider == "head_turns"
    said = capsys.readouterr()
    assert not any(word in said.out + said.err for word in (app_id, secret, "o-1", *ZHANG.values()))
    assert b'checkin_wechat_calls_total{call="stable_token",result="refused"} 1.0' in figures


async def test_a_failure_quotes_neither_token_nor_address(fake: FakeWeChat, hurried: None) -> None:
    async with aiohttp.ClientSession() as session:
        api = WeChatApi(session, "http://127.0.0.1:1", APP_ID, SECRET, Metrics())
        with pytest.raises(WeChatFailed) as failed:
            await api.query_verify_info({})
    assert (failed.value.args, failed.value.__cause__) == ((None,), None)


async def test_a_card_that_wechat_refuses_is_no_reason_to_ask_for_no_other(
    stage: Stage, fake: FakeWeChat
) -> None:
    await begun(stage)
    fake.answers.append({"errcode": 47001})
    assert (await ask(stage)).body["liveness"] == {"provider": "head_turns"}
    await begun(stage, "p-2", LI)


async def test_wechat_is_asked_again_after_a_while(
    stage: Stage, fake: FakeWeChat, hurried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wechat, "AWAY_S", 0)
    fake.answers.extend([502, 502])
    assert (await ask(stage)).body["liveness"] == {"provider": "head_turns"}
    assert (await ask(stage)).body["liveness"]["provider"] == "wechat"


# --- Settings ---


@pytest.mark.parametrize("left_out", ["CHECKIN_WECHAT_APP_ID", "CHECKIN_WECHAT_SECRET_FILE"])
async def test_without_credentials_the_start_is_refused(
    database_url: str, stores: EmbeddedStores, tmp_path: Path, left_out: str
) -> None:
    assert stores.redis_url is not None
    (tmp_path / "secret").write_text(SECRET)
    environment = {
        "CHECKIN_LIVENESS": "wechat",
        "CHECKIN_WECHAT_APP_ID": APP_ID,
        "CHECKIN_WECHAT_SECRET_FILE": str(tmp_path / "secret"),
    }
    del environment[left_out]
    with pytest.raises(SettingError, match=left_out):
        async with running_service(database_url, stores.redis_url, tmp_path, None, **environment):
            pass


def test_the_fake_refuses_what_is_not_finished() -> None:
    """The control of the fake: nothing passes by itself."""
    assert VERDICTS[NOT_FINISHED] != "passed"
    assert MISMATCH not in VERDICTS
