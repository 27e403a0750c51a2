"""Random lives of a case's tasks over HTTP, each step held against the reference model of `life_model.py`.

In `make test` a few dozen lives; CHECKIN_FAULTS=full plays a thousand.
"""

import asyncio
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine
from datetime import datetime, timedelta
from itertools import count
from typing import Any
from uuid import uuid4

import hypothesis.strategies as st
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from checkin_service.adapters.embedded import EmbeddedStores
from checkin_service.adapters.postgres.database import Database, open_database
from checkin_service.usecases.sweep import sweep
from tests.service.conftest import UNLIMITED
from tests.service.databases import Databases
from tests.service.life_model import ALL_SCOPES, DAY, Expected, Model, Submission, Task
from tests.service.reviewing import DOUBTFUL, ask, decide, queue
from tests.service.situations import breakdown, new_id, order
from tests.service.stage import (
    FAR,
    INSIDE,
    NEAR,
    Json,
    Reply,
    Stage,
    check_in_fields,
    members_digest,
    photo_of,
    place,
    registration,
    running_service,
)
from tests.service.window import (
    CLOSES_AT,
    MICROSECOND,
    NOON,
    OPENS_AT,
    PROVISIONAL_CLOSES_AT,
    PROVISIONAL_OPENS_AT,
)

LIVES = 1000 if os.environ.get("CHECKIN_FAULTS") == "full" else 60
STEPS = 25
ATTEMPTS = 3
SPRING, WINTER = NOON, PROVISIONAL_OPENS_AT
# approved_at with the closes_at that it gives, which the window's own tests establish, and whether it is provisional
SPRING_WINDOWS = [
    (OPENS_AT, CLOSES_AT, False),
    (NOON + timedelta(minutes=4), datetime.fromisoformat("2026-04-21T00:00:00+08:00"), False),
    (
        datetime.fromisoformat("2026-01-05T10:00:00+08:00"),
        datetime.fromisoformat("2026-02-06T00:00:00+08:00"),
        False,
    ),
]
WINTER_WINDOWS = [(PROVISIONAL_OPENS_AT, PROVISIONAL_CLOSES_AT, True), *SPRING_WINDOWS[:1]]
PLACES = {
    "home": place(),
    "elsewhere": place(fence={"type": "Circle", "coordinates": list(FAR), "radius_m": 100}),
}
WHERE = {"inside": INSIDE, "edge": NEAR, "away": FAR}
REVIEWERS = ["r-1", "r-2", "r-3"]
SCOPES = {"narrow": frozenset({"face", "location"}), "withdraw": frozenset[str]()}
COMMANDS = ["void", "suspend", "resume", "revoke", "close", "extend", "fence"]

nth = st.integers(0, 3)
person = st.integers(0, 2)


