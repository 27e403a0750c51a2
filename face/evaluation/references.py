"""What several references of a person change: by the best of the scores, or by their mean.

The rows of a group can be held against each other: three references are drawn of each person who has more than three
photographs, and the first one, two or three of them are used; the probes are all other photographs of the group.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from face.evaluation.comparisons import Group, Numbers, Pairs, person_numbers
from face.evaluation.engines import Scores
from face.evaluation.rates import SEED, GroupRates, Rate, threshold_at

DRAWS = 30
_MOST = 3
_ONE_IN = 1000

_BY: Mapping[str, Callable[[Scores], Scores]] = {
    "best": lambda scores: scores.max(axis=1),
    "mean": lambda scores: scores.mean(axis=1),
}


@dataclass(frozen=True, slots=True)
class Several:
    """``references`` of ``persons`` each: true and false match rate at the threshold asked for; the threshold of an FMR
    of 1e-3 on these very comparisons, and the true match rate there. Comparisons of all draws are counted."""

    group: str
    references: int
    by: str
    persons: int
    tar: Rate
    fmr: Rate
    threshold_at_1e3: float
    tar_at_1e3: Rate


def several_references(group: Group, threshold: float) -> list[Several]:
    """For one, two and three; empty for a group where nobody has enough photographs, or where nobody else is."""
    person = person_numbers(group.photos)
    own = [np.flatnonzero(person == number) for number in range(group.persons)]
    owners = [photos[group.found[photos]] for photos in own if _has_enough(photos, group)]
    if not owners or group.persons == 1:
        return []
    generator = np.random.default_rng(SEED)
    drawn = [generator.choice(photos, _MOST, replace=False) for _ in range(DRAWS) for photos in owners]
    return [
        _row(_compared(group, person, drawn, number, by), number, by, len(owners), threshold)
        for number, by in product(range(1, _MOST + 1), _BY)
    ]


def _has_enough(photos: Numbers, group: Group) -> bool:
    """Three with a face for references, and one for a probe."""
    return len(photos) > _MOST and int(group.found[photos].sum()) >= _MOST


def _compared(group: Group, person: Numbers, drawn: Sequence[Numbers], number: int, by: str) -> Group:
    """The group with its comparisons replaced: each probe against the first ``number`` of each draw's references."""
    probes = [np.setdiff1d(np.arange(len(person)), references) for references in drawn]
    score = np.concatenate(
        [
            _BY[by](group.scores[np.ix_(left, references[:number])])
            for left, references in zip(probes, drawn, strict=True)
        ]
    )
    seen = person[np.concatenate(probes)]
    owner = np.repeat([person[references[0]] for references in drawn], [len(left) for left in probes])
    first, second = np.minimum(seen, owner), np.maximum(seen, owner)
    mated, nonmated = (
        Pairs(first[kind], second[kind], score[kind]) for kind in (seen == owner, seen != owner)
    )
    return replace(group, mated=mated, nonmated=nonmated)


def _row(group: Group, number: int, by: str, persons: int, threshold: float) -> Several:
    rates, own = GroupRates(group), threshold_at(group.nonmated.score, _ONE_IN)
    return Several(
        group.name,
        number,
        by,
        persons,
        rates.fnmr(threshold).complement(),
        rates.fmr(threshold),
        own,
        rates.fnmr(own).complement(),
    )
