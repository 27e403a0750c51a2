"""What the service says on standard error: one JSON object a line, of events and fields that stand here.

Nothing personal can be among them: a field that its event does not list is left out, and so is a value that is not a
number or a single word, for a sentence may quote anybody's data.
"""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog

from face import JOB_NAME

EVENTS: Mapping[str, frozenset[str]] = {
    "request": frozenset({"method", "route", "status", "ms"}),
    "unavailable": frozenset({"error"}),
    "defect": frozenset({"error", "at"}),
    "face_worker_lost": frozenset({"job", "cause"}),
    "faces_not_confined": frozenset({"missing"}),
    "face_tier_away": frozenset({"replica", "cause"}),
    "face_tier_back": frozenset({"replica"}),
    "face_tier_in_clear": frozenset({"replica"}),
    "references_settled": frozenset({"persons", "models"}),
    "sweep_failed": frozenset({"error"}),
    "restored": frozenset(),
    "database_role_may_rewrite": frozenset(),
    "keys_in_main_database": frozenset(),
    "deletions_finished": frozenset({"persons"}),
    "key_set_unread": frozenset(),
    "draining": frozenset({"grace_s"}),
    "drained": frozenset({"connections", "requests"}),
    "wechat_failed": frozenset({"errcode"}),
    "calendar_ends": frozenset({"last_day", "days_ahead"}),
    "review_overdue": frozenset({"reviews"}),
    "watch_failed": frozenset({"error"}),
    "deferred_unavailable": frozenset({"error"}),
    "deferred_overdue": frozenset({"waiting", "oldest_s"}),
    "library": frozenset({"logger", "error"}),
}
"""Every event with the fields that it may have."""

# `request_id`: of the request that is being answered, see `web/request_id.py`
_EVERY_EVENT = {"event", "level", "timestamp", "request_id"}
_WORD = re.compile(r"[A-Za-z0-9_./:{}<>+-]{1,200}")


def configure_logs() -> None:
    """For the whole process, and for what its libraries say."""
    # aiohttp quotes what it can't parse, and that may be anybody's token or name
    logging.getLogger("aiohttp.server").disabled = True
    logging.basicConfig(handlers=[_OnlyWhat()], level=logging.WARNING, force=True)
    structlog.configure(
        processors=[
            _name_request,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.add_log_level,
            leave_out_unlisted,
            structlog.processors.JSONRenderer(),
        ],
        # standard error as it is when something is said
        logger_factory=lambda *_: structlog.PrintLogger(cast(TextIO, _IfItCan(sys.stderr))),
        cache_logger_on_first_use=False,
    )


def _name_request(_: object, __: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if name := JOB_NAME.get():
        fields["request_id"] = name
    return fields


def leave_out_unlisted(_: object, __: str, fields: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """The line without what may not be in it; `left_out` counts that.

    >>> dict(leave_out_unlisted(None, "", {"event": "sweep_failed", "error": "OSError", "name": "张三"}))
    {'event': 'sweep_failed', 'error': 'OSError', 'left_out': 1}
    >>> dict(leave_out_unlisted(None, "", {"event": "sweep_failed", "error": "no such person: p-1"}))
    {'event': 'sweep_failed', 'left_out': 1}
    >>> dict(leave_out_unlisted(None, "", {"event": "p-1 was refused"}))
    {'event': 'unlisted', 'left_out': 1}
    """
    listed = EVENTS.get(fields["event"], frozenset()) | _EVERY_EVENT
    kept = {name: value for name, value in fields.items() if name in listed and _is_plain(value)}
    left_out = len(fields) - len(kept)
    if kept.get("event") not in EVENTS:
        kept["event"], left_out = "unlisted", max(1, left_out)
    return kept | {"left_out": left_out} if left_out else kept


def _is_plain(value: object) -> bool:
    if isinstance(value, str):
        return bool(_WORD.fullmatch(value))
    if isinstance(value, tuple):
        return all(_is_plain(part) for part in value)
    return value is None or isinstance(value, int | float)


class _IfItCan:
    """A stream that nobody fails with: a full disk or a closed pipe behind the log is no reason to refuse a request."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


class _OnlyWhat(logging.Handler):
    """Of what libraries say, who says it and the exception's type: their sentences and tracebacks quote values."""

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0] if record.exc_info else None
        error = kind.__name__ if kind else None
        structlog.get_logger().log(record.levelno, "library", logger=record.name, error=error)