class Lives(RuleBasedStateMachine):
    """One life: up to four tasks of one case or several, and three people who are nobody else's."""

    def __init__(self, stage: Stage, database: Database, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.stage, self.database, self.loop = stage, database, loop
        self.people = [new_id("p") for _ in range(3)]
        self.bodies: dict[str, Json] = {}
        self.sent: dict[Submission, tuple[Task, Json, bytes, str, Json | None]] = {}
        self.shots = count(1)
        self.etags: dict[str, str] = {}
        self.told: dict[str, int] = defaultdict(int)

    def run(self, call: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(call)

    # --- Beginning ---

    @initialize(
        winter=st.booleans(),
        flow=st.sampled_from(["routine", "first_application"]),
        window=st.sampled_from([0, 0, 0, 1]),
        roster=st.integers(1, 3),
        ready=st.sampled_from([3, 3, 2, 0]),
    )
    def begin(self, winter: bool, flow: str, window: int, roster: int, ready: int) -> None:
        self.windows = WINTER_WINDOWS if winter else SPRING_WINDOWS
        self.model = Model(WINTER if winter else SPRING, ATTEMPTS)
        self.cursor = self.run(begin_anew(self.stage, self.database, self.model.now))
        self.register("new", flow, window, roster, of=0, days=0)
        for index in range(ready):
            self.prepare(index, "enrol")
            self.prepare(index, "consent")

    # --- Comparing ---

    def held(self, reply: Reply, expected: Expected, task: Task | None = None) -> None:
        """The answer, and everything that it left."""
        status, told = expected
        assert reply.status == status, (reply.status, reply.body, expected)
        if isinstance(told, str):
            assert reply.code == told
        else:
            assert {name: shown(reply.body, name) for name in told} == told
        self.compare(task)

    def compare(self, task: Task | None) -> None:
        """Every status and the feed; the ETag and the case of one task, or of all when none is named."""
        tasks = list(self.model.tasks.values())
        named = [task] if task in tasks else tasks
        self.run(asyncio.gather(self.statuses(), self.news(), *map(self.poll, named), *map(self.case, named)))

    async def statuses(self) -> None:
        tasks = self.model.tasks
        reply = await self.stage.platform("POST", "/v1/tasks/query", {"task_ids": list(tasks)})
        for t, status in zip(tasks.values(), reply.body["tasks"], strict=True):
            foretold = self.model.status(t)
            assert {name: status.get(name) for name in foretold} == foretold
            assert status["members_digest"] == members_digest(status)

    async def news(self) -> None:
        reply = await self.stage.platform("GET", "/v1/changes", params={"after": self.cursor})
        self.cursor, news = reply.body["next"], defaultdict(list)
        for change in reply.body["changes"]:
            news[change["task_id"]].append((change["rev"], change["type"], change["at"]))
        for task_id, t in self.model.tasks.items():
            assert news[task_id] == t.feed[self.told[task_id] :], task_id
            self.told[task_id] = len(t.feed)

    async def poll(self, t: Task) -> None:
        """With the ETag of the poll before."""
        before, etag = self.etags.get(t.task_id, '""'), self.model.etag(t)
        headers = {"If-None-Match": before}
        reply = await self.stage.platform("GET", f"/v1/tasks/{t.task_id}", headers=headers)
        assert (reply.status, reply.headers["ETag"]) == (304 if before == etag else 200, etag)
        self.etags[t.task_id] = etag

    async def case(self, t: Task) -> None:
        case = (await self.stage.platform("GET", f"/v1/cases/{t.case_id}")).body
        rounds = [(r["round"], r["task_id"], r["rectifies"], r["state"]) for r in case["rounds"]]
        assert {"rounds": sorted(rounds), "follows": case["follows"]} == self.model.case(t.case_id)

    def teardown(self) -> None:
        if hasattr(self, "model"):
            waiting = self.run(queue(self.stage))
            assert {(r["review_id"], r["state"]) for r in waiting} == self.model.queue()

    # --- The platform ---

    @precondition(lambda self: len(self.model.tasks) < 4)
    @rule(
        what=st.sampled_from(["new", "rectification", "rectification", "same_round"]),
        flow=st.sampled_from(["routine", "first_application"]),
        window=nth,
        roster=st.integers(1, 3),
        of=nth,
        days=st.integers(0, 20),
    )
    def register(self, what: str, flow: str, window: int, roster: int, of: int, days: int) -> None:
        """Another case, or another task of the case of an earlier one: after it, or in its place."""
        home = [(self.model.now, "home")]
        if what == "rectification":
            earlier, now = self.task(of), self.model.now
            facts = (earlier.round + 1, what, earlier.roster, now, end_of_day(now, days), False, home)
            self.put(Task(new_id(), earlier.case_id, *facts, rectifies=earlier.task_id))
            return
        case_id = self.task(of).case_id if what == "same_round" else new_id("SZ")
        opens_at, closes_at, provisional = self.windows[window % len(self.windows)]
        people = self.people[:roster]
        self.put(Task(new_id(), case_id, 1, flow, people, opens_at, closes_at, provisional, home))

    def put(self, t: Task) -> None:
        order = {"deadline_at": t.closes_at.isoformat(), "rectifies": t.rectifies} if t.rectifies else {}
        facts = {
            "case_id": t.case_id,
            "round": t.round,
            "flow": t.flow,
            "approved_at": t.opens_at.isoformat(),
        }
        self.bodies[t.task_id] = registration(*t.roster, **facts | order)
        self.held(self.run(self.put_body(t, self.bodies[t.task_id])), self.model.register(t), t)

    def put_body(self, t: Task, body: Json) -> Coroutine[Any, Any, Reply]:
        return self.stage.platform("PUT", f"/v1/tasks/{t.task_id}", body)

    @rule(of=nth, other=st.booleans())
    def register_again(self, of: int, other: bool) -> None:
        t = self.task(of)
        body = self.bodies[t.task_id] | ({"place": PLACES["elsewhere"]} if other else {})
        self.held(self.run(self.put_body(t, body)), (409, "task_conflict") if other else (200, {}), t)

    @rule(
        of=nth,
        name=st.sampled_from(COMMANDS),
        who=person,
        days=st.sampled_from([None, 0, 1, 3, -3]),
        where=st.sampled_from(list(PLACES)),
        tag=st.sampled_from([None, "present", "stale"]),
    )
    def command(self, of: int, name: str, who: int, days: int | None, where: str, tag: str | None) -> None:
        t, given, body, path = self.task(of), {}, {"reason": "x"}, name
        deadline_at = None if days is None else end_of_day(t.closes_at, days - 1)
        if name == "extend" or (name == "resume" and deadline_at):
            given = {"deadline_at": deadline_at or t.closes_at}
            body |= {"deadline_at": given["deadline_at"].isoformat(), "document_no": "1"}
        if name == "revoke":
            given, path = {"person": self.people[who]}, f"members/{self.people[who]}/revoke"
        if name == "fence":
            effective_at = self.model.now + DAY if days else None
            given, body = {"where": where, "effective_at": effective_at}, body | {"place": PLACES[where]}
            body |= {"effective_at": effective_at.isoformat()} if effective_at else {}
        etag = {"present": self.model.etag(t), "stale": '"stale"'}.get(tag or "")
        headers = {"If-Match": etag} if etag else {}
        expected = (412, "stale_revision") if tag == "stale" else self.model.command(t, name, **given)
        self.held(self.run(order(self.stage, t.task_id, path, body, headers=headers)), expected, t)

    # --- The person ---

    @rule(
        who=person,
        what=st.sampled_from(["enrol", "enrol", "consent", "consent", "narrow", "withdraw", "erase"]),
    )
    def prepare(self, who: int, what: str) -> None:
        person_id, scopes = self.people[who], SCOPES.get(what, ALL_SCOPES)
        reply = self.run(self.call_of(who, what))
        if what == "enrol":
            expected = self.model.enrol(person_id)
        elif what == "erase":
            expected = self.model.erase(person_id) if self.is_known(person_id) else (404, "not_found")
        else:
            expected = self.model.consent(person_id, scopes)
        self.held(reply, expected)

    def call_of(self, who: int, what: str) -> Coroutine[Any, Any, Reply]:
        person_id = self.people[who]
        if what == "enrol":
            return self.stage.enrol(person_id, photo_of(face(who)))
        if what == "erase":
            return self.stage.platform("DELETE", f"/v1/persons/{person_id}")
        if what == "withdraw":
            return self.stage.person(person_id, "DELETE", "/v1/me/consent")
        return self.stage.consent(person_id, sorted(SCOPES.get(what, ALL_SCOPES)))

    def is_known(self, person_id: str) -> bool:
        """On a roster, or seen."""
        rosters = [t.roster for t in self.model.tasks.values()]
        seen = self.model.references | set(self.model.consents)
        return person_id in seen or any(person_id in roster for roster in rosters)

    @rule(of=nth, who=person)
    def check_in_well(self, of: int, who: int) -> None:
        self.check_in(of, who, "inside", "self", broken=False)

    @rule(of=nth, who=person, shows=st.sampled_from(["attack", "twin", "copy"]))
    def check_in_doubtfully(self, of: int, who: int, shows: str) -> None:
        self.check_in(of, who, "inside", shows, broken=False)

    @rule(
        of=nth,
        who=person,
        where=st.sampled_from(["inside", "edge", "edge", "away"]),
        shows=st.sampled_from(["self", "attack", "twin", "copy", "other", "nobody"]),
        broken=st.booleans(),
    )
    def check_in(self, of: int, who: int, where: str, shows: str, broken: bool) -> None:
        t = self.task(of)
        person_id = self.people[who]
        challenge = self.stage.person(person_id, "POST", "/v1/challenges", {"task_id": t.task_id})
        reply, expected = self.run(challenge), self.model.challenge(t, person_id)
        if expected[0] != 201:
            self.held(reply, expected, t)
            return
        assert reply.status == 201, reply.body
        s = Submission(person_id, self.model.now, where=where, shows=shows)
        fields = check_in_fields(t.task_id, reply.body["challenge_id"], WHERE[where])
        self.sent[s] = (t, fields, self.photo(t, who, shows), uuid4().hex, None)
        self.send(s, broken=broken)

    def photo(self, t: Task, who: int, shows: str) -> bytes:
        twin = next((face(i) for i, p in enumerate(self.people) if p in t.roster and i != who), face(who))
        identity = {"twin": f"{face(who)}+{twin}", "other": "p-9", "nobody": "nobody"}.get(shows, face(who))
        live = DOUBTFUL if shows == "attack" else None
        return photo_of(identity, 0 if shows == "copy" else next(self.shots), live=live)

    def send(self, s: Submission, *, broken: bool = False) -> None:
        """For the first time, or again because nothing was judged."""
        t, fields, selfie, key, _ = self.sent[s]
        submission = self.stage.submit(s.person, fields, selfie, key)
        if broken:
            with breakdown(self.stage):
                reply = self.run(submission)
        else:
            reply = self.run(submission)
        if reply.status == 201:
            s.id = reply.body["check_in_id"]
            self.sent[s] = (t, fields, selfie, key, reply.body)
        self.held(reply, self.model.check_in(t, s, broken=broken), t)

    @precondition(lambda self: self.sent)
    @rule(which=st.integers(0, 20), how=st.sampled_from(["same", "same", "other_body", "other_key"]))
    def retry(self, which: int, how: str) -> None:
        s = list(self.sent)[which % len(self.sent)]
        t, fields, selfie, key, answer = self.sent[s]
        erased = s not in t.submissions
        if how == "same" and answer is None and not erased:
            self.send(s)
            return
        other = {"other_key": uuid4().hex}.get(how, key)
        body = fields | {"frame": "gcj02"} if how == "other_body" else fields
        reply = self.run(self.stage.submit(s.person, body, selfie, other))
        if erased or how == "other_key":
            self.held(reply, (409, "challenge_invalid"), t)
        elif how == "other_body":
            self.held(reply, (422, "idempotency_key_reused"), t)
        else:
            assert answer is not None
            self.held(reply, (201, answer | ({"location": None} if s.zone is None else {})), t)

    @rule(of=nth, who=person)
    def ask(self, of: int, who: int) -> None:
        t = self.task(of)
        s = Submission(self.people[who], self.model.now, method="manual")
        reply, expected = self.run(ask(self.stage, s.person, t.task_id)), self.model.ask(t, s)
        if reply.status == 201 and s in t.submissions:
            s.id = reply.body["manual_request_id"]
        self.held(reply, expected, t)

    # --- Reviewers and time ---

    @precondition(lambda self: self.reviews())
    @rule(
        which=st.integers(0, 20),
        reviewer=st.sampled_from([*REVIEWERS, "member"]),
        decision=st.sampled_from(["accept", "accept", "reject"]),
    )
    def decide(self, which: int, reviewer: str, decision: str) -> None:
        reviews = self.reviews()
        t, s = reviews[which % len(reviews)]
        sub = t.roster[0] if reviewer == "member" else reviewer
        expected = self.model.decide(t, s, sub, decision)
        self.held(self.run(decide(self.stage, s.id, decision, sub)), expected, t)

    def reviews(self) -> list[tuple[Task, Submission]]:
        """Those that are decided already come last."""
        found = [(t, s) for t in self.model.tasks.values() for s in t.submissions if s.state]
        return sorted(found, key=lambda review: review[1].state not in {"pending", "pending_second"})

    @rule(which=st.integers(0, 20), swept=st.booleans())
    def let_time_pass(self, which: int, swept: bool) -> None:
        self.model.now = self.ahead(which)
        self.run(self.stage.set_clock(self.model.now))
        if swept:
            self.run(sweep(self.database))
            self.model.sweep()
        self.compare(None)

    def ahead(self, which: int) -> datetime:
        """An instant that something depends on, or one soon."""
        now, tasks = self.model.now, self.model.tasks.values()
        around = (-MICROSECOND, timedelta(0), timedelta(minutes=10))
        instants = {t.closes_at + moved for t in tasks for moved in around} | {t.opens_at for t in tasks}
        instants |= {now + MICROSECOND, now + timedelta(hours=1), end_of_day(now, 0)}
        ahead = sorted(instant for instant in instants if instant > now)
        return ahead[which % len(ahead)]

    def task(self, index: int) -> Task:
        tasks = list(self.model.tasks.values())
        return tasks[index % len(tasks)]


def face(who: int) -> str:
    return f"p-{who + 1}"


def end_of_day(instant: datetime, days: int) -> datetime:
    """So many midnights after the next one."""
    return instant.replace(hour=0, minute=0, second=0, microsecond=0) + DAY * (days + 1)


def shown(body: Json, name: str) -> Any:
    """A field of an answer as the model foretells it: reasons by their codes, of the location the zone."""
    if name == "reasons" and all(isinstance(reason, dict) for reason in body["reasons"]):
        return [reason["code"] for reason in body["reasons"]]
    if name == "zone":
        return body["location"] and body["location"]["zone"]
    return body[name]


async def begin_anew(stage: Stage, database: Database, now: datetime) -> str:
    """What earlier lives left is voided. Returns where the feed goes on."""
    await stage.set_clock(now)
    async with database.connection() as connection:
        await connection.execute("UPDATE task SET voided_at = checkin_now() WHERE voided_at IS NULL")
        cursor = "SELECT (SELECT epoch FROM feed_epoch) || '.' || coalesce(max(seq), 0) FROM change"
        return str(await connection.fetchval(cursor))


class Played:
    """The module's service, and how lives are played on it."""

    def __init__(self, stage: Stage, database: Database, loop: asyncio.AbstractEventLoop) -> None:
        self.stage, self.database, self.loop = stage, database, loop

    def play(self, lives: int, *phases: Phase) -> None:
        run_state_machine_as_test(
            lambda: Lives(self.stage, self.database, self.loop),
            settings=settings(
                max_examples=lives,
                stateful_step_count=STEPS,
                derandomize=True,
                deadline=None,
                phases=phases or tuple(Phase),
                suppress_health_check=list(HealthCheck),
            ),
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def played(
    stores: EmbeddedStores, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Played]:
    limits = UNLIMITED | {"CHECKIN_ATTEMPTS_PER_DAY": str(ATTEMPTS)}
    url, data_dir = await databases.make(), tmp_path_factory.mktemp("lives")
    async with (
        running_service(url, stores.redis_url or "", data_dir, None, **limits) as stage,
        open_database(url, max_connections=1) as database,
    ):
        yield Played(stage, database, asyncio.get_running_loop())


def test_lives_are_as_foretold(played: Played) -> None:
    played.play(LIVES)
