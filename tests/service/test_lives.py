"""Random lives of a case's tasks over HTTP, each step held against the reference model of `life_model.py`.

In `make test` a few dozen lives; CHECKIN_FAULTS=full plays a thousand.
"""

import asyncio
import os
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from itertools import count
from random import Random
from time import time
from typing import Any, TypeVar
from uuid import uuid4

import hypothesis.strategies as st
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from checkin_service.adapters.embedded import EmbeddedStores
from checkin_service.adapters.postgres import tasks
from checkin_service.adapters.postgres.database import Database, open_database
from checkin_service.domain import decision
from checkin_service.domain.review import ReviewDecision, ReviewState
from checkin_service.domain.task import TaskFacts, TaskState, state_at
from checkin_service.usecases import command_task, decide_review
from checkin_service.usecases.sweep import sweep
from tests.service.conftest import UNLIMITED
from tests.service.databases import Databases
from tests.service.life_model import ALL_SCOPES, DAY, OPEN, Expected, Model, Submission, Task
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

LIVES = 1000 if os.environ.get("CHECKIN_FAULTS") == "full" else 40
LENGTH = 25
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
Window = tuple[datetime, datetime, bool]
Answer = TypeVar("Answer")
SCOPES = {
    "consent": ALL_SCOPES,
    "narrow": frozenset({"face", "location"}),
    "withdraw": frozenset[str](),
}
COMMANDS = {"void": 1, "suspend": 4, "resume": 4, "revoke": 5, "close": 2, "extend": 3, "fence": 3}
PREPARATIONS = {"enrol": 3, "consent": 3, "narrow": 1, "withdraw": 2, "erase": 1}
STEPS = {
    "check_in": 26,
    "retry": 8,
    "ask": 7,
    "decide": 16,
    "command": 16,
    "prepare": 8,
    "register": 6,
    "register_again": 2,
    "let_time_pass": 11,
}


# wide enough for every course of a step, and narrow enough for Hypothesis to draw all of it alike
seeds = st.integers(0, 2**20 - 1)


def weighted(random: Random, weights: Mapping[str, int]) -> str:
    return random.choices(list(weights), list(weights.values()))[0]


@dataclass
class Sent:
    """A check-in as it was sent, to be sent again; `answer` None while nothing was judged."""

    task: Task
    fields: Json
    selfie: bytes
    key: str
    answer: Json | None = None


