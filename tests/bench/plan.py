"""How much is measured: for the record, or within a few minutes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """Seconds of each load and how many calls of each kind; `people` is how many can check in, over all loads."""

    name: str
    people: int
    warming_up: int
    steady_s: float
    open_s: float
    pool_s: float
    naive_s: float
    scale_s: float
    reads: int
    enrolments: int
    starts: int
    members: int
    asked: int


FULL = Plan(
    "in full",
    people=14000,
    warming_up=60,
    steady_s=20,
    open_s=20,
    pool_s=8,
    naive_s=15,
    scale_s=20,
    reads=3000,
    enrolments=400,
    starts=5,
    members=1000,
    asked=100,
)
QUICK = Plan(
    "quick",
    people=4000,
    warming_up=40,
    steady_s=5,
    open_s=6,
    pool_s=2,
    naive_s=4,
    scale_s=5,
    reads=500,
    enrolments=60,
    starts=2,
    members=200,
    asked=20,
)
