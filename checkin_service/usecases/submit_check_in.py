"""A person checks in: receipt, case, place, face, decision, verdict.

No connection is held while a model runs. The verdict locks, reads again what can have changed, decides again and
writes everything in one transaction; the answer leaves only after its COMMIT.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from checkin_service.adapters.postgres import check_ins
from checkin_service.adapters.postgres.check_ins import (
    NOTHING_STORED,
    AnsweredChallenge,
    LoadedCase,
    Receipt,
    Submission,
)
from checkin_service.adapters.postgres.database import Connection, Database
from checkin_service.adapters.template_keys import TemplateKeys
from checkin_service.domain.decision import Outcome, Policy, Rivals, decide, decide_admission
from checkin_service.ports import FaceEngine, Liveness
from checkin_service.usecases.liveness import judge_frames
from checkin_service.usecases.look_alikes import LeftOut, find_rivals
from checkin_service.usecases.refusals import Refusal
from checkin_service.usecases.verdict import CheckIn, Verdict, write_repeat, write_verdict
from checkin_service.usecases.weigh_face import compare_with_reference, seal_passed, weigh_face
from face import Analysis, ImageError
from geofence import Box, Fence, FixRules, Frame, Location, locate, parse_fence, r95_factor

# A case that changes under the verdict is judged anew; one that never holds still is our failure, not the person's.
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Judge:
    """What judging depends on."""

    database: Database
    keys: TemplateKeys
    faces: FaceEngine
    policy: Policy
    box: Box
    fix_rules: FixRules
    count_left_out: LeftOut
    liveness: Liveness | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was measured, and against which version of the fence."""

    fence_version: int
    location: Location
    analysis: Analysis | None
    rivals: Rivals | None
    liveness: str | None


async def submit_check_in(judge: Judge, check_in: CheckIn) -> tuple[dict[str, Any], bool]:
    """The answer, as it is stored, and whether it is a new one.

    Raises `Refusal`: challenge_invalid, idempotency_key_reused, idempotency_in_progress, consent_required,
    image_unreadable. Failures of ours leave the receipt open: a retry of the key keeps its received_at.
    """
    receipt, first_look = await _receive(judge.database, check_in.submission)
    if receipt.answer is not None:
        return receipt.answer, False
    try:
        return await _judge(judge, check_in, receipt, first_look), True
    except ImageError as error:
        await _release(judge.database, receipt, "unreadable")
        raise Refusal("image_unreadable") from error
    except BaseException:
        await _release(judge.database, receipt, None)
        raise


# --- Receipt ---


async def _receive(database: Database, submission: Submission) -> tuple[Receipt, LoadedCase | None]:
    """The receipt of this key: a new one, which uses up the challenge, with a first look at its case; or an earlier
    one to be gone on with."""
    async with database.connection() as connection:
        # One statement, one commit: nearly every submission is new.
        if received := await check_ins.insert_receipt(connection, submission):
            return received
    async with database.transaction() as connection:
        earlier = await check_ins.lock_receipt_by_key(
            connection, submission.iss, submission.person_id, submission.idempotency_key
        )
        if earlier is None:
            raise Refusal("challenge_invalid")
        if earlier.body_digest != submission.body_digest:
            raise Refusal("idempotency_key_reused")
        if earlier.answer is None:
            await _take_over(connection, earlier)
        return earlier, None


async def _take_over(connection: Connection, receipt: Receipt) -> None:
    if receipt.leased:
        raise Refusal("idempotency_in_progress")
    await check_ins.lease_receipt(connection, receipt.check_in_id)


async def _release(database: Database, receipt: Receipt, ended: str | None) -> None:
    async with database.connection() as connection:
        await check_ins.release_receipt(connection, receipt.check_in_id, ended)


# --- Judging ---


async def _judge(
    judge: Judge, check_in: CheckIn, receipt: Receipt, first_look: LoadedCase | None
) -> dict[str, Any]:
    analysis: Analysis | None = None
    for _ in range(ROUNDS):
        loaded = first_look or await _look(judge.database, receipt)
        first_look = None
        location = _locate(judge, check_in, loaded)
        rivals: Rivals | None = None
        liveness: str | None = None
        if _needs_face(judge.policy, loaded, location):
            analysis = analysis or await judge.faces.analyse(check_in.selfie)
            rivals = await _look_around(judge, check_in, loaded, analysis)
            liveness = await _look_alive(judge, check_in, loaded, analysis)
        evidence = Evidence(loaded.fence.version, location, analysis, rivals, liveness)
        async with judge.database.transaction() as connection:
            answer = await _settle(connection, judge, check_in, receipt, evidence)
        if answer is not None:
            return answer
    raise Refusal("unavailable")


