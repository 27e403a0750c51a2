"""WeChat's limits, each with what comes of it when the mini-program heeds it, and when one line of it does not.

A story plays on the mini-program as it is, and again with a line changed, and tells what came of it both times.
"""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.miniprogram.conftest import (
    SELFIE,
    Owner,
    large_jpeg,
    large_png,
    on_the_map,
    outcome,
    owner_at,
    take_picture,
)
from tests.miniprogram.phone import Mutation
from tests.service.stage import FAR, INSIDE, Stage

pytestmark = pytest.mark.asyncio(loop_scope="package")

END = "page.data.result?.outcome || (['over', 'trouble'].includes(page.data.state) && page.data.state)"
Story = Callable[[Owner, Mutation | None], Awaitable[Any]]


async def an_answer_that_takes_longer_than_a_minute(owner: Owner, mutation: Mutation | None) -> Any:
    async with owner.with_phone(mutation) as phone:
        await phone.open()
        owner.service.engine.gate.clear()
        try:
            await take_picture(phone)
            await phone.until("wx.counts.sent.includes('POST /v1/check-ins')")
            await phone.time_passes(61)
        finally:
            owner.service.engine.gate.set()
        end = await phone.until(END)
        assert await phone.run("wx.counts.timeouts") == 1
    return end, len(await owner.attempts())


async def a_large_picture_on_a_bad_network(owner: Owner, mutation: Mutation | None) -> Any:
    owner.draw("large.jpg", large_jpeg, SELFIE)
    async with owner.with_phone(mutation, takes="large.jpg", bytesPerSecond=8000) as phone:
        await phone.open()
        await take_picture(phone)
        return await phone.until(f"{END} || (wx.counts.timeouts > 2 && 'never')")


async def a_png_of_an_iphone(owner: Owner, mutation: Mutation | None) -> Any:
    owner.draw("png", large_png, SELFIE)
    async with owner.with_phone(mutation, platform="ios", takes="png") as phone:
        await phone.open()
        await take_picture(phone)
        return await phone.until(END)


async def a_selfie_as_in_a_mirror(owner: Owner, mutation: Mutation | None) -> Any:
    async with owner.with_phone(mutation) as phone:
        await phone.open()
        await take_picture(phone)
        await outcome(phone)
    [attempt] = await owner.attempts()
    pictures = {
        hashlib.sha256(picture.read_bytes()).digest(): picture.stem
        for picture in (owner.disk / "pictures").iterdir()
    }
    return pictures[bytes(attempt["photo_sha256"])]


async def a_first_fix_that_is_old(owner: Owner, mutation: Mutation | None) -> Any:
    async with owner.with_phone(mutation, remembers=on_the_map(FAR)) as phone:
        await phone.open()
        await take_picture(phone)
        return await phone.until(END)


async def an_answer_of_get_location_that_is_old(owner: Owner, mutation: Mutation | None) -> Any:
    async with owner.with_phone(mutation, cannotFollow=True, at=on_the_map(FAR)) as phone:
        await phone.open()
        await phone.reaches("tasks")
        await phone.tap("howFar", task=owner.task_id)
        await phone.until(f"page.data.distances.{owner.task_id}?.includes('公里')")
        await phone.told(at=on_the_map(INSIDE))
        await take_picture(phone)
        return await phone.until(END)


async def a_burst_of_which_each_file_goes_alone(owner: Owner, mutation: Mutation | None) -> Any:
    async with owner.with_phone(mutation) as phone:
        await phone.open()
        await take_picture(phone)
        return await phone.until(END)


async def a_mini_program_that_has_calls_of_its_own(owner: Owner, mutation: Mutation | None) -> Any:
    async with owner.with_phone(mutation, hostsCalls=5) as phone:
        await phone.open()
        await take_picture(phone)
        return await phone.until(f"wx.counts.refused ? 'refused' : {END}")


async def a_mini_program_that_is_closed_while_it_sends(owner: Owner, mutation: Mutation | None) -> Any:
    async with owner.with_phone(mutation, bytesPerSecond=1) as phone:
        await phone.open()
        await take_picture(phone)
        await phone.until("page.data.state === 'sending' && wx.inFlight")
    async with owner.with_phone(mutation) as phone:
        await phone.open()
        return await phone.until(f"{END} || (page.data.cards?.length && 'lost')")


@dataclass(frozen=True, slots=True)
class Limit:
    """What a story tells, and what it tells when a line ignores the limit."""

    story: Story
    heeded: Any
    ignoring: Mutation
    ignored: Any
    liveness: bool = False


LIMITS = [
    Limit(
        an_answer_that_takes_longer_than_a_minute,
        ("accepted", 1),
        Mutation("core/sending.ts", "key: item.key }", "key: `${item.key}-${tries}` }"),
        ("over", 1),
    ),
    Limit(
        a_large_picture_on_a_bad_network,
        "accepted",
        Mutation("core/picture.ts", "bytes.byteLength <= MOST_BYTES", "true"),
        "never",
    ),
    Limit(
        a_png_of_an_iphone,
        "accepted",
        Mutation(
            "core/picture.ts", 'typeOf(bytes) === "image/jpeg" && bytes.byteLength <= MOST_BYTES', "true"
        ),
        "over",
    ),
    Limit(
        a_selfie_as_in_a_mirror,
        "front-1-plain",
        Mutation("core/camera.ts", "selfieMirror: false, ", ""),
        "front-1-mirrored",
    ),
    Limit(
        a_first_fix_that_is_old,
        "accepted",
        Mutation("core/position.ts", "filter((each) => each !== this.taken[0])", "slice()"),
        "rejected",
    ),
    Limit(
        a_first_fix_that_is_old,
        "accepted",
        Mutation("core/position.ts", "return this.taken.length > 1 ||", "return true ||"),
        "rejected",
    ),
    Limit(
        an_answer_of_get_location_that_is_old,
        "accepted",
        Mutation("core/position.ts", "CACHED_MS = 30_000", "CACHED_MS = 1"),
        "rejected",
    ),
    Limit(
        a_burst_of_which_each_file_goes_alone,
        "accepted",
        Mutation("core/sending.ts", "item.areFramesSent ? null : await sendFrames(phone, item)", "null"),
        "review",
        liveness=True,
    ),
    Limit(
        a_mini_program_that_has_calls_of_its_own,
        "accepted",
        Mutation("core/lanes.ts", "MOST_AT_ONCE = 4", "MOST_AT_ONCE = 40"),
        "refused",
        liveness=True,
    ),
    Limit(
        a_mini_program_that_is_closed_while_it_sends,
        "accepted",
        Mutation("core/outbox.ts", "this.wx.setStorageSync(PLACE, items)", "void items"),
        "lost",
    ),
    Limit(
        a_mini_program_that_is_closed_while_it_sends,
        "accepted",
        Mutation(
            "core/outbox.ts", "return this.wx.getFileSystemManager().saveFileSync(", "return file; void ("
        ),
        "over",
    ),
]


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.story.__name__)
@pytest.mark.parametrize("heeds", [True, False], ids=["heeded", "ignored"])
async def test_limit(limit: Limit, heeds: bool, service: Stage, watchful: Stage, tmp_path: Path) -> None:
    owner = await owner_at(watchful if limit.liveness else service, tmp_path)
    told = await limit.story(owner, None if heeds else limit.ignoring)
    assert told == (limit.heeded if heeds else limit.ignored)
