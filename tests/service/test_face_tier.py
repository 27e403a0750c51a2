"""The face tier: two replicas of the real server on this machine, their deaths, and whoever answers in their name."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from checkin_service import app
from checkin_service.adapters import face_tier
from checkin_service.adapters.embedded import EmbeddedStores
from checkin_service.adapters.face_tier import Access, FaceTier
from checkin_service.adapters.inference import answer, infer_path, photo_in, request_of
from checkin_service.settings import SettingError, read_settings
from face import (
    JOB_NAME,
    SFACE_MODEL,
    Analysis,
    ImageError,
    PoolFull,
    PoolTimeout,
    WorkerFailed,
    WorkerPool,
    engine_id,
)
from face.frames import MOST_REPLY_BYTES
from tests import portraits
from tests.service.conftest import UNLIMITED
from tests.service.fixed_engine import FixedEngine
from tests.service.stage import Reply, Stage, check_in_fields, photo_of, running_service, until
from tests.service.tier_process import ENGINE, FACTORY, TOKEN, TierProcess, pool_settings, tier, token_file

pytestmark = pytest.mark.asyncio(loop_scope="module")

PLAIN, ENCRYPTED = 0, 1
TIER_WAIT_S = 900


@dataclass(frozen=True, slots=True)
class Pair:
    """Two replicas, the second under TLS, and the networks that they have made."""

    replicas: Sequence[TierProcess]
    networks: Path
    token: Path
    ca: Path

    @property
    def urls(self) -> list[str]:
        return [replica.url for replica in self.replicas]

    def access(self, **changes: Any) -> Access:
        named: dict[str, Any] = {
            "urls": self.urls,
            "token": TOKEN,
            "engine": ENGINE,
            "model_id": SFACE_MODEL,
            "ca_file": self.ca,
        }
        return Access(**named | changes)

    def settings(self, **changes: str) -> dict[str, str]:
        return {
            "CHECKIN_FACE_TIER_URL": ",".join(self.urls),
            "CHECKIN_FACE_TIER_TOKEN_FILE": str(self.token),
            "CHECKIN_FACE_TIER_CA_FILE": str(self.ca),
            "CHECKIN_FACE_WORKERS": "2",
            **UNLIMITED,
            **changes,
        }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    folder = tmp_path_factory.mktemp("tier")
    networks, ca, key = folder / "networks", *certificate(folder)
    encrypted = {"CHECKIN_FACE_TIER_CERT_FILE": str(ca), "CHECKIN_FACE_TIER_KEY_FILE": str(key)}
    replicas = [TierProcess(folder / "a", networks), TierProcess(folder / "b", networks, **encrypted)]
    async with tier(*replicas):
        yield Pair(replicas, networks, token_file(folder), ca)


def certificate(folder: Path) -> tuple[Path, Path]:
    """Of this machine, signed by itself, with its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tier")])
    address = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, encoding = folder / "tier.crt", serialization.Encoding.PEM
    pem.write_bytes(made.public_bytes(encoding))
    key_file = folder / "tier.key"
    form, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key_file.write_bytes(key.private_bytes(encoding, form, none))
    return pem, key_file


@asynccontextmanager
async def opened(
    access: Access, losses: list[tuple[str, str]] | None = None, **options: Any
) -> AsyncIterator[FaceTier]:
    """The client by itself."""
    losses = losses if losses is not None else []
    named = {"local": None, "places": 4, "queue_limit": 8, "patience_s": 300.0, **options}
    local = named.pop("local")
    async with face_tier.open_face_tier(access, local, lambda *lost: losses.append(lost), **named) as client:
        yield client


async def outcome(engine: Any, photo: bytes) -> Analysis | tuple[str, str, Any]:
    try:
        analysis: Analysis = await engine.analyse(photo)
    except ImageError as refusal:
        return refusal.code, refusal.fault, refusal.detail
    return analysis


# --- The same verdicts ---