async def _look(database: Database, receipt: Receipt) -> LoadedCase:
    async with database.connection() as connection:
        return _still_there(await check_ins.load_case(connection, receipt.check_in_id))


def _still_there(loaded: LoadedCase | None) -> LoadedCase:
    if loaded is None:
        # the person was erased meanwhile, and the receipt with them
        raise Refusal("challenge_invalid")
    return loaded


def _locate(judge: Judge, check_in: CheckIn, loaded: LoadedCase) -> Location:
    fence = _parsed_fence(json.dumps(loaded.fence.fence), Frame(loaded.fence.frame), judge.box)
    return locate(
        fence,
        loaded.fence.buffer_m,
        check_in.fixes,
        check_in.frame,
        check_in.captured_at,
        r95_factor=r95_factor(check_in.device.platform),
        reduced_accuracy=check_in.device.reduced_accuracy,
        rules=judge.fix_rules,
        box=judge.box,
    )


@lru_cache(maxsize=1024)
def _parsed_fence(fence: str, frame: Frame, box: Box) -> Fence:
    return parse_fence(json.loads(fence), frame, box)


def _needs_face(policy: Policy, loaded: LoadedCase, location: Location) -> bool:
    """Whether everything cheaper passes as far as one look tells. The verdict decides by itself."""
    if loaded.accepted or not loaded.consented or decide_admission(loaded.case, policy):
        return False
    return decide(loaded.case, location, None, policy) is None


async def _look_around(
    judge: Judge, check_in: CheckIn, loaded: LoadedCase, analysis: Analysis
) -> Rivals | None:
    """Whom else of the roster a face resembles that matches; None when it does not, or by a model that can't tell."""
    own = compare_with_reference(judge.keys, judge.policy, check_in, loaded, analysis)
    if own is None or not own.matched or own.point.margin is None:
        return None
    return await find_rivals(
        judge.database,
        judge.keys,
        check_in.submission,
        analysis.templates,
        own.point.model_id,
        judge.count_left_out,
    )


async def _look_alive(judge: Judge, check_in: CheckIn, loaded: LoadedCase, analysis: Analysis) -> str | None:
    """What the frames show of what the challenge asked for; None when it asked for nothing, or nothing could pass."""
    if judge.liveness is None or not loaded.actions or analysis.landmarks is None:
        return None
    async with judge.database.connection() as connection:
        frames = await check_ins.read_frames(connection, check_in.submission.challenge_id)
    challenge = AnsweredChallenge(loaded.actions, loaded.data_key, frames)
    return await judge_frames(
        judge.keys, judge.faces, judge.liveness, judge.policy, check_in, challenge, analysis
    )


async def _settle(
    connection: Connection, judge: Judge, check_in: CheckIn, receipt: Receipt, evidence: Evidence
) -> dict[str, Any] | None:
    """The verdict under locks; None when the case has changed so that more evidence is needed."""
    loaded = _still_there(await check_ins.lock_case(connection, receipt.check_in_id))
    if loaded.answer is not None:
        # this owner was slow: its lease ran out, and whoever took over has judged
        return loaded.answer
    if loaded.accepted and not loaded.case.voided:
        return await write_repeat(connection, judge.policy, receipt, loaded, loaded.accepted)
    if refusal := decide_admission(loaded.case, judge.policy):
        return await write_verdict(connection, judge.policy, check_in, receipt, loaded, Verdict(refusal))
    if not loaded.consented:
        raise Refusal("consent_required")
    analysis = evidence.analysis
    face = (
        weigh_face(judge.keys, judge.policy, check_in, loaded, analysis, evidence.rivals, evidence.liveness)
        if analysis
        else None
    )
    decision = decide(loaded.case, evidence.location, face, judge.policy)
    if decision is None or evidence.fence_version != loaded.fence.version:
        return None
    passed = decision.outcome is not Outcome.REJECTED
    stored = seal_passed(judge.keys, check_in, loaded, analysis) if passed and analysis else NOTHING_STORED
    verdict = Verdict(decision, evidence.location, face, stored)
    if loaded.actions:
        await check_ins.delete_frames(connection, check_in.submission.challenge_id)
    return await write_verdict(connection, judge.policy, check_in, receipt, loaded, verdict)
