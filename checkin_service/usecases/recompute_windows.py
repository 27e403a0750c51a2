"""Windows follow the calendar: what a new version changes moves their ends, never to an earlier instant.

Each task is a transaction of its own, under the task's lock: check-ins, commands and other recomputations come before
it or after it, and whoever is judged afterwards is judged by the new end. What an interrupted run has left is found
again by the next, and by the sweeper of every running service.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from checkin_service.adapters.postgres import calendars, reviews, tasks
from checkin_service.adapters.postgres.audit import write_audit
from checkin_service.adapters.postgres.database import Connection, Database
from checkin_service.adapters.postgres.feed import record_change
from checkin_service.adapters.postgres.tasks import TaskHead
from checkin_service.domain.reasons import Reason
from checkin_service.domain.review import ReviewDecision, ReviewState, state_after, what_forbids
from checkin_service.domain.task import TaskState
from checkin_service.domain.window import Window, recomputed_window
from checkin_service.usecases.caller import SYSTEM
from checkin_service.usecases.decide_review import DecideReview, carry_out_decision

# Once shown, these are undone by an order alone.
_OVER = {TaskState.EXPIRED, TaskState.INVALIDATED}


@dataclass(slots=True)
class Recomputed:
    """How many windows follow a newer calendar now, how many of them end later; held check-ins by their new state.

    `missed`: tasks that were over before the calendar gave them a later end.
    """

    windows: int = 0
    moved: int = 0
    decided: Counter[str] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)


async def recompute_windows(database: Database, *, ended: bool = False) -> Recomputed:
    """Safe to repeat, in several processes at once and at any time. `ended`: looks for what was missed, too."""
    async with database.connection() as connection:
        task_ids = await calendars.outdated_tasks(connection, ended=ended)
    done = Recomputed()
    for task_id in task_ids:
        async with database.transaction() as connection:
            await _recompute(connection, task_id, done)
    return done


async def _recompute(connection: Connection, task_id: str, done: Recomputed) -> None:
    await tasks.lock_task(connection, task_id)
    window = await calendars.read_outdated(connection, task_id)
    head = await tasks.read_head(connection, task_id)
    if window is None or head is None:
        # somebody else was quicker
        return
    calendar = await calendars.read_calendar(connection, window.start_day.year)
    following = recomputed_window(window, calendar)
    if head.state not in _OVER:
        await _replace(connection, head, window, following, done)
    elif following.closes_at > window.closes_at:
        done.missed.append(task_id)


async def _replace(
    connection: Connection, head: TaskHead, window: Window, following: Window, done: Recomputed
) -> None:
    await calendars.replace_window(connection, head.task_id, following)
    details = {
        "calendar_version": following.calendar_version,
        "provisional": following.provisional,
        "closes_at_before": window.closes_at.isoformat(),
        "closes_at": following.closes_at.isoformat(),
    }
    await write_audit(connection, SYSTEM.iss, SYSTEM.sub, "recompute", head.task_id, details)
    await record_change(connection, head.task_id, "deadline_changed", head.read_at)
    done.windows += 1
    done.moved += following.closes_at > window.closes_at
    done.decided.update(await _decide_held(connection, head.task_id, following))


async def _decide_held(connection: Connection, task_id: str, window: Window) -> Sequence[str]:
    """What was held until the calendar says whether it was in time: nothing else was against it. Their new states."""
    held = await reviews.held_reviews(connection, task_id)
    return [state for state in [await _decide(connection, *one, window) for one in held] if state]


async def _decide(
    connection: Connection, review_id: UUID, in_time: bool, window: Window
) -> ReviewState | None:
    """None when it stays as it is: it became moot, or people have to look at it after all."""
    review = await reviews.read_review(connection, review_id)
    facts = await reviews.read_facts(connection, review_id, None)
    decision = ReviewDecision.ACCEPT if in_time else ReviewDecision.REJECT
    if review is None or facts is None or what_forbids(facts, decision):
        return None
    note = f"calendar {window.calendar_version}" if in_time else Reason.WINDOW_CLOSED
    await carry_out_decision(connection, SYSTEM, DecideReview(review_id, decision, note), review, facts)
    return state_after(facts, decision)
