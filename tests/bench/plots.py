"""Plots of what was measured, as SVG, from records such as .artifacts/bench.json: `python -m tests.bench.plots` draws
those of the last runs anew, without a run.

By one version of matplotlib the same record makes the same files, byte for byte; letters are left to whoever shows
them.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from tests.bench.load import PATIENCE_S
from tests.bench.report import FOLDER, GROWN, LATE_MS, OURS_MS, PLOTS

Plotted = Mapping[str, Any]
STYLE: Any = {
    "svg.hashsalt": "checkin",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
TICKS = (50, 75, 90, 95, 99, 99.5, 99.9)
KINDS = {
    "service": "service",
    "postgres": "PostgreSQL",
    "valkey": "Valkey",
    "face": "face workers",
    "naive": "naive service with its executor",
    "generator": "generator",
}
NEVER_MS = 1e9


@dataclass(frozen=True, slots=True)
class Plot:
    """`alt`: what is to be seen, for whoever sees none. `draw` is given what tables have `plotted` by this name."""

    alt: str
    draw: Callable[[Figure, Plotted], None]

    def link(self, name: str) -> str:
        return f"![{self.alt}](plots/{name}.svg)"


def _latency(figure: Figure, plotted: Plotted) -> None:
    """A panel an engine. Whoever was not judged is infinitely late, so that a line leaves the panel at the top."""
    figure.set_size_inches(9, 4)
    panels = figure.subplots(1, len(plotted), sharey=True, squeeze=False)[0]
    for axes, (engine, loads) in zip(panels, plotted.items(), strict=True):
        for load, curve in loads.items():
            late = [NEVER_MS if ms is None else ms for _, ms in curve]
            axes.plot([_tail(p) for p, _ in curve], late, label=load, gid=f"{engine}: {load}")
        axes.plot(_tail(95), LATE_MS, "kx", label="aim: p95 at 80 % of the target")
        axes.set(title=engine, xscale="log", yscale="log", ylim=(50, PATIENCE_S * 1000))
        axes.set(xlim=(_tail(TICKS[0]), _tail(TICKS[-1])), xlabel="percentile of all submissions")
        axes.set_xticks([_tail(percentile) for percentile in TICKS], [f"{tick:g}" for tick in TICKS])
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(visible=True, alpha=0.3)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), frameon=False)
    panels[0].set_ylabel("latency, ms")


def _tail(percentile: float) -> float:
    """One of so many is later."""
    return 100 / (100 - percentile)


def _cpu(figure: Figure, plotted: Plotted) -> None:
    """Service and PostgreSQL first, which have an aim together."""
    figure.set_size_inches(9, 0.6 * len(plotted) + 1.6)
    axes, names = figure.subplots(), list(plotted)
    ends = [0.0] * len(names)
    for kind, label in KINDS.items():
        widths = [plotted[name].get(kind, 0) for name in names]
        axes.barh(names, widths, left=ends, label=label)
        ends = [end + width for end, width in zip(ends, widths, strict=True)]
    axes.axvline(OURS_MS, color="black", linestyle=":", label="aim: service and PostgreSQL")
    axes.invert_yaxis()
    axes.set_xlabel("CPU of a check-in, ms")
    figure.legend(loc="outside lower center", ncols=4, frameon=False)


def _rate(figure: Figure, plotted: Plotted) -> None:
    figure.set_size_inches(9, 0.35 * len(plotted) + 0.8)
    axes = figure.subplots()
    bars = axes.barh(list(plotted), list(plotted.values()))
    # never to the better
    axes.bar_label(bars, fmt=lambda rate: f"{math.floor(rate * 10) / 10:.1f}", padding=3)
    axes.invert_yaxis()
    axes.set_xlabel("check-ins judged a second, at most")


def _growth(figure: Figure, plotted: Plotted) -> None:
    """Points of [attempts, times the cost on the smallest database]."""
    figure.set_size_inches(9, 3.5)
    axes = figure.subplots()
    for name, points in plotted.items():
        axes.plot(*zip(*points, strict=True), "o-", label=name, gid=name)
    axes.axhline(GROWN, color="black", linestyle=":", label="aim for a check-in")
    axes.set(xscale="log", xlabel="attempts in the database", ylabel="times the cost on the smallest")
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower left", frameon=False, ncols=3)


ALL = {
    "latency": Plot("Latency by percentile, of each load of the open model", _latency),
    "cpu": Plot("Whose the CPU of a check-in is, beside the naive service", _cpu),
    "rate": Plot("Check-ins judged a second at most", _rate),
    "growth": Plot("What calls cost in a larger database, beside the smallest", _growth),
}


def draw(record: Mapping[str, Any], folder: Path) -> list[str]:
    """Writes the plots for which the record has anything into the folder; links to them, in their order."""
    folder.mkdir(parents=True, exist_ok=True)
    return [_drawn(name, plotted, folder) for name in ALL if (plotted := _plotted(record, name))]


def _plotted(record: Mapping[str, Any], name: str) -> Plotted:
    """By all tables together."""
    return {of: told for table in record["tables"] for of, told in table["plotted"].get(name, {}).items()}


def _drawn(name: str, plotted: Plotted, folder: Path) -> str:
    with mpl.rc_context(STYLE):
        figure = Figure(layout="constrained")
        ALL[name].draw(figure, plotted)
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
    return ALL[name].link(name)


def main() -> None:
    """Those of whole runs beside the page, others beside their records."""
    for path in filter(Path.exists, (FOLDER / "bench.json", FOLDER / "growth.json")):
        record = json.loads(path.read_text("utf-8"))
        folder = PLOTS if record["whole"] else FOLDER / "plots"
        print(f"{folder}: {' '.join(draw(record, folder))}")


if __name__ == "__main__":
    main()
