"""A task's state over every combination of facts, and the digest of its members."""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from checkin_service.domain.task import (
    MemberState,
    MemberStatus,
    TaskFacts,
    TaskState,
    members_digest,
    state_at,
)

CLOSES_AT = datetime(2026, 4, 2, 16, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
TOTAL = 3


def rosters() -> Iterator[tuple[int, int, int, int]]:
    """Every (accepted, in_review, revoked, lacking_material) that a roster of three can have."""
    for accepted, in_review, revoked in product(range(TOTAL + 1), repeat=3):
        unsettled = TOTAL - accepted - in_review
        for lacking in range(unsettled + 1):
            if revoked <= unsettled:
                yield accepted, in_review, revoked, lacking


def expected(facts: TaskFacts, ended: bool) -> str:
    """The contract's list, first that holds."""
    listed = {
        "voided": facts.voided,
        "suspended": facts.suspended,
        "completed": facts.accepted == TOTAL,
        "pending_material": not ended and facts.lacking_material > 0,
        "open": not ended,
        "expired_pending_review": facts.in_review > 0 or facts.unjudged > 0 or facts.provisional,
        "invalidated": facts.revoked > 0,
        "expired": True,
    }
    return next(state for state, holds in listed.items() if holds)


def test_the_first_state_of_the_contracts_list_that_holds() -> None:
    seen = set()
    flags = (False, True)
    for roster, voided, suspended, provisional, unjudged, ended in product(
        rosters(), flags, flags, flags, (0, 1), flags
    ):
        accepted, in_review, revoked, lacking = roster
        facts = TaskFacts(
            voided, suspended, CLOSES_AT, provisional, TOTAL, accepted, in_review, lacking, revoked, unjudged
        )
        state = state_at(facts, CLOSES_AT if ended else CLOSES_AT - MICROSECOND)
        assert state == expected(facts, ended), facts
        seen.add(state)
    assert seen == set(TaskState)


def test_the_window_is_half_open() -> None:
    facts = TaskFacts(False, False, CLOSES_AT, False, 1, 0, 0, 0, 0, 0)
    instants = (CLOSES_AT - MICROSECOND, CLOSES_AT, CLOSES_AT + MICROSECOND)
    assert [state_at(facts, instant) for instant in instants] == ["open", "expired", "expired"]


def digest_of(*lines: bytes) -> str:
    return "sha256:" + hashlib.sha256(b"".join(lines)).hexdigest()


def status_of(person_id: str, state: str, check_in_id: str | None = None) -> MemberStatus:
    return MemberStatus(person_id, MemberState(state), has_reference=True, check_in_id=check_in_id)


@pytest.mark.parametrize("turn", [0, 1, 2])
def test_the_digest_sorts_its_lines_bytewise_whatever_order_they_come_in(turn: int) -> None:
    members = [
        status_of("p-2", "not_started"),
        status_of("p-10", "accepted", "c"),
        status_of("P-3", "revoked"),
    ]
    lines = b"P-3\trevoked\t\n", b"p-10\taccepted\tc\n", b"p-2\tnot_started\t\n"
    assert members_digest(members[turn:] + members[:turn]) == digest_of(*lines)


def test_a_shorter_id_sorts_by_the_tab_that_follows_it() -> None:
    members = [status_of("p", "accepted", "c"), status_of("p-1", "in_review")]
    assert members_digest(members) == digest_of(b"p\taccepted\tc\n", b"p-1\tin_review\t\n")
