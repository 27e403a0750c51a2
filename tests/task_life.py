"""What docs/task-life.md says: the table of states and commands, and the diagram."""

import re
from pathlib import Path

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "task-life.md").read_text("utf-8")
REFUSED, THERE = "409", "="


def _table(first_cell: str) -> list[list[str]]:
    """The rows under the head that begins so, with the head."""
    rows = PAGE[PAGE.index(f"| {first_cell} |") :].split("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return [cells[0], *cells[2:]]


def state_of(row: str) -> str:
    """The state of a row's task: `suspended, over` is suspended."""
    return row.split(",")[0]


_HEAD, *_ROWS = _table("State")
COMMANDS = _HEAD[1:]
# the state that follows, REFUSED or THERE, by row and command
TABLE = {(row[0], command): cell for row in _ROWS for command, cell in zip(COMMANDS, row[1:], strict=True)}
ROWS = [row[0] for row in _ROWS]
# from, to, and what leads there
EDGES = set(re.findall(r"^    (\w+) --> (\w+): (\w+)$", PAGE, re.MULTILINE))
