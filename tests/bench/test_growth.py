"""That what grows is told beside what it grew from, and that nothing is judged but what is aimed at."""

from pathlib import Path
from typing import Any

import pytest

from checkin_service.adapters.embedded import EmbeddedStores
from tests import growth
from tests.bench import report
from tests.growth import Side, Spent
from tests.service.own_process import OwnProcess

ANY: Any = None


def side(tasks: int) -> Side:
    return Side(OwnProcess(0, "", {}), ANY, Path(), tasks, [], 0)


SIDES = [side(0), side(100), side(100_000)]
# two turns of ten calls: 20, 24 and 25 ms each
SPENT = [Spent([0.1, 0.1], [times - 0.1, times - 0.1], 40_000, [0.05] * 20) for times in (0.2, 0.24, 0.25)]


def test_a_check_in_is_compared_with_an_empty_database() -> None:
    table = growth.check_in_table(SIDES, SPENT)
    lines = list(table.lines())
    assert "| empty: service and PostgreSQL | 20.0 ms |  |  |" in lines
    assert "| beside empty, by turn 1.20 to 1.20 | 1.20 times | ≤ 1.20 times | kept |" in lines
    assert "| beside empty, by turn 1.25 to 1.25 | 1.25 times | ≤ 1.20 times | **missed** |" in lines
    assert "| written to the log | 2.00 kB |  |  |" in lines
    [curve] = table.plotted["growth"].values()
    assert curve == [(10_000, pytest.approx(1.2)), (10_000_000, pytest.approx(1.25))]


def test_what_is_read_is_compared_with_the_smallest_that_has_it_and_not_judged() -> None:
    table = growth.reads_table("status", SIDES[1:], SPENT[1:])
    assert [row.value for row in table.rows] == pytest.approx([24, 25, 25 / 24])
    assert {row.kept for row in table.rows} == {None}
    assert table.plotted["growth"]["status"][0] == (10_000, 1)


async def test_each_database_has_an_account_of_its_own(stores: EmbeddedStores) -> None:
    process = OwnProcess(0, "", {"DATABASE_URL": stores.database_url or ""})
    postmaster = await growth.postmaster_of(process)
    # only the first of a server's processes tells where its data lie
    assert b"\0-D\0" in command_line(postmaster)
    assert growth.cpu_s(postmaster, b"postgres") > 0


def command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def test_the_page_has_a_place_for_it(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(report.PAGE.read_text("utf-8"))
    report.put_into(page, growth.COMMAND, "told")
    assert f"<!-- {growth.COMMAND} -->\ntold\n<!-- end -->" in page.read_text()
