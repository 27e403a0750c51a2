"""What the API takes in, from JSON and form fields to the use cases' values. All faults at once."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from checkin_service.domain.enterprise import uscc_fault
from checkin_service.domain.review import ReviewDecision
from checkin_service.domain.roster import Category, Requirement, RosterMember, roster_faults
from checkin_service.domain.task import Flow
from checkin_service.domain.window import deadline_fault, is_day_end
from checkin_service.usecases.command_task import Close, Extend, NewFence, Resume, Revoke, Suspend, Void
from checkin_service.usecases.refusals import FieldFault, Refusal
from checkin_service.usecases.register_task import RefusedRegistration, TaskRegistration
from checkin_service.web.body import json_digest, parse_json
from checkin_service.web.shape import Faults, Id, Instant, Shape, Whole, between, line, lines, parse_fields
from geofence import Box, FenceError, Fix, Frame, parse_fence

# Approvals are counted from the first year whose rest days are published.
FIRST_APPROVAL = datetime.fromisoformat("2004-01-01T00:00:00+08:00")
MAX_ROSTER = 1000
MAX_QUERY = 500
MAX_PAGE = 500
JsonObject = dict[str, Any]
FrameName = Literal["wgs84", "gcj02", "bd09", "cgcs2000"]


class EnterpriseShape(Shape):
    uscc: Annotated[str, Field(max_length=64)]
    name: Annotated[str, line(200)]


class PlaceShape(Shape):
    registered_address: Annotated[str, line(500)]
    frame: FrameName
    fence: JsonObject
    buffer_m: Annotated[float, between(0, 500)] = 100.0


class RequirementShape(Shape):
    registered: Annotated[Whole, between(0, 10_000)]
    titled: Annotated[Whole, between(0, 10_000)]
    has_safety_permit: bool


class MemberShape(Shape):
    person_id: Id
    name: Annotated[str, line(64)]
    categories: Annotated[list[Literal["registered", "titled"]], Field(min_length=1, max_length=2)]
    technical_lead: bool


class TaskShape(Shape):
    case_id: Id
    round: Annotated[Whole, between(1, 1000)]
    flow: Literal["first_application", "routine", "rectification"]
    rectifies: Id | None = None
    enterprise: JsonObject
    approved_at: Instant
    deadline_at: Instant | None = None
    place: JsonObject
    requirement: JsonObject | None = None
    roster: Annotated[list[Any], Field(min_length=1, max_length=MAX_ROSTER)]


class VoidShape(Shape):
    reason: Annotated[str, lines(500)]
    superseded_by: Id | None = None


class ExtendShape(Shape):
    reason: Annotated[str, lines(500)]
    deadline_at: Instant
    document_no: Annotated[str, line(200)]


class FenceShape(Shape):
    reason: Annotated[str, lines(500)]
    place: JsonObject
    effective_at: Instant | None = None


class ResumeShape(Shape):
    reason: Annotated[str, lines(500)]
    deadline_at: Instant | None = None
    document_no: Annotated[str, line(200)] | None = None


class ReasonShape(Shape):
    """A command that takes nothing else."""

    reason: Annotated[str, lines(500)]


class QueryShape(Shape):
    task_ids: Annotated[list[Id], Field(max_length=MAX_QUERY)]


class ConsentShape(Shape):
    notice_version: Annotated[str, line(64)]
    scopes: Annotated[list[Literal["face", "face_transfer", "location"]], Field(min_length=1, max_length=3)]


class ChallengeShape(Shape):
    task_id: Id
    identity: JsonObject | None = None


class IdentityShape(Shape):
    """As it stands on a mainland identity card."""

    name: Annotated[str, line(100)]
    number: Annotated[str, StringConstraints(pattern=r"\A[0-9]{17}[0-9X]\z")]


class BasisShape(Shape):
    kind: Literal["separate_consent", "statutory_duty"]
    document: Annotated[str, line(200)] | None = None


class FixShape(Shape):
    # Any finite number: what lies beyond the globe is judged `position_implausible`, not refused here.
    lon: Annotated[float, Field(allow_inf_nan=False)]
    lat: Annotated[float, Field(allow_inf_nan=False)]
    accuracy_m: Annotated[float, Field(allow_inf_nan=False)] | None = None
    at: Instant
    speed_mps: Annotated[float, Field(allow_inf_nan=False)] | None = None
    altitude_m: Annotated[float, Field(allow_inf_nan=False)] | None = None


class CheckInShape(Shape):
    task_id: Id
    challenge_id: Annotated[str, line(100)]
    frame: FrameName
    fixes: Annotated[list[Any], Field(max_length=10)]
    captured_at: Instant
    device: Any = None


class ManualRequestShape(Shape):
    task_id: Id
    reason: Annotated[str, lines(500)]
    fixes: Annotated[list[Any], Field(max_length=10)] | None = None
    frame: FrameName | None = None


class DecisionShape(Shape):
    decision: Literal["accept", "reject"]
    note: Annotated[str, lines(500)]


class DeviceShape(Shape):
    platform: Literal["android", "ios", "harmony", "devtools", "other"] = "other"
    model: Annotated[str, line(200)] | None = None
    device_id: Annotated[str, line(200)] | None = None
    reduced_accuracy: bool = False


def parse_object(shape: type[Shape], body: object) -> JsonObject:
    """A body without rules beyond its shape. Raises `Refusal` invalid."""
    faults: Faults = []
    fields = parse_fields(shape, body, "", faults)
    refuse(faults)
    return fields


def parse_challenge(body: object) -> tuple[str, JsonObject | None]:
    """The task's id, and the identity where one was sent. Raises `Refusal` invalid."""
    faults: Faults = []
    fields = parse_fields(ChallengeShape, body, "", faults)
    identity = _part(IdentityShape, fields, "identity", faults)
    refuse(faults)
    return fields["task_id"], identity or None


