"""The published keys that verify receipts."""

import json

from aiohttp import web

from checkin_service.web.context import services

# a key is in every replica's file for longer than this before it signs
KEY_SET_LIFETIME_S = 3600


async def key_set(request: web.Request) -> web.Response:
    return web.Response(
        text=json.dumps(services(request).receipt_keys.published),
        content_type="application/jwk-set+json",
        headers={"Cache-Control": f"public, max-age={KEY_SET_LIFETIME_S}"},
    )
