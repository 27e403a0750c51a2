"""What every step of a task's life must come to: written from the contract and its documents, never from the code.

Facts are kept as plainly as can be and everything is computed from them anew. An expectation is the status of an answer
with its code, or with the part of its body that is foretold.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

Expected = tuple[int, str | dict[str, Any]]
DAY = timedelta(days=1)
ALL_SCOPES = frozenset({"face", "face_transfer", "location"})
OPEN = {"pending", "pending_second"}
COUNTED = {"outside_geofence", "non_match", "presentation_attack", "duplicate_photo"}
FAILED = {
    "first_application": "certificate_lapses",
    "routine": "rectification_order",
    "rectification": "withdrawal",
}
CONFLICT: Expected = (409, "state_conflict")
DONE: Expected = (200, {})


@dataclass(eq=False)
class Submission:
    """A check-in, or a manual request (`method`); what people are to decide on has a review's `state`."""

    person: str
    received_at: datetime
    method: str = "face"
    where: str = "inside"
    shows: str = "self"
    id: str = ""  # what the service calls it
    answer: dict[str, Any] | None = None
    zone: str | None = None
    counted: bool = False
    abandoned: bool = False
    pictured: bool = True  # its selfie is still there to be looked at
    state: str | None = None
    said: dict[str, str] = field(default_factory=dict)  # by reviewer

    @property
    def unjudged(self) -> bool:
        return self.answer is None and not self.abandoned


@dataclass(eq=False)
class Task:
    task_id: str
    case_id: str
    round: int
    flow: str
    roster: Sequence[str]
    opens_at: datetime
    closes_at: datetime
    provisional: bool
    fences: list[tuple[datetime, str]]  # from when on, and where
    rectifies: str | None = None
    rev: int = 0
    voided: bool = False
    closed_at: datetime | None = None
    suspensions: list[tuple[datetime, datetime | None]] = field(default_factory=list)
    submissions: list[Submission] = field(default_factory=list)
    accepted: dict[str, tuple[Submission, datetime | None]] = field(default_factory=dict)  # and when decided
    revoked: list[Submission] = field(default_factory=list)
    end_told: str | None = None
    feed: list[tuple[int, str, str]] = field(default_factory=list)

    def suspended(self) -> bool:
        return any(until is None for _, until in self.suspensions)

    def suspended_at(self, at: datetime) -> bool:
        return any(since <= at and (until is None or at < until) for since, until in self.suspensions)

    def fence_at(self, at: datetime) -> str:
        return max((since, where) for since, where in self.fences if since <= at)[1]

    def open_reviews(self, person: str) -> list[Submission]:
        return [s for s in self.submissions if s.person == person and s.state in OPEN]


