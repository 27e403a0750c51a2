"""Ciphers by their known answers, wrapping keys and where they lie, and data keys that are wrapped anew."""

import base64
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from checkin_service.adapters.key_file import KeyFileError
from checkin_service.adapters.postgres.database import DatabaseSetupError
from checkin_service.adapters.postgres.key_store import Deletion
from checkin_service.adapters.sealing import KEY_BYTES, SealBroken, Sm4Gcm, new_key, seal, unseal
from checkin_service.adapters.template_keys import TemplateKeys
from checkin_service.adapters.wrapping_keys import LocalKeys, load_wrapping_keys
from checkin_service.ports import KeysUnavailable, WrappedKey, WrappingKeys
from checkin_service.usecases import rekey as rekeying
from checkin_service.usecases.rekey import rekey
from tests.service.stage import Stage, check_in_fields, photo_of

AES, SM4 = KEY_BYTES["AES-256-GCM"], KEY_BYTES["SM4-GCM"]

# --- Ciphers ---


def test_sm4_gcm_is_that_of_rfc_8998() -> None:
    """Appendix A.1."""
    key = bytes.fromhex("0123456789abcdeffedcba9876543210")
    nonce, bound = (
        bytes.fromhex("00001234567800000000abcd"),
        bytes.fromhex("feedfacedeadbeef" * 2 + "abaddad2"),
    )
    plain = bytes.fromhex("".join(pair * 8 for pair in ("aa", "bb", "cc", "dd", "ee", "ff", "ee", "aa")))
    sealed = bytes.fromhex(
        "17f399f08c67d5ee19d0dc9969c4bb7d5fd46fd3756489069157b282bb200735"
        "d82710ca5c22f0ccfa7cbf93d496ac15a56834cbcf98c397b4024a2691233b8d"
        "83de3541e4c2b58177e065a9bf7b62ec"
    )
    assert Sm4Gcm(key).encrypt(nonce, plain, bound) == sealed
    assert Sm4Gcm(key).decrypt(nonce, sealed, bound) == plain
    for wrong in (sealed[:-1] + b"x", sealed[:-1], sealed[:15], b""):
        with pytest.raises(InvalidTag):
            Sm4Gcm(key).decrypt(nonce, wrong, bound)


def test_aes_256_gcm_is_that_of_its_authors() -> None:
    """McGrew and Viega, test case 15."""
    key, nonce = (
        bytes.fromhex("feffe9928665731c6d6a8f9467308308" * 2),
        bytes.fromhex("cafebabefacedbaddecaf888"),
    )
    plain = bytes.fromhex(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
        "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255"
    )
    assert AESGCM(key).encrypt(nonce, plain, None).hex() == (
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
        "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad"
        "b094dac5d93471bdec1a502270e3cc6c"
    )


@pytest.mark.parametrize("length", [AES, SM4])
def test_a_seal_holds_for_its_key_and_binding_only(length: int) -> None:
    key = new_key(length)
    sealed = seal(key, b"plain", "kind", "p-1")
    assert unseal(key, sealed, "kind", "p-1") == b"plain"
    assert seal(key, b"plain", "kind", "p-1") != sealed
    for wrong in (
        (new_key(length), sealed, "kind", "p-1"),
        (key, sealed, "kind", "p-2"),
        (key, b"", "kind", "p-1"),
    ):
        with pytest.raises(SealBroken):
            unseal(*wrong)


# --- Where wrapping keys lie ---


def text(length: int) -> str:
    return base64.b64encode(new_key(length)).decode()


def test_the_directory_of_a_mounted_secret_says_what_a_file_says(tmp_path: Path) -> None:
    first, second, pseudonym_key = text(AES), text(SM4), text(AES)
    (tmp_path / "keys.json").write_text(
        json.dumps({"current": "a", "keys": {"a": first, "b": second}, "pseudonym_key": pseudonym_key})
    )
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    contents = {
        "current": "a\n",
        "key.a": first + "\n",
        "key.b": second,
        "pseudonym_key": pseudonym_key,
        "..data": "x",
    }
    for name, content in contents.items():
        (mounted / name).write_text(content)
    found = load_wrapping_keys(mounted, may_create=False)
    assert found == load_wrapping_keys(tmp_path / "keys.json", may_create=False)
    assert (sorted(found[0].key_ids), found[0].key_bytes) == (["a", "b"], AES)


@pytest.mark.parametrize("missing", ["current", "pseudonym_key", "key.a"])
def test_a_directory_that_lacks_something_is_named(tmp_path: Path, missing: str) -> None:
    for name, content in {"current": "a", "key.a": text(AES), "pseudonym_key": text(AES)}.items():
        if name != missing:
            (tmp_path / name).write_text(content)
    with pytest.raises(KeyFileError, match=str(tmp_path)):
        load_wrapping_keys(tmp_path, may_create=False)


@pytest.mark.parametrize("key", ["", "AAAA", "no base64!", base64.b64encode(bytes(24)).decode()])
def test_a_key_of_another_length_is_refused(tmp_path: Path, key: str) -> None:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"current": "a", "keys": {"a": key}, "pseudonym_key": text(AES)}))
    with pytest.raises(KeyFileError):
        load_wrapping_keys(file, may_create=False)


# --- Data keys ---


@pytest.fixture
async def keys(stage: Stage) -> AsyncIterator[TemplateKeys]:
    async with stage.keys() as opened:
        yield opened


def with_another(keys: TemplateKeys, key_id: str, length: int) -> TemplateKeys:
    """As after a restart with one more wrapping key, which is current."""
    assert isinstance(keys.wrapping, LocalKeys)
    return replace(keys, wrapping=LocalKeys(key_id, {**keys.wrapping.keys, key_id: new_key(length)}))


