"""WeChat's server as its pages describe it: the access token, and both calls of face verification.

It knows phones by `finish`, and can be told to fail: the next answers are those in `answers`, one for each call.
"""

import asyncio
import re
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from checkin_service.adapters.wechat import cert_hash

APP_ID, SECRET = "wx0123456789abcdef", "s3cr3t-of-the-app"
NOT_FINISHED = 10300
MISMATCH = 84001
"""Stands for the number of a session that is not of this card, account or sequence: the pages say only that there is
one, in place of a `verify_ret`."""
_OUT_SEQ_NO = re.compile(r"[0-9A-Za-z_-]{5,32}")
_CARD_NO = re.compile(r"[0-9]{17}[0-9X]")

Answer = Mapping[str, Any] | str | int | None
"""An object; text in its place; the status of an answer without any; None for one that never comes."""


@dataclass(slots=True)
class Session:
    out_seq_no: str
    openid: str
    cert_hash: str
    verify_ret: int = NOT_FINISHED


@dataclass(slots=True)
class FakeWeChat:
    sessions: dict[str, Session] = field(default_factory=dict)
    answers: deque[Answer] = field(default_factory=deque)
    calls: Counter[str] = field(default_factory=Counter)
    tokens: list[str] = field(default_factory=list)
    lives_s: int = 7200
    url: str = ""

    def finish(self, verify_id: str, verify_ret: int = 10000) -> None:
        """The phone has called `wx.requestFacialVerify` to its end."""
        self.sessions[verify_id].verify_ret = verify_ret

    def withdraw_tokens(self) -> None:
        """The next call finds its token refused, and the one after that asks for another."""
        self.tokens.append(f"token-{len(self.tokens)}")

    async def answer(self, request: web.Request) -> web.Response:
        call = request.path.rsplit("/", 1)[1]
        self.calls[call] += 1
        if self.answers:
            return await _canned(self.answers.popleft())
        body = await request.json()
        if call == "stable_token":
            return web.json_response(self._token(body))
        token = request.query.get("access_token")
        if token is None:
            return _refused(41001, "access_token missing")
        if not self.tokens or token != self.tokens[-1]:
            return _refused(40001, "invalid credential, access_token is invalid or not latest")
        answers: Mapping[str, Callable[[Any], web.Response]] = {
            "getverifyid": self._begin,
            "queryverifyinfo": self._result,
        }
        return answers[call](body)

    def _token(self, body: Any) -> Mapping[str, Any]:
        if body["grant_type"] != "client_credential":
            return {"errcode": 40002, "errmsg": "invalid grant_type"}
        if body["appid"] != APP_ID:
            return {"errcode": 40013, "errmsg": "invalid appid"}
        if body["secret"] != SECRET:
            return {"errcode": 40125, "errmsg": "invalid appsecret"}
        if not self.tokens:
            self.tokens.append("token-0")
        return {"access_token": self.tokens[-1], "expires_in": self.lives_s}

    def _begin(self, body: Any) -> web.Response:
        card = body["cert_info"]
        known = {session.out_seq_no for session in self.sessions.values()}
        if not _OUT_SEQ_NO.fullmatch(body["out_seq_no"]) or body["out_seq_no"] in known or not body["openid"]:
            return _refused(47001, "data format error")
        if (
            card["cert_type"] != "IDENTITY_CARD"
            or not card["cert_name"]
            or not _CARD_NO.fullmatch(card["cert_no"])
        ):
            return _refused(47001, "data format error")
        verify_id = f"verify-{len(self.sessions)}"
        digest = cert_hash(card["cert_name"], card["cert_no"])
        self.sessions[verify_id] = Session(body["out_seq_no"], body["openid"], digest)
        return web.json_response({"errcode": 0, "errmsg": "ok", "verify_id": verify_id, "expires_in": 3600})

    def _result(self, body: Any) -> web.Response:
        session = self.sessions.get(body["verify_id"])
        told = (body["out_seq_no"], body["openid"], body["cert_hash"])
        if session is None or told != (session.out_seq_no, session.openid, session.cert_hash):
            return _refused(MISMATCH, "invalid verify_id")
        return web.json_response({"errcode": 0, "errmsg": "ok", "verify_ret": session.verify_ret})


def _refused(errcode: int, errmsg: str) -> web.Response:
    return web.json_response({"errcode": errcode, "errmsg": f"{errmsg} rid: 0-0-0"})


async def _canned(answer: Answer) -> web.Response:
    if answer is None:
        await asyncio.sleep(3600)
    if isinstance(answer, int):
        return web.Response(status=answer)
    return web.Response(text=answer) if isinstance(answer, str) else web.json_response(answer)


@asynccontextmanager
async def fake_wechat() -> AsyncIterator[FakeWeChat]:
    fake = FakeWeChat()
    app = web.Application()
    app.router.add_post("/{path:.*}", fake.answer)
    async with TestServer(app) as server:
        fake.url = str(server.make_url(""))
        yield fake


def settings_of(fake: FakeWeChat, folder: Path) -> dict[str, str]:
    """Those of a service that asks it; the app's secret is in a file of the folder."""
    secret = folder / "secret"
    secret.write_text(f"{SECRET}\n")
    return {
        "CHECKIN_LIVENESS": "wechat",
        "CHECKIN_WECHAT_APP_ID": APP_ID,
        "CHECKIN_WECHAT_SECRET_FILE": str(secret),
        "CHECKIN_WECHAT_URL": fake.url,
    }