async def test_the_tier_says_what_workers_here_say(pair: Pair) -> None:
    photos = [
        portraits.hopper(),
        portraits.hopper_altered(),
        portraits.astronaut(),
        portraits.landscape(),
        portraits.hopper()[:9000],
        b"no picture",
    ]
    options = {"cache_dir": str(pair.networks)}
    async with opened(pair.access()) as client, WorkerPool(FACTORY, options, **pool_settings()) as pool:
        there = await asyncio.gather(*(outcome(client, photo) for photo in photos))
        here = [await outcome(pool, photo) for photo in photos]
        assert client.model_id == pool.model_id
        assert client.stats.confined_by == pool.stats.confined_by
        # a look and photographs each: both were asked
        assert all(replica._uses > 1 for replica in client._replicas)
    assert there == here
    # control: photographs are told apart by what is said of them
    assert len({repr(said) for said in here}) == len(photos)


# --- A worker lost there ---


async def test_a_photograph_that_kills_its_worker_there_costs_itself(pair: Pair) -> None:
    losses: list[tuple[str, str]] = []
    async with opened(pair.access(urls=pair.urls[:1]), losses) as client:
        crash = photo_of("crash", 5)
        with pytest.raises(WorkerFailed) as lost:
            await client.analyse(crash)
        assert lost.value.cause == "SIGSEGV"
        assert (await by_somebody(client, photo_of("p-1"))).faces == 1
        # the second time it is called unreadable, as by workers here
        with pytest.raises(ImageError):
            await client.analyse(crash)
        assert (await by_somebody(client, photo_of("p-1", 2))).faces == 1
    assert [cause for _, cause in losses] == ["SIGSEGV"]


async def by_somebody(client: FaceTier, photo: bytes) -> Analysis:
    """Once there is a replica that takes it: one without a spare takes nothing until it has a worker again."""
    async with asyncio.timeout(TIER_WAIT_S):
        while True:
            await until(lambda: not client.stats.absent)
            try:
                return await client.analyse(photo)
            except WorkerFailed as fault:
                assert fault.cause == "tier_away"  # noqa: PT017  any other is the test's failure


# --- A service whose tier goes away and comes back ---


async def readiness(stage: Stage) -> tuple[int, dict[str, str]]:
    async with stage.client.get("/readyz") as answer:
        return answer.status, (await answer.json())["checks"]


async def until_checked(stage: Stage, name: str, is_ok: bool) -> None:
    async with asyncio.timeout(60):
        while ((await readiness(stage))[1][name] == "ok") is not is_ok:  # noqa: ASYNC110  it is asked over HTTP
            await asyncio.sleep(0.05)


@pytest.fixture
def quick_local(monkeypatch: pytest.MonkeyPatch) -> list[WorkerPool]:
    """Workers here of fixed answers; the pools that were made of them."""
    pools: list[WorkerPool] = []

    def pool(_: object) -> WorkerPool:
        pools.append(WorkerPool("tests.faults.marked_engine:marked", {}, workers=1, spares=0))
        return pools[-1]

    monkeypatch.setattr(app, "worker_pool", pool)
    return pools


async def test_without_workers_here_nothing_is_held_against_anybody(
    database_url: str, stores: EmbeddedStores, tmp_path: Path, quick_local: list[WorkerPool]
) -> None:
    port = unused_port()
    settings = {
        "CHECKIN_FACE_TIER_URL": f"http://127.0.0.1:{port}",
        "CHECKIN_FACE_TIER_TOKEN_FILE": str(token_file(tmp_path)),
        "CHECKIN_FACE_TIER_FALLBACK": "none",
        **UNLIMITED,
    }
    async with running_service(database_url, stores.redis_url or "", tmp_path, "real", **settings) as stage:
        assert (await readiness(stage))[0] == 503
        async with in_process(port):
            await until_checked(stage, "face_workers", True)
            await stage.ready_task("T1", "p-1")
            fields = check_in_fields("T1", await stage.challenge("p-1", "T1"))

        async def send() -> Reply:
            return await stage.submit("p-1", fields, photo_of("p-1", 9), "one-key")

        refused = await send()
        assert (refused.status, refused.code) == (503, "unavailable")
        assert int(refused.headers["Retry-After"]) > 0
        assert await stage.sql("SELECT 1 FROM attempt") == []
        status, checks = await readiness(stage)
        assert (status, checks["face_workers"].startswith("the face tier: ")) == (503, True)
        async with in_process(port):
            await until_checked(stage, "face_workers", True)
            assert (await send()).body["outcome"] == "accepted"
        assert quick_local == []


