"""CPU times of contenders that take turns on one photograph, whole and by stage."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean, median
from time import process_time_ns
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

Contender = Callable[[bytes], int]
"""Photograph in; how many faces it described."""


@dataclass(frozen=True, slots=True)
class Lap:
    """CPU ms of one photograph, and of the stages that were run for it."""

    ms: float
    stages: Mapping[str, float]
    faces: int


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU ms a photograph: the mean over the photographs, each with the median of its rounds."""

    ms: float
    stages: Mapping[str, float]


class Stopwatch:
    """CPU time of this process, with all its threads."""

    def __init__(self) -> None:
        self._spent: defaultdict[str, int] = defaultdict(int)

    def timed(self, stage: str, function: Callable[P, T]) -> Callable[P, T]:
        """The function, its time added to the lap's ``stage``. Stages must not contain each other."""

        def timed_function(*args: P.args, **kwargs: P.kwargs) -> T:
            started = process_time_ns()
            try:
                return function(*args, **kwargs)
            finally:
                self._spent[stage] += process_time_ns() - started

        return timed_function

    def lap(self, contender: Contender, photo: bytes) -> Lap:
        self._spent.clear()
        started = process_time_ns()
        faces = contender(photo)
        spent = process_time_ns() - started
        return Lap(spent / 1e6, {stage: ns / 1e6 for stage, ns in self._spent.items()}, faces)


@contextmanager
def replaced(places: Sequence[tuple[Any, str, Any]]) -> Iterator[None]:
    """Attributes (owner, name, value) set for a while."""
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in places]
    try:
        for owner, name, value in places:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def interleaved(
    stopwatch: Stopwatch, contenders: Mapping[str, Contender], photo: bytes, rounds: int
) -> dict[str, list[Lap]]:
    """Each contender's laps. In each round all take their turn, so that a machine whose speed drifts drifts for all."""
    laps: dict[str, list[Lap]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            laps[name].append(stopwatch.lap(contender, photo))
    return laps


def cost(photos: Sequence[Sequence[Lap]]) -> Cost:
    """Of the laps of each photograph.

    >>> one, other = [Lap(9, {}, 1), Lap(2, {}, 1), Lap(1, {}, 1)], [Lap(4, {"decode": 3}, 1)]
    >>> cost([one, other])
    Cost(ms=3.0, stages={'decode': 1.5})
    """
    stages = {stage: None for laps in photos for lap in laps for stage in lap.stages}
    return Cost(
        fmean(median(lap.ms for lap in laps) for laps in photos),
        {
            stage: fmean(median(lap.stages.get(stage, 0) for lap in laps) for laps in photos)
            for stage in stages
        },
    )
