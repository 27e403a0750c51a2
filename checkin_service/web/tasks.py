"""The main platform's calls about tasks."""

import re
from collections.abc import Callable
from functools import partial
from uuid import UUID

from aiohttp import web

from checkin_service.adapters.postgres import feed
from checkin_service.adapters.postgres import tasks as task_rows
from checkin_service.adapters.postgres.audit import read_head
from checkin_service.usecases import command_task as commands
from checkin_service.usecases.command_task import CarryOut, Command
from checkin_service.usecases.refusals import FieldFault, Refusal
from checkin_service.usecases.register_task import RefusedRegistration, every_fault, register_task
from checkin_service.web import schema
from checkin_service.web.answers import Answer, case_json, feed_json, status_answer, status_json
from checkin_service.web.body import json_digest, read_json
from checkin_service.web.context import caller, services
from checkin_service.web.idempotency import once
from geofence import Box

LONGEST_QUESTION = 100
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CURSOR = re.compile(r"([0-9a-z]{1,64})\.([0-9]{1,18})")
_ENTITY_TAG = re.compile(r'(W/)?("[^"]*")')


async def register(request: web.Request) -> web.Response:
    task_id = path_id(request, "task_id")
    body = await read_json(request)
    wired = services(request)
    registration = schema.parse_registration(task_id, body, wired.box)
    if isinstance(registration, RefusedRegistration):
        raise Refusal("invalid", await every_fault(wired.database, registration))

    async def work() -> Answer:
        new, status = await register_task(wired.database, caller(request), registration)
        return status_answer(status, 201 if new else 200)

    return await once(request, registration.digest, work)


async def status(request: web.Request) -> web.Response:
    """A poll with a current ETag costs one small query and no body."""
    task_id = found_id(request, "task_id")
    wanted = _tags(request, "If-None-Match")
    async with services(request).database.connection() as connection:
        if wanted is not None:
            head = await task_rows.read_head(connection, task_id)
            if head and names_tag(wanted, head.etag, weak=True):
                return web.Response(status=304, headers={"ETag": head.etag})
        found = await task_rows.read_status(connection, task_id)
    if found is None:
        raise Refusal("not_found")
    return status_answer(found).response()


async def query(request: web.Request) -> web.Response:
    task_ids = schema.parse_object(schema.QueryShape, await read_json(request))["task_ids"]
    async with services(request).database.connection() as connection:
        found = await task_rows.read_statuses(connection, task_ids)
    wanted = list(dict.fromkeys(task_ids))
    body = {
        "tasks": [status_json(found[task_id]) for task_id in wanted if task_id in found],
        "missing": [task_id for task_id in wanted if task_id not in found],
    }
    return Answer(200, body).response()


async def case(request: web.Request) -> web.Response:
    case_id = found_id(request, "case_id")
    async with services(request).database.connection() as connection:
        rounds = await task_rows.read_case(connection, case_id)
    if not rounds:
        raise Refusal("not_found")
    return Answer(200, case_json(case_id, rounds)).response()


async def changes(request: web.Request) -> web.Response:
    limit = page_limit(request)
    async with services(request).database.connection() as connection:
        epoch = await feed.feed_epoch(connection)
        after = _cursor(request, epoch)
        found = await feed.changes_after(connection, after, limit + 1)
        head = await read_head(connection)
    return Answer(200, feed_json(epoch, head, found[:limit], after, has_more=len(found) > limit)).response()


async def void(request: web.Request) -> web.Response:
    return await _command(request, schema.parse_void, commands.void)


async def extend(request: web.Request) -> web.Response:
    return await _command(request, schema.parse_extend, commands.extend)


async def fence(request: web.Request) -> web.Response:
    return await _command(request, schema.parse_new_fence, commands.set_fence)


async def suspend(request: web.Request) -> web.Response:
    return await _command(request, schema.parse_suspend, commands.suspend)


