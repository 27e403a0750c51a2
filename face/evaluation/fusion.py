"""What a fusion gains over the score that it is made from, on the same photographs.

The thresholds of both are fixed on these very persons, at an FMR of 1e-3. The interval of the difference is from 2.5 to
97.5 % of rounds in which persons are resampled and both thresholds fixed anew. As :mod:`face.evaluation.rates` says of
such percentiles, it is rather too narrow: where it holds zero, no gain is shown, and where it lies just above, little.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from face.evaluation.comparisons import Group
from face.evaluation.engines import Scores
from face.evaluation.rates import drawn_persons

_ONE_IN = 1000


@dataclass(frozen=True, slots=True)
class Gain:
    """True match rates at an FMR of 1e-3; the fused one less the plain one, with its 95 % interval by person."""

    group: str
    tar: float
    tar_fused: float
    difference: float
    low: float
    high: float


def gain(plain: Group, fused: Group) -> Gain | None:
    """Of the same photographs, scored in two ways. None without mated or non-mated pairs."""
    if not len(plain.mated) or not len(plain.nonmated):
        return None
    tar, tar_fused = _true_match_rate(plain), _true_match_rate(fused)
    once = np.ones(plain.persons)
    low, high = np.nanpercentile(
        [tar_fused(drawn) - tar(drawn) for drawn in drawn_persons(plain.persons)], [2.5, 97.5]
    )
    return Gain(plain.name, tar(once), tar_fused(once), tar_fused(once) - tar(once), float(low), float(high))


def _true_match_rate(group: Group) -> Callable[[Scores], float]:
    """The rate when each person was drawn so often: at the lowest threshold that lets no more than one in a thousand
    non-mated pairs match. It is nan where no mated or no non-mated pair was drawn."""
    mated, nonmated = group.mated, group.nonmated
    falling = np.argsort(-nonmated.score)
    first, second, score = nonmated.first[falling], nonmated.second[falling], nonmated.score[falling]

    def rate(drawn: Scores) -> float:
        summed, weights = np.cumsum(drawn[first] * drawn[second]), drawn[mated.first]
        if not summed[-1] or not weights.any():
            return float("nan")
        refused = score[np.searchsorted(summed, summed[-1] / _ONE_IN, side="right")]
        return float(weights[mated.score > refused].sum() / weights.sum())

    return rate
