"""docs/retention.md says what the policy says, and no table of the database is left out of it."""

import re
from datetime import timedelta
from importlib import resources
from pathlib import Path

import pytest

from checkin_service.domain.retention import LAWSUIT, POLICY, POLICY_VERSION, RECORD, Kind
from checkin_service.web.messages import Language, notice

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "retention.md").read_text("utf-8")


def cells(heading: str) -> list[list[str]]:
    """The rows of the one table under a heading, without its head."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def length(period: timedelta) -> str:
    if period >= timedelta(days=1):
        return f"{period.days} day{'s' * (period.days > 1)}"
    return f"{period // timedelta(minutes=1)} min"


def test_the_policy_is_the_documented_one() -> None:
    assert cells("What goes, and when") == [
        [f"`{kind}`", rule.what, length(rule.period), rule.since, rule.why] for kind, rule in POLICY.items()
    ]
    assert f"`{POLICY_VERSION}`" in PAGE


def test_every_table_goes_or_stays() -> None:
    migrations = resources.files("checkin_service.migrations").iterdir()
    scripts = [script.read_text("utf-8") for script in migrations if script.name.endswith(".sql")]
    tables = {name for script in scripts for name in re.findall(r"^CREATE TABLE (\w+)", script, re.MULTILINE)}
    staying = {name for row in cells("What stays") for name in re.findall(r"`(\w+)`", row[0])}
    whole = {"attempt", "template"}  # parts of `refused_attempt` and `reference`
    assert len(tables) > 20
    assert tables - staying - {str(kind) for kind in POLICY} - whole == set()
    assert staying <= tables


@pytest.mark.parametrize("language", Language)
def test_the_notice_names_the_periods(language: Language) -> None:
    """A period that changes changes what people have agreed to: a new version of the notice has to say so."""
    numbers = set(re.findall(r"\d+", notice(language).text))
    days = {
        POLICY[kind].period.days
        for kind in (Kind.EVIDENCE, Kind.KEPT_PHOTOGRAPH, Kind.REFERENCE, Kind.SENT_FIX)
    }
    assert days == {90}
    assert {"90", str(POLICY[Kind.BURST_FRAME].period // timedelta(minutes=1))} <= numbers
    assert (POLICY[Kind.LAST_POSITION].period, LAWSUIT, RECORD) == (
        timedelta(days=1),  # one day
        timedelta(days=184),  # six months
        timedelta(days=1096),  # three years
    )
