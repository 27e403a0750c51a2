"""Templates between the engine's vectors and the sealed rows of the database."""

from collections.abc import Mapping, Sequence

import numpy as np

from checkin_service.adapters.postgres.persons import SealedTemplate
from checkin_service.adapters.template_keys import TemplateKeys, WrappedKey, open_template, seal_template
from face import compare

Vectors = Mapping[str, np.ndarray]


def seal_all(data_key: bytes, person_id: str, photos: Sequence[Vectors]) -> list[SealedTemplate]:
    """Every photograph's vector of every model, sealed; float32 little-endian bytes."""
    return [
        SealedTemplate(
            photo, model_id, seal_template(data_key, person_id, model_id, vector.astype("<f4").tobytes())
        )
        for photo, vectors in enumerate(photos)
        for model_id, vector in vectors.items()
    ]


def best_score(
    keys: TemplateKeys, person_id: str, wrapped: WrappedKey, sealed: Sequence[SealedTemplate], probe: Vectors
) -> float | None:
    """The best score of the probe against the person's templates of the models that both have; None without any."""
    data_key = keys.unwrap(person_id, wrapped)
    scores = [
        compare(_vector(data_key, person_id, template), probe[template.model_id])
        for template in sealed
        if template.model_id in probe
    ]
    return max(scores, default=None)


def _vector(data_key: bytes, person_id: str, template: SealedTemplate) -> np.ndarray:
    return np.frombuffer(open_template(data_key, person_id, template.model_id, template.sealed), "<f4")
