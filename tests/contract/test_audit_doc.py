"""docs/audit.md names every route and command, and every action that the code writes."""

import re
import subprocess
import sys
from pathlib import Path

from checkin_service.domain.task import TaskCommand
from checkin_service.web.routes import ROUTES

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "audit.md").read_text("utf-8")
IN_IT = PAGE.split("## What is in it")[1].split("## The chain")[0]
ROW = re.compile(r"^\| (`.*?`) \| (`.*?`) \|", re.MULTILINE)
NAMED = re.compile(r"`([^`]+)`")
# the argument before the task
WRITTEN = re.compile(r"""["']([a-z_]+)["'],\s*(?:None|NULL|\$1|told|{}|[a-z_.]*task_id)""")


def named(column: int) -> set[str]:
    return {name for row in ROW.findall(IN_IT) for name in NAMED.findall(row[column])}


def test_every_route_and_every_command_is_in_it_or_left_out_on_purpose() -> None:
    told = subprocess.run(
        (sys.executable, "-m", "checkin_service", "--help"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    commands = set(re.findall(r"\{([a-z,-]+)\}", told)[0].split(","))
    routes = {f"{route.method} {route.path}" for route in ROUTES}
    left_out = set(NAMED.findall(IN_IT.split("Not in it")[1]))
    assert named(0) | left_out == routes | commands
    assert not named(0) & left_out


def test_every_change_is_in_it() -> None:
    """All but what only asks, and what makes or fills a challenge."""
    asking = {"POST /v1/tasks/query", "POST /v1/challenges", "PUT /v1/challenges/{challenge_id}/burst/{n}"}
    changing = {f"{route.method} {route.path}" for route in ROUTES if route.method != "GET"}
    assert changing - asking <= named(0)


def test_the_actions_are_those_that_are_written() -> None:
    files = [*ROOT.glob("checkin_service/**/*.py"), *ROOT.glob("checkin_service/migrations/*.sql")]
    lines = "".join(file.read_text("utf-8") for file in files)
    calls = re.findall(
        r"(?:write_audit|_audit|append_audit|viewings\.note)\((.*?)(?:\)\n|;)", lines, re.DOTALL
    )
    found = {action for call in calls for action in WRITTEN.findall(call)}
    assert found | set(TaskCommand) == named(1)
