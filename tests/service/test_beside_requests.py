"""What a process does beside its requests: it sees who is near a deadline, and judges what waits."""

from dataclasses import replace
from datetime import timedelta

import pytest

from checkin_service import overload
from tests.service.situations import services_of
from tests.service.stage import Stage, photo_of, until
from tests.service.test_deferral import fields_of, read
from tests.service.window import CLOSES_AT, task_at_noon


@pytest.fixture(autouse=True)
def watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overload, "WATCH_INTERVAL_S", 0.02)


async def test_what_was_taken_near_the_end_is_judged_unasked(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await stage.set_clock(CLOSES_AT - timedelta(minutes=1))
    admission = services_of(stage).admission
    await until(lambda: admission.closing)
    assert admission.closing == {"p-1"}
    fields = await fields_of(stage)
    stage.engine.stats = replace(stage.engine.stats, waiting=600, analysis_s=0.2)
    pending = await stage.submit("p-1", fields, photo_of("p-1", shot=1), "k")
    assert (pending.status, stage.engine.analysed) == (202, ["p-1"]), "others might be coming in"
    # whoever waits is judged, also while others come in
    await stage.set_clock(CLOSES_AT + timedelta(minutes=1))
    await until(lambda: admission.backlog == 0 and len(stage.engine.analysed) == 2)
    judged = await read(stage, pending)
    assert (judged.body["outcome"], admission.backlog) == ("accepted", 0)
    assert (await stage.status("T1"))["state"] == "completed"
