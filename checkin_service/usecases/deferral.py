"""What a submission holds, kept until it is judged later: sealed under its person's data key.

Where that key goes, at a withdrawal or an erasure, nobody can read it any more wherever a copy still lies.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import accumulate, pairwise
from uuid import UUID

from checkin_service.adapters.postgres.check_ins import Submission
from checkin_service.adapters.sealing import seal, unseal
from checkin_service.usecases.verdict import CheckIn, Device
from geofence import Fix, Frame

_HEAD_BYTES = 4


@dataclass(frozen=True, slots=True)
class Pending:
    """The answer to a submission that is judged later."""

    check_in_id: UUID
    received_at: datetime


def seal_submission(data_key: bytes, check_in: CheckIn, check_in_id: UUID) -> bytes:
    """Everything but who sent it under which key, which its receipt has."""
    return seal(data_key, _packed(check_in), *_binding(check_in.submission, check_in_id))


def open_submission(data_key: bytes, submission: Submission, check_in_id: UUID, sealed: bytes) -> CheckIn:
    """The submission as it came. Raises `SealBroken`."""
    return _unpacked(submission, unseal(data_key, sealed, *_binding(submission, check_in_id)))


def _binding(submission: Submission, check_in_id: UUID) -> tuple[str, ...]:
    return "submission", submission.person_id, str(check_in_id)


def _packed(check_in: CheckIn) -> bytes:
    """The length of a head of JSON, the head, then the pictures as they came."""
    pictures = [check_in.selfie, *check_in.burst]
    fixes = [asdict(fix) | {"at": fix.at.isoformat()} for fix in check_in.fixes]
    head = json.dumps(
        {
            "frame": check_in.frame,
            "fixes": fixes,
            "captured_at": check_in.captured_at.isoformat(),
            "device": asdict(check_in.device),
            "sizes": [len(picture) for picture in pictures],
        }
    ).encode()
    return b"".join([len(head).to_bytes(_HEAD_BYTES), head, *pictures])


def _unpacked(submission: Submission, packed: bytes) -> CheckIn:
    end = _HEAD_BYTES + int.from_bytes(packed[:_HEAD_BYTES])
    head = json.loads(packed[_HEAD_BYTES:end])
    ends = accumulate(head["sizes"], initial=end)
    selfie, *burst = (packed[start:stop] for start, stop in pairwise(ends))
    return CheckIn(
        submission=submission,
        frame=Frame(head["frame"]),
        fixes=[Fix(**fix | {"at": datetime.fromisoformat(fix["at"])}) for fix in head["fixes"]],
        captured_at=datetime.fromisoformat(head["captured_at"]),
        device=Device(**head["device"]),
        selfie=selfie,
        burst=burst,
        photo_sha256=hashlib.sha256(selfie).digest(),
    )
