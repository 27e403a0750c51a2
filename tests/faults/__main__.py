"""`make faults`: the promises' tests in their full form, one line a promise, and the page docs/promises.md.

    python -m tests.faults [--only 1,2] [--short]

Ends with 1 when a promise is broken, has no test, or was not shown: for want of its figures or of its control. Every
promise has its row of the page as soon as it was tested; the short form leaves the page.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from tests.faults.report import PROMISES, REPORT, ROOT, Seen, commit, machine, page

# Beyond this a test hangs; the longest takes some ten minutes.
LONGEST_S = 3600


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--only", help="numbers of promises, by comma")
    parser.add_argument("--short", action="store_true", help="the form of make test")
    options = parser.parse_args()
    wanted = [int(number) for number in options.only.split(",")] if options.only else PROMISES
    tested, states = commit(), []
    for promise in wanted:
        seen = look(promise, full=not options.short)
        states.append(seen.state)
        print(seen.line(), flush=True)
        if not options.short:
            write(seen, tested)
    return 0 if set(states) == {"kept"} else 1


def look(promise: int, full: bool) -> Seen:
    """Runs the promise's tests in a process of their own; whatever becomes of it, the next promise's follow."""
    files = sorted((ROOT / "tests" / "faults").glob(f"test_promise_{promise:02}_*.py"))
    return run(promise, files, full) if files else Seen(promise, files)


def write(seen: Seen, tested: str) -> None:
    before = REPORT.read_text("utf-8") if REPORT.exists() else ""
    REPORT.write_text(page(seen, before, machine(), tested), "utf-8")


def run(promise: int, files: Sequence[Path], full: bool) -> Seen:
    with tempfile.TemporaryDirectory() as folder:
        record, results = Path(folder, "record.jsonl"), Path(folder, "results.xml")
        environment = {**os.environ, "CHECKIN_FAULTS_RECORD": str(record)}
        environment |= {"CHECKIN_FAULTS": "full" if full else ""}
        # what the service said is not what of a failure would be read first
        options = ["-q", "--show-capture=no", f"--junitxml={results}"]
        command = [sys.executable, "-m", "pytest", *options, *map(str, files)]
        since = time.monotonic()
        try:
            ended = subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LONGEST_S
            )
        except subprocess.TimeoutExpired:
            return Seen(promise, files, failed=["no end"], seconds=LONGEST_S)
        return seen_of(promise, files, ended, record, results, time.monotonic() - since)


def seen_of(
    promise: int,
    files: Sequence[Path],
    ended: subprocess.CompletedProcess[str],
    record: Path,
    results: Path,
    seconds: float,
) -> Seen:
    lines = [json.loads(line) for line in record.read_text("utf-8").splitlines()] if record.exists() else []
    cases = list(ElementTree.parse(results).iter("testcase")) if results.exists() else []
    failed = [f"{case.get('name')}" for case in cases if _has(case, "failure", "error")]
    if ended.returncode not in {0, 5} and not failed:
        failed = [f"pytest ended with {ended.returncode}"]
    if failed:
        print(ended.stdout[-6000:], ended.stderr[-2000:], file=sys.stderr)
    skipped = sum(_has(case, "skipped") for case in cases)
    kept, controls = told(lines, "kept"), told(lines, "control")
    return Seen(promise, files, kept, controls, len(cases) - skipped, skipped, failed, seconds)


def _has(case: ElementTree.Element, *kinds: str) -> bool:
    return any(case.find(kind) is not None for kind in kinds)


def told(lines: Sequence[Mapping[str, str]], kind: str) -> list[str]:
    return [line[kind] for line in lines if kind in line]


if __name__ == "__main__":
    sys.exit(main())
