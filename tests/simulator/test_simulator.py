"""The simulator finds nothing wrong with the service as it is, and something with one whose defences are off."""

from checkin_service.simulator import BEHAVIOURS
from tests.service.stage import Stage
from tests.simulator.conftest import Play

ALL = [name for name, behaviour in BEHAVIOURS.items() if behaviour.share]


async def test_everybody_is_answered_as_expected(stage: Stage, play: Play) -> None:
    report = await play(stage, tasks=12, persons=6)
    print(report.as_text())
    assert report.as_expected
