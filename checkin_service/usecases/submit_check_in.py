"""A person checks in: receipt, case, place, face, decision, verdict.

No connection is held while a model runs. The verdict is one statement that locks, sees whether the case is still the
one that was decided on, and writes everything; if it is not, the case is judged anew. The answer leaves only after
the COMMIT. See docs/decisions/0006-one-statement-verdict.md.
"""

import asyncio
import json
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any
from uuid import UUID

from checkin_service.adapters.postgres import check_ins, deferred
from checkin_service.adapters.postgres.check_ins import (
    NOTHING_LEFT,
    LoadedCase,
    Receipt,
    SealedObject,
    Submission,
)
from checkin_service.adapters.postgres.database import Connection, Database
from checkin_service.adapters.receipt_keys import ReceiptKeys
from checkin_service.adapters.template_keys import TemplateKeys
from checkin_service.domain.decision import FaceEvidence, Outcome, Policy, decide, decide_admission
from checkin_service.ports import FaceEngine, Liveness, ObjectStore
from checkin_service.usecases.deferral import Pending, seal_submission
from checkin_service.usecases.evidence import seal_selfie
from checkin_service.usecases.find_signals import find_signals
from checkin_service.usecases.liveness import judge_frames
from checkin_service.usecases.look_alikes import LeftOut, find_rivals
from checkin_service.usecases.refusals import Refusal
from checkin_service.usecases.verdict import CheckIn, Verdict, repeat_answer, verdict_answer, verdict_attempt
from checkin_service.usecases.weigh_face import seal_passed, weigh_face
from face import Analysis, ImageError
from geofence import EARTH, Box, Fence, FixRules, Frame, Location, locate, parse_fence, r95_factor

# A case that changes under the verdict is judged anew. What changes it is another submission of the same person that
# is settled, or a command: so this is more than can come together, and beyond it the failure is ours.
ROUNDS = 50


@dataclass(frozen=True, slots=True)
class Judge:
    """What judging depends on."""

    database: Database
    keys: TemplateKeys
    receipt_keys: ReceiptKeys
    evidence: ObjectStore
    faces: FaceEngine
    policy: Policy
    box: Box
    fix_rules: FixRules
    count_left_out: LeftOut
    liveness: Liveness | None


@dataclass(slots=True)
class Selfie:
    """The picture, analysed and, under one data key, kept as evidence at most once however often its case is judged."""

    faces: FaceEngine
    photo: bytes
    _analysis: Analysis | None = None
    _sealed: SealedObject | None = None
    _sealed_under: bytes | None = None

    async def analysed(self) -> Analysis:
        self._analysis = self._analysis or await self.faces.analyse(self.photo)
        return self._analysis

    async def kept(self, data_key: bytes, store: ObjectStore, check_in_id: UUID) -> SealedObject:
        """Before the verdict, so that none rests on evidence that was lost; what no verdict follows is purged.

        Raises `StoreUnavailable`.
        """
        if self._sealed is None or self._sealed_under != data_key:
            sealed = seal_selfie(data_key, check_in_id, self.photo)
            await store.put(sealed.address, sealed.ciphertext)
            self._sealed, self._sealed_under = sealed, data_key
        return self._sealed


async def submit_check_in(
    judge: Judge, check_in: CheckIn, *, defer: bool = False
) -> tuple[dict[str, Any] | Pending, bool]:
    """The answer, as it is stored, and whether it is a new one. With `defer` a face is looked at later, if the verdict
    needs one; and whoever repeats what is to be judged later is told so again.

    Raises `Refusal`: challenge_invalid, idempotency_key_reused, idempotency_in_progress, consent_required,
    image_unreadable. Failures of ours leave the receipt open: a retry of the key keeps its received_at.
    """
    receipt, first_look = await _receive(judge.database, check_in.submission)
    if receipt.answer is not None:
        return receipt.answer, False
    if receipt.waits:
        return Pending(receipt.check_in_id, receipt.received_at), False
    try:
        if defer and await _put_off(judge, check_in, receipt, first_look):
            return Pending(receipt.check_in_id, receipt.received_at), True
        return await judge_received(judge, check_in, receipt, first_look), True
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
        if earlier.answer is None and not earlier.waits:
            await _take_over(connection, earlier)
        return earlier, None


async def _take_over(connection: Connection, receipt: Receipt) -> None:
    if receipt.leased:
        raise Refusal("idempotency_in_progress")
    await check_ins.lease_receipt(connection, receipt.check_in_id)


async def _release(database: Database, receipt: Receipt, ended: str | None) -> None:
    async with database.connection() as connection:
        await check_ins.release_receipt(connection, receipt.check_in_id, ended)


async def _put_off(judge: Judge, check_in: CheckIn, receipt: Receipt, loaded: LoadedCase | None) -> bool:
    """Whether it is kept to be judged later; what needs no face costs so little that it is judged at once."""
    loaded = loaded or await look(judge.database, receipt.check_in_id)
    if not _needs_face(judge, check_in, loaded):
        return False
    data_key = await data_key_of(judge.keys, loaded)
    if data_key is None:
        return False
    sealed = seal_submission(data_key, check_in, receipt.check_in_id)
    async with judge.database.connection() as connection:
        return await deferred.put_off(connection, receipt.check_in_id, loaded.key_id, sealed)


def _needs_face(judge: Judge, check_in: CheckIn, loaded: LoadedCase) -> bool:
    if loaded.answer is not None or loaded.accepted or not loaded.consented:
        return False
    if decide_admission(loaded.case, judge.policy):
        return False
    return decide(loaded.case, _locate(judge, check_in, loaded), None, judge.policy) is None


# --- Judging ---


