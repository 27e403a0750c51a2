"""docs/security.md rests on tests; here it is seen that they are there."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
ATTACK = re.compile(r"^\| (?!Attacker|---)(.+) \|$", re.MULTILINE)
COLUMNS = 6
# What nothing here can hold off: the row says so.
WITHOUT_DEFENCE = {"a deep fake fed into the app instead of the camera"}


def page() -> str:
    return (ROOT / "docs/security.md").read_text("utf-8")


def test_every_named_test_is_there() -> None:
    named = set(NAMED.findall(page()))
    assert len(named) > 40
    absent = [f"{file}::{name}" for file, name in named if not is_there(file, name)]
    assert absent == []


def is_there(file: str, name: str) -> bool:
    path = ROOT / file
    return (
        path.is_file()
        and re.search(rf"^(async )?def {name}\(", path.read_text("utf-8"), re.MULTILINE) is not None
    )


def test_every_defence_is_shown_by_a_test() -> None:
    attacks = [[cell.strip() for cell in row.split(" | ")] for row in ATTACK.findall(page())]
    assert {len(cells) for cells in attacks} == {COLUMNS}
    assert {cells[1] for cells in attacks if not NAMED.findall(cells[4])} == WITHOUT_DEFENCE