# --- Who is not to be asked ---


async def test_a_tier_with_other_models_is_refused(
    pair: Pair, database_url: str, stores: EmbeddedStores, tmp_path: Path
) -> None:
    changes = {"CHECKIN_FACE_ENGINE": "dlib", "CHECKIN_FACE_TIER_FALLBACK": "none"}
    settings = pair.settings(**changes)
    async with running_service(database_url, stores.redis_url or "", tmp_path, "real", **settings) as stage:
        status, checks = await readiness(stage)
        assert status == 503
        assert checks["face_workers"].count("other_models") == 2
        assert (await stage.enrol("p-1")).status == 503


async def test_names_differ_with_whatever_changes_a_vector() -> None:
    names = {engine_id(encoders, pad) for encoders in (("sface", "dlib"), ("dlib",)) for pad in (False, True)}
    assert len(names) == 4


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"token": "x" * 40}, "token_refused"),
        ({"ca_file": None}, "ClientConnectorCertificateError"),
        ({"model_id": "another"}, "other_models"),
        ({}, None),
    ],
)
async def test_who_is_not_ours_is_not_asked(pair: Pair, changes: dict[str, Any], fault: str | None) -> None:
    async with opened(pair.access(urls=pair.urls[ENCRYPTED:], **changes)) as client:
        assert [replica.fault for replica in client._replicas] == [fault]
        if fault:
            with pytest.raises(WorkerFailed):
                await client.analyse(portraits.astronaut())


async def test_the_server_lets_nothing_be_asked_but_an_analysis(pair: Pair) -> None:
    model, token = f"/v2/models/{ENGINE}", {"Authorization": f"Bearer {TOKEN}"}
    asked = [
        ("GET", f"{model}/ready", {}, 200),
        ("GET", "/v2/health/live", {}, 200),
        ("GET", "/metrics", {}, 200),
        ("POST", infer_path(ENGINE), {}, 401),
        ("POST", infer_path(ENGINE), {"Authorization": "Bearer é"}, 401),
        ("POST", infer_path("face-another"), token, 404),
        ("POST", f"/v2/repository/models/{ENGINE}/unload", token, 404),
        ("POST", f"/v1/models/{ENGINE}:predict", token, 404),
        ("GET", "/openapi.json", token, 404),
        ("POST", infer_path(ENGINE), {**token, "Content-Length": "999999999"}, 413),
    ]
    async with aiohttp.ClientSession(base_url=pair.urls[PLAIN]) as session:
        for method, path, headers, status in asked:
            async with session.request(method, path, headers=headers) as answer:
                assert answer.status == status, (method, path)
        async with session.post(infer_path(ENGINE), data=without_a_length(), headers=token) as answer:
            assert answer.status == 413
        async with session.get("/metrics") as told:
            assert "checkin_face_queue_length 0.0" in await told.text()


async def without_a_length() -> AsyncIterator[bytes]:
    yield b"{}"


async def test_the_server_keeps_and_logs_nothing_of_what_it_is_sent(pair: Pair) -> None:
    replica, canary = pair.replicas[PLAIN], "CANARY"
    head = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/octet-stream"}
    whole = request_of(portraits.astronaut(), canary.lower())
    odd = json.dumps(
        {"inputs": [{"name": canary, "shape": [1], "datatype": "BYTES", "data": [f"{canary}!"]}]}
    )
    bodies = (whole, odd.encode(), json.dumps({"inputs": canary}).encode(), canary.encode(), b"[]")
    # after a failure the server closes the connection
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(base_url=replica.url, headers=head, connector=connector) as session:
        for body in bodies:
            for length in (str(len(body)), canary):
                named = {"Inference-Header-Content-Length": length}
                async with session.post(infer_path(ENGINE), data=body, headers=named) as answer:
                    assert (answer.status == 200) == (body == whole and length != canary)
    log = replica.log.read_text()
    assert canary not in log
    assert portraits.astronaut()[1000:1012].hex() not in log
    assert not [path for path in replica.temporary.rglob("*") if path.is_file()]
    assert '"event": "library"' in log  # control: it has something to say of those


