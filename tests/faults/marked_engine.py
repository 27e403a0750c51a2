"""Engines of fixed answers for worker processes, that obey a mark on a photograph: whose identity is an order."""

import ctypes
import io
import json
import time
from collections.abc import Callable
from typing import NoReturn

from PIL import Image

from face import Analysis, ImageLimits
from face.engine import PhotoEngine, build_engine
from face.image import MOST_SHORT_SIDE_PX, Photograph
from tests.service.fixed_engine import MODEL, FixedEngine, Shown

ANALYSIS_S = 0.1


class MarkedEngine:
    """Takes its time, so that others are in flight when one goes wrong."""

    model_id = MODEL

    def analyse(self, photo: bytes) -> Analysis:
        shown = Shown(**json.loads(Image.open(io.BytesIO(photo)).info["comment"]))
        time.sleep(ANALYSIS_S)
        if shown.identity in ORDERS:
            ORDERS[shown.identity]()
        return FixedEngine()._analysis(shown)


def _crash() -> None:
    ctypes.string_at(0)


def _hang() -> NoReturn:
    while True:
        pass


def _exhaust_memory() -> NoReturn:
    held = []
    while True:
        held.append(bytearray(16_000_000))


ORDERS: dict[str, Callable[[], None]] = {"crash": _crash, "hang": _hang, "memory": _exhaust_memory}


def marked() -> MarkedEngine:
    return MarkedEngine()


def marked_and_heavy(cache_dir: str) -> MarkedEngine:
    """As heavy to start as the real engine, which is built and left alone."""
    build_engine(cache_dir)
    return MarkedEngine()


class LimitlessEngine:
    """Decodes whatever comes."""

    model_id = MODEL
    _limits = ImageLimits(10**10, 10**10, scans=10**6, pixel_scans=10**14)

    def analyse(self, photo: bytes) -> Analysis:
        height, width = Photograph(photo, limits=self._limits).pixels(MOST_SHORT_SIDE_PX).shape[:2]
        return Analysis(width, height, 0, (), None, {})


def without_limits() -> LimitlessEngine:
    return LimitlessEngine()


def analyse(photo: bytes) -> Analysis:
    """For executors, which call a function."""
    return MarkedEngine().analyse(photo)


class EitherEngine:
    """The real engine, but for photographs that say themselves what is on them."""

    def __init__(self, real: PhotoEngine) -> None:
        self._real = real
        self._marked = MarkedEngine()
        self.model_id = real.model_id

    def analyse(self, photo: bytes) -> Analysis:
        return (self._marked if b'"identity"' in photo[:400] else self._real).analyse(photo)


def marked_or_real(cache_dir: str) -> EitherEngine:
    return EitherEngine(build_engine(cache_dir))
