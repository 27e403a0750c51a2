"""The file in which an operator writes down the State Council's notice for a year; docs/calendar.md describes it."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from checkin_service.domain.calendar import Notice, days_between, notice_faults

_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
# whatever is longer is no holiday, and is not written out
_LONGEST_DAYS = 60


class NoticeFault(ValueError):
    """The file is no notice that can be used; the message says all that is wrong with it."""


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Period(_Shape):
    holiday: _Text
    first: date = Field(alias="from")
    last: date = Field(alias="to")


class _NoticeShape(_Shape):
    year: int = Field(ge=1900, le=9998)
    source: _Text
    days_off: list[_Period]
    workdays: list[date]


def read_notice(path: Path) -> tuple[Notice, str]:
    """The notice and its source, as `国办发明电〔2025〕7号`. Raises `NoticeFault`, and OSError without a file."""
    return parse_notice(path.read_bytes())


def parse_notice(content: bytes) -> tuple[Notice, str]:
    """What a file holds, as `read_notice`."""
    shape = _shape(content)
    _refuse(_period_faults(shape.days_off))
    days_off = [day for period in shape.days_off for day in days_between(period.first, period.last)]
    twice = [f"{day} is named twice" for days in (days_off, shape.workdays) for day in _repeated(days)]
    notice = Notice(shape.year, frozenset(days_off), frozenset(shape.workdays))
    _refuse([*twice, *notice_faults(notice)])
    return notice, shape.source


def _shape(content: bytes) -> _NoticeShape:
    try:
        json.loads(content.decode("utf-8"), object_pairs_hook=_refuse_repeated)
        return _NoticeShape.model_validate_json(content)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise NoticeFault(f"the file is not JSON in UTF-8: {error}") from error
    except ValidationError as error:
        raise NoticeFault("; ".join(_sentence(fault) for fault in error.errors())) from error


def _sentence(fault: Mapping[str, Any]) -> str:
    """Where it is, with list items counted from 1 as people do, and what."""
    steps = [str(step + 1) if isinstance(step, int) else step for step in fault["loc"]]
    return f"{' '.join(steps) or 'the file'}: {fault['msg']}"


def _refuse_repeated(fields: list[tuple[str, Any]]) -> None:
    """The last of two would silently count."""
    _refuse([f"the field {name} is there twice" for name in _repeated(name for name, _ in fields)])


def _period_faults(periods: Iterable[_Period]) -> list[str]:
    return [
        f"{p.holiday} can't last from {p.first} to {p.last}"
        for p in periods
        if not 0 <= (p.last - p.first).days < _LONGEST_DAYS
    ]


def _repeated(values: Iterable[Any]) -> list[Any]:
    return [value for value, times in Counter(values).items() if times > 1]


def _refuse(faults: Sequence[str]) -> None:
    if faults:
        raise NoticeFault("; ".join(faults))