# --- Whoever answers in a replica's name ---


@asynccontextmanager
async def stand_in(said: Any) -> AsyncIterator[Access]:
    """A server that answers every analysis by `said(request)`."""
    stand = web.Application()
    stand.router.add_post(infer_path("e"), said)
    async with TestServer(stand) as server:
        yield Access([str(server.make_url("/"))], TOKEN, "e", SFACE_MODEL)


@asynccontextmanager
async def in_process(port: int) -> AsyncIterator[None]:
    """A replica of fixed answers in this process."""
    faces = FixedEngine()

    async def said(request: web.Request) -> web.Response:
        [tensor] = (json.loads(await request.read()))["inputs"]
        return told(await answer(faces, photo_in(tensor["data"][0])))

    stand = web.Application(client_max_size=10_000_000)
    stand.router.add_post(infer_path(ENGINE), said)
    async with TestServer(stand, port=port):
        yield


def told(reply: object) -> web.Response:
    return web.json_response({"outputs": [{"data": [json.dumps(reply)]}]})


HELLO = {"engine": {"model_id": SFACE_MODEL, "ready": 1, "confined_by": []}}


def is_look(body: bytes) -> bool:
    return bool(json.loads(body)["inputs"][0]["data"] == [""])


@pytest.mark.parametrize(
    ("reply", "raised"),
    [
        (told({"full": True}), PoolFull),
        (told({"late": "no worker was free"}), PoolTimeout),
        (told({"lost": "SIGSEGV"}), WorkerFailed),
        (told({"analysis": {"width": "wide"}}), WorkerFailed),
        (told({"refused": {"code": "unheard_of"}}), WorkerFailed),
        (told([]), WorkerFailed),
        (web.Response(body=b"\xff"), WorkerFailed),
        (web.Response(body=b" " * (MOST_REPLY_BYTES + 1)), WorkerFailed),
        (web.Response(status=500), WorkerFailed),
        (web.Response(status=302, headers={"Location": "/elsewhere"}), WorkerFailed),
    ],
)
async def test_an_answer_is_an_analysis_or_our_failure(reply: web.Response, raised: type[Exception]) -> None:
    async def said(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        return (
            told(HELLO)
            if is_look(body)
            else web.Response(body=reply.body, status=reply.status, headers=reply.headers)
        )

    async with stand_in(said) as access, opened(access) as client:
        with pytest.raises(raised):
            await client.analyse(b"photo")


async def test_one_that_is_silent_is_found_by_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face_tier, "PROBE_S", 0.05)
    silent = asyncio.Event()

    async def said(request: web.Request) -> web.StreamResponse:
        await request.read()
        if silent.is_set():
            await asyncio.Event().wait()
        return told(HELLO)

    local = FixedEngine()
    async with stand_in(said) as access, opened(access, local=local) as client:
        assert client.stats.absent == {}
        silent.set()
        await until(lambda: client.stats.absent)
        assert list((client.stats.absent or {}).values()) == ["silent"]
        assert (await client.analyse(photo_of("p-1"))).faces == 1
        assert local.analysed == ["p-1"]


async def test_a_full_replica_is_passed_over_for_one_with_room() -> None:
    async def full(request: web.Request) -> web.StreamResponse:
        return told(HELLO if is_look(await request.read()) else {"full": True})

    async def roomy(request: web.Request) -> web.StreamResponse:
        nobody = {"width": 1, "height": 1, "turned_deg": 0, "boxes": [], "quality": None}
        analysis = {**nobody, "templates": {}, "live": None, "landmarks": None}
        return told(HELLO if is_look(await request.read()) else {"analysis": analysis})

    async with stand_in(full) as first, stand_in(roomy) as second:
        both = Access([*first.urls, *second.urls], TOKEN, "e", SFACE_MODEL)
        async with opened(both) as client:
            assert (await client.analyse(b"photo")).faces == 0
        async with opened(first) as client:
            with pytest.raises(PoolFull):
                await client.analyse(b"photo")


