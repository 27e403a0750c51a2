"""Promise 11: hostile images cost little: 4xx or a right verdict, little of the worker's time and memory.

The real engine in the service's own workers, whose CPU time and memory the kernel tells.
"""

import io
import sys
import time
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from PIL import Image

from checkin_service import app
from checkin_service.adapters.embedded import EmbeddedStores
from checkin_service.settings import Settings
from face import ImageError, WorkerPool, check_header
from tests import portraits
from tests.face import pictures, test_edge_pictures, test_header
from tests.faults.record import Record
from tests.service.conftest import UNLIMITED
from tests.service.databases import Databases
from tests.service.stage import Stage, check_in_fields, running_service, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

MOST_CPU_S = 0.2
MOST_CPU_AT_THE_LIMITS_S = 0.5
MOST_MEMORY = 150_000_000
SPARES = 1
# In the short form: a shared machine's time is anybody's
SLACK = 5

Make = Callable[[], bytes]


def portrait() -> Image.Image:
    """Of who is enrolled, another photograph than the reference."""
    return Image.open(io.BytesIO(portraits.hopper_altered())).convert("RGB")


def in_cmyk() -> bytes:
    return pictures.saved(portrait().convert("CMYK"), "JPEG", quality=95)


def in_grey16() -> bytes:
    return pictures.saved(Image.fromarray(np.asarray(portrait().convert("L")).astype(np.uint16) * 257), "PNG")


def as_polyglot() -> bytes:
    comment = pictures.jpeg_segment(0xFE, b"<?php system($_GET[0]); ?><script>alert(1)</script>")
    return pictures.with_segments(portraits.hopper_altered(), comment) + b"PK\x03\x04%PDF-1.7 <svg/>"


def with_exif_bomb() -> bytes:
    bomb = pictures.jpeg_segment(0xE1, b"Exif\0\0" + pictures.exif_bomb())
    return pictures.with_segments(portraits.hopper_altered(), bomb)


def with_icc_bomb_in_jpeg() -> bytes:
    """255 pieces of a profile that says it is large."""
    pieces = (b"ICC_PROFILE\0" + bytes((n, 255)) + b"\xff" * 20_000 for n in range(1, 256))
    return pictures.with_segments(
        portraits.hopper_altered(), *(pictures.jpeg_segment(0xE2, piece) for piece in pieces)
    )


def with_icc_bomb_in_png() -> bytes:
    megabytes = zlib.compress(bytes(100_000_000))
    return pictures.with_chunks(
        pictures.saved(portrait(), "PNG"),
        pictures.png_chunk(b"iCCP", b"profile\0\0" + megabytes),
        pictures.png_chunk(b"zTXt", b"Comment\0\0" + megabytes),
    )


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8))


# A right verdict: it is the person who is enrolled.
JUDGED: dict[str, Make] = {
    "cmyk": in_cmyk,
    "16-bit grey": in_grey16,
    "polyglot": as_polyglot,
    "exif bomb": with_exif_bomb,
    "icc bomb in a jpeg": with_icc_bomb_in_jpeg,
    "icc and text bombs in a png": with_icc_bomb_in_png,
}
# Their headers are good; what follows is not.
BROKEN: dict[str, Make] = {
    "jpeg that ends early": lambda: pictures.jpeg((1080, 1440))[:-9000] + b"\xff\xd9",
    "png that is too short": lambda: pictures.png_of_size(3900, 3000),
    "png that is not deflated": lambda: pictures.with_chunks(
        pictures.png((1080, 1440)), pictures.png_chunk(b"IDAT", b"not deflated")
    ),
    "png that inflates to more": lambda: _png_of_too_much(),
    "jpeg without tables": lambda: pictures.jpeg((1080, 1440)).replace(b"\xff\xc4", b"\xff\xfe"),
}
# As large as allowed, without a face: the dearest that an honest photograph could be as well.
AT_THE_LIMITS: dict[str, Make] = {
    "25 megapixels": lambda: pictures.jpeg((5000, 5000)),
    "12 megapixels of noise": lambda: pictures.saved(noise(4000, 3000), "JPEG", quality=30),
    "12 progressive": lambda: pictures.jpeg((4000, 3000), progressive=True),
    "12 in 20 scans": lambda: pictures.jpeg_with_scans((4000, 3000), 20),
    "2.4 in 100 scans": lambda: pictures.jpeg_with_scans((1800, 1330), 100),
    "12 in a png": lambda: pictures.png((4000, 3000), compress_level=1),
    "12 in a png with alpha": lambda: pictures.saved(Image.new("RGBA", (4000, 3000)), "PNG"),
    "12 in a 16-bit png": lambda: pictures.saved(Image.fromarray(np.zeros((3000, 4000), np.uint16)), "PNG"),
}
REFUSED: dict[str, Make] = {
    **{name: make for name, (_, make) in test_header.REFUSED.items()},
    **{name: (lambda file=file: file) for name, file in test_header.FOREIGN.items()},  # type: ignore[misc]
    "apng": lambda: pictures.saved(
        pictures.scene(), "PNG", save_all=True, append_images=[pictures.scene().rotate(180)]
    ),
}