def refuse(faults: Faults) -> None:
    if faults:
        raise Refusal("invalid", faults)


# --- Registration ---


def parse_registration(task_id: str, body: object, box: Box) -> TaskRegistration | RefusedRegistration:
    """Shape and static rules of `PUT /v1/tasks/{task_id}`, every fault at once."""
    faults: Faults = []
    task = parse_fields(TaskShape, body, "", faults)
    enterprise = _part(EnterpriseShape, task, "enterprise", faults)
    place = _part(PlaceShape, task, "place", faults)
    requirement = _part(RequirementShape, task, "requirement", faults)
    roster = [
        parse_fields(MemberShape, member, f"/roster/{index}", faults)
        for index, member in enumerate(task.get("roster", []))
    ]
    _check_enterprise(enterprise, faults)
    _check_place(place, "/place", box, faults)
    _check_times(task, faults)
    _check_flow(task, faults)
    _check_roster(roster, requirement, faults)
    if faults:
        return _refused_registration(faults, task, enterprise)
    return _registration(task_id, task, enterprise, place, requirement or None, roster)


def _part(shape: type[Shape], task: JsonObject, name: str, faults: Faults) -> JsonObject:
    """A nested object's right fields; empty when the object itself is absent, null or wrong."""
    value = task.get(name)
    return parse_fields(shape, value, f"/{name}", faults) if value is not None else {}


def _check_enterprise(enterprise: JsonObject, faults: Faults) -> None:
    code = uscc_fault(enterprise["uscc"]) if "uscc" in enterprise else None
    if code:
        faults.append(FieldFault("/enterprise/uscc", code))


def _check_place(place: JsonObject, pointer: str, box: Box, faults: Faults) -> None:
    if "fence" not in place or "frame" not in place:
        return
    try:
        parse_fence(place["fence"], Frame(place["frame"]), box)
    except FenceError as error:
        faults.extend(FieldFault(f"{pointer}/fence{fault.pointer}", fault.code) for fault in error.faults)


