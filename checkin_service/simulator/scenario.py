"""Who takes part: tasks of several enterprises with their rosters, and persons with a behaviour each, by a seed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any

from checkin_service.domain.enterprise import uscc_fault
from checkin_service.domain.roster import Category
from checkin_service.domain.task import Flow
from checkin_service.simulator.behaviours import Behaviour
from checkin_service.simulator.photographs import Face
from checkin_service.simulator.positions import ACCURACIES_M, Ground

Json = dict[str, Any]
_TASKS_PER_ENTERPRISE = 3
# Back in years whose rest days are all published, so that the window is never provisional.
_LONG_AGO = timedelta(days=400)


@dataclass(frozen=True, slots=True)
class Task:
    """A round of verification as the platform registers it."""

    task_id: str
    ground: Ground
    registration: Json


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody on one task's roster. `random` is theirs alone: what they do does not hang on when others do it."""

    person_id: str
    task: Task
    behaviour: Behaviour
    face: Face
    colleague: Face
    platform: str
    random: Random


def scenario(
    run: str,
    seed: int,
    behaviours: Sequence[Behaviour],
    faces: Sequence[Face],
    *,
    tasks: int,
    persons: int,
    approved_at: datetime,
) -> list[Person]:
    """All persons, in the order in which they come. `run` is in every id: the same seed may be played again.

    So many tasks, each with so many persons, and one more where some have to be late. Two members with one face would
    look alike: ValueError for more persons than faces.
    """
    if persons > len(faces):
        raise ValueError(f"{len(faces)} faces allow no more than {len(faces)} persons a task")
    random = Random(seed)  # noqa: S311  a scenario, not a secret
    rosters = _rosters(_deal(behaviours, tasks * persons, random), persons)
    enterprises = [_enterprise(random) for _ in range(-(-len(rosters) // _TASKS_PER_ENTERPRISE))]
    cast: list[Person] = []
    for number, roster in enumerate(rosters):
        enterprise, ground = enterprises[number % len(enterprises)]
        opened = approved_at - (_LONG_AGO if roster[0].late else timedelta(0))
        ids = [f"{run}-{number}-{index}" for index in range(len(roster))]
        body = _registration(f"{run}-{number}", enterprise, ground, opened, ids, random)
        task = Task(f"{run}-{number}", ground, body)
        cast += [_person(task, ids[i], b, faces, i, f"{seed} {number} {i}") for i, b in enumerate(roster)]
    random.shuffle(cast)
    return cast


def _rosters(behaviours: Sequence[Behaviour], size: int) -> list[Sequence[Behaviour]]:
    """Who is late is late together: it is their task that is over."""
    groups = [[b for b in behaviours if b.late == late] for late in (False, True)]
    return [group[first : first + size] for group in groups for first in range(0, len(group), size)]


def _deal(behaviours: Sequence[Behaviour], count: int, random: Random) -> list[Behaviour]:
    """One of each as far as they go, then by their shares."""
    deck = [behaviour for behaviour in behaviours for _ in range(max(1, behaviour.share))]
    dealt = [*random.sample(behaviours, len(behaviours)), *(deck * (count // len(deck) + 1))][:count]
    random.shuffle(dealt)
    return dealt


def _enterprise(random: Random) -> tuple[Json, Ground]:
    body = "91440300" + "".join(random.choices("0123456789ABCDEFGHJKLMNPQRTUWXY", k=9))
    uscc = next(body + check for check in "0123456789ABCDEFGHJKLMNPQRTUWXY" if not uscc_fault(body + check))
    return {"uscc": uscc, "name": f"深圳模拟建筑工程有限公司{uscc[-4:]}"}, Ground.anywhere(random)


def _registration(
    case_id: str, enterprise: Json, ground: Ground, approved_at: datetime, ids: Sequence[str], random: Random
) -> Json:
    return {
        "case_id": case_id,
        "round": 1,
        "flow": random.choice((Flow.FIRST_APPLICATION, Flow.ROUTINE)),
        "enterprise": enterprise,
        "approved_at": approved_at.isoformat(),
        "place": {
            "registered_address": f"深圳市模拟路{random.randint(1, 999)}号",
            "frame": ground.frame,
            "fence": ground.geojson,
            "buffer_m": ground.buffer_m,
        },
        "roster": list(_roster(ids, random)),
    }


def _roster(ids: Sequence[str], random: Random) -> Iterator[Json]:
    for index, person_id in enumerate(ids):
        categories = random.sample(list(Category), random.randint(1, 2))
        yield {
            "person_id": person_id,
            "name": "张*",
            "categories": categories,
            "technical_lead": index == 0,
        }


def _person(
    task: Task, person_id: str, behaviour: Behaviour, faces: Sequence[Face], index: int, seed: str
) -> Person:
    random = Random(seed)  # noqa: S311  as above
    face, colleague = faces[index], faces[(index + 1) % len(faces)]
    return Person(person_id, task, behaviour, face, colleague, random.choice(list(ACCURACIES_M)), random)
