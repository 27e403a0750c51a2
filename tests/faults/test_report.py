"""What counts as shown, and what of docs/promises.md a run writes."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.faults.__main__ import run, seen_of
from tests.faults.report import PROMISES, Seen, machine, page

FILE = Path("test_promise_03_it.py")
KEPT = Seen(3, [FILE], ["9 sent, 0 lost"], ["lost 2 of 9"], ran=2, seconds=61.4)


def rows(written: str) -> list[str]:
    return [line for line in written.splitlines() if line.startswith("| ") and line[2].isdigit()]


def test_a_promise_that_was_shown_has_its_figures_and_its_controls() -> None:
    assert KEPT.line() == "P3 kept: 9 sent, 0 lost; control failed as it must (lost 2 of 9)"


@pytest.mark.parametrize(
    ("seen", "state"),
    [
        (Seen(3, []), "no test"),
        (Seen(3, [FILE], ["9 sent"], ["lost 2"], ran=2, failed=["test_it"]), "BROKEN"),
        (Seen(3, [FILE], [], ["lost 2"], ran=2), "not shown"),
        (Seen(3, [FILE], ["9 sent"], [], ran=2), "not shown"),
        (Seen(3, [FILE], skipped=2), "not shown"),
    ],
    ids=["no file", "failed", "no figures", "no control", "skipped"],
)
def test_anything_else_is_not_kept(seen: Seen, state: str) -> None:
    assert seen.state == state
    assert seen.line().startswith(f"P3 {state}")
    assert f"| 3 | {state} |" in seen.row("0123")


def test_the_page_has_a_row_for_every_promise_and_keeps_what_was_not_tested_again() -> None:
    first = page(KEPT, "", "2 cores.", "0123")
    assert len(rows(first)) == len(PROMISES)
    assert "| 3 | kept | 9 sent, 0 lost | lost 2 of 9 | `test_promise_03_it` | 61 s |" in first
    assert "| 4 | not tested |" in first
    second = page(Seen(4, []), first, "2 cores.", "4567")
    assert [row.split(" | ")[1] for row in rows(second)[2:5]] == ["kept", "no test", "not tested"]
    assert "0123" in rows(second)[2]
    assert "4567" in rows(second)[3]


def test_rows_of_another_machine_are_not_kept() -> None:
    elsewhere = page(KEPT, "", "64 cores.", "0123")
    assert "kept |" not in page(Seen(4, []), elsewhere, "2 cores.", "4567")


def test_the_machine_is_one_line_with_the_versions_of_the_servers() -> None:
    assert all(name in machine() for name in ("cores", "GiB", "Linux", "Python", "PostgreSQL", "Valkey"))
    assert machine().count("\n") == 0


PROMISED = """
import pytest
from tests.faults.record import Record

def test_kept():
    Record(3).kept("9 sent")

def test_control():
    Record(3).control("lost 2")

def test_broken():
    assert False

def test_skipped():
    pytest.skip("no photographs")
"""


def test_a_file_is_run_and_what_it_recorded_is_read(tmp_path: Path) -> None:
    file = tmp_path / "test_promise_03_it.py"
    file.write_text(PROMISED)
    seen = run(3, [file], full=False)
    assert (seen.kept, seen.controls) == (["9 sent"], ["lost 2"])
    assert (seen.ran, seen.skipped, seen.failed) == (3, 1, ["test_broken"])


def test_tests_that_did_not_get_as_far_as_a_result_are_a_failure(tmp_path: Path) -> None:
    record = tmp_path / "record"
    record.write_text(json.dumps({"promise": 3, "kept": "9 sent"}) + "\n")
    died = subprocess.CompletedProcess([], -9, "", "")
    seen = seen_of(3, [FILE], died, record, tmp_path / "none", 1)
    assert (seen.state, seen.failed) == ("BROKEN", ["pytest ended with -9"])
