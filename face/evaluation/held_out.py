"""The true match rate at a wanted false match rate, on persons whom the threshold was not fixed on.

A threshold that is chosen and judged on the same comparisons looks better than it is. It is therefore fixed either on
persons from elsewhere (:func:`at_fixed`: one threshold, 95 % interval by person, the threshold taken as given) or on a
random half of the persons and judged on the other half (:func:`by_splits`: median and 5-95 % of many such splits).

A cell is not estimable, and None, when the wanted rate lets fewer than five false matches be expected among the
non-mated pairs of the group reported, or of the persons the threshold is fixed on. In splits that is counted over the
whole group: each half has a quarter of its pairs, so one threshold rests on few, and only the spread over many splits
is a result.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from face.evaluation.comparisons import Group, Mask
from face.evaluation.engines import Scores
from face.evaluation.rates import SEED, GroupRates, Rate, is_estimable, threshold_at

WANTED_FMRS: Mapping[str, int] = {"1e-2": 100, "1e-3": 1_000, "1e-4": 10_000}
"""The wanted false match rates: one in how many."""

DEFAULT_SPLITS = 200
LEAST_SPLITS = 100
_LEAST_PERSONS = 4


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, 5 % and 95 % of the splits."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class HeldOut:
    """True and false match rate at a threshold fixed on other persons: counted, or the spread of splits."""

    threshold: float
    tar: Rate | Spread
    fmr: Rate | Spread


def at_fixed(rates: GroupRates, thresholds: Mapping[str, float | None]) -> dict[str, HeldOut | None]:
    """The group's rates at thresholds that were fixed elsewhere (None: not estimable there)."""
    return {
        wanted: None if threshold is None else _at(rates, threshold, WANTED_FMRS[wanted])
        for wanted, threshold in thresholds.items()
    }


def _at(rates: GroupRates, threshold: float, one_in: int) -> HeldOut | None:
    group = rates.group
    if not is_estimable(len(group.nonmated), one_in) or not len(group.mated):
        return None
    return HeldOut(threshold, rates.fnmr(threshold).complement(), rates.fmr(threshold))


def fixed_thresholds(groups: Sequence[Group]) -> dict[str, float | None]:
    """The strictest of the thresholds that each group's non-mated pairs ask for; None if one is not estimable."""
    return {wanted: _strictest(groups, one_in) for wanted, one_in in WANTED_FMRS.items()}


def _strictest(groups: Sequence[Group], one_in: int) -> float | None:
    if not all(is_estimable(len(group.nonmated), one_in) for group in groups):
        return None
    return max(threshold_at(group.nonmated.score, one_in) for group in groups)


def by_splits(group: Group, splits: int) -> dict[str, HeldOut | None]:
    """Thresholds from a random half of the group's persons, rates from the other half, ``splits`` times."""
    if group.persons < _LEAST_PERSONS or not len(group.mated):
        return dict.fromkeys(WANTED_FMRS)
    generator = np.random.default_rng(SEED)
    halves = [_half(group.persons, generator) for _ in range(splits)]
    # splits × rates × (threshold, TAR, FMR)
    outcomes = np.array([_split(group, half) for half in halves])
    return {
        wanted: _spread(outcomes[:, place]) if is_estimable(len(group.nonmated), one_in) else None
        for place, (wanted, one_in) in enumerate(WANTED_FMRS.items())
    }


def _half(persons: int, generator: np.random.Generator) -> Mask:
    half = np.zeros(persons, bool)
    half[generator.permutation(persons)[: persons // 2]] = True
    return half


def _split(group: Group, half: Mask) -> list[tuple[float, float, float]]:
    fixed_on, nonmated = group.nonmated.among(half), group.nonmated.among(~half)
    mated = group.mated.among(~half)
    thresholds = [threshold_at(fixed_on, one_in) for one_in in WANTED_FMRS.values()]
    return [(threshold, _share(mated, threshold), _share(nonmated, threshold)) for threshold in thresholds]


def _share(scores: Scores, threshold: float) -> float:
    """How many match; nan in a half in which nobody has two photographs."""
    return float((scores >= threshold).mean()) if len(scores) else np.nan


def _spread(outcomes: Scores) -> HeldOut | None:
    whole = outcomes[~np.isnan(outcomes).any(axis=1)]
    if not len(whole):
        return None
    low, middle, high = np.percentile(whole, [5, 50, 95], axis=0)
    _, tar, fmr = (Spread(*map(float, column)) for column in zip(middle, low, high, strict=True))
    return HeldOut(float(middle[0]), tar, fmr)