async def judge_received(
    judge: Judge, check_in: CheckIn, receipt: Receipt, loaded: LoadedCase | None
) -> dict[str, Any]:
    """The stored answer. Raises as `submit_check_in` does, and `face.ImageError`."""
    selfie = Selfie(judge.faces, check_in.selfie)
    for _ in range(ROUNDS):
        loaded = loaded or await look(judge.database, receipt.check_in_id)
        if loaded.answer is not None:
            # this owner was slow: its lease ran out, and whoever took over has judged
            return loaded.answer
        if answer := await _settle(judge, check_in, receipt, loaded, selfie):
            return answer
        loaded = None
    raise Refusal("unavailable")


async def _settle(
    judge: Judge, check_in: CheckIn, receipt: Receipt, loaded: LoadedCase, selfie: Selfie
) -> dict[str, Any] | None:
    """The answer, stored; None when the case has changed under the decision."""
    settle = partial(check_ins.settle, check_in_id=receipt.check_in_id, seen=loaded.stamp)
    if loaded.accepted and not loaded.case.voided:
        answer = repeat_answer(judge.policy, judge.receipt_keys, receipt, loaded, loaded.accepted)
        async with judge.database.connection() as connection:
            return await settle(connection, answer=answer, attempt=None, left=NOTHING_LEFT)
    verdict = await _weigh(judge, check_in, receipt, loaded, selfie)
    answer = verdict_answer(judge.policy, judge.receipt_keys, receipt, loaded, verdict)
    attempt = verdict_attempt(check_in, receipt, loaded, verdict)
    async with judge.database.connection() as connection:
        found = await find_signals(
            connection, judge.keys, judge.box, check_in, receipt, _fence(loaded), verdict
        )
        attempt, left = replace(attempt, signals=found.findings), replace(verdict.left, **found.traces)
        return await settle(connection, answer=answer, attempt=attempt, left=left)


async def _weigh(
    judge: Judge, check_in: CheckIn, receipt: Receipt, loaded: LoadedCase, selfie: Selfie
) -> Verdict:
    """Gathers evidence from cheap to intrusive, no further than the decision needs it."""
    if refusal := decide_admission(loaded.case, judge.policy):
        return Verdict(refusal)
    if not loaded.consented:
        raise Refusal("consent_required")
    location = _locate(judge, check_in, loaded)
    if refusal := decide(loaded.case, location, None, judge.policy):
        return Verdict(refusal, location)
    # the key is there before the face is analysed
    analysis, data_key = await asyncio.gather(selfie.analysed(), data_key_of(judge.keys, loaded))
    face = await _look_closely(judge, check_in, loaded, analysis, data_key)
    decision = decide(loaded.case, location, face, judge.policy)
    if decision is None:
        raise RuntimeError("all evidence is there and nothing is decided")
    if decision.outcome is Outcome.REJECTED:
        return Verdict(decision, location, face)
    if data_key is None:
        raise RuntimeError("a face has passed without a reference")
    left = seal_passed(data_key, check_in, loaded, analysis)
    kept = await selfie.kept(data_key, judge.evidence, receipt.check_in_id)
    return Verdict(decision, location, face, replace(left, selfie=kept))


async def data_key_of(keys: TemplateKeys, loaded: LoadedCase) -> bytes | None:
    """What the person's reference opens with; None when they have none."""
    if not loaded.templates:
        return None
    data_key = await keys.find(loaded.key_id)
    if data_key is None:
        # its deletion goes before that of the rows: whoever is told to come back finds it carried out
        raise Refusal("unavailable")
    return data_key


async def look(database: Database, check_in_id: UUID) -> LoadedCase:
    """The case as it is now. Raises `Refusal` challenge_invalid when its person was erased."""
    async with database.connection() as connection:
        return _still_there(await check_ins.load_case(connection, check_in_id))


def _still_there(loaded: LoadedCase | None) -> LoadedCase:
    if loaded is None:
        # the person was erased meanwhile, and the receipt with them
        raise Refusal("challenge_invalid")
    return loaded


def _fence(loaded: LoadedCase) -> Fence:
    return _parsed_fence(json.dumps(loaded.fence.fence), Frame(loaded.fence.frame))


def _locate(judge: Judge, check_in: CheckIn, loaded: LoadedCase) -> Location:
    return locate(
        _fence(loaded),
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
def _parsed_fence(fence: str, frame: Frame) -> Fence:
    # where the service works was asked when it was registered, and may be elsewhere today
    return parse_fence(json.loads(fence), frame, EARTH)


async def _look_closely(
    judge: Judge, check_in: CheckIn, loaded: LoadedCase, analysis: Analysis, data_key: bytes | None
) -> FaceEvidence:
    face = weigh_face(data_key, judge.policy, check_in, loaded, analysis)
    if face.wants_rivals and face.comparison:
        model_id, count = face.comparison.point.model_id, judge.count_left_out
        rivals = await find_rivals(
            judge.database, judge.keys, check_in.submission, analysis.templates, model_id, count
        )
        face = replace(face, rivals=rivals)
    return replace(face, liveness=await _look_alive(judge, check_in, loaded, analysis, data_key))


async def _look_alive(
    judge: Judge, check_in: CheckIn, loaded: LoadedCase, analysis: Analysis, data_key: bytes | None
) -> str | None:
    """Whether what the challenge asked for was done; None when it asked for nothing, or nothing could pass."""
    if judge.liveness is None or analysis.landmarks is None:
        return None
    if loaded.actions is None:
        raise Refusal("challenge_invalid")
    if not loaded.actions:
        return None
    async with judge.database.connection() as connection:
        challenge = await check_ins.read_answered(
            connection, check_in.submission.challenge_id, loaded.actions
        )
    return await judge_frames(
        data_key, judge.faces, judge.liveness, judge.policy, check_in, challenge, analysis
    )
