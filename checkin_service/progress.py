"""How far an operator's command is, on standard error: a bar on a terminal, and elsewhere a line now and then."""

import sys
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

_BAR = 30
_PAUSE_S = {True: 0.2, False: 10.0}  # on a terminal, elsewhere
# so many lines back is what a rate is counted from: work that was done before goes by faster
_WINDOW = 30


class Progress:
    """``with Progress("persons") as tell: tell(3, 10)`` says `3 of 10 persons`; of work whose amount nobody knows,
    ``tell(3)`` says `3 persons`. What is over before the first line is due needs none."""

    def __init__(
        self, what: str, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._what, self._stream, self._clock = what, stream or sys.stderr, clock
        self._is_terminal = self._stream.isatty()
        self._told: tuple[int, int | None] | None = None
        self._said: deque[tuple[float, int]] = deque([(clock(), 0)], maxlen=_WINDOW)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if len(self._said) == 1:
            return
        if self._told:
            self._say(*self._told)
        if self._is_terminal:
            self._stream.write("\n")

    def __call__(self, done: int, total: int | None = None) -> None:
        self._told = done, total
        if self._clock() - self._said[-1][0] >= _PAUSE_S[self._is_terminal]:
            self._say(done, total)

    def _say(self, done: int, total: int | None) -> None:
        now = self._clock()
        since, before = self._said[0]
        text = _text(self._what, done, total, (done - before) / (now - since) if now > since else 0)
        self._said.append((now, done))
        self._told = None
        self._stream.write(f"\r{_bar(done, total)}{text}\x1b[K" if self._is_terminal else text + "\n")
        self._stream.flush()


def _text(what: str, done: int, total: int | None, per_second: float) -> str:
    """
    >>> _text("persons", 1200, 100000, 30.5)
    '1,200 of 100,000 persons (1 %), 30.5/s, 54 min left'
    >>> _text("rows", 7, None, 0)
    '7 rows'
    """
    parts = [
        f"{done:,} {what}" if total is None else f"{done:,} of {total:,} {what} ({_percent(done, total)} %)"
    ]
    if per_second > 0:
        parts.append(f"{per_second:,.1f}/s")
        if total is not None and done < total:
            parts.append(_left((total - done) / per_second))
    return ", ".join(parts)


def _percent(done: int, total: int) -> int:
    return 100 * done // total if total else 100


def _left(seconds: float) -> str:
    return f"{seconds / 60:,.0f} min left" if seconds >= 90 else f"{seconds:.0f} s left"


def _bar(done: int, total: int | None) -> str:
    """
    >>> _bar(50, 100)
    '[###############---------------] '
    """
    if not total:
        return ""
    full = _BAR * done // total
    return f"[{'#' * full}{'-' * (_BAR - full)}] "