async def test_more_than_may_wait_are_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    release = asyncio.Event()

    async def said(request: web.Request) -> web.StreamResponse:
        if not is_look(await request.read()):
            await release.wait()
        return told(HELLO)

    async with stand_in(said) as access, opened(access, places=1, queue_limit=1) as client:
        held = [asyncio.create_task(client.analyse(b"photo")) for _ in range(2)]
        await until(lambda: client.stats.waiting == 1 and client.stats.busy == 1)
        with pytest.raises(PoolFull):
            await client.analyse(b"photo")
        held[1].cancel()
        await until(lambda: client.stats.waiting == 0)
        release.set()
        with pytest.raises(WorkerFailed):
            await held[0]


# --- Deaths, which come last: the first replica stays dead until the end ---


async def test_a_killed_replica_costs_what_is_in_it(pair: Pair) -> None:
    losses: list[tuple[str, str]] = []
    async with opened(pair.access(), losses) as client:
        [gone, stays] = client._replicas
        stays.in_flight += 10  # the first photographs go to the other one
        JOB_NAME.set("job-1")
        held = [asyncio.create_task(client.analyse(photo_of("hang", shot))) for shot in (1, 2)]
        await until(lambda: gone.in_flight == 2)
        stays.in_flight -= 10
        neighbours = [asyncio.create_task(client.analyse(photo_of(f"p-{n}"))) for n in range(2)]
        await until(lambda: stays.in_flight == 2 or neighbours[0].done())
        pair.replicas[PLAIN].kill()
        results = await asyncio.gather(*held, *neighbours, return_exceptions=True)
        assert [type(result) for result in results] == [WorkerFailed] * 2 + [Analysis] * 2
        assert [name for name, _ in losses] == ["job-1"] * 2
        for shot in range(3):
            assert (await client.analyse(photo_of("p-1", shot))).faces == 1
        assert list(client.stats.absent or ()) == [gone.name]


async def test_without_the_tier_workers_here_judge_until_it_is_back(
    pair: Pair, database_url: str, stores: EmbeddedStores, tmp_path: Path, quick_local: list[WorkerPool]
) -> None:
    settings, first = pair.settings(), pair.replicas[PLAIN]
    async with running_service(database_url, stores.redis_url or "", tmp_path, "real", **settings) as stage:
        [local] = quick_local
        await stage.ready_task("T1", "p-1")
        assert (await stage.check_in("p-1", "T1")).body["outcome"] == "accepted"
        assert local.stats.jobs == 0
        pair.replicas[ENCRYPTED].kill()
        first.start()
        await stage.ready_task("T2", "p-2")
        assert (await stage.check_in("p-2", "T2")).body["outcome"] == "accepted"
        judged_here = local.stats.jobs
        assert judged_here > 0
        status, checks = await readiness(stage)
        assert (status, checks["face_workers"], checks["face_tier"] == "ok") == (200, "ok", False)
        await until_asked(stage, first)
        await stage.ready_task("T3", "p-3")
        assert (await stage.check_in("p-3", "T3")).body["outcome"] == "accepted"
        assert local.stats.jobs == judged_here


async def until_asked(stage: Stage, replica: TierProcess) -> None:
    """Waits until the service has found it."""
    async with asyncio.timeout(TIER_WAIT_S):
        while str(replica.port) in (await readiness(stage))[1]["face_tier"]:  # noqa: ASYNC110  it is asked over HTTP
            await asyncio.sleep(0.05)


async def test_a_replica_ends_in_order(pair: Pair) -> None:
    assert await pair.replicas[PLAIN].stop() in {0, -15}


# --- Settings ---


async def test_a_tier_needs_a_secret(tmp_path: Path) -> None:
    short = tmp_path / "short"
    short.write_text("too short")
    for path in ("", str(short), str(tmp_path / "none")):
        settings = read_settings(
            {"CHECKIN_FACE_TIER_URL": "https://tier:8443", "CHECKIN_FACE_TIER_TOKEN_FILE": path}
        )
        with pytest.raises(SettingError):
            app.tier_token(settings)
