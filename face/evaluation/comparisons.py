"""Every photograph of a group compared with every other of the same group."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from face.comparison import Templates
from face.evaluation.engines import Describe, ScoreAll, Scores
from face.evaluation.labels import LabelledSet, Photo

Numbers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Progress = Callable[[int, int], None]
"""Told how many photographs are done, and of how many."""

NOT_FOUND = -np.inf
"""The score of a pair in which a face was not found: it matches at no threshold."""


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Comparisons: ``score`` and the numbers of the two persons, ``first`` ≤ ``second``, n each."""

    first: Numbers
    second: Numbers
    score: Scores

    def __len__(self) -> int:
        return len(self.score)

    def among(self, persons: Mask) -> Scores:
        """The scores of the pairs whose persons are both in the selection."""
        return self.score[persons[self.first] & persons[self.second]]


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """All comparisons within one group. ``scores`` is photos × photos, ``-inf`` where a face was not found.

    Pairs across groups are left out: they are too easy, and would flatter the false match rate.
    """

    name: str
    photos: tuple[Photo, ...]
    found: Mask
    scores: Scores
    persons: int
    mated: Pairs
    nonmated: Pairs

    @property
    def not_found(self) -> int:
        return int((~self.found).sum())


def describe_all(
    labelled: LabelledSet, describe: Describe, progress: Progress
) -> dict[Photo, Templates | None]:
    """Each photograph described once."""
    described: dict[Photo, Templates | None] = {}
    for photo in labelled.photos:
        described[photo] = describe((labelled.folder / photo.file).read_bytes())
        progress(len(described), len(labelled.photos))
    return described


def person_numbers(photos: Sequence[Photo]) -> Numbers:
    """The number of each photograph's person, from 0 on in the order in which persons first appear."""
    numbers = {person: number for number, person in enumerate(dict.fromkeys(p.person for p in photos))}
    return np.array([numbers[photo.person] for photo in photos])


def compared(
    name: str, photos: Sequence[Photo], templates: Sequence[Templates | None], score_all: ScoreAll
) -> Group:
    """The group of these photographs, in their order."""
    found = np.array([template is not None for template in templates])
    scores = np.full((len(photos), len(photos)), NOT_FOUND)
    if found.any():
        scores[np.ix_(found, found)] = score_all([t for t in templates if t is not None])
    person = person_numbers(photos)
    one, other = np.triu_indices(len(photos), k=1)
    first, second = np.minimum(person[one], person[other]), np.maximum(person[one], person[other])
    mated, nonmated = (
        Pairs(first[kind], second[kind], scores[one, other][kind])
        for kind in (first == second, first != second)
    )
    return Group(name, tuple(photos), found, scores, len({*person.tolist()}), mated, nonmated)
