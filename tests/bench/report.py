"""Tables of figures, each beside what it is meant to be, for people and for programs."""

import math
import os
import platform
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.faults.report import commit, machine

FOLDER, PAGE = Path(".artifacts"), Path("docs", "performance.md")
PLOTS = PAGE.parent / "plots"
END = "<!-- end -->"
LATE_MS, OURS_MS, GROWN = 1500, 6, 1.2
"""What is aimed at of a check-in: p95 at 80 % of the target, CPU of service and PostgreSQL, both in ms, and how many
times that it may cost with ten million attempts in the database."""
HEAD = "| | measured | target | |"


@dataclass(frozen=True, slots=True)
class Row:
    """A figure, infinite for what never came. `least` or `most` is what it is meant to be."""

    what: str
    value: float
    unit: str = ""
    least: float | None = None
    most: float | None = None

    @property
    def kept(self) -> bool | None:
        """None where nothing is aimed at."""
        if self.least is None and self.most is None:
            return None
        return (self.least is None or self.value >= self.least) and (
            self.most is None or self.value <= self.most
        )

    @property
    def target(self) -> str:
        bounds = (("≥", self.least), ("≤", self.most))
        return " and ".join(
            f"{sign} {figure(bound, self.unit)}" for sign, bound in bounds if bound is not None
        )

    @property
    def verdict(self) -> str:
        return {None: "", True: "kept", False: "**missed**"}[self.kept]

    def line(self) -> str:
        # never to the better: 59.97 is not 60
        shown = figure(self.value, self.unit, math.ceil if self.least is None else math.floor)
        return f"| {self.what} | {shown} | {self.target} | {self.verdict} |"

    def record(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "value": self.value if math.isfinite(self.value) else None,
            "unit": self.unit,
            "least": self.least,
            "most": self.most,
            "kept": self.kept,
        }


@dataclass(frozen=True, slots=True)
class Table:
    """`note` says how it was measured; `fault` why it could not be. `plotted`: what `plots.py` draws of it, by the
    picture's name and the name of the line or bar, as JSON has it."""

    title: str
    note: str
    rows: Sequence[Row] = ()
    fault: str = ""
    plotted: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        yield from (f"### {self.title}", "", self.note, "")
        if self.fault:
            yield from (f"**Not measured: {self.fault}**", "")
        if self.rows:
            yield from (HEAD, "|---|---|---|---|", *(row.line() for row in self.rows), "")

    def record(self) -> dict[str, Any]:
        rows = [row.record() for row in self.rows]
        return {
            "title": self.title,
            "note": self.note,
            "fault": self.fault or None,
            "rows": rows,
            "plotted": self.plotted,
        }


def figure(value: float, unit: str, rounded: Callable[[float], float] = round) -> str:
    """To three digits, or whole."""
    if math.isinf(value):
        return "never"
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{rounded(value * 10**digits) / 10**digits:,.{digits}f} {unit}".strip()


def circumstances(plan: str) -> str:
    """One line on what ran where, when."""
    onnxruntime, dlib = version("onnxruntime"), version("dlib-bin")
    load = f"load {os.getloadavg()[0]:.1f} at the start"
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {plan}, commit {commit() or 'unknown'}, {load}, "
        f"onnxruntime {onnxruntime}, dlib {dlib}; {machine()}"
    )


def as_text(about: str, tables: Sequence[Table], pictures: Sequence[str] = ()) -> str:
    """`pictures`: links to them, which come first."""
    shown = [line for picture in pictures for line in (picture, "")]
    return "\n".join([about, "", *shown, *(line for table in tables for line in table.lines())])


def as_record(about: str, tables: Sequence[Table], whole: bool) -> dict[str, Any]:
    """`whole`: measured in full and without a fault, so that it may stand in docs/."""
    missed = [f"{table.title}: {row.what}" for table in tables for row in table.rows if row.kept is False]
    return {
        "about": about,
        "whole": whole,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "tables": [table.record() for table in tables],
        "missed": missed,
    }


def put_into(page: Path, command: str, text: str) -> None:
    """Between the marks that the page has for what this command measures. Raises `ValueError` where it has none."""
    begin, written = f"<!-- {command} -->", page.read_text("utf-8")
    marks = f"{re.escape(begin)}.*?{re.escape(END)}"
    made, found = re.subn(marks, lambda _: f"{begin}\n{text}\n{END}", written, count=1, flags=re.DOTALL)
    if not found:
        raise ValueError(f"{page} has no {begin}")
    page.write_text(made, "utf-8")
