"""Promise 18: keys rotate without a gap, beside people who enrol and check in at two processes.

The wrapping key, as docs/keys.md says: the new one is added, made the current one, every data key is wrapped anew, and
the old one taken out, with a rolling restart after each change. Then the issuer's key that signs tokens, without any.
"""

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from checkin_service.adapters.embedded import EmbeddedStores
from checkin_service.adapters.postgres.database import open_database
from checkin_service.adapters.postgres.key_store import SCHEMA
from checkin_service.adapters.postgres.persons import SealedTemplate
from checkin_service.adapters.sealing import KEY_BYTES
from checkin_service.adapters.token_keys import development_key_set, development_token
from checkin_service.app import open_template_keys
from checkin_service.settings import read_settings
from checkin_service.usecases import rekey as rekeying
from checkin_service.usecases.rekey import Rekeyed, rekey
from checkin_service.usecases.templates import open_all
from tests.faults.clients import BOUNDARY, form
from tests.faults.processes import ServiceProcess, processes
from tests.faults.record import Record
from tests.service.databases import Databases
from tests.service.stage import ALL_SCOPES, check_in_fields, photo_of, registration

PAUSE_S = 0.03


@dataclass(slots=True)
class Firm:
    """Persons who are enrolled and check in, one life after the other, and what they were answered. A token that is
    refused, or any other refusal, ends the test; failures of ours and lost connections are tried again."""

    session: aiohttp.ClientSession
    bases: list[str]
    data_dir: Path
    accepted: list[str] = field(default_factory=list)
    again: int = 0
    _number: Any = field(default_factory=count)
    _turn: Any = field(default_factory=count)

    async def live(self) -> None:
        """One person from the registration to the acceptance."""
        number = next(self._number)
        person_id, task_id = f"p-{number}", f"T{number}"
        await self.call("PUT", f"/v1/tasks/{task_id}", "tasks", json=registration(person_id))
        photo = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        body = form({}, photo_of(person_id)).replace(b'name="selfie"', b'name="photo"')
        await self.call("PUT", f"/v1/persons/{person_id}/reference", "tasks", data=body, headers=photo)
        notice = await self.call("GET", "/v1/consent-notice", "checkin", person_id)
        consent = {"notice_version": notice["notice_version"], "scopes": ALL_SCOPES}
        await self.call("PUT", "/v1/me/consent", "checkin", person_id, json=consent)
        told = await self.check_in(person_id, task_id, 1)
        assert told["outcome"] == "accepted", told
        self.accepted.append(person_id)

    async def check_in(self, person_id: str, task_id: str, shot: int) -> dict[str, Any]:
        asked = {"task_id": task_id}
        challenge = await self.call("POST", "/v1/challenges", "checkin", person_id, json=asked)
        fields = check_in_fields(task_id, challenge["challenge_id"])
        headers = {
            "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
            "Idempotency-Key": challenge["challenge_id"],
        }
        body = form(fields, photo_of(person_id, shot))
        return await self.call("POST", "/v1/check-ins", "checkin", person_id, data=body, headers=headers)

    async def call(
        self, method: str, path: str, scope: str, sub: str = "platform", token: str = "", **options: Any
    ) -> dict[str, Any]:
        """The answer. Raises `AssertionError` for one that is neither good nor a failure of ours."""
        token = token or development_token(self.data_dir, sub, scope, 15)
        headers = {"Authorization": f"Bearer {token}", **options.pop("headers", {})}
        while True:
            base = self.bases[next(self._turn) % len(self.bases)]
            try:
                async with self.session.request(method, base + path, headers=headers, **options) as reply:
                    body: dict[str, Any] = await reply.json(content_type=None)
                    if reply.status < 400:
                        return body
                    busy = body["code"] == "idempotency_in_progress"
                    assert reply.status >= 500 or busy, (reply.status, body["code"])
            except (aiohttp.ClientError, ConnectionError):
                pass
            self.again += 1
            await asyncio.sleep(PAUSE_S)


