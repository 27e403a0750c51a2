"""WeChat's face verification (微信人脸核身): the phone shows a face to WeChat, whose server tells us what it saw.

As published at developers.weixin.qq.com: `getStableAccessToken`, `getVerifyId`, `queryVerifyInfo` (the interface that
replaced `getinfo` in 2026), and `wx.requestFacialVerify` for the mini-program. Only holders of a mainland identity card
can be verified. What the phone says of its result counts for nothing: docs/wechat.md.
"""

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import aiohttp
import structlog

from checkin_service.domain.decision import OTHER_FACE, PASSED, UNKNOWN
from checkin_service.metrics import Metrics
from checkin_service.ports import Holder, Liveness, LivenessTest

PROVIDER = "wechat"
VERIFY = "wechat_verify"
"""The action of a challenge that WeChat judges."""

PASSED_AT_WECHAT = 10000
NOT_SHOWN = "not_shown"
IN_PROGRESS = 10005

VERDICTS: Mapping[int, str] = {
    PASSED_AT_WECHAT: PASSED,
    # another face than the card's: 比对人脸信息不匹配, 比对验证失败
    **dict.fromkeys((10004, 10012), OTHER_FACE),
    # the person did not do it: 未完成核身, 用户取消
    **dict.fromkeys((10300, 90002, 90003, 90004, 90005, 90006), NOT_SHOWN),
    # WeChat's failing, its register's, the phone's or the light's, or ours
    **dict.fromkeys(
        (
            *(
                10001,
                10002,
                10003,
                10005,
                10006,
                10007,
                10008,
                10010,
                10013,
                10014,
                10015,
                10016,
                10017,
                10018,
            ),
            *(10020, 10021, 10026, 10029, 10040, 10041, 10042, 10045, 10052),
            *(90001, 90007, 90008, 90009, 90010, 90011, 90012, 90013, 90014, 90017, 90018),
            *(90104, 90105, 90106, 90107, 90109, 90110, 90199),
        ),
        UNKNOWN,
    ),
}
"""Every published `verify_ret`. One that is not published is unknown, too."""

TOKEN_REFUSED = frozenset({40001, 40014, 42001})
BUSY = frozenset({-1, 45011})

TOTAL_S = 5.0
"""All calls of one step. With the two waits of a photograph it stays below the lease of a receipt."""
CALL_S = 2.5
PAUSE_S = 0.3
MOST_ANSWER_BYTES = 64 * 1024
AWAY_S = 5.0
"""After a challenge for which WeChat had no answer, so long nobody who asks for a challenge waits for another."""
# so long before its end a token is asked for again: then WeChat gives a new one, and the old one still serves
RENEW_S = 300.0
LEAST_TOKEN_S = 30.0

log = structlog.get_logger("checkin_service.wechat")


class WeChatFailed(Exception):
    """WeChat could not be reached, is busy, or refuses the call. `errcode`: its number, None without an answer."""

    def __init__(self, errcode: int | None) -> None:
        super().__init__(errcode)
        self.errcode = errcode


def cert_hash(name: str, number: str) -> str:
    """What WeChat knows an identity card by, as published.

    >>> cert_hash("张三", "310101199801011234")
    '3c241f7ff324977aeb91f173bb2a7b06569e6fd784d5573db34a636d8671108b'
    """
    parts = {"cert_type": "IDENTITY_CARD", "cert_name": name, "cert_no": number}
    text = "&".join(f"{part}={base64.b64encode(value.encode()).decode()}" for part, value in parts.items())
    return hashlib.sha256(text.encode()).hexdigest()


