"""What an engine says about a photograph, in plain values that cross process boundaries as JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from face.quality import Quality


@dataclass(frozen=True, slots=True)
class FaceBox:
    """A box around a face, in pixels of the analysed picture; it may cross the picture's edge."""

    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Analysis:
    """The faces of comparable size, the main one first, and what was measured when there is just one.

    ``width`` and ``height`` are those of the analysed picture: upright by EXIF, scaled down when it was large,
    and turned by ``turned_deg`` (0, 90, 180, 270 counter-clockwise) when only that showed a face.
    ``quality`` is None and ``templates`` empty unless there is exactly one face. ``templates`` holds a vector
    for each model's id, and the photograph's fingerprint. ``landmarks`` are the face's five points, as in
    ``face.faces.Landmarks``. ``live`` is the passive model's score, 0 an attack to 1
    live, None where no such model is configured.
    """

    width: int
    height: int
    turned_deg: int
    boxes: tuple[FaceBox, ...]
    quality: Quality | None
    templates: Mapping[str, tuple[float, ...]]
    live: float | None = None
    landmarks: tuple[tuple[float, float], ...] | None = None

    @property
    def faces(self) -> int:
        """How many people could be meant: 0, 1 or more."""
        return len(self.boxes)


class Engine(Protocol):
    """Turns photographs into analyses. It is built warm, by a factory, inside a worker process."""

    @property
    def model_id(self) -> str:
        """The model whose templates are to be compared."""

    def analyse(self, photo: bytes) -> Analysis:
        """Analyse a JPEG or PNG. Raises ``ImageError`` when it cannot be read."""


def analysis_to_json(analysis: Analysis) -> dict[str, Any]:
    return asdict(analysis)


def analysis_from_json(record: Mapping[str, Any]) -> Analysis:
    """The analysis that was written. Raises ``KeyError``, ``TypeError`` or ``ValueError`` for another shape.

    >>> box, good = FaceBox(1, 2, 90, 90), Quality(40, 120, 35, 0.0, 0.3, 0.0, 0.0, 0.9, 0.8, 0.9)
    >>> seen = Analysis(640, 480, 0, (box,), good, {"m": (0.5, 0.1)}, 0.9, ((1, 2),) * 5)
    >>> analysis_from_json(analysis_to_json(seen)) == seen
    True
    """
    quality = record["quality"]
    return Analysis(
        int(record["width"]),
        int(record["height"]),
        int(record["turned_deg"]),
        tuple(FaceBox(**box) for box in record["boxes"]),
        None if quality is None else Quality(**quality),
        {str(model): tuple(map(float, vector)) for model, vector in record["templates"].items()},
        None if record["live"] is None else float(record["live"]),
        None if record["landmarks"] is None else tuple((float(x), float(y)) for x, y in record["landmarks"]),
    )
