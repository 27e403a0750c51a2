"""A person's check-in: the challenge, the submission, its answer."""

import hashlib
import hmac
import json
from datetime import datetime
from typing import Any
from uuid import UUID

from aiohttp import web

from checkin_service.adapters.postgres import check_ins, reviews
from checkin_service.adapters.postgres.check_ins import Submission
from checkin_service.adapters.wechat import cert_hash
from checkin_service.domain.reasons import Reason
from checkin_service.ports import Holder, LivenessTest
from checkin_service.usecases.caller import WeChatAccount
from checkin_service.usecases.check_photo import check_photo
from checkin_service.usecases.deferral import Pending
from checkin_service.usecases.liveness import begin_test, keep_frame
from checkin_service.usecases.open_challenge import open_challenge
from checkin_service.usecases.receipts import signed_receipt
from checkin_service.usecases.refusals import FieldFault, Refusal, invalid
from checkin_service.usecases.submit_check_in import Judge, submit_check_in
from checkin_service.usecases.verdict import CheckIn, Device
from checkin_service.web import schema
from checkin_service.web.admission import Urgency
from checkin_service.web.answers import Answer, instant_text, reason_json
from checkin_service.web.body import json_digest, parse_json, read_bytes, read_json
from checkin_service.web.context import Services, caller, language, services
from checkin_service.web.form import FILE_LIMIT, Form, read_form
from checkin_service.web.idempotency import once, required_key
from checkin_service.web.messages import Language
from checkin_service.web.shape import Faults
from checkin_service.web.tasks import found_uuid
from geofence import FixRules, Frame

MAX_BURST = 8
_TEXTS = {"task_id", "challenge_id", "frame", "fixes", "captured_at", "device"}


async def challenge(request: web.Request) -> web.Response:
    body = await read_json(request)
    task_id, identity = schema.parse_challenge(body)
    holder = _holder(caller(request).wechat, identity)
    wired = services(request)
    await _limit(request)

    async def work() -> Answer:
        person_id = caller(request).sub
        challenge_id, expires_at = await open_challenge(wired.database, person_id, task_id)
        answer = {"challenge_id": str(challenge_id), "expires_at": instant_text(expires_at), "actions": []}
        if wired.liveness:
            test = await begin_test(
                wired.database, wired.keys, wired.liveness, challenge_id, person_id, holder
            )
            answer |= _test_json(test)
        return Answer(201, answer)

    if identity:
        # the digest is kept for a day, and nobody shall find out from it whose card was sent
        body = {"task_id": task_id, "identity": wired.keys.pseudonym(json.dumps(identity)).hex()}
    return await once(request, json_digest(body), work)


def _holder(account: WeChatAccount | None, identity: dict[str, Any] | None) -> Holder | None:
    """Whom WeChat is to look for; None without an identity card, or for a caller whose issuer knows of none.

    Raises `Refusal` invalid for another card than the issuer's: whoever else may be alive, it is not this person.
    """
    if account is None or identity is None:
        return None
    if not hmac.compare_digest(cert_hash(**identity), account.cert_hash):
        raise invalid("/identity", "not_allowed_value")
    return Holder(account.openid, **identity)


def _test_json(test: LivenessTest) -> dict[str, Any]:
    liveness = {"provider": test.provider} | ({"verify_id": test.verify_id} if test.verify_id else {})
    # what another provider asks for, the person is told by its own screens
    return {"actions": [] if test.verify_id else test.actions, "liveness": liveness}


async def burst(request: web.Request) -> web.Response:
    """Takes one frame of a burst ahead of the check-in; it is looked at where the challenge asks for actions."""
    challenge_id, number = found_uuid(request, "challenge_id"), request.match_info["n"]
    if number not in map(str, range(MAX_BURST)):
        raise Refusal("not_found")
    if request.content_type not in {"image/jpeg", "image/png"}:
        raise Refusal("unsupported_media_type", expected="image/jpeg, image/png")
    wired = services(request)
    with wired.admission.enter(Urgency.SUBMISSION) as place:
        frame = await read_bytes(request, FILE_LIMIT, place.received)
        place.arrived()

        async def work() -> Answer:
            check_photo(frame)
            shown = challenge_id, int(number)
            await keep_frame(wired.database, wired.keys, wired.faces, caller(request).sub, shown, frame)
            return Answer(204)

        return await once(request, hashlib.sha256(frame).digest(), work)


async def submit(request: web.Request) -> web.Response:
    key, who = required_key(request), caller(request)
    with services(request).admission.enter(await _urgency(request, key), who.sub) as place:
        form = await read_form(request, {"selfie": 1, "burst": MAX_BURST}, _TEXTS, place.received)
        place.arrived()
        for photo in (photo for photos in form.files.values() for photo in photos):
            check_photo(photo)
        check_in = _parse_check_in(form, who.iss, who.sub, key)
        answer, new = await submit_check_in(judge_of(services(request)), check_in, defer=place.deferred)
    return _taken(request, answer, new) if isinstance(answer, Pending) else _judged(request, answer, new)


