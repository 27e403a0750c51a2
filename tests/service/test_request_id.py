"""One name for a request from the edge to the worker: in the answer, in the log, and told when a worker is lost."""

import asyncio
import json
import logging
from collections.abc import Iterator
from uuid import UUID

import pytest
import structlog

from checkin_service.logs import configure_logs
from face import JOB_NAME, PoolTimeout, WorkerFailed, WorkerPool
from tests.service.stage import Stage, photo_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

GIVEN = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"


@pytest.fixture
def logged(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Logs as `serve` writes them."""
    aiohttp, handlers, level = (
        logging.getLogger("aiohttp.server"),
        logging.root.handlers[:],
        logging.root.level,
    )
    configure_logs()
    yield
    structlog.reset_defaults()
    logging.root.handlers[:], aiohttp.disabled = handlers, False
    logging.root.setLevel(level)


async def answered(stage: Stage, **headers: str) -> str:
    async with stage.client.get("/v1/me", headers=headers) as response:
        assert (await response.json())["request_id"] == response.headers["X-Request-Id"]
        return response.headers["X-Request-Id"]


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Request-Id": GIVEN},
        {"X-Request-Id": str(UUID(GIVEN))},
        {"traceparent": f"00-{GIVEN}-{SPAN}-01"},
        {"traceparent": f"cc-{GIVEN}-{SPAN}-01-what-the-future-will-be"},
        {"X-Request-Id": GIVEN, "traceparent": f"00-{'1' * 32}-{SPAN}-01"},
        {"X-Request-Id": "no", "traceparent": f"00-{GIVEN}-{SPAN}-01"},
    ],
)
async def test_a_name_that_is_well_formed_is_taken_over(shared_stage: Stage, headers: dict[str, str]) -> None:
    assert await answered(shared_stage, **headers) == GIVEN


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Request-Id": ""},
        {"X-Request-Id": "张三".encode().hex()},
        {"X-Request-Id": "p-1"},
        {"X-Request-Id": f"{GIVEN}0"},
        {"X-Request-Id": f"{GIVEN[:-1]}G"},
        {"traceparent": f"00-{'0' * 32}-{SPAN}-01"},
        {"traceparent": f"00-{GIVEN}-{'0' * 16}-01"},
        {"traceparent": f"ff-{GIVEN}-{SPAN}-01"},
        {"traceparent": f"00-{GIVEN.upper()}-{SPAN}-01"},
    ],
)
async def test_any_other_is_not(shared_stage: Stage, headers: dict[str, str]) -> None:
    made = await answered(shared_stage, **headers)
    assert UUID(made).version == 4
    assert made != await answered(shared_stage, **headers)


async def test_what_is_no_http_is_named_too(shared_stage: Stage) -> None:
    host, port = shared_stage.client.server.host, shared_stage.client.server.port
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"what is this\r\n\r\n")
    answer = (await reader.read()).decode()
    writer.close()
    assert answer.startswith("HTTP/1.0 400")
    assert json.loads(answer.partition("\r\n\r\n")[2])["request_id"] in answer.partition("\r\n\r\n")[0]


@pytest.mark.usefixtures("logged")
async def test_each_line_of_a_request_has_its_name(
    shared_stage: Stage, capfd: pytest.CaptureFixture[str]
) -> None:
    await asyncio.gather(*(answered(shared_stage, **{"X-Request-Id": f"{n:032x}"}) for n in range(1, 9)))
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert {line["request_id"] for line in lines if line["event"] == "request"} >= {
        f"{n:032x}" for n in range(1, 9)
    }
    structlog.get_logger().warning("restored")
    assert "request_id" not in json.loads(capfd.readouterr().err)


@pytest.mark.parametrize(
    ("order", "cause"), [("crash", "SIGSEGV"), ("hang", "PoolTimeout"), ("memory", "MemoryError")]
)
async def test_a_lost_worker_is_traced_to_its_job(order: str, cause: str) -> None:
    told: list[tuple[str, str]] = []
    pool = WorkerPool(
        "tests.faults.marked_engine:marked",
        workers=1,
        spares=0,
        deadline_s=1,
        headroom_bytes=64_000_000,
        on_loss=lambda name, why: told.append((name, why)),
    )
    async with pool:
        JOB_NAME.set(GIVEN)
        with pytest.raises((WorkerFailed, PoolTimeout)):
            await pool.analyse(photo_of(order))
    assert told == [(GIVEN, cause)]
