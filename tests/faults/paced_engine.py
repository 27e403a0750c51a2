"""An engine of fixed answers for worker processes, as slow as a real one at no cost to the processors of the test."""

import io
import json
import time

from PIL import Image

from face import Analysis
from tests.service.fixed_engine import MODEL, FixedEngine, Shown


class PacedEngine:
    model_id = MODEL

    def __init__(self, analysis_s: float) -> None:
        self._analysis_s = analysis_s

    def analyse(self, photo: bytes) -> Analysis:
        time.sleep(self._analysis_s)
        return FixedEngine()._analysis(Shown(**json.loads(Image.open(io.BytesIO(photo)).info["comment"])))