def _check_times(task: JsonObject, faults: Faults) -> None:
    approved_at, deadline_at = task.get("approved_at"), task.get("deadline_at")
    if approved_at and approved_at < FIRST_APPROVAL:
        faults.append(FieldFault("/approved_at", "approved_at_too_early", {"earliest": FIRST_APPROVAL}))
    code = deadline_fault(approved_at, deadline_at) if approved_at and deadline_at else None
    if code:
        faults.append(FieldFault("/deadline_at", code))


def _check_flow(task: JsonObject, faults: Faults) -> None:
    """Only a rectification names the round it follows and the order's deadline."""
    if "flow" not in task:
        return
    needed = task["flow"] == Flow.RECTIFICATION
    for name, word in (("rectifies", "rectifies"), ("deadline_at", "deadline")):
        if name in task and (task[name] is not None) != needed:
            faults.append(FieldFault(f"/{name}", f"{word}_required" if needed else f"{word}_refused"))


def _check_roster(roster: Sequence[JsonObject], requirement: JsonObject, faults: Faults) -> None:
    """The roster's rules as far as its rows can be read: one bad row must not hide who is named twice."""
    for index, member in enumerate(roster):
        if len(set(member.get("categories", ()))) < len(member.get("categories", ())):
            faults.append(FieldFault(f"/roster/{index}/categories", "duplicate_field"))
    needed = {"person_id", "categories", "technical_lead"}
    rows = [index for index, member in enumerate(roster) if needed <= member.keys()]
    members = [_roster_member(roster[row]) for row in rows]
    complete = bool(roster) and len(members) == len(roster)
    for fault in roster_faults(members, _requirement(requirement) if complete else None) if members else ():
        if fault.code == "technical_lead_missing" and not complete:
            continue
        pointers = [f"/roster/{rows[index]}/person_id" for index in fault.indexes[1:]] or ["/roster"]
        params = {"needed": fault.needed, "present": fault.present}
        faults.extend(FieldFault(pointer, fault.code, params) for pointer in pointers)


def _roster_member(member: JsonObject) -> RosterMember:
    categories = frozenset(Category(category) for category in member["categories"])
    return RosterMember(member["person_id"], categories, member["technical_lead"])


def _requirement(requirement: JsonObject) -> Requirement | None:
    return Requirement(**requirement) if requirement.keys() == RequirementShape.model_fields.keys() else None


def _registration(
    task_id: str,
    task: JsonObject,
    enterprise: JsonObject,
    place: JsonObject,
    requirement: JsonObject | None,
    roster: Sequence[JsonObject],
) -> TaskRegistration:
    canonical = {
        **{name: task[name] for name in ("case_id", "round", "flow", "rectifies")},
        "approved_at": task["approved_at"].astimezone(UTC).isoformat(),
        "deadline_at": task["deadline_at"] and task["deadline_at"].astimezone(UTC).isoformat(),
        "enterprise": enterprise,
        "place": _numbers_as_floats(place),
        "requirement": requirement,
        "roster": sorted(
            ({**member, "categories": sorted(member["categories"])} for member in roster),
            key=lambda member: member["person_id"],
        ),
    }
    return TaskRegistration(
        task_id=task_id,
        case_id=task["case_id"],
        round=task["round"],
        flow=Flow(task["flow"]),
        rectifies=task["rectifies"],
        uscc=enterprise["uscc"],
        enterprise_name=enterprise["name"],
        approved_at=task["approved_at"],
        deadline_at=task["deadline_at"],
        place=place,
        requirement=requirement,
        roster=roster,
        digest=json_digest(canonical),
    )


def _refused_registration(faults: Faults, task: JsonObject, enterprise: JsonObject) -> RefusedRegistration:
    return RefusedRegistration(
        faults=faults,
        approved_at=task.get("approved_at"),
        rectifies=task.get("rectifies") if task.get("flow") == Flow.RECTIFICATION else None,
        case_id=task.get("case_id"),
        round=task.get("round"),
        uscc=enterprise.get("uscc"),
    )


