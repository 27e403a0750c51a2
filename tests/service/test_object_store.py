"""Selfies at rest: sealed before the store sees them, whole or not there, and never a wait without end."""

import asyncio
import hashlib
import os
import resource
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from obstore.store import MemoryStore

from checkin_service.adapters import object_store
from checkin_service.adapters.object_store import EvidenceStore, bucket_store, directory_store
from checkin_service.adapters.postgres.check_ins import SealedObject
from checkin_service.adapters.sealing import SealBroken, seal, unseal
from checkin_service.ports import ObjectMissing, ObjectStore, StoreUnavailable
from checkin_service.usecases.evidence import open_selfie, seal_selfie

PHOTO = b"\xff\xd8\xff" + b"a face that nobody else may see " * 4000
CHECK_IN = UUID("0199f0d2-3c1a-7a55-9d0e-0a7f5a1c2b3d")
LATER = timedelta(hours=1)


@pytest.fixture(params=[32, 16], ids=["AES-256-GCM", "SM4-GCM"])
def data_key(request: pytest.FixtureRequest) -> bytes:
    return os.urandom(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data" / "evidence"


@pytest.fixture(params=["directory", "memory", "bucket"])
async def store(
    request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ObjectStore]:
    if request.param == "directory":
        yield directory_store(folder)
    elif request.param == "memory":
        yield EvidenceStore(MemoryStore())
    else:
        async with bucket_server(monkeypatch):
            yield bucket_store("s3://evidence/shenzhen")


# --- a bucket ---


class Bucket:
    """What an S3 server does with the calls that are made here, and nothing of what it does else."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, datetime]] = {}
        self.frozen = asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        await self.frozen.wait()
        assert "Credential=somebody/" in request.headers["Authorization"]
        if "list-type" in request.query:
            return web.Response(text=self._listing(request.query["prefix"]), content_type="application/xml")
        call = {"PUT": self.put, "GET": self.get, "DELETE": self.delete}[request.method]
        return call(request.path, await request.read())

    def put(self, path: str, content: bytes) -> web.Response:
        self.objects[path] = (content, datetime.now(UTC))
        return web.Response(headers={"ETag": '"1"'})

    def get(self, path: str, _: bytes) -> web.Response:
        if path not in self.objects:
            return web.Response(status=404)
        content, at = self.objects[path]
        return web.Response(
            body=content, headers={"ETag": '"1"', "Last-Modified": f"{at:%a, %d %b %Y %T} GMT"}
        )

    def delete(self, path: str, _: bytes) -> web.Response:
        self.objects.pop(path, None)
        return web.Response(status=204)

    def _listing(self, prefix: str) -> str:
        found = [
            f"<Contents><Key>{path.removeprefix('/evidence/')}</Key><Size>{len(content)}</Size>"
            f"<LastModified>{at.isoformat()}</LastModified><ETag>1</ETag></Contents>"
            for path, (content, at) in self.objects.items()
            if path.startswith(f"/evidence/{prefix}")
        ]
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{''.join(found)}</ListBucketResult>"


@asynccontextmanager
async def bucket_server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bucket]:
    bucket, app = Bucket(), web.Application(client_max_size=10 << 20)
    bucket.frozen.set()
    app.router.add_route("*", "/{path:.*}", bucket.answer)
    async with TestServer(app) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", str(server.make_url("/")).rstrip("/"))
        for name, text in {
            "ALLOW_HTTP": "true",
            "ACCESS_KEY_ID": "somebody",
            "SECRET_ACCESS_KEY": "secret",
            "REGION": "local",
        }.items():
            monkeypatch.setenv(f"AWS_{name}", text)
        yield bucket
        bucket.frozen.set()


# --- every store ---


async def addresses(store: ObjectStore, age: timedelta = -LATER) -> set[str]:
    """Those last put longer ago than `age`."""
    return {address async for address in store.list_older_than(datetime.now(UTC) - age)}


async def kept(store: ObjectStore, sealed: SealedObject) -> SealedObject:
    await store.put(sealed.address, sealed.ciphertext)
    return sealed


async def test_what_was_put_is_got_and_opened(store: ObjectStore, data_key: bytes) -> None:
    sealed = await kept(store, seal_selfie(data_key, CHECK_IN, PHOTO))
    assert await addresses(store) == {sealed.address}
    assert open_selfie(data_key, CHECK_IN, sealed.wrapped_key, await store.get(sealed.address)) == PHOTO


async def test_the_largest_selfie_is_one_object(store: ObjectStore) -> None:
    content = os.urandom(6_000_028)
    await store.put("ab", content)
    assert await store.get("ab") == content
    assert await addresses(store) == {"ab"}


async def test_putting_again_changes_nothing(store: ObjectStore, data_key: bytes) -> None:
    sealed = seal_selfie(data_key, CHECK_IN, PHOTO)
    await asyncio.gather(*[kept(store, sealed) for _ in range(5)])
    assert await addresses(store) == {sealed.address}
    assert await store.get(sealed.address) == sealed.ciphertext


async def test_what_is_absent_is_missing_and_can_be_deleted(store: ObjectStore) -> None:
    for _ in range(2):
        with pytest.raises(ObjectMissing):
            await store.get("ab")
        await store.delete("ab")
    await store.put("ab", b"x")
    await store.delete("ab")
    with pytest.raises(ObjectMissing):
        await store.get("ab")
    assert await addresses(store) == set()


async def test_only_what_is_older_is_listed(store: ObjectStore) -> None:
    await store.put("ab", b"x")
    assert await addresses(store, age=LATER) == set()
    assert await addresses(store) == {"ab"}


# --- sealing ---


async def test_a_store_that_takes_things_has_no_fault_and_nothing_is_left_of_the_trial(
    store: ObjectStore,
) -> None:
    assert await store.fault() is None
    assert await addresses(store) == set()


def test_an_address_is_the_digest_of_the_ciphertext_and_tells_no_photograph(data_key: bytes) -> None:
    first, second = (seal_selfie(data_key, CHECK_IN, PHOTO) for _ in range(2))
    assert first.address == hashlib.sha256(first.ciphertext).hexdigest()
    assert first.address != second.address
    assert len(first.ciphertext) == len(PHOTO) + 28
    assert PHOTO[:32] not in first.ciphertext


@pytest.mark.parametrize("place", [0, 12, 5000, -1])
def test_altered_ciphertext_does_not_open(data_key: bytes, place: int) -> None:
    sealed = seal_selfie(data_key, CHECK_IN, PHOTO)
    altered = bytearray(sealed.ciphertext)
    altered[place] ^= 1
    with pytest.raises(SealBroken):
        open_selfie(data_key, CHECK_IN, sealed.wrapped_key, bytes(altered))


@pytest.mark.parametrize("length", [0, 11, 27, 1000])
def test_cut_ciphertext_does_not_open(data_key: bytes, length: int) -> None:
    sealed = seal_selfie(data_key, CHECK_IN, PHOTO)
    with pytest.raises(SealBroken):
        open_selfie(data_key, CHECK_IN, sealed.wrapped_key, sealed.ciphertext[:length])


def test_nothing_opens_for_another_check_in(data_key: bytes) -> None:
    own, other = (seal_selfie(data_key, check_in_id, PHOTO) for check_in_id in (CHECK_IN, uuid4()))
    with pytest.raises(SealBroken):
        open_selfie(data_key, uuid4(), own.wrapped_key, own.ciphertext)
    with pytest.raises(SealBroken):
        open_selfie(data_key, CHECK_IN, own.wrapped_key, other.ciphertext)
    with pytest.raises(SealBroken):
        open_selfie(data_key, CHECK_IN, other.wrapped_key, other.ciphertext)


def test_a_row_rewritten_by_who_holds_the_selfie_s_key_only_does_not_pass_as_a_selfie(
    data_key: bytes,
) -> None:
    """The content is bound, too, not only its key."""
    sealed = seal_selfie(data_key, CHECK_IN, PHOTO)
    key = unseal(data_key, sealed.wrapped_key, "evidence-key", "selfie", str(CHECK_IN))
    with pytest.raises(SealBroken):
        open_selfie(
            data_key, CHECK_IN, sealed.wrapped_key, seal(key, PHOTO, "evidence", "selfie", str(uuid4()))
        )


def test_another_person_s_data_key_opens_nothing(data_key: bytes) -> None:
    sealed = seal_selfie(data_key, CHECK_IN, PHOTO)
    with pytest.raises(SealBroken):
        open_selfie(os.urandom(len(data_key)), CHECK_IN, sealed.wrapped_key, sealed.ciphertext)


def test_a_data_key_is_no_key_of_a_selfie(data_key: bytes) -> None:
    """Nor is a template's seal one."""
    sealed = seal_selfie(data_key, CHECK_IN, PHOTO)
    key = unseal(data_key, sealed.wrapped_key, "evidence-key", "selfie", str(CHECK_IN))
    with pytest.raises(SealBroken):
        open_selfie(data_key, CHECK_IN, seal(data_key, key, "template", "p-1", "m"), sealed.ciphertext)


# --- the directory ---


def files(folder: Path) -> dict[str, bytes]:
    assert folder.stat().st_mode & 0o077 == 0
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def test_nothing_but_ciphertext_lies_in_the_directory(folder: Path, data_key: bytes) -> None:
    sealed = await kept(directory_store(folder), seal_selfie(data_key, CHECK_IN, PHOTO))
    assert files(folder) == {sealed.address: sealed.ciphertext}


async def test_objects_outlive_the_process_that_put_them(folder: Path) -> None:
    await directory_store(folder).put("ab", b"x")
    assert await directory_store(folder).get("ab") == b"x"


async def test_an_object_is_on_disk_before_put_returns(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(
        os, "fsync", lambda handle: synced.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
    )
    await directory_store(folder).put("ab", b"x")
    assert synced == [str(folder / "ab"), str(folder)]


async def test_a_full_disk_leaves_nothing_half_written_and_is_recovered_from(folder: Path) -> None:
    store = directory_store(folder)
    await store.put("ab", b"x")
    with largest_file(4096), pytest.raises(StoreUnavailable):
        await store.put("cd", PHOTO)
    assert files(folder) == {"ab": b"x"}
    await store.put("cd", PHOTO)
    assert files(folder) == {"ab": b"x", "cd": PHOTO}


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Writing fails in the middle, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


async def test_a_full_disk_is_a_fault_until_there_is_room(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = directory_store(folder)
    monkeypatch.setattr(object_store, "TRIAL_INTERVAL_S", 0)
    with largest_file(4096):
        assert await store.fault()
    assert await store.fault() is None
    assert files(folder) == {}


async def test_the_store_is_tried_no_more_often_than_it_has_to_be(folder: Path) -> None:
    store = directory_store(folder)
    assert await store.fault() is None
    put_a_file_in_its_place(folder)
    assert await store.fault() is None


async def test_what_a_killed_writer_left_goes_with_what_is_old(folder: Path) -> None:
    store = directory_store(folder)
    await store.put("ab", b"x")
    (folder / "cd#1").write_bytes(b"half")
    assert await addresses(store, age=LATER) == set()
    assert set(files(folder)) == {"ab", "cd#1"}
    assert await addresses(store) == {"ab"}
    assert set(files(folder)) == {"ab"}


async def test_a_directory_that_cannot_be_written_is_unavailable(folder: Path) -> None:
    store = directory_store(folder)
    put_a_file_in_its_place(folder)
    for call in (store.put("ab", b"x"), store.get("ab"), store.delete("ab")):
        with pytest.raises(StoreUnavailable):
            await call
    with pytest.raises(OSError, match="evidence"):
        directory_store(folder)


def put_a_file_in_its_place(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_bytes(b"")


async def test_a_name_that_leads_out_of_the_directory_is_none(folder: Path) -> None:
    with pytest.raises(ValueError, match="keys"):
        await directory_store(folder).put("../keys", b"x")
    assert [path.name for path in folder.parent.iterdir()] == ["evidence"]


# --- the bucket ---


async def test_objects_lie_under_the_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    async with bucket_server(monkeypatch) as bucket:
        await bucket_store("s3://evidence/shenzhen").put("ab", b"x")
        assert set(bucket.objects) == {"/evidence/shenzhen/ab"}


async def test_a_bucket_that_does_not_answer_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "DEADLINE_S", 0.2)
    async with bucket_server(monkeypatch) as bucket:
        store = bucket_store("s3://evidence")
        bucket.frozen.clear()
        for call in (store.put("ab", b"x"), store.get("ab"), store.delete("ab"), addresses(store)):
            with pytest.raises(StoreUnavailable):
                await call
        bucket.frozen.set()
        await store.put("ab", b"x")


async def test_a_bucket_that_does_not_answer_is_a_fault_within_a_second_and_none_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(object_store, "TRIAL_INTERVAL_S", 0)
    async with bucket_server(monkeypatch) as bucket:
        store = bucket_store("s3://evidence")
        bucket.frozen.clear()
        assert await store.fault() == "TimeoutError"
        bucket.frozen.set()
        assert await store.fault() is None


async def test_a_bucket_that_is_not_there_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    async with bucket_server(monkeypatch):
        store = bucket_store("s3://evidence")
    with pytest.raises(StoreUnavailable):
        await store.put("ab", b"x")


def test_what_is_no_address_of_a_bucket_is_named() -> None:
    with pytest.raises(ValueError, match="s3://"):
        bucket_store("s3://")
