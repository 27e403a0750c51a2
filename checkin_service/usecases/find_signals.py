"""What makes a submission worth a second look, from itself and from the traces of earlier ones."""

from dataclasses import dataclass
from typing import Any

from checkin_service.adapters.postgres import check_ins
from checkin_service.adapters.postgres.check_ins import Receipt
from checkin_service.adapters.postgres.database import Connection
from checkin_service.adapters.template_keys import TemplateKeys
from checkin_service.domain.signals import SignalFacts, distinctive_places, signals
from checkin_service.usecases.verdict import CheckIn, Verdict
from geofence import Box, Fence, Location, from_wgs84, is_plausible


@dataclass(frozen=True, slots=True)
class Signals:
    """`findings`: as they are stored with the attempt. `traces`: what later submissions are compared with, by field of
    `LeftBehind`."""

    findings: list[dict[str, Any]]
    traces: dict[str, Any]


async def find_signals(
    connection: Connection,
    keys: TemplateKeys,
    box: Box,
    check_in: CheckIn,
    receipt: Receipt,
    fence: Fence,
    verdict: Verdict,
) -> Signals:
    """They never change an outcome: nothing here is read by a decision. None without a position: then nobody has asked
    whether the person consents to its use."""
    if verdict.location is None:
        return Signals([], {})
    fixes = [fix for fix in check_in.fixes if is_plausible(fix, check_in.frame, box)]
    digests = sorted(keys.pseudonym(f"fix\n{lon!r} {lat!r}") for lon, lat in distinctive_places(fixes))
    person_id, device_id = check_in.submission.person_id, check_in.device.device_id
    earlier = await check_ins.read_traces(connection, receipt, person_id, digests, device_id)
    position = _position(verdict.location)
    facts = SignalFacts(
        received_at=receipt.received_at,
        captured_at=check_in.captured_at,
        platform=check_in.device.platform,
        fixes=fixes,
        fence_centre=from_wgs84(*fence.inside_point(), check_in.frame),
        frame_suspect=verdict.location.frame_suspect,
        position=position,
        previous=earlier.previous,
        others_with_fix=earlier.others_with_fix,
        others_with_device=earlier.others_with_device,
        enterprises=earlier.enterprises,
        approved_at=earlier.approved_at,
        registered_at=earlier.registered_at,
    )
    findings = [{"code": finding.code, "figures": finding.figures} for finding in signals(facts)]
    return Signals(findings, {"position": position, "fix_digests": digests})


def _position(location: Location) -> tuple[float, float] | None:
    if location.lon is None or location.lat is None:
        return None
    return location.lon, location.lat
