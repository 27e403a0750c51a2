"""The liveness provider that this service brings along: turns of the head, judged by five landmarks a frame."""

import secrets
from collections.abc import Sequence
from itertools import product

from face.liveness import Action, judge_turns

_TURNS = 3
# A turn to one side only would tell nothing of a head's depth.
_CHALLENGES = [actions for actions in product(Action, repeat=_TURNS) if len(set(actions)) > 1]


class HeadTurns:
    """Three turns, to both sides, in an order that nobody can foresee (three of them can be told apart, because a
    phone may send mirrored pictures)."""

    def actions(self) -> Sequence[str]:
        return [str(action) for action in secrets.choice(_CHALLENGES)]

    def judge(self, frames: Sequence[Sequence[Sequence[float]]], actions: Sequence[str]) -> str:
        return str(judge_turns(frames, [Action(action) for action in actions]).code)