class Lives(RuleBasedStateMachine):
    """One life: up to four tasks of one case or several, and three people who are nobody else's.

    A step's seed says what is done and to whom, by weights: drawn evenly, most steps would come to nothing. What was
    done is noted beside the seeds of a life that differs.
    """

    stage: Stage
    database: Database
    loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        super().__init__()
        self.people = [new_id("p") for _ in range(3)]
        self.bodies: dict[str, Json] = {}
        self.sent: dict[Submission, Sent] = {}
        self.lived: Counter[int] = Counter()
        self.shots = count(1)
        self.etags: dict[str, str] = {}
        self.told: dict[str, int] = defaultdict(int)

    def run(self, call: Awaitable[Answer]) -> Answer:
        return self.loop.run_until_complete(call)

    @initialize(seed=seeds)
    def begin(self, seed: int) -> None:
        random = Random(seed)
        winter = random.random() < 0.3
        self.windows = WINTER_WINDOWS if winter else SPRING_WINDOWS
        self.model = Model(WINTER if winter else SPRING, ATTEMPTS)
        self.cursor = self.run(begin_anew(self.stage, self.database, self.model.now))
        self.register(random, "new", self.windows[0])
        for who in range(random.choice([0, 2, 3, 3])):
            self.enrol_and_consent(who)

    @rule(seed=seeds)
    def live(self, seed: int) -> None:
        # Hypothesis likes to draw one seed again
        self.lived[seed] += 1
        random = Random(f"{seed} {self.lived[seed]}")
        getattr(self, weighted(random, STEPS))(random)

    def enrol_and_consent(self, who: int) -> None:
        for what in ("enrol", "consent"):
            self.prepared(who, what)

    # --- Comparing ---

    def held(self, reply: Reply, expected: Expected) -> None:
        """The answer, and everything that it left."""
        status, told = expected
        assert reply.status == status, (reply.status, reply.body, expected)
        if isinstance(told, str):
            assert reply.code == told
        else:
            assert {name: shown(reply.body, name) for name in told} == told
        self.compare()

    def compare(self) -> None:
        """Every status and the feed; and where a state or a revision has moved, poll and case."""
        self.run(asyncio.gather(self.statuses(), self.news(), *map(self.poll, self.moved())))

    def moved(self) -> list[Task]:
        tasks = self.model.tasks.values()
        return [t for t in tasks if self.etags.get(t.task_id) != self.model.etag(t)]

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
        case = (await self.stage.platform("GET", f"/v1/cases/{t.case_id}")).body
        rounds = [(r["round"], r["task_id"], r["rectifies"], r["state"]) for r in case["rounds"]]
        assert {"rounds": sorted(rounds), "follows": case["follows"]} == self.model.case(t.case_id)

    def teardown(self) -> None:
        if hasattr(self, "model"):
            self.run(asyncio.gather(*map(self.poll, self.model.tasks.values())))
            waiting = self.run(queue(self.stage))
            assert {(r["review_id"], r["state"]) for r in waiting} == self.model.queue()

    # --- The platform ---

    def register(self, random: Random, what: str | None = None, window: Window | None = None) -> None:
        """Another case, or another task of the case of an earlier one: after it, or in its place."""
        if len(self.model.tasks) == 4:
            return
        home = [(self.model.now, "home")]
        what = what or random.choice(["new", "new", "rectification", "rectification", "same_round"])
        if what == "rectification":
            earlier, now = self.task(random), self.model.now
            facts = (
                earlier.round + 1,
                what,
                earlier.roster,
                now,
                end_of_day(now, random.randint(0, 9)),
                False,
                home,
            )
            self.put(Task(new_id(), earlier.case_id, *facts, rectifies=earlier.task_id))
            return
        case_id = self.task(random).case_id if what == "same_round" else new_id("SZ")
        flow, people = random.choice(["routine", "first_application"]), self.people[: random.randint(1, 3)]
        self.put(Task(new_id(), case_id, 1, flow, people, *(window or random.choice(self.windows)), home))

    def put(self, t: Task) -> None:
        note(f"register {t.flow} {t.case_id} {t.round} {t.roster}")
        order = {"deadline_at": t.closes_at.isoformat(), "rectifies": t.rectifies} if t.rectifies else {}
        facts = {
            "case_id": t.case_id,
            "round": t.round,
            "flow": t.flow,
            "approved_at": t.opens_at.isoformat(),
        }
        self.bodies[t.task_id] = registration(*t.roster, **facts | order)
        self.held(self.run(self.put_body(t, self.bodies[t.task_id])), self.model.register(t))

    def put_body(self, t: Task, body: Json) -> Awaitable[Reply]:
        return self.stage.platform("PUT", f"/v1/tasks/{t.task_id}", body)

    def register_again(self, random: Random) -> None:
        t, other = self.task(random), random.random() < 0.3
        note(f"register {t.task_id} again, {other=}")
        body = self.bodies[t.task_id] | ({"place": PLACES["elsewhere"]} if other else {})
        self.held(self.run(self.put_body(t, body)), (409, "task_conflict") if other else (200, {}))

    def command(self, random: Random) -> None:
        t = self.task(random)
        name = "resume" if t.suspended() and random.random() < 0.5 else weighted(random, COMMANDS)
        given = self.given(random, t, name)
        path = f"members/{given['person']}/revoke" if name == "revoke" else name
        tag = random.choice([None] * 8 + [self.model.etag(t), '"stale"'])
        note(f"{name} {t.task_id} {given} If-Match {tag}")
        expected = (412, "stale_revision") if tag == '"stale"' else self.model.command(t, name, **given)
        headers = {"If-Match": tag} if tag else {}
        reply = self.run(order(self.stage, t.task_id, path, body_of(given), headers=headers))
        self.held(reply, expected)

    def given(self, random: Random, t: Task, name: str) -> dict[str, Any]:
        """What a command is given beside its reason."""
        deadline_at = end_of_day(t.closes_at, random.choice([-1, 0, 2, 2, 9, -4]))
        if name == "extend" or (name == "resume" and random.random() < 0.5):
            return {"deadline_at": deadline_at}
        if name == "revoke":
            return {"person": random.choice([*t.roster, *t.accepted, *t.accepted, *self.people])}
        if name == "fence":
            later = random.choice([None, None, self.model.now + DAY])
            return {"where": random.choice(list(PLACES)), "effective_at": later}
        return {}

    # --- The person ---

    def prepare(self, random: Random) -> None:
        self.prepared(random.randrange(3), weighted(random, PREPARATIONS))

    def prepared(self, who: int, what: str) -> None:
        person_id, model = self.people[who], self.model
        note(f"{what} {person_id}")
        reply = self.run(self.call_of(who, what))
        if what == "enrol":
            expected = model.enrol(person_id)
        elif what == "erase":
            expected = model.erase(person_id) if self.is_known(person_id) else (404, "not_found")
        else:
            expected = model.consent(person_id, SCOPES[what])
        self.held(reply, expected)

    def call_of(self, who: int, what: str) -> Awaitable[Reply]:
        person_id = self.people[who]
        if what == "enrol":
            return self.stage.enrol(person_id, photo_of(face(who)))
        if what == "erase":
            return self.stage.platform("DELETE", f"/v1/persons/{person_id}")
        if what == "withdraw":
            return self.stage.person(person_id, "DELETE", "/v1/me/consent")
        return self.stage.consent(person_id, sorted(SCOPES[what]))

    def is_known(self, person_id: str) -> bool:
        """On a roster, or seen."""
        rosters = [t.roster for t in self.model.tasks.values()]
        seen = self.model.references | set(self.model.consents)
        return person_id in seen or any(person_id in roster for roster in rosters)

    def check_in(self, random: Random) -> None:
        t, how = self.task(random), random.choice(["well", "well", "doubtfully", "doubtfully", "somehow"])
        who = self.people.index(random.choice([*t.roster] * 6 + self.people))
        doubtful, anything = ["attack", "twin", "copy"], ["self", "attack", "other", "nobody"]
        shows = random.choice({"well": ["self"], "doubtfully": doubtful}.get(how, anything))
        where = random.choice(
            ["inside", "edge", "edge", "away"] if how == "somehow" else [t.fence_at(self.model.now)]
        )
        where = {"home": "inside", "elsewhere": "away"}.get(where, where)
        self.answer_challenge(t, who, where, shows, broken=random.random() < 0.15)

    def answer_challenge(self, t: Task, who: int, where: str, shows: str, *, broken: bool) -> None:
        person_id = self.people[who]
        note(f"check in {person_id} {t.task_id} {where} {shows} {broken=}")
        challenge = self.stage.person(person_id, "POST", "/v1/challenges", {"task_id": t.task_id})
        reply, expected = self.run(challenge), self.model.challenge(t, person_id)
        if expected[0] != 201:
            self.held(reply, expected)
            return
        assert reply.status == 201, reply.body
        s = Submission(person_id, self.model.now, where=where, shows=shows)
        fields = check_in_fields(t.task_id, reply.body["challenge_id"], WHERE[where])
        self.sent[s] = Sent(t, fields, self.photo(t, who, shows), uuid4().hex)
        self.send(s, broken=broken)

    def photo(self, t: Task, who: int, shows: str) -> bytes:
        twin = next((face(i) for i, p in enumerate(self.people) if p in t.roster and i != who), face(who))
        identity = {"twin": f"{face(who)}+{twin}", "other": "p-9", "nobody": "nobody"}.get(shows, face(who))
        live = DOUBTFUL if shows == "attack" else None
        return photo_of(identity, 0 if shows == "copy" else next(self.shots), live=live)

    def send(self, s: Submission, *, broken: bool = False) -> None:
        """For the first time, or again because nothing was judged."""
        sent = self.sent[s]
        with breakdown(self.stage) if broken else nullcontext():
            reply = self.run(self.stage.submit(s.person, sent.fields, sent.selfie, sent.key))
        if reply.status == 201:
            s.id, sent.answer = reply.body["check_in_id"], reply.body
        self.held(reply, self.model.check_in(sent.task, s, broken=broken))

    def retry(self, random: Random) -> None:
        if not self.sent:
            return
        unjudged = [s for s, sent in self.sent.items() if sent.answer is None]
        s, how = (
            random.choice([*self.sent, *unjudged]),
            random.choice(["same", "same", "other_body", "other_key"]),
        )
        sent = self.sent[s]
        erased = s not in sent.task.submissions
        note(f"retry {s.person} {sent.task.task_id} {how} {erased=} {s.id}")
        if how == "same" and sent.answer is None and not erased:
            self.send(s)
            return
        key = uuid4().hex if how == "other_key" else sent.key
        body = sent.fields | ({"frame": "gcj02"} if how == "other_body" else {})
        reply = self.run(self.stage.submit(s.person, body, sent.selfie, key))
        if erased or how == "other_key":
            self.held(reply, (409, "challenge_invalid"))
        elif how == "other_body":
            self.held(reply, (422, "idempotency_key_reused"))
        else:
            # an erasure takes the position out of what was answered
            assert sent.answer is not None
            assert reply.body == sent.answer | ({} if s.zone else {"location": None})
            self.held(reply, (201, {}))

    def ask(self, random: Random) -> None:
        t = self.task(random)
        s = Submission(random.choice([*t.roster] * 6 + self.people), self.model.now, method="manual")
        note(f"ask {s.person} {t.task_id}")
        reply, expected = self.run(ask(self.stage, s.person, t.task_id)), self.model.ask(t, s)
        if reply.status == 201 and s in t.submissions:
            s.id = reply.body["manual_request_id"]
        self.held(reply, expected)

    # --- Reviewers and time ---

    def decide(self, random: Random) -> None:
        """Mostly on what is still to be decided."""
        found = [(t, s) for t in self.model.tasks.values() for s in t.submissions if s.state]
        waiting = [(t, s) for t, s in found if s.state in OPEN]
        if not found:
            return
        t, s = random.choice(found + waiting * 5)
        sub = random.choice([*REVIEWERS * 5, t.roster[0]])
        decision = random.choice(["accept", "accept", "accept", "reject"])
        note(f"{sub} decides {decision} on {s.method} {s.id} of {s.person} {t.task_id}")
        reply = self.run(decide(self.stage, s.id, decision, sub))
        self.held(reply, self.model.decide(t, s, sub, decision))

    def let_time_pass(self, random: Random) -> None:
        self.model.now = random.choice(self.instants_ahead(soon=random.random() < 0.6))
        swept = random.random() < 0.5
        note(f"it is {self.model.now.isoformat()} {swept=}")
        self.run(self.stage.set_clock(self.model.now))
        if swept:
            self.run(sweep(self.database))
            self.model.sweep()
        self.compare()

    def instants_ahead(self, *, soon: bool) -> list[datetime]:
        """Instants that something depends on."""
        now, tasks = self.model.now, self.model.tasks.values()
        if soon:
            return [now + MICROSECOND, now + timedelta(hours=1), end_of_day(now, 0)]
        around = (-MICROSECOND, timedelta(0), timedelta(minutes=10))
        instants = {t.closes_at + moved for t in tasks for moved in around} | {t.opens_at for t in tasks}
        return sorted(instant for instant in {*instants, now + DAY} if instant > now)

    def task(self, random: Random) -> Task:
        return random.choice(list(self.model.tasks.values()))


