"""The liveness provider that this service brings along: turns of the head, judged by five landmarks a frame."""

import secrets
from collections.abc import Sequence
from itertools import product
from uuid import UUID

from checkin_service.ports import Holder, LivenessTest
from face.liveness import Action, judge_turns

PROVIDER = "head_turns"

_TURNS = 3
# A turn to one side only would tell nothing of a head's depth.
_CHALLENGES = [actions for actions in product(Action, repeat=_TURNS) if len(set(actions)) > 1]


class HeadTurns:
    """Three turns, to both sides, in an order that nobody can foresee (three of them can be told apart, because a
    phone may send mirrored pictures)."""

    async def ask(self, challenge_id: UUID, holder: Holder | None) -> LivenessTest:  # noqa: ARG002  it needs neither
        return LivenessTest(PROVIDER, [str(action) for action in secrets.choice(_CHALLENGES)])

    async def judge(
        self,
        frames: Sequence[Sequence[Sequence[float]]],
        actions: Sequence[str],
        session: bytes | None,  # noqa: ARG002  actions say all
    ) -> str:
        return str(judge_turns(frames, [Action(action) for action in actions]).code)
