"""Active liveness: a challenge asks for turns of the head, and the frames of a burst show them or do not; or another
provider has its own test, and is asked for its result.

A frame is described as it comes: its landmarks and templates are kept sealed until the verdict, the picture is not.
"""

import asyncio
from collections.abc import Mapping, Sequence
from uuid import UUID

import numpy as np

from checkin_service.adapters.postgres import check_ins
from checkin_service.adapters.postgres.database import Database
from checkin_service.adapters.postgres.persons import SealedTemplate
from checkin_service.adapters.sealing import SealBroken, seal, unseal
from checkin_service.adapters.template_keys import TemplateKeys
from checkin_service.domain.decision import OTHER_FACE, Policy
from checkin_service.ports import FaceEngine, Holder, Liveness, LivenessTest
from checkin_service.usecases.refusals import Refusal
from checkin_service.usecases.templates import open_all, seal_all
from checkin_service.usecases.verdict import CheckIn
from face import Analysis, ImageError, Templates, compare

# The five points of a frame, beside its templates: ten numbers, x and y in pixels.
_LANDMARKS = "landmarks"


async def begin_test(
    database: Database,
    keys: TemplateKeys,
    liveness: Liveness,
    challenge_id: UUID,
    person_id: str,
    holder: Holder | None,
) -> LivenessTest:
    """What a new challenge of this person asks for. No connection is held while a provider is asked; one that needs to
    know the person is asked only where its session can be sealed, that is, of persons who are enrolled."""
    data_key = await _data_key(database, keys, challenge_id, person_id) if holder else None
    test = await liveness.ask(challenge_id, holder if data_key else None)
    session = None
    if data_key and test.session:
        session = seal(data_key, test.session, *_binding(person_id, challenge_id))
    async with database.connection() as connection:
        await check_ins.set_test(connection, challenge_id, test.actions, session)
    return test


async def _data_key(
    database: Database, keys: TemplateKeys, challenge_id: UUID, person_id: str
) -> bytes | None:
    async with database.connection() as connection:
        challenge = await check_ins.read_challenge(connection, challenge_id, person_id)
    return await keys.find(challenge.key_id) if challenge else None


def _binding(person_id: str, challenge_id: UUID) -> tuple[str, ...]:
    return "liveness", person_id, str(challenge_id)


async def keep_frame(
    database: Database,
    keys: TemplateKeys,
    faces: FaceEngine,
    person_id: str,
    frame_of: tuple[UUID, int],
    photo: bytes,
) -> None:
    """Keeps what one frame shows, in its challenge's place (id, number); nothing of one without a single face.

    Raises `Refusal`: not_found, challenge_invalid, image_unreadable.
    """
    challenge_id, number = frame_of
    async with database.connection() as connection:
        challenge = await check_ins.read_challenge(connection, challenge_id, person_id)
    if challenge is None:
        raise Refusal("not_found")
    if not challenge.live:
        raise Refusal("challenge_invalid")
    if not challenge.actions:
        return
    try:
        shown = _shown(await faces.analyse(photo))
    except ImageError as error:
        raise Refusal("image_unreadable") from error
    data_key = await keys.find(challenge.key_id)
    if shown is None or data_key is None:
        return
    sealed = seal_all(data_key, person_id, [shown])
    async with database.transaction() as connection:
        await check_ins.replace_frame(connection, challenge_id, number, sealed)


async def judge_frames(
    data_key: bytes | None,
    faces: FaceEngine,
    liveness: Liveness,
    policy: Policy,
    check_in: CheckIn,
    challenge: check_ins.AnsweredChallenge,
    selfie: Analysis,
) -> str:
    """What the test showed: the liveness provider's code, or `other_face` when frames are not of the selfie's person.

    Frames in the submission stand for those that were sent beforehand under the same number. Raises `face.ImageError`.
    """
    if challenge.session:
        return await liveness.judge((), challenge.actions, _session(data_key, check_in, challenge.session))
    frames = _kept(data_key, check_in.submission.person_id, challenge)
    sent = await asyncio.gather(*(faces.analyse(photo) for photo in check_in.burst))
    frames |= {number: shown for number, analysis in enumerate(sent) if (shown := _shown(analysis))}
    in_order = [frames[number] for number in sorted(frames)]
    if not all(_same_person(policy, selfie.templates, frame) for frame in in_order):
        return OTHER_FACE
    points = [np.reshape(frame[_LANDMARKS], (5, 2)).tolist() for frame in in_order]
    return await liveness.judge(points, challenge.actions, None)


def _session(data_key: bytes | None, check_in: CheckIn, sealed: bytes) -> bytes | None:
    """None when the person's key is another one by now."""
    submission = check_in.submission
    try:
        return data_key and unseal(data_key, sealed, *_binding(submission.person_id, submission.challenge_id))
    except SealBroken:
        return None


def _shown(analysis: Analysis) -> Templates | None:
    if analysis.landmarks is None:
        return None
    return {**analysis.templates, _LANDMARKS: [float(x) for point in analysis.landmarks for x in point]}


def _kept(
    data_key: bytes | None, person_id: str, challenge: check_ins.AnsweredChallenge
) -> dict[int, Templates]:
    if data_key is None:
        return {}
    by_number: Mapping[int, Sequence[SealedTemplate]] = challenge.frames
    return {
        number: open_all(data_key, person_id, sealed, {template.model_id for template in sealed})[0]
        for number, sealed in by_number.items()
    }


def _same_person(policy: Policy, selfie: Templates, frame: Templates) -> bool:
    point = policy.point_for(selfie, frame)
    return point is not None and compare(selfie, frame, point.model_id).value >= point.threshold
