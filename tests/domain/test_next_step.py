"""What a member is told to do next, over every combination of facts."""

from itertools import product

from checkin_service.domain.next_step import next_step
from checkin_service.domain.reasons import NextStep
from checkin_service.domain.task import MemberState, MemberStatus, TaskState


def takes_submissions(state: TaskState, provisional: bool) -> bool:
    """Before the end, and after a provisional one, which holds what would be accepted."""
    return state in {"open", "pending_material"} or (provisional and state == "expired_pending_review")


def expected(
    submissions: bool, member: str, reference: bool, consented: bool, opened: bool, attempts_left: int
) -> str:
    """The first thing in the way, in the order in which a person can mend them."""
    in_the_way = {
        "nothing": not submissions or member in {"accepted", "in_review"},
        "give_consent": not consented,
        "wait_for_reference": not reference,
        "wait_for_opening": not opened,
        "ask_manually": attempts_left == 0,
        "check_in": True,
    }
    return next(step for step, holds in in_the_way.items() if holds)


def test_the_first_thing_in_the_way_is_named() -> None:
    seen = set()
    flags = (False, True)
    for state, own, provisional, reference, consented, opened, attempts_left in product(
        TaskState, MemberState, flags, flags, flags, flags, (0, 1, 10)
    ):
        step = next_step(
            state,
            MemberStatus("p-1", own, has_reference=reference),
            provisional=provisional,
            consented=consented,
            opened=opened,
            attempts_left=attempts_left,
        )
        submissions = takes_submissions(state, provisional)
        assert step == expected(submissions, own, reference, consented, opened, attempts_left), (state, own)
        seen.add(step)
    assert seen == set(NextStep)
