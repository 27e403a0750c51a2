"""Verdicts that come later, and WeChat's own face verification: each with a service of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from checkin_service import app
from checkin_service.adapters.embedded import EmbeddedStores
from tests.miniprogram.conftest import Owner, aim, outcome, small_jpeg, take_picture
from tests.service.conftest import UNLIMITED, database_url, stage
from tests.service.fake_wechat import FakeWeChat, settings_of
from tests.service.stage import Stage, running_service
from tests.service.test_deferral import judge_one, near_the_end
from tests.service.test_wechat import LI, ZHANG, fake, token
from tests.service.window import task_at_noon

__all__ = ["database_url", "fake", "stage"]


def with_pictures(service: Stage, disk: Path) -> Owner:
    owner = Owner(service, "p-1", "T1", disk)
    (disk / "pictures").mkdir()
    owner.draw("jpg", small_jpeg)
    return owner


async def test_what_is_judged_later_is_asked_for(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await near_the_end(stage, "p-1")
    owner = with_pictures(stage, tmp_path)
    async with owner.with_phone() as phone:
        await phone.open()
        await take_picture(phone)
        await phone.until("page.data.text?.includes('秒后再看')")
        assert await phone.run("Object.values(wx.getStorageSync('checkin.outbox'))[0].status_url")
        assert list((owner.disk / "user").iterdir()) == []
    assert await judge_one(stage)
    async with owner.with_phone() as phone:
        await phone.open()
        assert await outcome(phone) == "accepted"
        sent = await phone.run("wx.counts.sent")
        assert "POST /v1/check-ins" not in sent


@pytest.fixture(autouse=True)
def nothing_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "run_beside", lambda *_: None)


@pytest.fixture
async def asking(
    database_url: str, stores: EmbeddedStores, tmp_path: Path, fake: FakeWeChat
) -> AsyncIterator[Stage]:
    """A service that asks WeChat."""
    environment = settings_of(fake, tmp_path) | UNLIMITED
    async with running_service(
        database_url, stores.redis_url or "", tmp_path, None, **environment
    ) as running:
        await task_at_noon(running, "T1", "p-1")
        yield running


async def test_wechat_looks_at_the_face_where_that_is_granted(
    asking: Stage, fake: FakeWeChat, tmp_path: Path
) -> None:
    owner = with_pictures(asking, tmp_path)
    host = {"token": token(asking, "p-1", ZHANG), "card": ZHANG}
    async with owner.with_phone(host=host, facialVerify="cancels") as phone:
        await phone.open()
        await take_picture(phone)
        await phone.reaches("capture", "trouble")
        assert await phone.run("page.data.trouble.text === page.data.t.verify_unfinished")
        assert "POST /v1/check-ins" not in await phone.run("wx.counts.sent")
        await phone.told(facialVerify="shows")
        await phone.tap("again")
        await aim(phone)
        await phone.run("void page.take()")
        verify_id = await phone.until("wx.facialVerifyEnds && wx.counts.verified")
        fake.finish(verify_id)
        await phone.run("wx.facialVerifyEnds()")
        assert await outcome(phone) == "accepted"
    assert len(fake.sessions) == 2
    [attempt] = await owner.attempts()
    assert attempt["liveness"] == "passed"


async def test_where_it_is_not_granted_no_card_is_sent(
    asking: Stage, fake: FakeWeChat, tmp_path: Path
) -> None:
    owner = with_pictures(asking, tmp_path)
    host = {"token": token(asking, "p-1", ZHANG), "card": LI}
    async with owner.with_phone(host=host) as phone:
        await phone.open()
        await take_picture(phone)
        assert await outcome(phone) == "accepted"
    assert fake.sessions == {}
    [attempt] = await owner.attempts()
    assert attempt["liveness"] == "passed"