async def resume(request: web.Request) -> web.Response:
    return await _command(request, schema.parse_resume, commands.resume)


async def close(request: web.Request) -> web.Response:
    return await _command(request, schema.parse_close, commands.close)


async def revoke(request: web.Request) -> web.Response:
    person_id = found_id(request, "person_id")
    parse = partial(schema.parse_revoke, person_id=person_id)
    return await _command(request, parse, commands.revoke, person_id=person_id)


async def _command(
    request: web.Request,
    parse: Callable[[object, Box], Command],
    carry_out: CarryOut[Command],
    **addressed: str,
) -> web.Response:
    """`addressed` is what beside the task the path names, written down with the body."""
    wired, task_id = services(request), found_id(request, "task_id")
    body = await read_json(request)
    command = parse(body, wired.box)
    wanted = _tags(request, "If-Match")

    def matches(etag: str) -> bool:
        return wanted is None or names_tag(wanted, etag, weak=False)

    async def work() -> Answer:
        return status_answer(
            await commands.command_task(
                wired.database, caller(request), task_id, command, carry_out, matches, body | addressed
            )
        )

    return await once(request, json_digest(body), work)


def path_id(request: web.Request, name: str) -> str:
    """An id that a PUT may create; 422 when its form is wrong (other calls find nothing under it)."""
    value = request.match_info[name]
    if not _ID.fullmatch(value):
        raise Refusal("invalid", [FieldFault(name, "bad_format")])
    return value


def found_uuid(request: web.Request, name: str) -> UUID:
    """An id of ours; 404 for what can be none."""
    try:
        return UUID(request.match_info[name])
    except ValueError as error:
        raise Refusal("not_found") from error


def found_id(request: web.Request, name: str) -> str:
    """An id that something may have; 404 for one that PostgreSQL can't even look up."""
    value = request.match_info[name]
    if "\0" in value:
        raise Refusal("not_found")
    return value


def _tags(request: web.Request, name: str) -> str | None:
    """A header that is a list may come in several lines."""
    return ", ".join(request.headers.getall(name)) if name in request.headers else None


def names_tag(header: str, etag: str, *, weak: bool) -> bool:
    """Whether `If-None-Match` (weak comparison) or `If-Match` (strong) names the tag (RFC 9110, 8.8.3.2).

    >>> names_tag('W/"a", "b"', '"a"', weak=True), names_tag('W/"a", "b"', '"a"', weak=False)
    (True, False)
    """
    if header.strip() == "*":
        return True
    return any(tag == etag and (weak or not weakness) for weakness, tag in _ENTITY_TAG.findall(header))


def storable_text(request: web.Request, name: str) -> str:
    """A text to look something up by, which PostgreSQL can be asked for; empty when there is none."""
    text = request.query.get(name, "")
    if len(text) > LONGEST_QUESTION:
        raise Refusal("invalid", [FieldFault(name, "too_long", {"maximum": LONGEST_QUESTION})])
    if "\0" in text:
        raise Refusal("invalid", [FieldFault(name, "bad_format")])
    return text


def page_limit(request: web.Request) -> int:
    text = request.query.get("limit", str(schema.MAX_PAGE))
    if not re.fullmatch(r"[0-9]{1,6}", text, re.ASCII) or not 1 <= int(text) <= schema.MAX_PAGE:
        limits = {"minimum": 1, "maximum": schema.MAX_PAGE}
        raise Refusal("invalid", [FieldFault("limit", "out_of_range", limits)])
    return int(text)


def _cursor(request: web.Request, epoch: str) -> int:
    """The seq after which to go on; 410 for a cursor from before a restore."""
    text = request.query.get("after", "")
    if not text:
        return 0
    cursor = _CURSOR.fullmatch(text)
    if cursor is None:
        raise Refusal("invalid", [FieldFault("after", "bad_format")])
    if cursor[1] != epoch:
        raise Refusal("feed_epoch_changed")
    return int(cursor[2])