async def adopted(stage: Stage, key_id: str) -> None:
    await stage.sql("INSERT INTO key_store.wrapping_key (wrapping_key_id) VALUES ($1)", key_id)


async def made(keys: TemplateKeys, number: int) -> dict[UUID, bytes]:
    return {key_id: await keys.make(key_id) for key_id in (uuid4() for _ in range(number))}


async def test_a_key_is_made_once_and_never_after_its_deletion(keys: TemplateKeys) -> None:
    key_id = uuid4()
    assert await keys.find(key_id) is None
    assert await keys.make(key_id) == await keys.make(key_id) == await keys.find(key_id)
    await keys.delete(key_id, Deletion.WITHDRAWN)
    await keys.delete(key_id, Deletion.ERASED)
    await keys.delete(key_id, Deletion.FORGOTTEN)
    assert await keys.find(key_id) is None
    with pytest.raises(KeysUnavailable):
        await keys.make(key_id)
    assert [(d.key_id, d.deletion) for d in await keys.deletions(None, None, 9)] == [
        (key_id, Deletion.ERASED)
    ]


async def test_rekey_can_be_cut_off_and_run_again_and_says_what_may_go(
    stage: Stage, keys: TemplateKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rekeying, "BATCH", 3)
    plain, old = await made(keys, 10), keys.wrapping.current
    await adopted(stage, "next")
    both = with_another(keys, "next", SM4)
    plain |= await made(both, 1)

    def cut_off(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await rekey(both, cut_off)
    told: list[tuple[int, int]] = []
    after = await rekey(both, lambda done, total: told.append((done, total)))
    assert told == [(3, 7), (6, 7), (7, 7)]
    assert (after.current, after.done, after.retired, after.needed) == ("next", 7, [old], {})
    only = replace(both, wrapping=LocalKeys("next", {"next": both.wrapping.keys["next"]}))  # type: ignore[attr-defined]
    assert await only.find_all(plain) == plain
    assert {len(key) for key in plain.values()} == {AES, SM4}
    assert (await rekey(only, cut_off)).done == 0


async def test_a_key_that_does_not_open_keeps_its_wrapping_key(stage: Stage, keys: TemplateKeys) -> None:
    old, [broken, _] = keys.wrapping.current, await made(keys, 2)
    await stage.sql("UPDATE key_store.data_key SET wrapped_key = 'x' WHERE key_id = $1", broken)
    await adopted(stage, "next")
    after = await rekey(with_another(keys, "next", AES), lambda done, total: None)
    assert (after.done, after.retired, after.needed) == (1, [], {old: 1})


async def test_what_is_deleted_while_it_is_wrapped_anew_stays_deleted(
    stage: Stage, keys: TemplateKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    [key_id] = await made(keys, 1)
    await adopted(stage, "next")
    wrapped_anew = rekeying._wrapped_anew

    async def slowly(wrapping: WrappingKeys, page: Mapping[UUID, WrappedKey]) -> Mapping[UUID, WrappedKey]:
        await keys.delete(key_id, Deletion.ERASED)
        return await wrapped_anew(wrapping, page)

    monkeypatch.setattr(rekeying, "_wrapped_anew", slowly)
    await rekey(with_another(keys, "next", AES), lambda done, total: None)
    assert await keys.find(key_id) is None


async def test_a_replica_that_was_not_restarted_makes_no_key_under_a_retired_one(
    stage: Stage, keys: TemplateKeys
) -> None:
    await adopted(stage, "next")
    assert (await rekey(with_another(keys, "next", AES), lambda done, total: None)).retired
    with pytest.raises(KeysUnavailable):
        await keys.make(uuid4())
    assert (await stage.enrol("p-1")).status == 503


# --- A key service that is away ---


@dataclass(frozen=True, slots=True)
class RemoteKeys:
    """A key service, behind a network that fails."""

    behind: WrappingKeys

    @property
    def current(self) -> str:
        return self.behind.current

    @property
    def key_ids(self) -> list[str]:
        return list(self.behind.key_ids)

    @property
    def key_bytes(self) -> int:
        return self.behind.key_bytes

    async def wrap(self, owner: str, data_key: bytes) -> WrappedKey:
        raise KeysUnavailable("away")

    async def unwrap(self, wrapped: Mapping[str, WrappedKey]) -> Mapping[str, bytes]:
        if wrapped:
            raise KeysUnavailable("away")
        return {}


async def test_a_key_service_that_is_away_is_our_failure_and_costs_nobody_an_attempt(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.ready_task("T1", "p-1")
    fields, selfie = check_in_fields("T1", await stage.challenge("p-1", "T1")), photo_of("p-1", 5)
    opened = TemplateKeys._open

    async def away(keys: TemplateKeys, wrapped: Mapping[UUID, WrappedKey]) -> Mapping[UUID, bytes]:
        return await opened(replace(keys, wrapping=RemoteKeys(keys.wrapping)), wrapped)

    with monkeypatch.context() as patch:
        patch.setattr(TemplateKeys, "_open", away)
        refused = await stage.submit("p-1", fields, selfie, "k")
        assert (refused.status, refused.code) == (503, "unavailable")
        assert "Retry-After" in refused.headers
    assert (await stage.sql("SELECT count(*) FROM attempt"))[0][0] == 0
    assert (await stage.submit("p-1", fields, selfie, "k")).body["outcome"] == "accepted"


async def test_without_its_key_the_start_is_refused_by_name(stage: Stage, keys: TemplateKeys) -> None:
    await adopted(stage, "somebody-elses")
    with pytest.raises(DatabaseSetupError, match="somebody-elses"):
        async with stage.keys():
            pass
