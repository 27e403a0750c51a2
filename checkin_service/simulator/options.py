"""What a simulation is told, on the command line or by a test."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path

from checkin_service.simulator.behaviours import BEHAVIOURS


def _yesterday() -> datetime:
    return datetime.now(UTC) - timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Options:
    """`data_dir` holds the development key, `photos` a folder a face. `persons` of each task. `only`: the names of
    behaviours, empty for all. `rate`: arrivals a second that wait for nobody's answer; without it the next of
    `parallel` persons comes when one is done.
    """

    url: str
    data_dir: Path
    photos: Path
    tasks: int = 30
    persons: int = 2
    seed: int = 1
    only: Sequence[str] = ()
    rate: float | None = None
    parallel: int = 4
    approved_at: datetime = field(default_factory=_yesterday)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those of `Options`, and `--json`."""
    add = parser.add_argument
    add("--url", default="http://127.0.0.1:8080", help="where the service listens")
    add("--data-dir", type=Path, help="where its development key is; default: as for `token`")
    add("--photos", type=Path, required=True, help="a folder a face, each with reference.jpg and selfie*.jpg")
    add("--tasks", type=int, default=30)
    add("--persons", type=int, default=2, help="on each task; at most as many as faces")
    add("--seed", type=int, default=1)
    add("--only", action="append", default=[], choices=BEHAVIOURS, metavar="BEHAVIOUR")
    add("--rate", type=float, help="arrivals a second, whether or not earlier ones are answered")
    add("--parallel", type=int, default=4, help="without --rate: how many persons at a time")
    add("--approved-at", type=datetime.fromisoformat, default=_yesterday(), help="of tasks that are not late")
    add("--json", type=Path, metavar="FILE", help="write the report there as well")


def read_options(parsed: argparse.Namespace) -> Options:
    """From what a parser with `add_options` has read."""
    return Options(**{option.name: getattr(parsed, option.name) for option in fields(Options)})