class Model:
    """One case of people and tasks; `now` is the judging clock."""

    def __init__(self, now: datetime, attempts_per_day: int) -> None:
        self.now, self.attempts_per_day = now, attempts_per_day
        self.tasks: dict[str, Task] = {}
        self.consents: dict[str, frozenset[str]] = {}
        self.references: set[str] = set()

    # --- What is shown ---

    def state(self, t: Task) -> str:
        members = [self.member_state(t, person) for person in t.roster]
        if t.voided or t.suspended():
            return "voided" if t.voided else "suspended"
        if set(members) == {"accepted"}:
            return "completed"
        if self.now < t.closes_at:
            waiting = [
                p for p, m in zip(t.roster, members, strict=True) if m not in {"accepted", "in_review"}
            ]
            return "open" if self.references.issuperset(waiting) else "pending_material"
        unjudged = [s for s in t.submissions if s.unjudged and s.received_at < t.closes_at]
        if "in_review" in members or unjudged or t.provisional:
            return "expired_pending_review"
        return "invalidated" if "revoked" in members else "expired"

    def member_state(self, t: Task, person: str) -> str:
        if person in t.accepted or t.open_reviews(person):
            return "accepted" if person in t.accepted else "in_review"
        return "revoked" if any(s.person == person for s in t.revoked) else "not_started"

    def etag(self, t: Task) -> str:
        return f'"{t.task_id}-{t.rev}-{self.state(t)}"'

    def progress(self, t: Task) -> dict[str, int]:
        states = [self.member_state(t, person) for person in t.roster]
        return {"total": len(states)} | {s: states.count(s) for s in ("accepted", "in_review")}

    def member(self, t: Task, person: str) -> dict[str, Any]:
        shown: dict[str, Any] = {"person_id": person, "state": self.member_state(t, person)}
        if person in t.accepted:
            s, decided_at = t.accepted[person]
            shown |= {"accepted_at": s.received_at.isoformat(), "method": s.method, "check_in_id": s.id}
            shown |= {"decided_at": decided_at.isoformat()} if decided_at else {}
        return shown | {"reference": "ready" if person in self.references else "missing"}

    def status(self, t: Task) -> dict[str, Any]:
        """Every field that can change, and `closed_at` None while it is left out."""
        return {
            "state": self.state(t),
            "closes_at": t.closes_at.isoformat(),
            "fence_version": len(t.fences),
            "progress": self.progress(t),
            "members": [self.member(t, person) for person in t.roster],
            "rev": t.rev,
            "closed_at": t.closed_at.isoformat() if t.closed_at else None,
        }

    def case(self, case_id: str) -> dict[str, Any]:
        rounds = [t for t in self.tasks.values() if t.case_id == case_id]
        counting = sorted((t.round, t.flow, self.state(t)) for t in rounds if not t.voided)
        _, flow, state = counting[-1] if counting else (0, "", "")
        failed = FAILED[flow] if state in {"expired", "invalidated"} else None
        return {
            "rounds": sorted((t.round, t.task_id, t.rectifies, self.state(t)) for t in rounds),
            "follows": "passed" if state == "completed" else failed,
        }

    def queue(self) -> set[tuple[str, str]]:
        tasks = [t for t in self.tasks.values() if not t.voided]
        return {(s.id, s.state) for t in tasks for s in t.submissions if s.state in OPEN}

    def tell(self, t: Task, *changes: str, at: datetime | None = None) -> None:
        for change in changes:
            t.rev += 1
            t.feed.append((t.rev, change, (at or self.now).isoformat()))

    # --- The platform ---

    def register(self, t: Task) -> Expected:
        if t.rectifies and not self._rectifies(t, self.tasks[t.rectifies]):
            return 422, "invalid"
        rounds = [(o.case_id, o.round) for o in self.tasks.values() if not o.voided]
        if (t.case_id, t.round) in rounds:
            return 409, "round_exists"
        self.tasks[t.task_id] = t
        self.tell(t, "task_registered")
        return 201, {}

    def _rectifies(self, t: Task, earlier: Task) -> bool:
        follows = (t.case_id, t.round) == (earlier.case_id, earlier.round + 1)
        failed = self.state(earlier) in {"expired", "invalidated"}
        return follows and failed and earlier.flow != "first_application"

    def command(self, t: Task, name: str, **given: Any) -> Expected:
        carry_out = getattr(self, f"_{name}")
        if t.closed_at and name != "close":
            return CONFLICT
        expected: Expected = carry_out(t, **given)
        return expected

    def _void(self, t: Task) -> Expected:
        if not t.voided:
            t.voided = True
            self.tell(t, "task_voided")
        return DONE

    def _close(self, t: Task) -> Expected:
        if t.closed_at:
            return DONE
        if self.state(t) not in {"completed", "expired", "invalidated", "voided"}:
            return CONFLICT
        t.closed_at = self.now
        self.tell(t, "task_closed")
        return DONE

    def _extend(self, t: Task, deadline_at: datetime) -> Expected:
        if deadline_at == t.closes_at:
            return DONE
        if self.state(t) in {"completed", "voided"}:
            return CONFLICT
        return self._move_end(t, deadline_at)

    def _move_end(self, t: Task, deadline_at: datetime, *before: str) -> Expected:
        if deadline_at < t.closes_at:
            return 422, "invalid"
        moved = deadline_at > t.closes_at
        t.closes_at, t.end_told = deadline_at, None if moved else t.end_told
        self.tell(t, *before, *(["deadline_changed"] if moved else []))
        return DONE

    def _suspend(self, t: Task) -> Expected:
        if t.suspended():
            return DONE
        if self.state(t) not in {"pending_material", "open", "expired_pending_review"}:
            return CONFLICT
        t.suspensions.append((self.now, None))
        self.tell(t, "task_suspended")
        return DONE

    def _resume(self, t: Task, deadline_at: datetime | None = None) -> Expected:
        if t.suspensions and not t.suspended() and deadline_at in {None, t.closes_at}:
            return DONE
        if self.state(t) != "suspended":
            return CONFLICT
        if self.now >= t.closes_at and deadline_at is None:
            return 409, "deadline_required"
        expected = self._move_end(t, deadline_at or t.closes_at, "task_resumed")
        if expected == DONE:
            t.suspensions[-1] = (t.suspensions[-1][0], self.now)
            self.tell(t, *(["task_completed"] if self.state(t) == "completed" else []))
        return expected

    def _revoke(self, t: Task, person: str) -> Expected:
        if person not in t.roster:
            return 404, "not_found"
        if self.member_state(t, person) == "revoked":
            return DONE
        if t.voided or t.flow == "first_application" or person not in t.accepted:
            return CONFLICT
        t.revoked.append(t.accepted.pop(person)[0])
        self.tell(t, "member_revoked")
        return DONE

    def _fence(self, t: Task, where: str, effective_at: datetime | None = None) -> Expected:
        planned = dict(t.fences).get(effective_at or self.now)
        if where == (t.fence_at(self.now) if effective_at is None else planned):
            return DONE
        if t.voided or self.now >= t.closes_at or planned:
            return CONFLICT
        t.fences.append((effective_at or self.now, where))
        self.tell(t, "fence_changed")
        return DONE

    # --- The person ---

    def enrol(self, person: str) -> Expected:
        if person not in self.references:
            self.references.add(person)
            self._tell_all(person, "material_ready")
        return 201, {}

    def consent(self, person: str, scopes: frozenset[str]) -> Expected:
        self.consents[person] = scopes
        if "face" not in scopes:
            self._forget_face(person)
        return (200, {}) if scopes else (204, {})

    def erase(self, person: str) -> Expected:
        self.consent(person, frozenset())
        for t in self.tasks.values():
            self.tell(t, *(["review_decided"] if t.open_reviews(person) else []))
            kept = [s for s, _ in t.accepted.values()] + t.revoked
            t.submissions = [s for s in t.submissions if s.person != person or s in kept]
            for s in (s for s in kept if s.person == person):
                s.zone = None
        return 204, {}

    def _forget_face(self, person: str) -> None:
        for s in (s for t in self.tasks.values() for s in t.submissions if s.person == person):
            s.pictured = False
        if person in self.references:
            self.references.remove(person)
            self._tell_all(person, "material_missing")

    def _tell_all(self, person: str, change: str) -> None:
        for t in self.tasks.values():
            self.tell(t, *([change] if person in t.roster else []))

    def challenge(self, t: Task, person: str) -> Expected:
        if person not in t.roster:
            return 404, "not_found"
        return (201, {}) if self.consents.get(person) == ALL_SCOPES else (403, "consent_required")

    def check_in(self, t: Task, s: Submission, *, broken: bool = False) -> Expected:
        """A receipt or its retry; with a `broken` engine nobody is told anything of a face."""
        if s not in t.submissions:
            t.submissions.append(s)
        if s.person in t.accepted and not t.voided:
            accepted = t.accepted[s.person][0]
            s.answer = self._answer(t, s, "accepted", ["already_checked_in"])
            s.answer |= {"check_in_id": accepted.id, "received_at": accepted.received_at.isoformat()}
            return 201, s.answer
        reasons = self._not_admitted(t, s)
        if not reasons and self.consents.get(s.person) != ALL_SCOPES:
            return 403, "consent_required"
        if not reasons:
            s.zone, reasons = self._place(t, s)
        if not reasons and broken:
            s.zone = None
            return 503, "unavailable"
        if reasons:
            return 201, self._conclude(t, s, "rejected", reasons)
        return 201, self._conclude(t, s, *self._face(t, s))

    def _not_admitted(self, t: Task, s: Submission) -> list[str]:
        late = s.received_at >= t.closes_at and not t.provisional
        found = {
            "task_not_open": t.voided or t.suspended_at(s.received_at),
            "window_not_open": s.received_at < t.opens_at,
            "window_closed": late or s.abandoned,
        }
        used_up = self._counted(t, s) >= self.attempts_per_day
        return [reason for reason in found if found[reason]] or ["too_many_attempts"] * used_up

    def _place(self, t: Task, s: Submission) -> tuple[str, list[str]]:
        here = {("inside", "home"): "inside", ("edge", "home"): "possible", ("away", "elsewhere"): "inside"}
        zone = here.get((s.where, t.fence_at(s.received_at)), "outside")
        if zone == "possible" and self._at_the_edge(t, s) < 2:
            return zone, ["position_uncertain"]
        missing = ["not_enrolled"] if s.person not in self.references else []
        return zone, ["outside_geofence"] if zone == "outside" else missing

    def _face(self, t: Task, s: Submission) -> tuple[str, list[str]]:
        if s.shows in {"nobody", "other"}:
            return "rejected", ["no_face" if s.shows == "nobody" else "non_match"]
        twin = next((p for p in t.roster if p != s.person), None)
        compared = twin in self.references and "face" in self.consents.get(twin or "", ())
        found = {
            "position_uncertain": s.zone == "possible",
            "presentation_attack": s.shows == "attack",
            "duplicate_photo": s.shows == "copy",
            "look_alike": s.shows == "twin" and compared,
        }
        reasons = [reason for reason in found if found[reason]]
        return "review" if reasons or s.received_at >= t.closes_at else "accepted", reasons

    def _conclude(self, t: Task, s: Submission, outcome: str, reasons: list[str]) -> dict[str, Any]:
        s.counted = not COUNTED.isdisjoint(reasons)
        if outcome == "review":
            self._await_review(t, s)
        if outcome == "accepted":
            self._accept(t, s)
        s.answer = self._answer(t, s, outcome, reasons)
        return s.answer

    def _await_review(self, t: Task, s: Submission) -> None:
        self.tell(t, *([] if t.open_reviews(s.person) else ["member_in_review"]))
        s.state = "pending"

    def _accept(self, t: Task, s: Submission, decided_at: datetime | None = None) -> None:
        t.accepted[s.person] = s, decided_at
        for other in t.open_reviews(s.person):
            other.state = "moot"
        self.tell(t, "member_accepted", *(["task_completed"] if self.state(t) == "completed" else []))

    def _answer(self, t: Task, s: Submission, outcome: str, reasons: list[str]) -> dict[str, Any]:
        return {
            "outcome": outcome,
            "reasons": reasons,
            "received_at": s.received_at.isoformat(),
            "zone": s.zone,
            "task": {"state": self.state(t), "accepted": len(t.accepted), "total": len(t.roster)},
            "attempts_left": max(0, self.attempts_per_day - self._counted(t, s)),
        }

    def _counted(self, t: Task, s: Submission) -> int:
        mine = [o for o in t.submissions if o.person == s.person and o.counted]
        return sum(o.received_at.date() == s.received_at.date() for o in mine)

    def _at_the_edge(self, t: Task, s: Submission) -> int:
        mine = [o for o in t.submissions if o.person == s.person and o.zone == "possible" and o is not s]
        return sum(o.received_at > s.received_at - DAY for o in mine)

    def ask(self, t: Task, s: Submission) -> Expected:
        if s.person not in t.roster:
            return 404, "not_found"
        late = self.now >= t.closes_at and not t.provisional
        if (
            t.voided
            or t.closed_at
            or t.suspended()
            or late
            or self.now < t.opens_at
            or s.person in t.accepted
        ):
            return CONFLICT
        first = next((o for o in t.open_reviews(s.person) if o.method == "manual"), None)
        if first is None:
            self._await_review(t, s)
            t.submissions.append(s)
            s.answer = {}
        asked = first or s
        return 201, {"state": asked.state, "received_at": asked.received_at.isoformat()}

    # --- Reviewers and time ---

    def decide(self, t: Task, s: Submission, reviewer: str, decision: str) -> Expected:
        if s not in t.submissions:
            return 404, "not_found"
        if reviewer in t.roster:
            return 403, "scope_missing"
        if s.said.get(reviewer) == decision:
            return 200, {"state": s.state}
        if s.state not in OPEN or t.voided or t.closed_at or reviewer in s.said:
            return CONFLICT
        if decision == "accept" and not self._acceptable(t, s):
            return CONFLICT
        s.said[reviewer] = decision
        self._decided(t, s, decision)
        return 200, {"state": s.state}

    def _acceptable(self, t: Task, s: Submission) -> bool:
        shown = s.pictured and self.consents.get(s.person) == ALL_SCOPES
        return s.received_at < t.closes_at and (s.method == "manual" or shown)

    def _decided(self, t: Task, s: Submission, decision: str) -> None:
        if decision == "accept" and s.method == "manual" and s.state == "pending":
            s.state = "pending_second"
            return
        s.state = f"{decision}ed"
        self.tell(t, "review_decided")
        if decision == "accept":
            self._accept(t, s, self.now)

    def sweep(self) -> None:
        for t in self.tasks.values():
            if self.now < t.closes_at or t.voided or t.suspended():
                continue
            given_up = self.now >= t.closes_at + timedelta(minutes=10) and not t.provisional
            for s in t.submissions:
                s.abandoned |= s.unjudged and given_up
            state = self.state(t)
            if state == "expired_pending_review" and t.end_told is None:
                t.end_told = "pending"
                self.tell(t, "task_expired_pending_review", at=t.closes_at)
            if state in {"expired", "invalidated"} and t.end_told != "expired":
                t.end_told = "expired"
                self.tell(t, "task_expired", at=t.closes_at)