def _png_of_too_much() -> bytes:
    """A small picture's header before 300 MB of pixels."""
    data = pictures.png_chunk(b"IDAT", zlib.compress(bytes(300_000_000), 1))
    photo = pictures.png((200, 150))
    return photo[:33] + data + photo[-12:]


@dataclass
class Meter:
    """What pictures cost the workers of a pool: CPU seconds by name, and the most memory over all of them."""

    pool: WorkerPool
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._warm = self._memory("VmRSS")

    async def analyse(self, name: str, photo: bytes) -> None:
        """Its cost; that it is refused, and how, is for others to look at."""
        before = self._cpu_s()
        with suppress(ImageError):
            await self.pool.analyse(photo)
        self.seconds[name] = self._cpu_s() - before

    def worst(self, names: Mapping[str, object]) -> tuple[float, str]:
        return max((self.seconds[name], name) for name in names)

    @property
    def grown(self) -> int:
        """Bytes of resident memory, at the highest, beyond what a worker has that has seen one photograph."""
        return max(peak - self._warm[pid] for pid, peak in self._memory("VmHWM").items())

    def _cpu_s(self) -> float:
        return sum(int(_proc(pid, "schedstat").split()[0]) for pid in self._pids) / 1e9

    def _memory(self, line: str) -> dict[int, int]:
        found = {pid: _proc(pid, "status").partition(f"{line}:")[2].split()[0] for pid in self._pids}
        return {pid: int(kilobytes) * 1024 for pid, kilobytes in found.items()}

    @property
    def _pids(self) -> list[int]:
        return [worker.pid for worker in self.pool._crew]


def _proc(pid: int, file: str) -> str:
    return Path(f"/proc/{pid}/{file}").read_text()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(
    stores: EmbeddedStores, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Stage, Meter]]:
    """A service with one worker of the real engine, which has seen a photograph."""
    if sys.platform != "linux":
        pytest.skip("only Linux tells what another process costs")
    pools: list[WorkerPool] = []
    open_pool = app.worker_pool

    def remembered(settings: Settings) -> WorkerPool:
        pool = open_pool(settings)
        assert isinstance(pool, WorkerPool)
        pools.append(pool)
        return pool

    at = await databases.make(), stores.redis_url or "", tmp_path_factory.mktemp("hostile")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "worker_pool", remembered)
        async with running_service(*at, "real", CHECKIN_FACE_WORKERS="1", **UNLIMITED) as stage:
            [pool] = pools
            # the one that is free last is asked first: all pictures go to one and the same
            await until(lambda: pool.stats.ready == 1 + SPARES)
            await pool.analyse(portraits.hopper())
            yield stage, Meter(pool)
            assert (pool.stats.failures, pool.stats.recycled) == (0, 0)


async def prepare(stage: Stage, name: str) -> str:
    """A person and a task of one name."""
    assert (await stage.register(name, name)).status == 201
    assert (await stage.enrol(name, portraits.hopper())).status == 201
    await stage.consent(name)
    return name


def header_cost(photo: bytes) -> float:
    """CPU seconds that the service itself spends on a picture."""
    started = time.thread_time()
    with suppress(ImageError):
        check_header(photo)
    return time.thread_time() - started


async def test_most_are_refused_before_a_worker_sees_them(
    served: tuple[Stage, Meter], full: bool, record: Record
) -> None:
    stage, meter = served
    await prepare(stage, "refused")
    fields = check_in_fields("refused", await stage.challenge("refused", "refused"))
    jobs, costs = meter.pool.stats.jobs, {}
    for name, make in REFUSED.items():
        photo = make()
        costs[header_cost(photo)] = name
        reply = await stage.submit("refused", fields, photo)
        assert reply.status in {413, 415, 422}, name
    assert meter.pool.stats.jobs == jobs
    assert max(costs) < MOST_CPU_S * (1 if full else SLACK), costs[max(costs)]
    record.kept(f"{len(REFUSED)} pictures refused from the header, {max(costs) * 1e3:.0f} ms at most")