def body_of(given: Mapping[str, Any]) -> Json:
    """A command's body."""
    body: Json = {"reason": "x"} | ({"document_no": "1"} if "deadline_at" in given else {})
    body |= {"place": PLACES[given["where"]]} if "where" in given else {}
    instants = {name: given[name] for name in ("deadline_at", "effective_at") if given.get(name)}
    return body | {name: instant.isoformat() for name, instant in instants.items()}


def face(who: int) -> str:
    return f"p-{who + 1}"


def end_of_day(instant: datetime, days: int) -> datetime:
    """So many midnights after the next one."""
    return instant.replace(hour=0, minute=0, second=0, microsecond=0) + DAY * (days + 1)


def shown(body: Json, name: str) -> Any:
    """A field of an answer as the model foretells it: reasons by their codes, of the location the zone."""
    if name == "reasons":
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


def remembered(sign: Callable[[str, str], str]) -> Callable[[str, str], str]:
    """Signs a token anew every five minutes only: signing costs as much as some answers."""

    @cache
    def signed(sub: str, scope: str, _: int) -> str:
        return sign(sub, scope)

    return lambda sub, scope: signed(sub, scope, int(time() // 300))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(
    stores: EmbeddedStores, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[None]:
    """The one that all lives are played on."""
    limits = UNLIMITED | {"CHECKIN_ATTEMPTS_PER_DAY": str(ATTEMPTS)}
    url, data_dir = await databases.make(), tmp_path_factory.mktemp("lives")
    running = running_service(url, stores.redis_url or "", data_dir, None, **limits)
    with pytest.MonkeyPatch.context() as patch:
        async with running as stage, open_database(url, max_connections=1) as database:
            patch.setattr(stage, "token", remembered(stage.token))
            patch.setattr(Lives, "stage", stage, raising=False)
            patch.setattr(Lives, "database", database, raising=False)
            patch.setattr(Lives, "loop", asyncio.get_running_loop(), raising=False)
            yield


def play(lives: int, *phases: Phase) -> None:
    """Plays so many lives, always the same ones; raises what one of them, shrunk if the phases say so, failed with."""
    options = settings(
        max_examples=lives,
        stateful_step_count=LENGTH,
        derandomize=True,
        deadline=None,
        phases=phases,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Lives, settings=options)


@pytest.mark.usefixtures("service")
def test_lives_are_as_foretold() -> None:
    play(LIVES, Phase.generate, Phase.shrink)


def suspensions_forgotten(patch: pytest.MonkeyPatch) -> None:
    judged = decision._task_and_window
    patch.setattr(decision, "_task_and_window", lambda case: judged(replace(case, suspended=False)))


def commands_in_every_state(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(command_task, "_need_allowed", lambda *_: None)


def one_reviewer_is_enough(patch: pytest.MonkeyPatch) -> None:
    decided = {ReviewDecision.ACCEPT: ReviewState.ACCEPTED, ReviewDecision.REJECT: ReviewState.REJECTED}
    patch.setattr(decide_review, "state_after", lambda _, decision: decided[decision])


def reviews_hold_no_end(patch: pytest.MonkeyPatch) -> None:
    def held_by_none(facts: TaskFacts, now: datetime) -> TaskState:
        return state_at(replace(facts, in_review=0), now)

    patch.setattr(tasks, "state_at", held_by_none)


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(
    "switch_off",
    [suspensions_forgotten, commands_in_every_state, one_reviewer_is_enough, reviews_hold_no_end],
)
def test_control_a_rule_switched_off_is_noticed(
    monkeypatch: pytest.MonkeyPatch, switch_off: Callable[[pytest.MonkeyPatch], None]
) -> None:
    switch_off(monkeypatch)
    with pytest.raises(AssertionError):
        play(100, Phase.generate)