@dataclass(frozen=True, slots=True)
class Site:
    """Two processes with the files that they share."""

    pair: list[ServiceProcess]
    data_dir: Path
    database_url: str

    async def roll(self) -> None:
        """Restarts one after the other."""
        for process in self.pair:
            await process.stop()
            process.start()
            await process.ready()

    @property
    def key_file(self) -> Path:
        return self.data_dir / "keys" / "wrapping-keys.json"

    def edit_keys(self, change: Callable[[dict[str, Any]], None]) -> None:
        content = json.loads(self.key_file.read_text())
        change(content)
        draft = self.key_file.with_suffix(".draft")
        draft.write_text(json.dumps(content))
        draft.rename(self.key_file)

    def add_key(self, key_id: str, algorithm: str) -> None:
        fresh = base64.b64encode(os.urandom(KEY_BYTES[algorithm])).decode()
        self.edit_keys(lambda content: content["keys"].update({key_id: fresh}))

    def make_current(self, key_id: str) -> str:
        """The one that was."""
        old = str(json.loads(self.key_file.read_text())["current"])
        self.edit_keys(lambda content: content.update(current=key_id))
        return old

    def take_out(self, key_id: str) -> None:
        self.edit_keys(lambda content: content["keys"].pop(key_id))

    async def rekeyed(self, cut_off_after: int | None = None) -> Rekeyed:
        """As the command does it; cut off after so many batches, if any."""
        batches = count(1)

        def tell(done: int, total: int) -> None:
            if next(batches) == cut_off_after:
                raise KeyboardInterrupt

        settings = read_settings({"CHECKIN_DATA_DIR": str(self.data_dir)})
        async with (
            open_database(self.database_url, 1) as database,
            open_template_keys(settings, self.database_url, database) as keys,
        ):
            return await rekey(keys, tell)

    async def sql(self, query: str) -> list[Any]:
        connection = await asyncpg.connect(self.database_url)
        try:
            rows: list[Any] = await connection.fetch(query)
            return rows
        finally:
            await connection.close()

    async def read_every_template(self) -> int:
        """How many there are. Raises `SealBroken` for one that does not open, `KeyError` for one without its key."""
        rows = await self.sql(
            "SELECT person_id, key_id, photo, model_id, sealed FROM person JOIN reference USING (person_id) "
            "JOIN template ON template.reference_id = reference.reference_id"
        )
        settings = read_settings({"CHECKIN_DATA_DIR": str(self.data_dir)})
        async with (
            open_database(self.database_url, 1) as database,
            open_template_keys(settings, self.database_url, database) as keys,
        ):
            plain = await keys.find_all({row["key_id"] for row in rows})
        for row in rows:
            template = SealedTemplate(row["photo"], row["model_id"], row["sealed"])
            open_all(plain[row["key_id"]], row["person_id"], [template], {row["model_id"]})
        return len(rows)


