"""How often ``face.is_copy`` calls another photograph of a person a copy, and how often an altered copy."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

from face.comparison import Templates
from face.evaluation.altered import ALTERED
from face.evaluation.comparisons import Progress
from face.evaluation.engines import Describe
from face.evaluation.exact import exact_rate
from face.evaluation.labels import LabelledSet, Photo
from face.evaluation.rates import Rate
from face.fingerprint import Resemblance, is_copy, resemblance

Described = Mapping[Photo, Templates | None]

_Either = tuple[Resemblance, Resemblance]
"""Two photographs, either as the earlier one."""


@dataclass(frozen=True, slots=True)
class FalseAlarms:
    """Pairs of different photographs of one person that are called copies in either order; the same by the rule for
    one day; ``persons`` who have such a pair, of those who have a pair. ``least_distance`` and ``least_bits`` (of 64)
    are the nearest of all pairs, None without a pair."""

    group: str
    pairs: Rate
    on_one_day: Rate
    persons: Rate
    least_distance: float | None
    least_bits: int | None


@dataclass(frozen=True, slots=True)
class Catches:
    """Copies of one kind that are called so; the same by the rule for one day. ``no_face`` of them showed no single
    face, and are not caught."""

    copy: str
    caught: Rate
    on_one_day: Rate
    no_face: int


def false_alarms(described: Described) -> list[FalseAlarms]:
    """For all, then for each group. The exact intervals take pairs, or persons, as independent; pairs are not."""
    groups = dict.fromkeys(photo.group for photo in described)
    named = {group: of_group(described, group) for group in groups}
    return [_alarms(name, those) for name, those in {"all": described, **named}.items()]


def of_group(described: Described, group: str) -> Described:
    return {photo: templates for photo, templates in described.items() if photo.group == group}


def _alarms(name: str, described: Described) -> FalseAlarms:
    by_person: dict[str, list[Templates]] = {}
    for photo, templates in described.items():
        if templates is not None:
            by_person.setdefault(photo.person, []).append(templates)
    persons = [pairs for own in by_person.values() if (pairs := [*_pairs(own)])]
    pairs = [*chain(*persons)]
    return FalseAlarms(
        name,
        _rate([_is_called(pair) for pair in pairs]),
        _rate([_is_called(pair, same_day=True) for pair in pairs]),
        _rate([any(map(_is_called, own)) for own in persons]),
        min((one.distance for one in chain(*pairs)), default=None),
        min((one.hash_bits for one in chain(*pairs)), default=None),
    )


def _pairs(photos: Sequence[Templates]) -> Iterator[_Either]:
    for one, other in combinations(photos, 2):
        first, second = resemblance(one, other), resemblance(other, one)
        if first is not None and second is not None:
            yield first, second


def _is_called(pair: _Either, same_day: bool = False) -> bool:
    return any(is_copy(one, same_day) for one in pair)


def _rate(called: Sequence[bool]) -> Rate:
    return exact_rate(sum(called), len(called))


def catches(
    labelled: LabelledSet, described: Described, describe: Describe, every: int, progress: Progress
) -> list[Catches]:
    """For each kind, every ``every``th photograph that shows a face, altered and held against itself."""
    originals = [(photo, found) for photo, found in described.items() if found is not None][::every]
    rows: list[Catches] = []
    for kind, alter in ALTERED.items():
        copies = []
        for photo, earlier in originals:
            copy = describe(alter((labelled.folder / photo.file).read_bytes()))
            copies.append(resemblance(earlier, copy) if copy else None)
            progress(len(rows) * len(originals) + len(copies), len(ALTERED) * len(originals))
        rows.append(_caught(kind, copies))
    return rows


def _caught(kind: str, copies: Sequence[Resemblance | None]) -> Catches:
    return Catches(
        kind,
        _rate([copy is not None and is_copy(copy) for copy in copies]),
        _rate([copy is not None and is_copy(copy, same_day=True) for copy in copies]),
        sum(copy is None for copy in copies),
    )
