"""How far an operator's command is: a bar on a terminal, and elsewhere a line every ten seconds."""

import io
from collections.abc import Callable

import pytest

from checkin_service.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(stream: io.StringIO, step_s: float, tell: Callable[[Progress, int], None]) -> list[str]:
    """What is said of five steps, by line or by picture of the bar."""
    now = 0.0
    with Progress("persons", stream, lambda: now) as progress:
        for number in range(1, 6):
            now += step_s
            tell(progress, number * 100)
    return [part for part in stream.getvalue().replace("\r", "\n").split("\n") if part]


def of_a_thousand(progress: Progress, done: int) -> None:
    progress(done, 1000)


def test_a_line_every_ten_seconds_with_rate_and_rest() -> None:
    assert run(io.StringIO(), 5, of_a_thousand) == [
        "200 of 1,000 persons (20 %), 20.0/s, 40 s left",
        "400 of 1,000 persons (40 %), 20.0/s, 30 s left",
        "500 of 1,000 persons (50 %), 20.0/s, 25 s left",
    ]


def test_what_is_over_at_once_needs_no_line() -> None:
    assert run(io.StringIO(), 1, of_a_thousand) == []


def test_of_what_nobody_knows_the_amount_it_tells_no_rest() -> None:
    assert run(io.StringIO(), 20, lambda progress, done: progress(done))[0] == "100 persons, 5.0/s"


def test_a_terminal_has_one_line_that_is_drawn_anew() -> None:
    stream = Terminal()
    pictures = run(stream, 0.1, of_a_thousand)
    assert len(pictures) == 3
    assert pictures[-1].startswith("[###############---------------] 500 of 1,000 persons (50 %)")
    assert stream.getvalue().count("\n") == 1


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_nothing_to_do_is_no_error(kind: type[io.StringIO]) -> None:
    assert run(kind(), 20, lambda progress, _: progress(0, 0))[-1].startswith("0 of 0 persons (100 %)")


def test_what_was_done_before_is_forgotten_in_the_rate() -> None:
    now = 0.0
    stream = io.StringIO()
    with Progress("persons", stream, lambda: now) as progress:
        progress(50_000, 100_000)
        for number in range(100):
            now += 10
            progress(50_000 + number * 10, 100_000)
    assert ", 1.0/s," in stream.getvalue().splitlines()[-1]
