"""The simulator finds nothing wrong with the service as it is, and something wherever a defence is switched off."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from checkin_service.__main__ import main
from checkin_service.simulator import BEHAVIOURS, Report
from checkin_service.simulator.photographs import read_faces
from checkin_service.simulator.scenario import scenario
from checkin_service.usecases import open_challenge, submit_check_in, verdict
from checkin_service.usecases.receipts import signed_receipt
from tests.service.stage import Stage, photo_of, registration
from tests.simulator.conftest import FACES, Play
from tests.simulator.photographed import TrustingEngine, textured

UNASKED = {name for name, behaviour in BEHAVIOURS.items() if behaviour.share}
# Rows that a statement inserts are not kept, and nobody is told.
LOSE = "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
LOSE_FROM = "CREATE TRIGGER loses BEFORE INSERT ON {} FOR EACH ROW WHEN ({}) EXECUTE FUNCTION lose()"


def wrong(report: Report) -> set[str]:
    """The behaviours that were not answered as expected."""
    return {row.behaviour for row in report.rows if row.as_expected < row.persons} - {"all"}


async def lose_rows(stage: Stage, table: str, condition: str = "true") -> None:
    await stage.sql(LOSE)
    await stage.sql(LOSE_FROM.format(table, condition))


def played(report: Report) -> set[str]:
    return {row.behaviour for row in report.rows} - {"all"}


# --- A service as it is ---


async def test_everybody_is_answered_as_expected(play: Play) -> None:
    report = await play(tasks=7, persons=FACES, parallel=3)
    assert (wrong(report), report.platform) == (set(), [])
    assert report.as_expected
    assert played(report) == UNASKED


async def test_arrivals_at_a_rate_that_wait_for_nobody(play: Play) -> None:
    report = await play(tasks=3, persons=4, rate=50, only=["honest", "rushes", "again"], seed=2)
    assert report.as_expected, report.as_text()
    assert played(report) == {"honest", "rushes", "again"}


async def test_a_challenge_is_let_expire(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_challenge, "LIFETIME", timedelta(seconds=1))
    assert (await play(tasks=1, only=["expired_challenge"])).as_expected


async def test_who_comes_while_the_window_closes_is_in_or_out_by_the_receipt(
    stage: Stage, play: Play
) -> None:
    approved_at = datetime.now(UTC) - timedelta(days=1)
    probe = await stage.platform("PUT", "/v1/tasks/probe", registration(approved_at=approved_at.isoformat()))
    closes_at = datetime.fromisoformat(probe.body["closes_at"])
    await stage.set_clock(closes_at - timedelta(minutes=1))

    async def close_in_the_middle() -> None:
        while len(await stage.sql("SELECT FROM acceptance")) < 5:  # noqa: ASYNC110  the event is in the database
            await asyncio.sleep(0.005)
        await stage.set_clock(closes_at)

    closing = asyncio.create_task(close_in_the_middle())
    report = await play(tasks=10, persons=4, parallel=2, only=["honest"], approved_at=approved_at)
    await closing
    assert report.as_expected, report.as_text()
    outcomes = {row["outcome"] for row in await stage.sql("SELECT outcome FROM attempt")}
    assert outcomes == {"accepted", "rejected"}


def test_a_seed_is_a_scenario(photos: Path) -> None:
    def cast(seed: int) -> list[Any]:
        persons = scenario(
            "run",
            seed,
            list(BEHAVIOURS.values()),
            read_faces(photos),
            tasks=5,
            persons=4,
            approved_at=datetime(2026, 11, 1, tzinfo=UTC),
        )
        return [(p.person_id, p.behaviour.name, p.platform, p.task.registration) for p in persons]

    assert cast(7) == cast(7)
    assert cast(7) != cast(8)


# --- Services that are not as they should be ---


async def test_control_a_fence_that_reaches_everywhere(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    def everywhere(fence: Any, _: float, *position: Any, **rules: Any) -> Any:
        return submit_check_in_locate(fence, 1e6, *position, **rules)

    submit_check_in_locate = submit_check_in.locate  # type: ignore[attr-defined]
    monkeypatch.setattr(submit_check_in, "locate", everywhere)
    names = ["honest", "far_then_inside", "edge_then_inside", "wrong_frame", "used_challenge", "late"]
    report = await play(tasks=3, persons=4, only=names)
    assert wrong(report) == {"far_then_inside", "edge_then_inside", "wrong_frame", "used_challenge"}
    assert not report.as_expected
    differences = {row.behaviour: row.differences[0] for row in report.rows if row.differences}
    assert differences["wrong_frame"].endswith(
        "expected rejected outside_geofence position_frame_suspect; got accepted"
    )


async def test_control_an_engine_that_takes_everybody_for_one(stage: Stage, play: Play) -> None:
    stage.engine.analyse = TrustingEngine().analyse  # type: ignore[method-assign]
    report = await play(tasks=6, persons=1, only=["honest", "colleagues_face", "no_face"])
    assert wrong(report) == {"colleagues_face", "no_face"}


async def test_control_acceptances_that_are_lost(stage: Stage, play: Play) -> None:
    await lose_rows(stage, "acceptance")
    report = await play(tasks=2, persons=2, only=["honest"])
    assert wrong(report) == set()
    assert not report.as_expected
    told = " ".join(report.platform)
    assert "not_started" in told
    assert "digest" in told


async def test_control_a_change_that_is_lost(stage: Stage, play: Play) -> None:
    await lose_rows(stage, "change", "NEW.type = 'member_accepted'")
    report = await play(tasks=1, persons=2, only=["honest"])
    assert not report.as_expected
    assert any("revisions" in difference for difference in report.platform)


async def test_control_a_receipt_in_anothers_name(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    def sign(keys: Any, _: str, *acceptance: Any) -> str:
        return signed_receipt(keys, "p-other", *acceptance)

    monkeypatch.setattr(verdict, "signed_receipt", sign)
    report = await play(tasks=1, only=["honest"])
    assert wrong(report) == set()
    assert ["p-other" in difference for difference in report.platform] == [True, True]


# --- The command ---


def command(stage: Stage, photos: Path, *more: str) -> Any:
    url, data_dir = str(stage.client.make_url("/")), str(stage.settings.data_dir)
    arguments = ["simulate", "--url", url, "--data-dir", data_dir, "--photos", str(photos), *more]
    return asyncio.to_thread(partial(main, arguments))


async def test_the_command_ends_with_0_and_writes_its_report(
    stage: Stage, photos: Path, tmp_path: Path
) -> None:
    file = tmp_path / "report.json"
    more = ("--tasks", "1", "--only", "honest", "--only", "late", "--json", str(file))
    assert await command(stage, photos, *more) == 0
    report = json.loads(file.read_text())
    assert report["as_expected"]
    assert [row["behaviour"] for row in report["rows"]] == ["honest", "late", "all"]


async def test_the_command_ends_with_1_on_a_difference(stage: Stage, photos: Path) -> None:
    await lose_rows(stage, "acceptance")
    with pytest.raises(SystemExit) as ended:
        await command(stage, photos, "--tasks", "1", "--only", "honest")
    assert ended.value.code == 1


@pytest.mark.parametrize("folder", ["missing", "empty"])
async def test_without_photographs_it_says_so(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str], folder: str
) -> None:
    (tmp_path / "empty").mkdir()
    assert await command(stage, tmp_path / folder) == 1
    assert "reference.jpg" in capsys.readouterr().err


async def test_it_says_that_there_are_not_enough_faces(
    stage: Stage, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await command(stage, photos, "--persons", str(FACES + 1)) == 1
    assert f"{FACES} faces" in capsys.readouterr().err


async def test_it_says_what_the_service_refuses(
    stage: Stage, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for face in ("one", "two"):
        (tmp_path / face).mkdir()
        (tmp_path / face / "selfie.jpg").write_bytes((photos / "face-00" / "selfie1.jpg").read_bytes())
        (tmp_path / face / "reference.jpg").write_bytes(textured(photo_of("nobody")))
    assert await command(stage, tmp_path, "--tasks", "1", "--only", "honest") == 1
    assert "no_face" in capsys.readouterr().err
