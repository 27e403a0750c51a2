"""What stands for the whole audit, for whoever keeps it to compare with later."""

from aiohttp import web

from checkin_service.adapters.postgres.audit import read_head
from checkin_service.web.answers import Answer, audit_head_json, instant_text
from checkin_service.web.context import services


async def head(request: web.Request) -> web.Response:
    async with services(request).database.connection() as connection:
        present = await read_head(connection)
    return Answer(200, {**audit_head_json(present), "at": present.at and instant_text(present.at)}).response()
