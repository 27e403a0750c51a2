"""An evaluation from photographs to results, without a word of how they are written down."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from face.evaluation.comparisons import Group, Progress, compared, describe_all
from face.evaluation.engines import Describe, ModelPlaces, NamedEngine, ScoreAll
from face.evaluation.fault import EvaluationFault
from face.evaluation.held_out import HeldOut, at_fixed, by_splits, fixed_thresholds
from face.evaluation.labels import LabelledSet
from face.evaluation.rates import GroupRates


@dataclass(frozen=True, slots=True)
class Plan:
    """Whom thresholds are fixed on.

    ``labelled`` is reported. With ``thresholds_from``, a group's thresholds are fixed on that set's group of the same
    name, and where it has none on all of its groups, of which the strictest threshold holds; persons who are in both
    sets (by name) are left out of it. ``threshold_group`` names one group for all, of ``thresholds_from`` or else of
    ``labelled`` itself. A group without thresholds from elsewhere gets them by ``splits`` of its own persons.

    Raises :class:`EvaluationFault` when there is nobody to fix them on.
    """

    labelled: LabelledSet
    thresholds_from: LabelledSet | None
    threshold_group: str | None
    splits: int

    def __post_init__(self) -> None:
        source = self.outsiders or self.labelled
        if not source.groups:
            raise EvaluationFault(f"all persons in {source.folder} are also in {self.labelled.folder}")
        if self.threshold_group not in (None, *source.groups):
            known = ", ".join(source.groups)
            raise EvaluationFault(
                f"no other person is in {self.threshold_group} of {source.folder}, only: {known}"
            )

    @property
    def outsiders(self) -> LabelledSet | None:
        """The other set without anybody of the reported set."""
        inside = self.labelled.persons
        return self.thresholds_from and self.thresholds_from.only(lambda photo: photo.person not in inside)

    def sources_of(self, group: str) -> tuple[str, ...]:
        """The groups that thresholds for ``group`` are fixed on; none for splits of its own."""
        others = self.outsiders
        if others is None:
            return () if self.threshold_group in (None, group) else (self.threshold_group,)
        named = self.threshold_group or group
        return (named,) if named in others.groups else others.groups


@dataclass(frozen=True, slots=True)
class GroupResult:
    """``cells`` by wanted false match rate; ``fixed_on`` says in words on whom their thresholds were fixed.

    ``fewest_nonmated`` is the number of non-mated pairs, of the group or of whom its thresholds are fixed on, that
    decides which cells are estimable. ``own_thresholds`` are what the group's own pairs ask for: in-sample, and no
    result.
    """

    rates: GroupRates
    fixed_on: str
    fewest_nonmated: int
    cells: Mapping[str, HeldOut | None]
    own_thresholds: Mapping[str, float | None]

    @property
    def group(self) -> Group:
        return self.rates.group


@dataclass(frozen=True, slots=True)
class Evaluation:
    engine: str
    operating_points: Mapping[str, float]
    results: tuple[GroupResult, ...]


def evaluate(
    name: str, engine: NamedEngine, places: ModelPlaces, plan: Plan, progress: Progress
) -> Evaluation:
    """Describe every photograph that the plan needs once, and measure."""
    describe = engine.build(places)
    groups = _groups(plan.labelled, describe, engine.score_all, progress)
    others = groups
    if plan.outsiders is not None:
        sources = {source for group in groups for source in plan.sources_of(group)}
        needed = plan.outsiders.only(lambda photo: photo.group in sources)
        others = _groups(needed, describe, engine.score_all, progress)
    results = tuple(_result(plan, group, others) for group in groups.values())
    return Evaluation(name, engine.operating_points, results)


def _groups(
    labelled: LabelledSet, describe: Describe, score_all: ScoreAll, progress: Progress
) -> dict[str, Group]:
    described = describe_all(labelled, describe, progress)
    groups = {}
    for name in labelled.groups:
        photos = [photo for photo in labelled.photos if photo.group == name]
        groups[name] = compared(name, photos, [described[photo] for photo in photos], score_all)
    return groups


def _result(plan: Plan, group: Group, others: Mapping[str, Group]) -> GroupResult:
    sources = [others[name] for name in plan.sources_of(group.name)]
    rates, own = GroupRates(group), fixed_thresholds([group])
    fewest = min(len(each.nonmated) for each in (group, *sources))
    if not sources:
        words = f"median and 5-95 % of {plan.splits} splits of the persons into halves"
        return GroupResult(rates, words, fewest, by_splits(group, plan.splits), own)
    return GroupResult(rates, _words(sources), fewest, at_fixed(rates, fixed_thresholds(sources)), own)


def _words(sources: Sequence[Group]) -> str:
    named = ", ".join(f"{s.name}: {s.persons} persons, {len(s.nonmated)} non-mated pairs" for s in sources)
    return f"{named}{'; the strictest' if len(sources) > 1 else ''}; 95 % intervals by person"
