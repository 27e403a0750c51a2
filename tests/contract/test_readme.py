"""The README says what is: its settings are the settings, its commands run as they stand, and so does its demo."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from checkin_service.settings import SETTINGS
from tests import demo
from tests.portraits import write_portraits
from tests.service.own_process import OwnProcess, served

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
SHELL = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND_ROW = re.compile(r"^\| `([a-z-]+)` \| (.*?) \|$", re.MULTILINE)
SETTING_ROW = re.compile(r"^\| `([A-Z_]+)` \| (.*?) \| (.*?) \|$", re.MULTILINE)


def test_the_table_of_settings_is_the_settings() -> None:
    rows = SETTING_ROW.findall(README.read_text("utf-8"))
    settings = [(s.variable, f"`{s.default}`" if s.default else "–", s.meaning) for s in SETTINGS.values()]
    assert rows == settings


def test_the_table_of_commands_is_the_commands() -> None:
    command, wide = (sys.executable, "-m", "checkin_service", "--help"), {**os.environ, "COLUMNS": "200"}
    told = subprocess.run(command, cwd=ROOT, env=wide, capture_output=True, text=True, check=True).stdout
    commands = re.findall(r"^    ([a-z-]+) +(.+)$", told, re.MULTILINE)
    assert COMMAND_ROW.findall(README.read_text("utf-8")) == commands
    assert ("serve", "run the service until SIGTERM or Ctrl-C") in commands


@pytest.fixture(scope="module")
def own() -> Iterator[OwnProcess]:
    with served() as process:
        yield process


@pytest.mark.skipif(
    shutil.which("curl") is None, reason="the README's calls use curl, which is not installed"
)
def test_every_call_of_the_readme_runs(own: OwnProcess, tmp_path: Path) -> None:
    write_portraits(tmp_path)
    script = "\n".join(['set -euo pipefail; curl() { command curl --fail-with-body "$@"; echo; }', *blocks()])
    environment = {**own.environment, "BASE": own.base, "PHOTOS": str(tmp_path)}
    run = subprocess.run(["bash", "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    answers = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    assert [answer["outcome"] for answer in answers if "outcome" in answer] == ["accepted"]
    assert "completed" in {answer.get("state") for answer in answers}


def test_the_demonstration_ends_as_it_must(own: OwnProcess, capsys: pytest.CaptureFixture[str]) -> None:
    assert asyncio.run(demo.tell(own)) == 0
    told = capsys.readouterr().out
    for reason in ("outside_geofence", "non_match", "no_face", "window_closed", "already_checked_in"):
        assert f"rejected {reason}" in told or f"accepted {reason}" in told
    assert "completed, 2/2 accepted" in told


def blocks() -> list[str]:
    found = SHELL.findall(README.read_text("utf-8"))
    assert len(found) == 8
    return found
