"""The whole story on real faces, through the HTTP API of a service of its own: `make demo`.

The photographs come from installed packages and are in the public domain. Each refused or accepted check-in is
followed by what the main platform sees.
"""

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import aiohttp

from tests import portraits
from tests.service.own_process import OwnProcess, served
from tests.service.stage import FAR, INSIDE, check_in_fields, registration

Json = dict[str, Any]
LEAD, ENGINEER = "p-hopper", "p-collins"


class Story:
    """Calls the API as platform and as persons, and tells what happened."""

    def __init__(self, session: aiohttp.ClientSession, own: OwnProcess) -> None:
        self._session, self._own = session, own
        self._tokens: dict[tuple[str, str], str] = {}
        self.failures: list[str] = []

    # --- calling ---

    async def call(self, method: str, path: str, sub: str, scope: str, **options: Any) -> Json:
        token = await self._token(sub, scope)
        headers = {"Authorization": f"Bearer {token}", "Accept-Language": "en", **options.pop("headers", {})}
        async with self._session.request(method, self._own.base + path, headers=headers, **options) as answer:
            body: Json = await answer.json()
            if answer.status >= 400:
                raise SystemExit(
                    f"{method} {path} answered {answer.status}: {json.dumps(body, ensure_ascii=False)}"
                )
            return body

    async def _token(self, sub: str, scope: str) -> str:
        if (sub, scope) not in self._tokens:
            command = (sys.executable, "-m", "checkin_service", "token", "--sub", sub, "--scope", scope)
            process = await asyncio.create_subprocess_exec(
                *command, stdout=asyncio.subprocess.PIPE, env=self._own.environment
            )
            output, _ = await process.communicate()
            self._tokens[sub, scope] = output.decode().strip()
        return self._tokens[sub, scope]

    async def platform(self, method: str, path: str, **options: Any) -> Json:
        return await self.call(method, path, "platform", "tasks", **options)

    # --- the steps ---

    async def register(self, task_id: str, approved_at: datetime, *person_ids: str) -> None:
        body = registration(*person_ids, case_id=task_id, approved_at=approved_at.isoformat())
        status = await self.platform("PUT", f"/v1/tasks/{task_id}", json=body)
        say(f"The platform registers {task_id}: open until {status['closes_at']}")

    async def enrol(self, person_id: str, photo: bytes) -> None:
        form = aiohttp.FormData()
        form.add_field("photo", photo, filename="reference.jpg", content_type="image/jpeg")
        answer = await self.platform("PUT", f"/v1/persons/{person_id}/reference", data=form)
        say(f"The platform enrols {person_id} (engine {answer['engine']})")

    async def consent(self, person_id: str) -> None:
        notice = await self.call("GET", "/v1/consent-notice", person_id, "checkin")
        body = {"notice_version": notice["notice_version"], "scopes": notice["scopes"]}
        await self.call("PUT", "/v1/me/consent", person_id, "checkin", json=body)
        say(f"{person_id} reads notice {notice['notice_version']} and consents")

    async def check_in(
        self, what: str, expected: str, task_id: str, person_id: str, at: tuple[float, float], selfie: bytes
    ) -> None:
        opened = await self.call("POST", "/v1/challenges", person_id, "checkin", json={"task_id": task_id})
        form = _form(task_id, opened["challenge_id"], at, selfie)
        headers = {"Idempotency-Key": uuid4().hex}
        answer = await self.call("POST", "/v1/check-ins", person_id, "checkin", data=form, headers=headers)
        self._judge(what, expected, answer)
        await self.platform_view(task_id)

    def _judge(self, what: str, expected: str, answer: Json) -> None:
        got = ", ".join(reason["code"] for reason in answer["reasons"]) or answer["outcome"]
        as_expected = got == expected
        say(
            f"{'ok' if as_expected else 'UNEXPECTED'}  {what}: {answer['outcome']}",
            got if answer["reasons"] else "",
        )
        for reason in answer["reasons"]:
            print(f"      “{reason['message']} {reason['advice']}”")
        if not as_expected:
            self.failures.append(f"{what}: expected {expected}, got {got}")

    async def platform_view(self, task_id: str) -> None:
        status = await self.platform("GET", f"/v1/tasks/{task_id}")
        members = ", ".join(f"{m['person_id']} {m['state']}" for m in status["members"])
        progress = status["progress"]
        done = f"{progress['accepted']}/{progress['total']}"
        print(f"      the platform sees: {status['state']}, {done} accepted (rev {status['rev']}; {members})")

    async def feed(self) -> None:
        page = await self.platform("GET", "/v1/changes")
        say("The change feed, as the platform polls it:")
        for change in page["changes"]:
            print(f"      {change['seq']:>3}  {change['task_id']:<12} rev {change['rev']}  {change['type']}")


async def tell(own: OwnProcess) -> int:
    """Plays the story; the number of steps that did not end as they must."""
    async with aiohttp.ClientSession() as session:
        story = Story(session, own)
        now = datetime.now(UTC)
        await story.register("demo-open", now - timedelta(days=1), LEAD, ENGINEER)
        await story.register("demo-over", now - timedelta(days=75), LEAD)
        await story.enrol(LEAD, portraits.hopper())
        await story.enrol(ENGINEER, portraits.astronaut())
        for person_id in (LEAD, ENGINEER):
            await story.consent(person_id)
        await story.platform_view("demo-open")
        mine = portraits.hopper_altered()
        for what, expected, task_id, at, selfie in (
            ("Wrong place", "outside_geofence", "demo-open", FAR, mine),
            ("Wrong person", "non_match", "demo-open", INSIDE, portraits.astronaut_altered()),
            ("No face", "no_face", "demo-open", INSIDE, portraits.landscape()),
            ("After the deadline", "window_closed", "demo-over", INSIDE, mine),
            ("Right face, right place", "accepted", "demo-open", INSIDE, mine),
            ("Once more", "already_checked_in", "demo-open", INSIDE, mine),
        ):
            await story.check_in(what, expected, task_id, LEAD, at, selfie)
        await story.check_in(
            "The colleague too", "accepted", "demo-open", ENGINEER, INSIDE, portraits.astronaut_altered()
        )
        await story.feed()
        print("\n" + ("\n".join(story.failures) or "Every step ended as it must."))
        return len(story.failures)


def _form(task_id: str, challenge_id: str, at: tuple[float, float], selfie: bytes) -> aiohttp.FormData:
    form = aiohttp.FormData()
    for name, value in check_in_fields(task_id, challenge_id, at).items():
        form.add_field(name, value if isinstance(value, str) else json.dumps(value))
    form.add_field("selfie", selfie, filename="selfie.jpg", content_type="image/jpeg")
    return form


def say(text: str, emphasis: str = "") -> None:
    bold = f" \033[1m{emphasis}\033[0m" if sys.stdout.isatty() and emphasis else f" {emphasis}".rstrip()
    print(f"\n▸ {text}{bold}", flush=True)


def main() -> int:
    print("Starting a service of its own …", flush=True)
    with served() as own:
        return asyncio.run(tell(own))


if __name__ == "__main__":
    sys.exit(min(main(), 1))
