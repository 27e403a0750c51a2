"""What is shown of an acceptance to others: its signed receipt."""

from checkin_service.adapters.postgres.check_ins import Accepted
from checkin_service.adapters.receipt_keys import ReceiptKeys, sign_receipt
from checkin_service.domain.calendar import shanghai_time


def signed_receipt(keys: ReceiptKeys, person_id: str, task_id: str, accepted: Accepted) -> str:
    """The receipt of an acceptance in force; the same whenever it is asked for, under the same key."""
    claims = {
        "sub": person_id,
        "task_id": task_id,
        "check_in_id": str(accepted.check_in_id),
        "accepted_at": shanghai_time(accepted.accepted_at).isoformat(timespec="milliseconds"),
        "method": accepted.method,
        "iat": int((accepted.decided_at or accepted.accepted_at).timestamp()),
    }
    return sign_receipt(keys, claims)