def _numbers_as_floats(value: Any) -> Any:
    """114 and 114.0 are one number in JSON, so they are one in the digest."""
    if isinstance(value, dict):
        return {name: _numbers_as_floats(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_numbers_as_floats(member) for member in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


# --- Commands ---


def parse_void(body: object, _: Box) -> Void:
    return Void(**parse_object(VoidShape, body))


def parse_extend(body: object, _: Box) -> Extend:
    return Extend(**_ordered_end(ExtendShape, body))


def parse_resume(body: object, _: Box) -> Resume:
    return Resume(**_ordered_end(ResumeShape, body))


def _ordered_end(shape: type[Shape], body: object) -> JsonObject:
    """The fields of a command that may move the window's end."""
    faults: Faults = []
    fields = parse_fields(shape, body, "", faults)
    if fields.get("deadline_at") and not is_day_end(fields["deadline_at"]):
        faults.append(FieldFault("/deadline_at", "deadline_not_day_end"))
    refuse(faults)
    return fields


def parse_suspend(body: object, _: Box) -> Suspend:
    return Suspend(**parse_object(ReasonShape, body))


def parse_close(body: object, _: Box) -> Close:
    return Close(**parse_object(ReasonShape, body))


def parse_revoke(body: object, _: Box, *, person_id: str) -> Revoke:
    return Revoke(person_id=person_id, **parse_object(ReasonShape, body))


def parse_new_fence(body: object, box: Box) -> NewFence:
    faults: Faults = []
    fields = parse_fields(FenceShape, body, "", faults)
    place = _part(PlaceShape, fields, "place", faults)
    _check_place(place, "/place", box, faults)
    refuse(faults)
    return NewFence(**{**fields, "place": place})


# --- Persons ---


def parse_consent(body: object) -> tuple[str, list[str]]:
    """Notice version and scopes."""
    fields = parse_object(ConsentShape, body)
    if len(set(fields["scopes"])) < len(fields["scopes"]):
        raise Refusal("invalid", [FieldFault("/scopes", "duplicate_field")])
    return fields["notice_version"], fields["scopes"]


# --- Check-ins ---


def parse_check_in(values: JsonObject, faults: Faults) -> JsonObject:
    """The form's text fields with fixes and device as parsed objects; faults are added to `faults`."""
    fields = parse_fields(CheckInShape, values, "", faults)
    fields["fixes"] = _parse_fixes(fields.get("fixes"), faults)
    fields["device"] = parse_fields(DeviceShape, values.get("device", {}), "/device", faults)
    return fields


def parse_manual_request(body: object) -> JsonObject:
    """Task, reason, fixes and their frame, which fixes can't do without."""
    faults: Faults = []
    fields = parse_fields(ManualRequestShape, body, "", faults)
    fixes = _parse_fixes(fields.get("fixes"), faults)
    if fixes and fields.get("frame", "") is None:
        faults.append(FieldFault("/frame", "missing"))
    refuse(faults)
    frame = fields["frame"] and Frame(fields["frame"])
    return fields | {"fixes": [fix_of(fix) for fix in fixes], "frame": frame}


def _parse_fixes(fixes: Sequence[object] | None, faults: Faults) -> list[JsonObject]:
    return [parse_fields(FixShape, fix, f"/fixes/{index}", faults) for index, fix in enumerate(fixes or ())]


def fix_of(fields: JsonObject) -> Fix:
    return Fix(fields["lon"], fields["lat"], fields["at"], fields["accuracy_m"])


def parse_decision(body: object) -> JsonObject:
    fields = parse_object(DecisionShape, body)
    return fields | {"decision": ReviewDecision(fields["decision"])}


def parse_basis(text: str | None, default_kind: str, faults: Faults) -> JsonObject:
    """Kind and document of the legal basis of an enrolment; faults are added to `faults`."""
    basis = {"kind": default_kind} if text is None else parse_json(text)
    return parse_fields(BasisShape, basis, "/basis", faults)
