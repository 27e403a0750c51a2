"""nginx as deploy/ has it, before two processes of the service: a check-in goes through it, and what nginx itself says
is said as the service says it. Only addresses and certificates are changed.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from checkin_service.adapters.embedded import EmbeddedStores
from tests.deploy.front import PROGRAM, Front, nginx_before
from tests.embedded.temporary import temporary_data_dir
from tests.faults.clients import AnswerLog, Caller
from tests.faults.processes import ServiceProcess, processes
from tests.service.stage import Stage, photo_of

pytestmark = [
    pytest.mark.skipif(PROGRAM is None, reason="nginx is not installed"),
    pytest.mark.asyncio(loop_scope="module"),
]
NAME = re.compile(r"[0-9a-f]{32}")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """One that nginx's workers can reach, who are nobody when this is root."""
    with temporary_data_dir() as made:
        made.chmod(0o777)
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def front(shared_stage: Stage, stores: EmbeddedStores, folder: Path) -> AsyncIterator[Front]:
    async with pair_of(shared_stage, stores, folder) as pair, nginx_before(folder, pair) as running:
        yield running


def pair_of(
    stage: Stage, stores: EmbeddedStores, folder: Path
) -> AbstractAsyncContextManager[list[ServiceProcess]]:
    return processes(2, folder, stage.database_url, stores.redis_url or "", stage.settings.data_dir)


def trusting(front: Front) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=front.trust))


async def test_a_check_in_goes_through(front: Front, shared_stage: Stage) -> None:
    await shared_stage.ready_task("T1", "p-1")
    data_dir = shared_stage.settings.data_dir
    async with trusting(front) as session:
        caller = Caller(session, [front.base], data_dir, AnswerLog(data_dir / "answers"), photo_of)
        answer = await caller.check_in("p-1", "T1")
    assert answer["outcome"] == "accepted"
    assert (await shared_stage.status("T1"))["state"] == "completed"
    told = front.lines()
    assert [line["status"] for line in told] == ["201", "201"]
    # what nginx calls a request, the service does, too
    served = "".join(replica._log.read_text() for replica in front.replicas)
    assert all(NAME.fullmatch(line["request_id"]) and line["request_id"] in served for line in told)
    assert "p-1" not in front.log.read_text()


async def test_nobody_outside_names_a_request(front: Front) -> None:
    given = "0af7651916cd43dd8448eb211c80319c"
    async with trusting(front) as session:
        headers = {"X-Request-Id": given, "traceparent": f"00-{given}-b7ad6b7169203331-01"}
        async with session.get(f"{front.base}/v1/me", headers=headers) as answer:
            assert answer.status == 401
            assert NAME.fullmatch(answer.headers["X-Request-Id"])
            assert answer.headers["X-Request-Id"] != given


@pytest.mark.parametrize("path", ["/metrics", "/readyz"])
async def test_what_is_for_inside_stays_there(front: Front, path: str) -> None:
    async with trusting(front) as session:
        async with session.get(front.base + path) as answer:
            assert answer.status == 404
        async with session.get(front.replicas[0].base + path) as answer:
            assert answer.status == 200


async def test_a_replica_that_leaves_is_not_missed_and_without_any_it_says_so(
    shared_stage: Stage, stores: EmbeddedStores, tmp_path: Path
) -> None:
    with temporary_data_dir() as folder:
        folder.chmod(0o777)
        async with pair_of(shared_stage, stores, tmp_path) as pair, nginx_before(folder, pair) as front:
            assert await answers_while_leaving(front, pair[0]) == {401}
            pair[1].kill()
            async with trusting(front) as session, session.get(f"{front.base}/v1/me") as answer:
                problem = await answer.json(content_type="application/problem+json")
    assert (answer.status, problem["code"], answer.headers["Retry-After"]) == (503, "unavailable", "2")
    assert problem["request_id"] == answer.headers["X-Request-Id"]


async def answers_while_leaving(front: Front, replica: ServiceProcess) -> set[int]:
    """The statuses that four callers see while one replica drains and after it is gone."""
    statuses: list[int] = []
    over = asyncio.Event()

    async def ask(session: aiohttp.ClientSession) -> None:
        while not over.is_set():
            async with session.get(f"{front.base}/v1/me") as answer:
                statuses.append(answer.status)

    async with trusting(front) as session, asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(ask(session))
        await replica.stop()
        seen = len(statuses)
        while len(statuses) < seen + 40:  # noqa: ASYNC110  what is waited for are answers
            await asyncio.sleep(0.01)
        over.set()
    return set(statuses)


async def test_a_body_beyond_every_form_is_refused(front: Front) -> None:
    async with trusting(front) as session:
        headers = {"Content-Length": str(57 * 1024 * 1024), "Expect": "100-continue"}
        async with session.post(f"{front.base}/v1/check-ins", headers=headers, data=b"") as answer:
            problem = await answer.json(content_type="application/problem+json")
    assert (answer.status, problem["code"]) == (413, "payload_too_large")


@pytest.mark.parametrize(("buffering", "files"), [("off", 0), ("on", 1)], ids=["as it is", "control"])
async def test_a_picture_is_in_no_file_of_nginx(
    front: Front, shared_stage: Stage, buffering: str, files: int
) -> None:
    """Looked at while half of it has been sent. The control has nginx collect bodies before it passes them on."""
    found: list[int] = []

    async def picture(folder: Path) -> AsyncIterator[bytes]:
        yield bytes(1_000_000)
        await asyncio.sleep(0.5)
        found.append(len(_body_files(folder)))
        yield bytes(1_000_000)

    headers = {
        "Authorization": f"Bearer {shared_stage.token('p-1', 'checkin')}",
        "Content-Type": "image/jpeg",
    }
    path = "/v1/challenges/0d5c2f6e-9a1b-4f0e-8c3d-7b6a5e4f3d2c/burst/0"
    with temporary_data_dir() as folder:
        folder.chmod(0o777)
        async with (
            nginx_before(folder, front.replicas, buffering) as another,
            trusting(another) as session,
            session.put(another.base + path, headers=headers, data=picture(folder)) as answer,
        ):
            assert answer.status >= 400
    assert found == [files]


def _body_files(folder: Path) -> list[str]:
    """Temporary files of bodies, which have no name any more and are open in a worker."""
    pid = int((folder / "nginx.pid").read_text())
    workers = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    opened = [str(file.readlink()) for worker in workers for file in Path(f"/proc/{worker}/fd").iterdir()]
    return [name for name in opened if str(folder / "nginx-body") in name]
