"""How often somebody else of a roster comes too near: a false alarm for who is himself, a catch for who is not.

Rosters are drawn at random, with a reference and another photograph of each member. Every such photograph is held
against every reference; where it passes the threshold for one of them, it is flagged when its best score against the
others is at most the margin below, or better. Many rosters repeat the same photographs, so the intervals count persons
(:mod:`face.evaluation.rates`), for impostors both of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from face.evaluation.comparisons import Group, Mask, Numbers, Pairs, person_numbers
from face.evaluation.engines import Scores
from face.evaluation.rates import SEED, PersonBootstrap, Rate, drawn_persons

ROSTERS = 400
_LEAST_MEMBERS = 2


@dataclass(frozen=True, slots=True)
class LookAlikes:
    """On ``rosters`` of ``members`` persons of the group: of those above the threshold for themselves, who is flagged,
    and how many different persons these are; of members above the threshold for another member, who is flagged and who
    scores as high for himself or higher, and how many different pairs of persons these are."""

    group: str
    members: int
    rosters: int
    false_alarms: Rate
    alarmed_persons: int
    impostors_caught: Rate
    impostors_nearer_to_themselves: Rate
    impostor_pairs: int


def look_alikes(
    group: Group, members: int, threshold: float, margin: float, rosters: int = ROSTERS
) -> LookAlikes | None:
    """Of ``members`` persons with two photographs that show a face, or of all where they are fewer; None where they
    are not even two."""
    person = person_numbers(group.photos)
    own = [np.flatnonzero((person == number) & group.found) for number in range(group.persons)]
    several = [photos for photos in own if len(photos) > 1]
    size = min(members, len(several))
    if size < _LEAST_MEMBERS:
        return None
    generator = np.random.default_rng(SEED)
    drawn = [_drawn(several, size, generator) for _ in range(rosters)]
    columns = zip(*(_trials(group.scores[np.ix_(*two)], person[two[0]]) for two in drawn), strict=True)
    seen, claimed, score, rival, himself = map(np.concatenate, columns)
    passed, draws = score >= threshold, drawn_persons(group.persons)
    first, second = np.minimum(seen, claimed), np.maximum(seen, claimed)

    def rate(kind: Mask, hits: Mask) -> Rate:
        pairs = Pairs(first[kind], second[kind], score[kind])
        return PersonBootstrap(pairs, draws).rate(hits[kind])

    flagged, nearer = rival >= score - margin, himself >= score
    genuine, impostor = passed & (seen == claimed), passed & (seen != claimed)
    return LookAlikes(
        group.name,
        size,
        rosters,
        rate(genuine, flagged),
        len(np.unique(seen[genuine & flagged])),
        rate(impostor, flagged),
        rate(impostor, nearer),
        len(np.unique(first[impostor] * group.persons + second[impostor])),
    )


def _drawn(
    several: Sequence[Numbers], members: int, generator: np.random.Generator
) -> tuple[Numbers, Numbers]:
    """A probe and a reference of each member."""
    roster = generator.choice(len(several), members, replace=False)
    probes, references = zip(
        *(generator.choice(several[member], 2, replace=False) for member in roster), strict=True
    )
    return np.array(probes), np.array(references)


def _trials(scores: Scores, person: Numbers) -> tuple[Numbers, Numbers, Scores, Scores, Scores]:
    """Everybody against everybody's reference: who is seen, who is claimed, the score, the best score against another
    reference, the score against the own one. ``scores`` is probes x references, of the same persons in one order."""
    members = len(person)
    nearest = scores.argmax(axis=1)
    best, second = scores.max(axis=1), np.partition(scores, -2, axis=1)[:, -2]
    is_nearest = np.arange(members) == nearest[:, None]
    rival = np.where(is_nearest, second[:, None], best[:, None])
    himself = np.repeat(scores.diagonal(), members)
    return np.repeat(person, members), np.tile(person, members), scores.ravel(), rival.ravel(), himself
