"""A service on real stores with an engine of fixed answers, and phones with the mini-program on them."""

import io
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image, PngImagePlugin

from checkin_service.adapters.embedded import EmbeddedStores
from geofence import Frame, from_wgs84
from tests.miniprogram.phone import MiniProgram, Mutation, mini_program
from tests.service.conftest import databases, no_sweeps_in_between, service_for_many, stores
from tests.service.databases import Databases
from tests.service.fixed_engine import Shown
from tests.service.stage import INSIDE, Stage, photo_of

__all__ = ["databases", "no_sweeps_in_between", "stores"]

SHOTS = {"front": 8, "left": 3, "right": 3}
YAW_DEG = {"front": None, "left": 35, "right": -35}
NUMBERS = count(1)
# pose, number from 1, and whether it is as in a mirror
Shot = tuple[str, int, str]
SELFIE: Sequence[Shot] = [("front", 1, "plain")]


def on_the_map(place: tuple[float, float], accuracy_m: float = 12) -> list[float]:
    """What a phone is told of a place in WGS-84 when it asks in GCJ-02: longitude, latitude, accuracy."""
    return [*from_wgs84(*place, Frame.GCJ02), accuracy_m]


@dataclass(frozen=True, slots=True)
class Owner:
    """Somebody with a phone, and the one task that waits for them."""

    service: Stage
    person_id: str
    task_id: str
    disk: Path

    def with_phone(
        self, mutation: Mutation | None = None, host: dict[str, Any] | None = None, **told: Any
    ) -> AbstractAsyncContextManager[MiniProgram]:
        """The mini-program, just opened; the phone's disk outlives it."""
        usual = {"pictures": str(self.disk / "pictures"), "at": on_the_map(INSIDE)}
        given = {"base": self.base, "token": self.service.token(self.person_id, "checkin"), **(host or {})}
        return mini_program(self.disk, given, usual | told, mutation)

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.service.client.port}"

    async def attempts(self) -> list[Any]:
        return await self.service.sql("SELECT * FROM attempt WHERE person_id = $1", self.person_id)

    async def state(self) -> str:
        status = await self.service.status(self.task_id)
        return str(status["members"][0]["state"])

    def draw(self, ending: str, paint: Callable[[Shown], bytes], shots: Sequence[Shot] = ()) -> None:
        """What the camera takes; by default every picture that there may be."""
        for pose, number, side in shots or self._shots():
            (self.disk / "pictures" / f"{pose}-{number}-{side}.{ending}").write_bytes(
                paint(self._shown(pose, number, side))
            )

    def _shots(self) -> list[Shot]:
        return [
            (pose, number + 1, side)
            for pose, most in SHOTS.items()
            for number in range(most)
            for side in ("plain", "mirrored")
        ]

    def _shown(self, pose: str, number: int, side: str) -> Shown:
        shot, yaw = 10 * list(SHOTS).index(pose) + number, YAW_DEG[pose]
        if side == "plain":
            return Shown(self.person_id, shot, "", None, yaw)
        return Shown(self.person_id, shot, "mirrored", None, -yaw if yaw else None)


def small_jpeg(shown: Shown) -> bytes:
    return photo_of(**asdict(shown))


def large_jpeg(shown: Shown) -> bytes:
    """As a good camera makes them: too large for a bad network."""
    return small_jpeg(shown) + bytes(1_200_000)


def large_png(shown: Shown) -> bytes:
    """As iOS makes them: lossless, and larger than the service takes."""
    comment, picture = PngImagePlugin.PngInfo(), io.BytesIO()
    comment.add_text("comment", json.dumps(asdict(shown)))
    Image.new("RGB", (1500, 1500), (90, 90, 90)).save(picture, "PNG", pnginfo=comment, compress_level=0)
    return picture.getvalue()


async def owner_at(service: Stage, disk: Path, *, consented: bool = True, enrolled: bool = True) -> Owner:
    number = next(NUMBERS)
    owner = Owner(service, f"m-{number}", f"M{number}", disk)
    assert (await service.register(owner.task_id, owner.person_id)).status == 201
    if enrolled:
        assert (await service.enrol(owner.person_id)).status == 201
    if consented:
        assert (await service.consent(owner.person_id)).status == 200
    (disk / "pictures").mkdir()
    owner.draw("jpg", small_jpeg)
    return owner


async def take_picture(phone: MiniProgram) -> None:
    """From the tasks to a check-in that is sent; does not wait for what comes of it."""
    await go_to_camera(phone)
    await phone.run("void page.take()")


async def go_to_camera(phone: MiniProgram) -> None:
    """From the tasks to a camera that may take the picture."""
    await phone.reaches("tasks")
    await phone.tap("step", task=await phone.run("page.data.cards[0].task_id"), screen="capture")
    await aim(phone)


async def aim(phone: MiniProgram) -> None:
    await phone.reaches("capture")
    await phone.run("page.cameraOpened()")
    await phone.until("page.data.mayTake")


async def outcome(phone: MiniProgram) -> str:
    return str(await phone.until("page.data.result?.outcome"))


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def service(
    stores: EmbeddedStores, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stage]:
    async with service_for_many(stores, databases, tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def watchful(
    stores: EmbeddedStores, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stage]:
    """A service that asks for turns of the head."""
    data_dir = tmp_path_factory.mktemp("watchful")
    async with service_for_many(stores, databases, data_dir, CHECKIN_LIVENESS="on") as running:
        yield running


@pytest_asyncio.fixture(loop_scope="package")
async def owner(service: Stage, tmp_path: Path) -> Owner:
    return await owner_at(service, tmp_path)
