"""A reviewer decides: a doubtful check-in by one, a manual request by two who agree."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from checkin_service.adapters.postgres import persons, reviews, tasks
from checkin_service.adapters.postgres.audit import write_audit
from checkin_service.adapters.postgres.database import Connection, Database
from checkin_service.adapters.postgres.feed import record_change
from checkin_service.adapters.postgres.reviews import Review
from checkin_service.domain.review import (
    OPEN,
    ReviewDecision,
    ReviewFacts,
    ReviewState,
    state_after,
    what_forbids,
)
from checkin_service.domain.task import TaskState
from checkin_service.usecases.caller import Caller
from checkin_service.usecases.refusals import Refusal


@dataclass(frozen=True, slots=True)
class DecideReview:
    review_id: UUID
    decision: ReviewDecision
    note: str


async def decide_review(database: Database, caller: Caller, decide: DecideReview) -> Review:
    """The review afterwards. Raises `Refusal`: not_found, scope_missing for a member of the roster, state_conflict.

    The same decision of the same reviewer again changes nothing.
    """
    async with database.transaction() as connection:
        review, facts = await _lock(connection, caller, decide.review_id)
        if await reviews.is_on_roster(connection, review.task_id, caller.sub):
            raise Refusal("scope_missing")
        if facts.own is not decide.decision:
            await carry_out_decision(connection, caller, decide, review, facts)
        return await _read(connection, decide.review_id)


async def _lock(connection: Connection, caller: Caller, review_id: UUID) -> tuple[Review, ReviewFacts]:
    """Person, then task, as everywhere: in order with check-ins, commands and withdrawals."""
    review = await _read(connection, review_id)
    await persons.lock_person(connection, review.person_id)
    await tasks.lock_task(connection, review.task_id)
    facts = await reviews.read_facts(connection, review_id, caller.sub)
    if facts is None:
        # the person was erased meanwhile
        raise Refusal("not_found")
    return review, facts


async def _read(connection: Connection, review_id: UUID) -> Review:
    review = await reviews.read_review(connection, review_id)
    if review is None:
        raise Refusal("not_found")
    return review


async def carry_out_decision(
    connection: Connection, caller: Caller, decide: DecideReview, review: Review, facts: ReviewFacts
) -> None:
    """The decision with all that follows from it. Raises `Refusal` state_conflict. The task is locked."""
    if state := what_forbids(facts, decide.decision):
        raise Refusal("state_conflict", state=state)
    at, after = await tasks.read_now(connection), state_after(facts, decide.decision)
    reviewer = (caller.iss, caller.sub)
    await reviews.add_decision(connection, decide.review_id, reviewer, decide.decision, decide.note, at)
    await reviews.set_state(connection, decide.review_id, after, at)
    if after is ReviewState.ACCEPTED:
        await reviews.add_acceptance(connection, decide.review_id)
    # without the note, which an erasure has to reach
    details = {
        "review_id": str(decide.review_id),
        "person_id": review.person_id,
        "received_at": review.received_at.isoformat(),
        "decision": decide.decision,
        "state": after,
    }
    await write_audit(connection, *reviewer, "decide_review", review.task_id, details)
    if after not in OPEN:
        await _tell_decided(connection, review.task_id, at, accepted=after is ReviewState.ACCEPTED)


async def _tell_decided(connection: Connection, task_id: str, at: datetime, *, accepted: bool) -> None:
    changes = ["review_decided"]
    if accepted:
        head = await tasks.read_head(connection, task_id)
        completed = head is not None and head.state is TaskState.COMPLETED
        changes += ["member_accepted", *(["task_completed"] if completed else [])]
    for change in changes:
        await record_change(connection, task_id, change, at)
