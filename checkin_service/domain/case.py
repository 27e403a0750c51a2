"""A case: its rounds of verification, and what the rules say follows from the last of them."""

from enum import StrEnum

from checkin_service.domain.task import Flow, TaskState


class Follows(StrEnum):
    """What follows, for the platform to decide (domain rule 1).

    `certificate_lapses`: at the end of its validity. `rectification_order`: a report and a new round.
    """

    PASSED = "passed"
    CERTIFICATE_LAPSES = "certificate_lapses"
    RECTIFICATION_ORDER = "rectification_order"
    WITHDRAWAL = "withdrawal"


_OF_A_FAILED = {
    Flow.FIRST_APPLICATION: Follows.CERTIFICATE_LAPSES,
    Flow.ROUTINE: Follows.RECTIFICATION_ORDER,
    Flow.RECTIFICATION: Follows.WITHDRAWAL,
}


def what_follows(flow: Flow, state: TaskState) -> Follows | None:
    """What the rules say after a round in that state; None while it is not decided.

    >>> what_follows(Flow.ROUTINE, TaskState.INVALIDATED)
    <Follows.RECTIFICATION_ORDER: 'rectification_order'>
    """
    if state is TaskState.COMPLETED:
        return Follows.PASSED
    return _OF_A_FAILED[flow] if state in {TaskState.EXPIRED, TaskState.INVALIDATED} else None
