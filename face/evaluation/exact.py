"""The exact interval of a share of independent trials (Clopper and Pearson, Biometrika 26, 1934)."""

from collections.abc import Callable
from math import exp, lgamma, log

from face.evaluation.rates import Rate


def exact_rate(errors: int, n: int) -> Rate:
    """``errors`` of ``n`` with the exact 95 % interval, as if the trials were independent."""
    return Rate(errors, n, *clopper_pearson(errors, n))


def clopper_pearson(errors: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact interval of a share: 0-1 when nothing was tried.

    >>> [round(bound, 4) for bound in clopper_pearson(3, 14)]
    [0.0466, 0.508]
    """
    tail = (1 - confidence) / 2
    low = 0.0 if errors == 0 else _solved(lambda p: 1 - _at_most(errors - 1, n, p) < tail)
    high = 1.0 if errors == n else _solved(lambda p: _at_most(errors, n, p) > tail)
    return low, high


def _at_most(errors: int, n: int, p: float) -> float:
    """The probability of so many errors or fewer."""
    ways = (lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) for k in range(errors + 1))
    return sum(exp(way + k * log(p) + (n - k) * log(1 - p)) for k, way in enumerate(ways))


def _solved(is_below: Callable[[float], bool]) -> float:
    """Where, between 0 and 1, ``is_below`` turns false."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if is_below(middle) else (low, middle)
    return (low + high) / 2
