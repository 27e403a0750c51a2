"""Degraded copies of a good portrait are called by their fault, and lesser degradations pass."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from face import Quality, QualityFault, QualityThresholds, quality_faults
from face.engine import DlibEngine
from face.faces import Face
from face.quality import measure
from tests import portraits

Change = Callable[[Image.Image], Image.Image]
Portrait = Callable[[], bytes]
PORTRAITS = pytest.mark.parametrize(
    "portrait", [portraits.hopper, portraits.astronaut], ids=["hopper", "astronaut"]
)
GOOD = Quality(eye_distance_px=80, luminance=120, sharpness=0.4, turned=0, outside_share=0)


def eye_distance_px(picture: Image.Image) -> int:
    """Hopper's and Collins's; their pictures are 512 and 360 wide."""
    return {512: 84, 360: 43}[picture.width]


def blurred(share: float) -> Change:
    """By a Gaussian of this share of the distance between the eyes."""
    return lambda picture: picture.filter(ImageFilter.GaussianBlur(share * eye_distance_px(picture)))


def shaken(picture: Image.Image) -> Image.Image:
    """A hand that moves sideways by a quarter of the distance between the eyes."""
    pixels = np.asarray(picture).astype(float)
    moves = [np.roll(pixels, by, axis=1) for by in range(eye_distance_px(picture) // 4)]
    return Image.fromarray(np.mean(moves, axis=0).astype(np.uint8))


def lit(factor: float) -> Change:
    return lambda picture: picture.point(lambda value: min(255, round(value * factor)))


def scaled(eyes_px: float) -> Change:
    return lambda picture: picture.resize(
        [round(side * eyes_px / eye_distance_px(picture)) for side in picture.size], Image.Resampling.BOX
    )


def measured(engine: DlibEngine, portrait: Portrait, change: Change) -> Quality:
    picture = change(Image.open(BytesIO(portrait())).convert("RGB"))
    quality = engine.analyse_pixels(np.asarray(picture)).quality
    assert quality is not None
    return quality


@PORTRAITS
@pytest.mark.parametrize(
    ("change", "faults"),
    [
        (lambda picture: picture, ()),
        (blurred(1 / 40), ()),
        (scaled(30), ()),
        (lit(0.4), ()),
        (lit(1.2), ()),
        (blurred(1 / 14), (QualityFault.BLURRED,)),
        (scaled(14), (QualityFault.TOO_SMALL,)),
        (lit(0.12), (QualityFault.TOO_DARK,)),
        (lit(2.2), (QualityFault.TOO_BRIGHT,)),
    ],
    ids=["good", "soft", "small", "dim", "bright", "blurred", "too small", "too dark", "too bright"],
)
def test_degraded_copies(
    change: Change, faults: tuple[QualityFault, ...], portrait: Portrait, engine: DlibEngine
) -> None:
    assert quality_faults(measured(engine, portrait, change)) == faults


@PORTRAITS
def test_a_shaken_photograph_loses_half_its_sharpness(portrait: Portrait, engine: DlibEngine) -> None:
    still = measured(engine, portrait, lambda picture: picture)
    assert measured(engine, portrait, shaken).sharpness < still.sharpness / 2


@pytest.mark.parametrize(("share", "faults"), [(0.05, ()), (0.38, (QualityFault.CUT_OFF,))])
def test_a_face_cut_off_by_the_edge(
    share: float, faults: tuple[QualityFault, ...], engine: DlibEngine
) -> None:
    picture = Image.open(BytesIO(portraits.hopper()))
    box = engine.analyse(portraits.hopper()).boxes[0]
    cut = round(box.left + share * box.width)
    quality = engine.analyse_pixels(np.asarray(picture.crop((cut, 0, *picture.size)))).quality
    assert quality is not None
    assert quality_faults(quality) == faults


@pytest.mark.parametrize(
    ("nose_x", "turned"), [(50, 0.0), (70, 0.5), (30, -0.5)], ids=["frontal", "to the right", "to the left"]
)
@pytest.mark.parametrize("roll_deg", [0, 30])
def test_the_nose_says_which_way_a_face_is_turned(nose_x: float, turned: float, roll_deg: float) -> None:
    landmarks = np.array([(75, 40), (65, 40), (25, 40), (35, 40), (nose_x, 60)], float)
    angle = np.radians(roll_deg)
    rolled = landmarks @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    chip = np.full((150, 150, 3), 120, np.uint8)
    quality = measure(rolled, chip, Face(0, 0, 100, 100, 1.0), (100, 100))
    assert quality.turned == pytest.approx(turned)
    assert quality.eye_distance_px == pytest.approx(40)
    assert (QualityFault.TURNED_AWAY in quality_faults(quality)) == (turned != 0)


@pytest.mark.parametrize(
    ("left", "top", "outside_share"), [(0, 0, 0.0), (-25, 0, 0.25), (60, 60, 0.84), (200, 0, 1.0)]
)
def test_the_share_beyond_the_edge(left: int, top: int, outside_share: float) -> None:
    landmarks = np.array([(75, 40), (65, 40), (25, 40), (35, 40), (50, 60)], float)
    quality = measure(
        landmarks, np.zeros((150, 150, 3), np.uint8), Face(left, top, 100, 100, 1.0), (100, 100)
    )
    assert quality.outside_share == pytest.approx(outside_share)


def test_thresholds_come_with_the_call() -> None:
    assert quality_faults(GOOD) == ()
    strict = QualityThresholds(least_eye_distance_px=100, least_sharpness=0.5)
    assert quality_faults(GOOD, strict) == (QualityFault.TOO_SMALL, QualityFault.BLURRED)


def test_good_photographs_are_not_refused(shared: Path, engine: DlibEngine) -> None:
    """Some of the evaluation photographs; `cut_off` is left out, their crops are tight."""
    folder = shared / "data" / "faces_eval"
    rows = [row.split("\t") for row in (folder / "labels.tsv").read_text("utf-8").splitlines()[1::40]]
    qualities = [engine.analyse((folder / file).read_bytes()).quality for _, file, _ in rows]
    faults = [fault for quality in qualities if quality for fault in quality_faults(quality)]
    assert set(faults) <= {QualityFault.CUT_OFF}
