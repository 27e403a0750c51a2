"""What was measured, for whoever reads: on the terminal, in .artifacts/ and, of a whole run, in docs/performance.md."""

import json
from collections.abc import Sequence
from pathlib import Path

from tests.bench.plots import draw
from tests.bench.report import FOLDER, PAGE, PLOTS, Table, as_record, as_text, put_into


def publish(command: str, name: str, about: str, tables: Sequence[Table], whole: bool) -> None:
    """The record into .artifacts/NAME.json, for a program; tables and plots into docs/ only of a whole run."""
    record = as_record(about, tables, whole)
    FOLDER.mkdir(exist_ok=True)
    written = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
    Path(FOLDER, f"{name}.json").write_text(written, "utf-8")
    print(as_text(about, tables))
    links = draw(record, PLOTS if whole else FOLDER / "plots")
    if whole:
        put_into(PAGE, command, as_text(about, tables, links))
