"""Renders the service's values as the contract's JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from aiohttp import web

from checkin_service.adapters.postgres.audit import PresentHead
from checkin_service.adapters.postgres.feed import Change
from checkin_service.adapters.postgres.tasks import Round, TaskHead, TaskStatus
from checkin_service.domain.calendar import shanghai_time
from checkin_service.domain.case import what_follows
from checkin_service.domain.reasons import Reason
from checkin_service.domain.task import MemberStatus, members_digest
from checkin_service.usecases.export_person import PersonExport
from checkin_service.web.messages import Language, reason_text


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer before it is bytes, so that it can be stored and given again."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> web.Response:
        if self.body is None:
            return web.Response(status=self.status, headers=self.headers)
        text = json.dumps(self.body, ensure_ascii=False)
        return web.Response(
            status=self.status, text=text, content_type="application/json", headers=self.headers
        )


def instant_text(instant: datetime) -> str:
    """RFC 3339 at +08:00, as exact as the instant is.

    >>> from datetime import UTC
    >>> instant_text(datetime(2026, 11, 20, 1, 12, 3, 120000, tzinfo=UTC))
    '2026-11-20T09:12:03.120+08:00'
    """
    precision = "auto" if instant.microsecond % 1000 else "milliseconds" if instant.microsecond else "seconds"
    return shanghai_time(instant).isoformat(timespec=precision)


def reason_json(reason: Mapping[str, Any], spoken: Language) -> dict[str, str]:
    """A reason as it is stored, `code` and `figures`, in the language asked for."""
    figures = {
        name: datetime.fromisoformat(figure) if name.endswith("_at") else figure
        for name, figure in reason["figures"].items()
    }
    message, advice = reason_text(Reason(reason["code"]), spoken, **figures)
    return {"code": reason["code"], "message": message, "advice": advice}


def status_answer(status: TaskStatus, code: int = 200) -> Answer:
    return Answer(code, status_json(status), {"ETag": status.head.etag})


def status_json(status: TaskStatus) -> dict[str, Any]:
    facts = status.head.facts
    return {
        "task_id": status.head.task_id,
        "case_id": status.case_id,
        "round": status.round,
        "flow": status.head.flow,
        "state": status.head.state,
        "registered_at": instant_text(status.registered_at),
        "opens_at": instant_text(status.opens_at),
        "closes_at": instant_text(facts.closes_at),
        "window": {
            "basis": status.window_basis,
            "start_day": status.start_day.isoformat(),
            "nominal_day": status.nominal_day.isoformat(),
            "last_day": status.last_day.isoformat(),
            "rolled_over": [day.isoformat() for day in status.rolled_over],
            "provisional": facts.provisional,
            "calendar_version": status.calendar_version,
        },
        "fence_version": status.fence_version,
        "progress": progress_json(status.head),
        "members": [_member_json(member) for member in status.members],
        "rev": status.head.rev,
        **_closed_json(status.head),
        "members_digest": members_digest(status.members),
    }


def progress_json(head: TaskHead) -> dict[str, Any]:
    facts = head.facts
    return {"total": facts.total, "accepted": facts.accepted, "in_review": facts.in_review}


def _closed_json(head: TaskHead) -> dict[str, Any]:
    return {"closed_at": instant_text(head.closed_at)} if head.closed_at else {}


def case_json(case_id: str, rounds: Sequence[Round]) -> dict[str, Any]:
    """What follows is said by the last round that was not voided, if there is one."""
    counting = [r.head for r in rounds if not r.head.facts.voided]
    return {
        "case_id": case_id,
        "rounds": [_round_json(r) for r in rounds],
        "follows": what_follows(counting[-1].flow, counting[-1].state) if counting else None,
    }


def _round_json(of_case: Round) -> dict[str, Any]:
    head = of_case.head
    return {
        "task_id": head.task_id,
        "round": of_case.round,
        "flow": head.flow,
        "rectifies": of_case.rectifies,
        "state": head.state,
        "opens_at": instant_text(of_case.opens_at),
        "closes_at": instant_text(head.facts.closes_at),
        "progress": progress_json(head),
        **_closed_json(head),
    }


def _member_json(member: MemberStatus) -> dict[str, Any]:
    accepted = member.accepted_at and {
        "accepted_at": instant_text(member.accepted_at),
        "method": member.method,
        "check_in_id": member.check_in_id,
        **({"decided_at": instant_text(member.decided_at)} if member.decided_at else {}),
    }
    return {
        "person_id": member.person_id,
        "state": member.state,
        **(accepted or {}),
        "reference": "ready" if member.has_reference else "missing",
    }


def export_answer(export: PersonExport) -> Answer:
    return Answer(
        200,
        {
            "person_id": export.person_id,
            "exported_at": instant_text(export.exported_at),
            "stored": export.stored,
        },
    )


def audit_head_json(head: PresentHead) -> dict[str, Any]:
    return {"seq": head.seq, "hash": head.hash.hex()}


def feed_json(
    epoch: str, head: PresentHead, changes: Sequence[Change], after: int, *, has_more: bool
) -> dict[str, Any]:
    last = changes[-1].seq if changes else after
    return {
        "feed_epoch": epoch,
        "changes": [
            {"seq": c.seq, "task_id": c.task_id, "rev": c.rev, "type": c.type, "at": instant_text(c.at)}
            for c in changes
        ],
        "next": f"{epoch}.{last}",
        "has_more": has_more,
        "audit_head": audit_head_json(head),
    }
