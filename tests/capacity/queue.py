"""What becomes of those who come faster than they can be judged: a simulation by seconds, of the rules in
decisions/0010-overload.md."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

LONGEST_WAIT_S = 3.0
"""CHECKIN_LONGEST_WAIT_S: who would wait longer is deferred."""
TAKING_S, PAUSE_S = 1.0, 30.0
"""While others are deferred, judging those who have been pauses, as long as nobody has waited for so long."""


@dataclass(frozen=True, slots=True)
class Work:
    """Seconds of CPU: to judge an attempt, and before that to take one that is deferred."""

    judge_s: float
    take_s: float


@dataclass(slots=True)
class Evening:
    """Attempts that wait are `waiting` in groups of when they came, how many, and whether they are deferred."""

    cores: float
    work: Work
    step_s: float
    waiting: deque[tuple[float, float, bool]] = field(default_factory=deque)
    backlog: float = 0.0
    debt_s: float = 0.0
    last_deferred: float = float("-inf")
    deferred: float = 0.0
    longest_s: float = 0.0
    latest_s: float = 0.0

    def step(self, now: float, coming: float) -> None:
        """Those who come, then so much work as the cores do in a step."""
        self._take(now, coming)
        free_s = self.cores * self.step_s - self.debt_s
        self.debt_s = max(0.0, -free_s)
        self._judge(now, free_s / self.work.judge_s)

    def _take(self, now: float, coming: float) -> None:
        if not coming:
            return
        later = self.backlog * self.work.judge_s / self.cores > LONGEST_WAIT_S
        if later:
            self.deferred += coming
            self.debt_s += coming * self.work.take_s
            self.latest_s = max(self.latest_s, self.debt_s / self.cores)
            self.last_deferred = now
        self.waiting.append((now, coming, later))
        self.backlog += coming

    def _judge(self, now: float, number: float) -> None:
        while number > 0 and self.waiting and not self._pauses(now):
            came, coming, later = self.waiting.popleft()
            done = min(number, coming)
            number, self.backlog = number - done, self.backlog - done
            self.longest_s = max(self.longest_s, now + self.step_s - came)
            if coming > done:
                self.waiting.appendleft((came, coming - done, later))

    def _pauses(self, now: float) -> bool:
        came, _, later = self.waiting[0]
        return later and now - self.last_deferred < TAKING_S and now - came < PAUSE_S


def play(coming: Sequence[float], cores: float, work: Work, step_s: float = 1.0) -> Evening:
    """So many in each step, until the last of them is judged."""
    evening, number = Evening(cores, work, step_s), 0
    while number < len(coming) or evening.backlog > 1e-6:
        evening.step(number * step_s, coming[number] if number < len(coming) else 0.0)
        number += 1
    return evening


def least_cores(coming: Sequence[float], work: Work, longest_s: float, latest_s: float) -> int:
    """With which everybody is judged in so long, and nobody waits longer than `latest_s` to be taken."""
    cores = max(1, int(sum(coming) * work.judge_s / (len(coming) + longest_s)))
    while (seen := play(coming, cores, work)).longest_s > longest_s or seen.latest_s > latest_s:
        cores += 1
    return cores
