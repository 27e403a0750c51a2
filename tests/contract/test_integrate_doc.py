"""docs/integrate.md is a program that runs as it stands."""

import re
import subprocess
import sys
from pathlib import Path

from tests.portraits import write_portraits
from tests.service.own_process import served

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
TOLD = """\
registered pending_material closes …
refused invalid …
enrolled p-7 warnings [[]]
changed afternoon open 0/1
unchanged True
extended order True
changed afternoon open 0/1
"""


def test_the_program_of_the_page_runs_and_finds_a_restored_feed(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "integrate.md").read_text("utf-8")
    write_portraits(tmp_path)
    (tmp_path / "cursor").write_text("0123456789abcdef.17")
    with served() as own:
        environment = {**own.environment, "BASE": own.base, "PHOTOS": str(tmp_path), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", "\n".join(PROGRAM.findall(page))]
        run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    told = re.sub(r"(closes|invalid) .*", r"\1 …", run.stdout)
    assert told == TOLD, run.stdout
    assert "/round" in run.stdout