async def _urgency(request: web.Request, key: str) -> Urgency:
    """Whether a submission goes as a new one, as ever while there is room, or as a retry of its receipt."""
    wired, who = services(request), caller(request)
    room = wired.admission.admits(Urgency.SUBMISSION) or wired.admission.defers(who.sub)
    if room or wired.database.waiting or not wired.admission.admits(Urgency.RETRY):
        return Urgency.SUBMISSION
    return Urgency.RETRY if await wired.admission.has_receipt((who.iss, who.sub, key)) else Urgency.SUBMISSION


def _judged(request: web.Request, answer: dict[str, Any], new: bool) -> web.Response:
    if new:
        services(request).metrics.count_check_in(answer)
    where = {"Location": f"/v1/check-ins/{answer['check_in_id']}"}
    return Answer(201, _answer_json(answer, language(request)), where).response()


def _taken(request: web.Request, pending: Pending, new: bool) -> web.Response:
    wired, status_url = services(request), f"/v1/check-ins/{pending.check_in_id}"
    if new:
        wired.metrics.deferred.inc()
        wired.admission.backlog += 1
    body = {
        "check_in_id": str(pending.check_in_id),
        "status_url": status_url,
        "received_at": instant_text(pending.received_at),
    }
    return Answer(202, body, {"Location": status_url}).response()


async def read(request: web.Request) -> web.Response:
    check_in_id, person_id, wired = found_uuid(request, "check_in_id"), caller(request).sub, services(request)
    async with wired.database.connection() as connection:
        receipt = await check_ins.read_check_in(connection, check_in_id, person_id)
        review = receipt and await reviews.read_review(connection, check_in_id)
        accepted = review and await reviews.read_acceptance(connection, check_in_id)
    if receipt is None:
        raise Refusal("not_found")
    if receipt.answer is not None:
        body = _answer_json(receipt.answer, language(request))
        if review and review.too_late:
            closed = {"code": Reason.WINDOW_CLOSED, "figures": {"closes_at": review.closes_at.isoformat()}}
            body["reasons"].insert(0, reason_json(closed, language(request)))
        if review:
            body["review"] = {
                "state": review.state,
                "decided_at": review.decided_at and instant_text(review.decided_at),
            }
        if accepted:
            body["receipt"] = signed_receipt(wired.receipt_keys, person_id, receipt.task_id, accepted)
        return Answer(200, body).response()
    if receipt.ended == "withdrawn":
        raise Refusal("consent_required")
    pending = {
        "check_in_id": str(receipt.check_in_id),
        "task_id": receipt.task_id,
        "outcome": "pending",
        "received_at": instant_text(receipt.received_at),
    }
    return Answer(200, pending).response()


# --- Parsing ---


def _parse_check_in(form: Form, iss: str, person_id: str, key: str) -> CheckIn:
    """Raises `Refusal` invalid with every fault of the form."""
    faults: Faults = []
    values = {name: _decoded(name, texts[0]) for name, texts in form.texts.items()}
    if "selfie" not in form.files:
        faults.append(FieldFault("/selfie", "missing"))
    fields = schema.parse_check_in(values, faults)
    schema.refuse(faults)
    submission = Submission(
        iss=iss,
        person_id=person_id,
        idempotency_key=key,
        body_digest=form.digest(),
        task_id=fields["task_id"],
        challenge_id=_challenge_id(fields["challenge_id"]),
    )
    selfie = form.files["selfie"][0]
    return CheckIn(
        submission=submission,
        frame=Frame(fields["frame"]),
        fixes=[schema.fix_of(fix) for fix in fields["fixes"]],
        captured_at=fields["captured_at"],
        device=Device(**fields["device"]),
        selfie=selfie,
        burst=form.files.get("burst", ()),
        photo_sha256=hashlib.sha256(selfie).digest(),
    )


def _decoded(name: str, text: str) -> Any:
    """`fixes` and `device` are JSON inside their form field, the others plain text."""
    return parse_json(text) if name in {"fixes", "device"} else text


def _challenge_id(text: str) -> UUID:
    """An id of ours, opaque to callers; whatever is none is refused like one that names nothing."""
    try:
        return UUID(text)
    except ValueError as error:
        raise Refusal("challenge_invalid") from error


# --- Judging ---


def judge_of(wired: Services) -> Judge:
    rules = FixRules(max_accuracy_m=wired.settings.max_accuracy_m)
    return Judge(
        wired.database,
        wired.keys,
        wired.receipt_keys,
        wired.evidence,
        wired.faces,
        wired.policy,
        wired.box,
        rules,
        wired.metrics.count_left_out,
        wired.liveness,
    )


async def _limit(request: web.Request) -> None:
    """One person's rate of challenges; a check-in uses one up, so this bounds check-ins too, at no cost to them."""
    retry_after_s = await services(request).rate_limit.retry_after_s(
        f"{caller(request).iss}:{caller(request).sub}"
    )
    if retry_after_s is not None:
        raise Refusal("rate_limited", retry_after_s=retry_after_s)


# --- Answering ---


def _answer_json(answer: dict[str, Any], spoken: Language) -> dict[str, Any]:
    """The stored answer with its texts in the caller's language."""
    times: dict[str, Any] = {
        name: instant_text(datetime.fromisoformat(answer[name]))
        for name in ("received_at", "retry_at")
        if name in answer
    }
    return {**answer, **times, "reasons": [reason_json(reason, spoken) for reason in answer["reasons"]]}
