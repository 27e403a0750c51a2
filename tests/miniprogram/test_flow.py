"""What a person meets in the mini-program, from the tasks to the receipt, against a running service."""

from pathlib import Path

import pytest

from tests.miniprogram.conftest import Owner, outcome, owner_at, take_picture
from tests.service.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def test_from_the_tasks_to_the_receipt(owner: Owner) -> None:
    async with owner.with_phone() as phone:
        await phone.open()
        await take_picture(phone)
        assert await outcome(phone) == "accepted"
        assert await owner.state() == "accepted"
        await phone.tap("receipt")
        await phone.reaches("receipt")
        await phone.tap("copy")
        assert "/app/#receipt=ey" in await phone.run("wx.clipboard")
