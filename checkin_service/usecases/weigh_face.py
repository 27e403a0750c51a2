"""What an analysed selfie says, held against what is stored of the person."""

from collections.abc import Collection

from checkin_service.adapters.postgres.check_ins import LoadedCase
from checkin_service.adapters.postgres.persons import SealedTemplate
from checkin_service.adapters.template_keys import TemplateKeys
from checkin_service.domain.decision import Comparison, FaceEvidence, OperatingPoint, Policy
from checkin_service.usecases.templates import open_all, seal_all
from face import FINGERPRINT, Analysis, ModelMismatch, best_score, quality_faults


def weigh_face(
    keys: TemplateKeys, policy: Policy, person_id: str, loaded: LoadedCase, analysis: Analysis
) -> FaceEvidence:
    """The evidence of one picture; compared only when it is good enough and there is something to compare with.

    Raises `SealBroken` for stored rows that are not this person's, `face.ModelMismatch` when the engine has not
    described the face by any model that it should have.
    """
    faults = quality_faults(analysis.quality) if analysis.quality else ()
    if analysis.faces != 1 or faults or loaded.data_key is None or not policy.point_for(loaded.case.models):
        return FaceEvidence(analysis.faces, faults)
    point = _point(policy, loaded.case.models, analysis.templates)
    data_key = keys.unwrap(person_id, loaded.data_key)
    references = open_all(data_key, person_id, loaded.templates, {point.model_id})
    score = best_score(references, analysis.templates, point.model_id).value
    return FaceEvidence(analysis.faces, faults, Comparison(score, point))


def complete(
    keys: TemplateKeys, person_id: str, loaded: LoadedCase, analysis: Analysis
) -> list[SealedTemplate]:
    """The selfie's templates of the models that the reference lacks, sealed, to be stored when it is accepted.

    Not its fingerprint: that tells a photograph again, and a selfie is not one of the reference's.
    """
    known = {FINGERPRINT, *loaded.case.models}
    lacking = {model_id: v for model_id, v in analysis.templates.items() if model_id not in known}
    if not lacking or loaded.data_key is None:
        return []
    return seal_all(keys.unwrap(person_id, loaded.data_key), person_id, [lacking])


def _point(policy: Policy, reference: Collection[str], probe: Collection[str]) -> OperatingPoint:
    point = policy.point_for(reference, probe)
    if point is None:
        raise ModelMismatch(f"a reference of {', '.join(reference)}, a probe of {', '.join(probe) or 'none'}")
    return point
