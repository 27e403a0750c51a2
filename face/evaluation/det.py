"""Detection error tradeoff: FNMR over FMR as the threshold moves, a CSV and a picture for each group."""

import csv
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from face.evaluation.engines import Scores
from face.evaluation.evaluation import Evaluation, GroupResult
from face.evaluation.rates import GroupRates, Rate

_STEPS = 60
_COLUMNS = (
    *("threshold", "fmr", "fmr_low", "fmr_high", "false_matches", "nonmated"),
    *("fnmr", "fnmr_low", "fnmr_high", "false_nonmatches", "mated"),
)


@dataclass(frozen=True, slots=True)
class DetPoint:
    threshold: float
    fmr: Rate
    fnmr: Rate


def det_points(rates: GroupRates) -> list[DetPoint]:
    """The curve from the strictest threshold to the laxest, at most ``3 × _STEPS`` of its steps.

    The steps kept are those where the count of either error passes a value of a logarithmic scale: every one of
    the first few errors, fewer where there are thousands.
    """
    mated, nonmated = rates.group.mated.score, rates.group.nonmated.score
    picked = np.concatenate(
        [_picked(-np.sort(-nonmated)), _picked(np.sort(mated)), _picked(-np.sort(-mated))]
    )
    thresholds = np.unique(picked[np.isfinite(picked)])[::-1]
    return [DetPoint(float(t), rates.fmr(float(t)), rates.fnmr(float(t))) for t in thresholds]


def _picked(scores: Scores) -> Scores:
    if not len(scores):
        return scores
    return np.asarray(scores[np.unique(np.geomspace(1, len(scores), _STEPS).astype(int)) - 1])


def write_csv(points: Sequence[DetPoint], path: Path) -> None:
    """One line a threshold, from the strictest to the laxest; the bounds are 95 % intervals by person."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(_COLUMNS)
        table.writerows((point.threshold, *_cells(point.fmr), *_cells(point.fnmr)) for point in points)


def _cells(rate: Rate) -> tuple[float | str, ...]:
    value = rate.value if rate.pairs else ""
    return value, rate.low, rate.high, rate.errors, rate.pairs


def can_draw() -> bool:
    """Whether matplotlib, which the service does without, is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def write_png(evaluation: Evaluation, result: GroupResult, points: Sequence[DetPoint], path: Path) -> None:
    """Both rates on logarithmic scales, with the band of the FNMR and the engine's operating points.

    A rate of zero has no place on such a scale and is drawn at half an error.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.add_subplot()
    fmr = [_on_log_scale(point.fmr) for point in points]
    axes.fill_between(
        fmr, [p.fnmr.low for p in points], [p.fnmr.high for p in points], alpha=0.2, step="post"
    )
    axes.step(fmr, [_on_log_scale(point.fnmr) for point in points], where="post")
    for name, threshold in evaluation.operating_points.items():
        rates = result.rates.fmr(threshold), result.rates.fnmr(threshold)
        axes.plot(*map(_on_log_scale, rates), "o", label=f"{name} (score {threshold:.3g})")
    group = result.group
    axes.set(xscale="log", yscale="log", xlabel="false match rate", ylabel="false non-match rate")
    axes.set_title(
        f"{evaluation.engine}, {group.name}: {group.persons} persons\n95 % band by person", size=10
    )
    axes.grid(visible=True, which="both", alpha=0.3)
    if evaluation.operating_points:
        axes.legend()
    figure.savefig(path, dpi=120)


def _on_log_scale(rate: Rate) -> float:
    return max(rate.errors, 0.5) / max(rate.pairs, 1)


def write_det(evaluation: Evaluation, folder: Path) -> list[Path]:
    """``det_GROUP.csv``, and ``det_GROUP.png`` where matplotlib is installed, for each group."""
    folder.mkdir(parents=True, exist_ok=True)
    return [path for result in evaluation.results for path in _write_group(evaluation, result, folder)]


def _write_group(evaluation: Evaluation, result: GroupResult, folder: Path) -> list[Path]:
    points = det_points(result.rates)
    table, picture = (folder / f"det_{result.group.name}.{kind}" for kind in ("csv", "png"))
    write_csv(points, table)
    if not can_draw():
        return [table]
    write_png(evaluation, result, points, picture)
    return [table, picture]