class WeChatApi:
    """The three calls. Nothing of an URL, a token or a body is in what they raise, nor logged."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, app_id: str, secret: str, metrics: Metrics
    ) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._credentials = {"grant_type": "client_credential", "appid": app_id, "secret": secret}
        self._metrics = metrics
        self._token = ""
        self._token_until = 0.0
        self._renewing = asyncio.Lock()

    async def get_verify_id(self, out_seq_no: str, holder: Holder) -> str:
        """A new session of this person. Raises `WeChatFailed`."""
        card = {"cert_type": "IDENTITY_CARD", "cert_name": holder.name, "cert_no": holder.number}
        body = {"out_seq_no": out_seq_no, "cert_info": card, "openid": holder.account}
        answer = await self._call("getverifyid", body)
        verify_id = answer.get("verify_id")
        if not isinstance(verify_id, str) or not 0 < len(verify_id) <= 256:
            raise WeChatFailed(None)
        return verify_id

    async def query_verify_info(self, session: Mapping[str, str]) -> int:
        """The session's `verify_ret`. Raises `WeChatFailed`, also for a session that is not this person's."""
        answer = await self._call("queryverifyinfo", session)
        verify_ret = answer.get("verify_ret")
        if not isinstance(verify_ret, int):
            raise WeChatFailed(None)
        return verify_ret

    async def _call(self, name: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        path = f"/cityservice/face/identify/{name}"
        token = await self._fresh_token("")
        try:
            return await self._patiently(name, path, body, token)
        except WeChatFailed as failed:
            if failed.errcode not in TOKEN_REFUSED:
                raise
        return await self._patiently(name, path, body, await self._fresh_token(token))

    async def _fresh_token(self, refused: str) -> str:
        """The access token, another one than `refused`; whoever comes meanwhile waits for the same."""
        async with self._renewing:
            if self._token == refused or time.monotonic() >= self._token_until:
                answer = await self._patiently("stable_token", "/cgi-bin/stable_token", self._credentials)
                token, lives_s = answer.get("access_token"), answer.get("expires_in")
                if not isinstance(token, str) or not isinstance(lives_s, int):
                    raise WeChatFailed(None)
                self._token = token
                self._token_until = time.monotonic() + max(LEAST_TOKEN_S, lives_s - RENEW_S)
            return self._token

    async def _patiently(
        self, name: str, path: str, body: Mapping[str, Any], token: str | None = None
    ) -> Mapping[str, Any]:
        """One call, and once more where that may help."""
        try:
            return await self._once(name, path, body, token)
        except WeChatFailed as failed:
            if failed.errcode is not None and failed.errcode not in BUSY:
                raise
        await asyncio.sleep(PAUSE_S)
        return await self._once(name, path, body, token)

    async def _once(
        self, name: str, path: str, body: Mapping[str, Any], token: str | None
    ) -> Mapping[str, Any]:
        result = "unreachable"
        try:
            async with asyncio.timeout(CALL_S):
                answer = await self._post(path, body, {"access_token": token} if token else {})
            errcode = answer.get("errcode", 0)
            result = "ok" if errcode == 0 else "refused"
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            # their texts quote the URL, and so the token
            raise WeChatFailed(None) from None
        finally:
            self._metrics.wechat_calls.labels(name, result).inc()
        if errcode != 0:
            raise WeChatFailed(errcode if isinstance(errcode, int) else None)
        return answer

    async def _post(self, path: str, body: Mapping[str, Any], query: Mapping[str, str]) -> Mapping[str, Any]:
        """Raises `ValueError` for what is no JSON object."""
        async with self._session.post(
            self._url + path, json=body, params=query, allow_redirects=False
        ) as answer:
            if answer.status != 200 or (answer.content_length or 0) > MOST_ANSWER_BYTES:
                raise ValueError("no answer of the API")
            parsed = json.loads(await answer.read())
        if isinstance(parsed, dict):
            return parsed
        raise ValueError("no object")


class WeChatVerification:
    """WeChat for whom it can verify; for everybody else, and while it is away, what `otherwise` asks for."""

    def __init__(self, api: WeChatApi, otherwise: Liveness, metrics: Metrics) -> None:
        self._api = api
        self._otherwise = otherwise
        self._metrics = metrics
        self._away_until = 0.0

    async def ask(self, challenge_id: UUID, holder: Holder | None) -> LivenessTest:
        if holder is None or time.monotonic() < self._away_until:
            return await self._otherwise.ask(challenge_id, holder)
        try:
            async with asyncio.timeout(TOTAL_S):
                verify_id = await self._api.get_verify_id(challenge_id.hex, holder)
        except (WeChatFailed, TimeoutError) as error:
            _tell(error)
            if not _is_refusal(error):
                self._away_until = time.monotonic() + AWAY_S
            return await self._otherwise.ask(challenge_id, holder)
        session = {
            "verify_id": verify_id,
            "out_seq_no": challenge_id.hex,
            "cert_hash": cert_hash(holder.name, holder.number),
            "openid": holder.account,
        }
        return LivenessTest(PROVIDER, [VERIFY], verify_id, json.dumps(session).encode())

    async def judge(
        self, frames: Sequence[Sequence[Sequence[float]]], actions: Sequence[str], session: bytes | None
    ) -> str:
        if VERIFY not in actions:
            return await self._otherwise.judge(frames, actions, session)
        if session is None:
            return UNKNOWN
        try:
            async with asyncio.timeout(TOTAL_S):
                verify_ret = await self._result(json.loads(session))
        except (WeChatFailed, TimeoutError) as error:
            _tell(error)
            return UNKNOWN
        known = str(verify_ret) if verify_ret in VERDICTS else "other"
        self._metrics.wechat_results.labels(known).inc()
        return VERDICTS.get(verify_ret, UNKNOWN)

    async def _result(self, session: Mapping[str, str]) -> int:
        while (verify_ret := await self._api.query_verify_info(session)) == IN_PROGRESS:  # noqa: ASYNC110
            await asyncio.sleep(PAUSE_S)
        return verify_ret


def _is_refusal(error: WeChatFailed | TimeoutError) -> bool:
    """Whether it may be this card's or this person's alone."""
    return isinstance(error, WeChatFailed) and error.errcode is not None and error.errcode not in BUSY


def _tell(error: WeChatFailed | TimeoutError) -> None:
    log.warning("wechat_failed", errcode=error.errcode if isinstance(error, WeChatFailed) else None)
