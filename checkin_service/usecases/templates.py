"""Templates between the engine's vectors and the sealed rows of the database."""

from collections.abc import Collection, Sequence

import numpy as np

from checkin_service.adapters.postgres.persons import SealedTemplate
from checkin_service.adapters.template_keys import open_template, seal_template
from face import Templates

_VECTOR = np.dtype("<f4")


def seal_all(data_key: bytes, person_id: str, photos: Sequence[Templates]) -> list[SealedTemplate]:
    """Every photograph's vector of every model, sealed."""
    return [
        SealedTemplate(photo, model_id, seal_template(data_key, person_id, model_id, _packed(vector)))
        for photo, templates in enumerate(photos)
        for model_id, vector in templates.items()
    ]


def open_all(
    data_key: bytes, person_id: str, sealed: Sequence[SealedTemplate], models: Collection[str]
) -> list[Templates]:
    """The vectors of each photograph by these models, in plain. Raises `SealBroken` for a row that is not this
    person's."""
    photos: dict[int, dict[str, Sequence[float]]] = {}
    for template in sealed:
        if template.model_id in models:
            packed = open_template(data_key, person_id, template.model_id, template.sealed)
            photos.setdefault(template.photo, {})[template.model_id] = _unpacked(packed)
    return list(photos.values())


def _packed(vector: Sequence[float]) -> bytes:
    return np.asarray(vector, _VECTOR).tobytes()


def _unpacked(packed: bytes) -> Sequence[float]:
    # an array is as good as a sequence of floats to whoever compares, and costs nothing to make
    return np.frombuffer(packed, _VECTOR)  # type: ignore[return-value]