@pytest.mark.parametrize("name", JUDGED)
async def test_a_good_photograph_in_a_hostile_file_is_judged_right(
    name: str, served: tuple[Stage, Meter]
) -> None:
    stage, _ = served
    member = await prepare(stage, name.replace(" ", "-"))
    reply = await stage.check_in(member, member, selfie=JUDGED[name]())
    assert (reply.status, reply.body["outcome"]) == (201, "accepted")


@pytest.mark.parametrize("name", BROKEN)
async def test_what_is_broken_behind_its_header_accepts_nobody(
    name: str, served: tuple[Stage, Meter]
) -> None:
    stage, _ = served
    member = await prepare(stage, name.replace(" ", "-"))
    reply = await stage.check_in(member, member, selfie=BROKEN[name]())
    assert reply.status == 422 or reply.reasons == ["no_face"]


async def test_workers_spend_little_on_them(served: tuple[Stage, Meter], full: bool, record: Record) -> None:
    _, meter = served
    for name, make in {**JUDGED, **BROKEN, **AT_THE_LIMITS}.items():
        await meter.analyse(name, make())
    hostile, at_the_limits = meter.worst({**JUDGED, **BROKEN}), meter.worst(AT_THE_LIMITS)
    allowed = 1 if full else SLACK
    assert hostile[0] < MOST_CPU_S * allowed, hostile
    assert at_the_limits[0] < MOST_CPU_AT_THE_LIMITS_S * allowed, at_the_limits
    assert meter.grown < MOST_MEMORY
    record.kept(
        f"{len(JUDGED) + len(BROKEN)} hostile files {told(hostile)}, {len(AT_THE_LIMITS)} at the limits "
        f"{told(at_the_limits)}; workers grew by {meter.grown / 1e6:.0f} MB at most"
    )


async def test_workers_spend_little_on_the_shared_pictures(
    served: tuple[Stage, Meter], shared: Path, full: bool
) -> None:
    """That each is judged by its label, tests/service/test_edge_pictures.py shows."""
    folder = shared / "data" / "images_edge"
    if not folder.is_dir():
        pytest.skip(f"no pictures at {folder}")
    _, meter = served
    names = [*test_edge_pictures.UPRIGHT, *test_edge_pictures.TOO_SMALL, *test_edge_pictures.REFUSED]
    for name in names:
        await meter.analyse(name, (folder / name).read_bytes())
    worst = meter.worst(dict.fromkeys(names))
    assert worst[0] < MOST_CPU_S * (1 if full else SLACK), worst
    assert meter.grown < MOST_MEMORY


def told(worst: tuple[float, str]) -> str:
    return f"{worst[0] * 1e3:.0f} ms at most ({worst[1]})"


# --- Control ---

UNLIMITED_ENGINE = "tests.faults.marked_engine:without_limits"


def of_80_megapixels() -> bytes:
    """An RGB PNG of 10,000 by 8,000 black pixels, 240 kB."""
    packer = zlib.compressobj(1)
    data = b"".join(packer.compress(bytes(1 + 3 * 10_000)) for _ in range(8_000)) + packer.flush()
    head = pictures.png_of_size(10_000, 8_000)[:33]
    return head + pictures.png_chunk(b"IDAT", data) + pictures.png_chunk(b"IEND", b"")


def of_2000_scans() -> bytes:
    return pictures.jpeg_with_scans((1800, 1330), 2_000)


async def test_control_without_the_look_at_the_header_they_cost_seconds_and_memory(record: Record) -> None:
    bombs = {"80 megapixels": of_80_megapixels(), "2,000 scans": of_2000_scans()}
    for bomb in bombs.values():
        with pytest.raises(ImageError):
            check_header(bomb)
    async with WorkerPool(
        UNLIMITED_ENGINE, workers=1, spares=0, headroom_bytes=2_000_000_000, deadline_s=60
    ) as pool:
        await pool.analyse(portraits.hopper())
        meter = Meter(pool)
        for name, bomb in bombs.items():
            await meter.analyse(name, bomb)
        grown, failures = meter.grown, pool.stats.failures
    seconds, name = meter.worst(bombs)
    assert failures == 0
    assert seconds > MOST_CPU_AT_THE_LIMITS_S
    assert grown > MOST_MEMORY
    record.control(f"{name} {seconds:.1f} s, workers grew by {grown / 1e6:.0f} MB")