@asynccontextmanager
async def site(stores: EmbeddedStores, url: str, folder: Path) -> AsyncIterator[tuple[Site, Firm]]:
    data_dir = folder / "data"
    async with (
        processes(2, folder, url, stores.redis_url or "", data_dir) as pair,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        yield Site(pair, data_dir, url), Firm(session, [process.base for process in pair], data_dir)


@asynccontextmanager
async def under_load(firm: Firm, persons: int) -> AsyncIterator[None]:
    """So many lives at any time, until the block ends."""
    ended = asyncio.Event()

    async def live_on() -> None:
        while not ended.is_set():
            await firm.live()

    async with asyncio.TaskGroup() as lives:
        for _ in range(persons):
            lives.create_task(live_on())
        yield
        ended.set()


async def some_more(firm: Firm, number: int) -> None:
    """Waits until so many more were accepted."""
    wanted = len(firm.accepted) + number
    async with asyncio.timeout(60):
        while len(firm.accepted) < wanted:  # noqa: ASYNC110  lives go on by themselves
            await asyncio.sleep(PAUSE_S)


# --- The promise ---


async def test_wrapping_keys_rotate_under_load(
    stores: EmbeddedStores,
    databases: Databases,
    tmp_path: Path,
    full: bool,
    record: Record,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rekeying, "BATCH", 5)
    rotations, again = [("key-2", "SM4-GCM"), ("key-3", "AES-256-GCM")] if full else [("key-2", "SM4-GCM")], 0
    async with site(stores, await databases.make(), tmp_path) as (rotated, firm):
        async with under_load(firm, 8 if full else 1):
            await some_more(firm, 200 if full else 8)
            for key_id, algorithm in rotations:
                again += await rotate(rotated, firm, key_id, algorithm)
        read = await rotated.read_every_template()
        # whoever was enrolled under the first key is judged under the last
        await firm.call("PUT", "/v1/tasks/late", "tasks", json=registration(firm.accepted[0]))
        assert (await firm.check_in(firm.accepted[0], "late", 2))["outcome"] == "accepted"
        [row] = await rotated.sql(f"SELECT count(*) FROM {SCHEMA}.data_key")
        assert row[0] == len(firm.accepted)
    assert read > 0
    record.kept(
        f"{len(rotations)} wrapping keys replaced under load, {again} data keys wrapped anew, {len(firm.accepted)} "
        f"persons enrolled and accepted, {firm.again} calls tried again, 0 refused, {read} templates read in the end"
    )


async def rotate(rotated: Site, firm: Firm, key_id: str, algorithm: str) -> int:
    """The four steps of docs/keys.md; how many data keys were wrapped anew."""
    rotated.add_key(key_id, algorithm)
    await rotated.roll()
    old = rotated.make_current(key_id)
    await rotated.roll()
    with pytest.raises(KeyboardInterrupt):
        await rotated.rekeyed(cut_off_after=1)
    told = await rotated.rekeyed()
    assert (told.retired, told.needed) == ([old], {})
    rotated.take_out(old)
    await rotated.roll()
    await some_more(firm, 5)
    [row] = await rotated.sql(f"SELECT count(*) FROM {SCHEMA}.data_key WHERE wrapping_key_id <> '{key_id}'")
    assert row[0] == 0
    return told.done + rekeying.BATCH


async def test_control_an_old_key_taken_out_before_its_time_stops_the_start(
    stores: EmbeddedStores, databases: Databases, tmp_path: Path, record: Record
) -> None:
    async with site(stores, await databases.make(), tmp_path) as (rotated, firm):
        await firm.live()
        rotated.add_key("key-2", "AES-256-GCM")
        rotated.take_out(rotated.make_current("key-2"))
        first = rotated.pair[0]
        await first.stop()
        first.start()
        with pytest.raises(RuntimeError, match="CHECKIN_KEY_FILE"):
            await first.ready()
    record.control("the old wrapping key taken out before rekey: no start")


# --- Keys that sign tokens ---


async def test_keys_that_sign_tokens_rotate_under_load(
    stores: EmbeddedStores, databases: Databases, tmp_path: Path, full: bool, record: Record
) -> None:
    """The issuer publishes the new key beside the old one and signs with it at once; later it withdraws the old one."""
    async with (
        site(stores, await databases.make(), tmp_path) as (rotated, firm),
        under_load(firm, 8 if full else 3),
    ):
        await some_more(firm, 100 if full else 5)
        rotations = 10 if full else 2
        for _ in range(rotations):
            old = development_token(rotated.data_dir, "platform", "tasks", 15)
            publish_and_sign_with_another(rotated.data_dir)
            await made_up_tokens(firm)
            await some_more(firm, 5)
            # a token of the old key serves as long as that is published
            await firm.call("GET", "/v1/changes", "tasks", token=old)
    record.kept(f"{rotations} signing keys replaced under load, 0 valid tokens refused")


async def made_up_tokens(firm: Firm) -> None:
    """Which make every process look at the key set, and must not keep it from looking again."""
    other = firm.data_dir / "made-up"
    development_key_set(other)
    headers = {"Authorization": f"Bearer {development_token(other, 'platform', 'tasks', 15)}"}
    for base in firm.bases:
        async with firm.session.get(f"{base}/v1/changes", headers=headers) as reply:
            assert reply.status == 401


def publish_and_sign_with_another(data_dir: Path) -> None:
    key_set = data_dir / "keys" / "development-jwks.json"
    old = json.loads(key_set.read_text())["keys"]
    (data_dir / "keys" / "development-key.pem").unlink()
    new = json.loads(development_key_set(data_dir).read_text())["keys"]
    key_set.write_text(json.dumps({"keys": [*old, *new]}))


async def test_control_a_key_withdrawn_at_once_refuses_valid_tokens(
    stores: EmbeddedStores, databases: Databases, tmp_path: Path, record: Record
) -> None:
    async with site(stores, await databases.make(), tmp_path) as (rotated, firm):
        old = development_token(rotated.data_dir, "platform", "tasks", 15)
        (rotated.data_dir / "keys" / "development-key.pem").unlink()
        development_key_set(rotated.data_dir)
        for _ in firm.bases:
            await firm.call("GET", "/v1/changes", "tasks")
        with pytest.raises(AssertionError, match="unauthenticated"):
            await firm.call("GET", "/v1/changes", "tasks", token=old)
    record.control("the old signing key withdrawn at once: a valid token refused")
