"""What an analysed selfie says, held against what is stored of the person."""

from collections.abc import Collection, Iterator

from checkin_service.adapters.postgres.check_ins import LeftBehind, LoadedCase
from checkin_service.domain.calendar import day_of
from checkin_service.domain.decision import Comparison, Earlier, FaceEvidence, OperatingPoint, Policy
from checkin_service.usecases.templates import open_all, seal_all
from checkin_service.usecases.verdict import CheckIn
from face import (
    DLIB_RESNET_MODEL,
    FINGERPRINT,
    Analysis,
    ModelMismatch,
    Resemblance,
    Templates,
    best_score,
    is_copy,
    quality_faults,
    resemblance,
)

# What `face.resemblance` tells a photograph again by.
_TELLING = frozenset({DLIB_RESNET_MODEL, FINGERPRINT})


def weigh_face(
    data_key: bytes | None, policy: Policy, check_in: CheckIn, loaded: LoadedCase, analysis: Analysis
) -> FaceEvidence:
    """The evidence of one picture by itself; compared only when it is good enough and there is something to compare
    with.

    Raises `SealBroken` for stored rows that are not this person's, `face.ModelMismatch` when the engine has not
    described the face by any model that it should have.
    """
    faults = quality_faults(analysis.quality) if analysis.quality else ()
    comparable = analysis.faces == 1 and not faults and policy.point_for(loaded.case.models) is not None
    if not comparable or data_key is None:
        return FaceEvidence(analysis.faces, faults)
    return FaceEvidence(
        analysis.faces,
        faults,
        _compare(data_key, policy, check_in, loaded, analysis.templates),
        _look_back(data_key, check_in, loaded, analysis.templates),
        live=analysis.live,
    )


def seal_passed(data_key: bytes, check_in: CheckIn, loaded: LoadedCase, analysis: Analysis) -> LeftBehind:
    """What is to be stored of a face that was not refused.

    The reference gets the models that it lacks, but never a fingerprint: that tells a photograph again, and the selfie
    is none of the reference's.
    """
    person_id, probe = check_in.submission.person_id, analysis.templates
    lacking = set(probe) - loaded.case.models - {FINGERPRINT}
    completing, telling = (
        seal_all(data_key, person_id, [_only(model_ids, probe)]) for model_ids in (lacking, _TELLING)
    )
    return LeftBehind(completing, telling)


def _only(model_ids: Collection[str], templates: Templates) -> Templates:
    return {model_id: vector for model_id, vector in templates.items() if model_id in model_ids}


def _compare(
    data_key: bytes, policy: Policy, check_in: CheckIn, loaded: LoadedCase, probe: Templates
) -> Comparison:
    point = _point(policy, loaded.case.models, probe)
    references = open_all(data_key, check_in.submission.person_id, loaded.templates, {point.model_id})
    return Comparison(best_score(references, probe, point.model_id).value, point)


def _point(policy: Policy, reference: Collection[str], probe: Collection[str]) -> OperatingPoint:
    point = policy.point_for(reference, probe)
    if point is None:
        raise ModelMismatch(f"a reference of {', '.join(reference)}, a probe of {', '.join(probe) or 'none'}")
    return point


def _look_back(data_key: bytes, check_in: CheckIn, loaded: LoadedCase, probe: Templates) -> Earlier:
    """The photograph beside the person's earlier ones: the reference's, and selfies that passed on any task."""
    found = list(_resemblances(data_key, check_in.submission.person_id, loaded, probe))
    same_bytes = any(kept.photo_sha256 == check_in.photo_sha256 for kept in loaded.kept)
    return Earlier(
        same_bytes or any(is_copy(near, same_day) for near, same_day in found),
        min((near.distance for near, _ in found), default=None),
        min((near.hash_bits for near, _ in found), default=None),
    )


def _resemblances(
    data_key: bytes, person_id: str, loaded: LoadedCase, probe: Templates
) -> Iterator[tuple[Resemblance, bool]]:
    """Each with whether the two are of one day in Shanghai."""
    today = day_of(loaded.case.received_at)
    sources = [(loaded.templates, False), *((k.templates, k.shanghai_day == today) for k in loaded.kept)]
    for sealed, same_day in sources:
        for earlier in open_all(data_key, person_id, sealed, _TELLING):
            if near := resemblance(earlier, probe):
                yield near, same_day
