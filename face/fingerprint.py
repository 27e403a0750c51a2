"""What is kept of a photograph to recognise it when it is sent again, altered: never to tell who is on it.

Three facts in one vector, ``FINGERPRINT`` among a photograph's templates: dlib's template of the mirrored chip, and a
perceptual hash of the chip and of its mirror. dlib's own template of the photograph stands beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from face.comparison import DLIB_RESNET_MODEL, FINGERPRINT, Templates
from face.picture import Pixels

_HASH_SIDE = 8
_HASH_BITS = _HASH_SIDE * _HASH_SIDE
_TEMPLATE = 128
_SAME_DISTANCE = 0.15
_SAME_BITS = 4
_LIKELY_DISTANCE = 0.19
_LIKELY_BITS = 10
_LUMA = np.array([0.299, 0.587, 0.114])

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Resemblance:
    """How near a photograph is to an earlier one or to its mirror: ``distance`` of dlib's templates (L2), and
    ``hash_bits``, how many of 64 bits differ."""

    distance: float
    hash_bits: int


def is_copy(found: Resemblance, same_day: bool = False) -> bool:
    """Whether a photograph is an earlier one, altered (thresholds: docs/accuracy.md).

    How near two selfies of one sitting come in ``distance`` is not measured: on the ``same_day`` the hash alone counts.

    >>> is_copy(Resemblance(0.10, 30)), is_copy(Resemblance(0.10, 30), same_day=True)
    (True, False)
    >>> is_copy(Resemblance(0.18, 10)), is_copy(Resemblance(0.30, 10)), is_copy(Resemblance(0.30, 4))
    (True, False, True)
    """
    if found.hash_bits <= _SAME_BITS:
        return True
    likely = found.distance < _LIKELY_DISTANCE and found.hash_bits <= _LIKELY_BITS
    return not same_day and (found.distance < _SAME_DISTANCE or likely)


def fingerprint(chip: Pixels, mirrored_template: Sequence[float]) -> tuple[float, ...]:
    """256 numbers: dlib's template of the mirror (128), the hash of ``chip`` and of its mirror (64 bits each)."""
    hashes = [_hash(side) for side in (chip, chip[:, ::-1])]
    return tuple(map(float, np.concatenate([mirrored_template, *hashes])))


def resemblance(earlier: Templates, probe: Templates) -> Resemblance | None:
    """The nearest of photograph and mirror; None when one of the two was described without a fingerprint."""
    sides = [_sides(templates) for templates in (earlier, probe)]
    if None in sides:
        return None
    (template, mirrored, code, mirrored_code), (seen, _, seen_code, _) = sides  # type: ignore[misc]
    distances = [float(np.linalg.norm(seen - other)) for other in (template, mirrored)]
    bits = [int(np.count_nonzero(seen_code != other)) for other in (code, mirrored_code)]
    return Resemblance(min(distances), min(bits))


def _sides(templates: Templates) -> tuple[Floats, Floats, Floats, Floats] | None:
    if DLIB_RESNET_MODEL not in templates or FINGERPRINT not in templates:
        return None
    kept = np.asarray(templates[FINGERPRINT], np.float32)
    template = np.asarray(templates[DLIB_RESNET_MODEL], np.float32)
    mirrored, code, mirrored_code = np.split(kept, [_TEMPLATE, _TEMPLATE + _HASH_BITS])
    return template, mirrored, code, mirrored_code


def _hash(chip: Pixels) -> Floats:
    """The signs of the lowest frequencies (Zauner: Implementation and Benchmarking of Perceptual Image Hash
    Functions, 2010), as 64 zeros and ones."""
    side = len(chip) - len(chip) % (4 * _HASH_SIDE)
    cells = side // (4 * _HASH_SIDE)
    luma = (
        (chip[:side, :side] @ _LUMA).reshape(4 * _HASH_SIDE, cells, 4 * _HASH_SIDE, cells).mean(axis=(1, 3))
    )
    waves = _cosines(4 * _HASH_SIDE)
    low = (waves @ luma @ waves.T).ravel()
    return np.asarray(low > np.median(low), dtype=np.float32)


def _cosines(length: int) -> npt.NDArray[np.float64]:
    """The lowest frequencies of the discrete cosine transform but the constant one: ``_HASH_SIDE`` x ``length``."""
    frequencies = np.arange(1, _HASH_SIDE + 1)[:, None]
    return np.cos(np.pi * frequencies * (np.arange(length) + 0.5) / length)
