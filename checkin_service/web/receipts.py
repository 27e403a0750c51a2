"""What is shown of an acceptance to others: its signed receipt, and the keys that verify it."""

import json
from datetime import datetime
from uuid import UUID

from aiohttp import web

from checkin_service.adapters.receipt_keys import ReceiptKeys, sign_receipt
from checkin_service.web.answers import instant_text
from checkin_service.web.context import services

# a key is in every replica's file for longer than this before it signs
KEY_SET_LIFETIME_S = 3600


async def key_set(request: web.Request) -> web.Response:
    return web.Response(
        text=json.dumps(services(request).receipt_keys.published),
        content_type="application/jwk-set+json",
        headers={"Cache-Control": f"public, max-age={KEY_SET_LIFETIME_S}"},
    )


def receipt_of(
    keys: ReceiptKeys,
    *,
    person_id: str,
    task_id: str,
    check_in_id: UUID | str,
    accepted_at: datetime,
    method: str,
    issued_at: datetime,
) -> str:
    """The receipt of a live acceptance. `method`: `face` or `manual`; `issued_at`: when it was decided, so that the
    receipt is the same whenever it is asked for."""
    claims = {
        "sub": person_id,
        "task_id": task_id,
        "check_in_id": str(check_in_id),
        "accepted_at": instant_text(accepted_at),
        "method": method,
        "iat": int(issued_at.timestamp()),
    }
    return sign_receipt(keys, claims)
