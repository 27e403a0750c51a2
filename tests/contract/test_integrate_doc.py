"""docs/integrate.md is two programs that run as they stand."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.demo import Story
from tests.portraits import hopper_altered, write_portraits
from tests.service.own_process import OwnProcess, served

# WGS-84, as a phone tells it; docs/phone-page.md names the same place
AT_THE_ADDRESS = (114.05489, 22.54672)
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


@pytest.fixture(scope="module")
def own() -> Iterator[OwnProcess]:
    with served() as running:
        yield running


def programs() -> tuple[str, str]:
    """The short one, and the one that the page builds up."""
    first, *parts = PROGRAM.findall((ROOT / "docs" / "integrate.md").read_text("utf-8"))
    return first, "\n".join(parts)


def environment_of(own: OwnProcess, photos: Path) -> dict[str, str]:
    return {**own.environment, "BASE": own.base, "PHOTOS": str(photos), "PYTHONPATH": str(ROOT)}


async def check_in(own: OwnProcess) -> None:
    async with aiohttp.ClientSession() as session:
        story = Story(session, own)
        await story.consent("p-1")
        await story.check_in("at the address", "accepted", "first", "p-1", AT_THE_ADDRESS, hopper_altered())
        assert story.failures == []


def test_less_than_thirty_lines_lead_to_the_first_completed_status(own: OwnProcess, tmp_path: Path) -> None:
    program, _ = programs()
    assert len(program.splitlines()) < 30
    write_portraits(tmp_path)
    command = [sys.executable, "-c", program, str(tmp_path / "hopper.jpg")]
    environment = environment_of(own, tmp_path)
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        try:
            assert f"{own.base}/app/#token=" in run.stdout.readline()
            asyncio.run(check_in(own))
            assert run.stdout.readline().startswith("completed 20")
        except BaseException:
            run.kill()
            raise
    assert run.returncode == 0


def test_the_program_of_the_page_runs_and_finds_a_restored_feed(own: OwnProcess, tmp_path: Path) -> None:
    write_portraits(tmp_path)
    (tmp_path / "cursor").write_text("0123456789abcdef.17")
    command = [sys.executable, "-c", programs()[1]]
    environment = environment_of(own, tmp_path)
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    # the short program's round is in the same feed
    told = re.sub(r"^changed first .*\n", "", run.stdout, flags=re.MULTILINE)
    told = re.sub(r"(closes|invalid) .*", r"\1 …", told)
    assert told == TOLD, run.stdout
    assert "/round" in run.stdout
