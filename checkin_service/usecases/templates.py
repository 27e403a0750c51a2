"""Templates between the engine's vectors and the sealed rows of the database."""

from collections.abc import Sequence

import numpy as np

from checkin_service.adapters.postgres.persons import SealedTemplate
from checkin_service.adapters.template_keys import TemplateKeys, WrappedKey, open_template, seal_template
from face import Templates, best_score

_VECTOR = np.dtype("<f4")


def seal_all(data_key: bytes, person_id: str, photos: Sequence[Templates]) -> list[SealedTemplate]:
    """Every photograph's vector of every model, sealed."""
    return [
        SealedTemplate(photo, model_id, seal_template(data_key, person_id, model_id, _packed(vector)))
        for photo, templates in enumerate(photos)
        for model_id, vector in templates.items()
    ]


def score_against(
    keys: TemplateKeys,
    person_id: str,
    wrapped: WrappedKey,
    sealed: Sequence[SealedTemplate],
    probe: Templates,
    model_id: str,
) -> float:
    """The best score of the probe against the person's reference photographs.

    Raises `SealBroken` for a row that is not this person's, `face.ModelMismatch` for one of another model.
    """
    data_key = keys.unwrap(person_id, wrapped)
    references: dict[int, dict[str, list[float]]] = {}
    for template in sealed:
        packed = open_template(data_key, person_id, template.model_id, template.sealed)
        references.setdefault(template.photo, {})[template.model_id] = np.frombuffer(packed, _VECTOR).tolist()
    return best_score(references.values(), probe, model_id).value


def _packed(vector: Sequence[float]) -> bytes:
    return np.asarray(vector, _VECTOR).tobytes()
