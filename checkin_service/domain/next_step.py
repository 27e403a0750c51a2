"""What a roster member should do next about one task."""

from checkin_service.domain.reasons import NextStep
from checkin_service.domain.task import MemberState, MemberStatus, TaskState

_SETTLED = {MemberState.ACCEPTED, MemberState.IN_REVIEW}
_OPEN = {TaskState.OPEN, TaskState.PENDING_MATERIAL}


def next_step(
    state: TaskState,
    member: MemberStatus,
    *,
    provisional: bool,
    consented: bool,
    opened: bool,
    attempts_left: int,
) -> NextStep:
    """The first thing that is in the way; `check_in` when nothing is.

    A provisional window still takes submissions after its end, to be held until the calendar is published.
    """
    takes_submissions = state in _OPEN or (provisional and state is TaskState.EXPIRED_PENDING_REVIEW)
    if member.state in _SETTLED or not takes_submissions:
        return NextStep.NOTHING
    if not consented:
        return NextStep.GIVE_CONSENT
    if not member.has_reference:
        return NextStep.WAIT_FOR_REFERENCE
    if not opened:
        return NextStep.WAIT_FOR_OPENING
    return NextStep.CHECK_IN if attempts_left > 0 else NextStep.ASK_MANUALLY
