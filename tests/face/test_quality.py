"""What is measured on degraded copies of good portraits, and what they are called by."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from face import QualityFault, QualityThresholds, quality_faults
from face.analysis import Analysis
from face.engine import PhotoEngine
from face.evaluation import degraded
from face.evaluation.degraded import PLACES, Scene
from face.evaluation.labels import read_labels
from face.faces import Face
from face.quality import measure
from tests import portraits
from tests.qualities import GOOD

Portrait = Callable[[], bytes]
PORTRAITS = pytest.mark.parametrize(
    "portrait", [portraits.hopper, portraits.astronaut], ids=["hopper", "astronaut"]
)
FRONTAL = np.array([(30, 40), (70, 40), (50, 61.6), (32.8, 81.2), (67.2, 81.2)])
SIDE_LIGHT = np.linspace(-60, 60, 112)


def scene(portrait: Portrait, engine: PhotoEngine) -> Scene:
    return _scene(portrait, engine)


@cache
def _scene(portrait: Portrait, engine: PhotoEngine) -> Scene:
    analysis = engine.analyse(portrait())
    assert analysis.landmarks is not None
    pixels = np.asarray(Image.open(BytesIO(portrait())).convert("RGB"))
    return degraded.framed(Scene(pixels, np.array(analysis.landmarks) * pixels.shape[1] / analysis.width))


def analysed(pixels: np.ndarray, engine: PhotoEngine) -> Analysis:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=92)
    return engine.analyse(file.getvalue())


def copy(species: str, degree: float, portrait: Portrait, engine: PhotoEngine) -> Analysis:
    """The portrait in a phone's frame, spoilt."""
    (kind,) = (kind for kind in degraded.SPECIES if kind.name == species)
    spoilt = kind.make(scene(portrait, engine), degree, np.random.default_rng(1))
    return analysed(spoilt, engine)


def faults(analysis: Analysis) -> tuple[QualityFault, ...]:
    assert analysis.quality is not None
    return quality_faults(analysis.quality)


# --- What a photograph is refused for ---


@pytest.mark.parametrize(
    "portrait",
    [portraits.hopper, portraits.hopper_altered, portraits.astronaut, portraits.astronaut_altered],
    ids=lambda portrait: portrait.__name__,
)
def test_good_portraits_pass(portrait: Portrait, engine: PhotoEngine) -> None:
    assert faults(engine.analyse(portrait())) == ()
    assert faults(analysed(scene(portrait, engine).pixels, engine)) == ()


@PORTRAITS
@pytest.mark.parametrize(
    ("species", "degree"),
    [
        ("underexposed", -3),
        ("backlit", -3),
        ("overexposed", 1),
        ("out of focus", 0.03),
        ("shaken", 0.1),
        ("reduced", 24),
        ("turned", 25),
        ("cropped left", 0.1),
        ("cropped below", 0.1),
        ("sunglasses", 0.3),
    ],
)
def test_little_is_forgiven(species: str, degree: float, portrait: Portrait, engine: PhotoEngine) -> None:
    assert faults(copy(species, degree, portrait, engine)) == ()


@PORTRAITS
@pytest.mark.parametrize(
    ("species", "degree", "fault"),
    [
        ("underexposed", -7, QualityFault.TOO_DARK),
        ("backlit", -6, QualityFault.TOO_DARK),
        ("overexposed", 3, QualityFault.TOO_BRIGHT),
        ("out of focus", 0.1, QualityFault.BLURRED),
        ("reduced", 12, QualityFault.TOO_SMALL),
        ("cropped left", 0.4, QualityFault.CUT_OFF),
        ("cropped below", 0.4, QualityFault.CUT_OFF),
        ("light mask", 0, QualityFault.COVERED),
        ("dark mask", 0, QualityFault.COVERED),
        ("skin-coloured mask", 0, QualityFault.COVERED),
        ("sunglasses", 0.9, QualityFault.COVERED),
        ("dark bar", 1.5, QualityFault.COVERED),
        ("phone from below", 0.45, QualityFault.COVERED),
    ],
)
def test_much_is_called_by_its_name(
    species: str, degree: float, fault: QualityFault, portrait: Portrait, engine: PhotoEngine
) -> None:
    assert faults(copy(species, degree, portrait, engine)) == (fault,)


def test_a_shaken_photograph_is_called_blurred(engine: PhotoEngine) -> None:
    assert faults(copy("shaken", 0.4, portraits.astronaut, engine)) == (QualityFault.BLURRED,)


def test_a_head_turned_by_far_is_called_so(engine: PhotoEngine) -> None:
    assert faults(copy("turned", 60, portraits.astronaut, engine)) == (QualityFault.TURNED_AWAY,)


def test_a_hand_over_half_of_the_face_covers_it(engine: PhotoEngine) -> None:
    assert faults(copy("hand over a side", 0.5, portraits.hopper, engine)) == (QualityFault.COVERED,)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("share", "faces"), [(0.3, 1), (0.7, 2)])
def test_somebody_else_counts_when_about_as_large(
    share: float, faces: int, place: str, engine: PhotoEngine
) -> None:
    hopper, astronaut = (scene(portrait, engine) for portrait in (portraits.hopper, portraits.astronaut))
    assert analysed(degraded.accompanied(hopper, astronaut, share, place), engine).faces == faces


def test_good_photographs_are_not_refused(shared: Path, engine: PhotoEngine) -> None:
    """A third of them: beards, glasses, hats, shouts."""
    folder = shared / "data" / "faces_eval"
    photos = [folder / photo.file for photo in read_labels(folder).photos[2::3]]
    refused = [photo for photo in photos if faults(engine.analyse(photo.read_bytes()))]
    assert len(photos) == 161
    assert len(refused) <= 0.02 * len(photos)


def test_uncropped_portraits_pass(shared: Path, engine: PhotoEngine) -> None:
    photos = sorted((shared / "data" / "portraits").glob("*/*.jpg"))
    assert len(photos) == 7
    assert {faults(engine.analyse(photo.read_bytes())) for photo in photos} == {()}


# --- The rule ---


@pytest.mark.parametrize(
    ("fact", "least", "fault"),
    [
        ("eye_distance_px", True, QualityFault.TOO_SMALL),
        ("luminance", True, QualityFault.TOO_DARK),
        ("contrast", True, QualityFault.TOO_DARK),
        ("burnt_share", False, QualityFault.TOO_BRIGHT),
        ("sharpness", True, QualityFault.BLURRED),
        ("yaw_deg", False, QualityFault.TURNED_AWAY),
        ("outside_share", False, QualityFault.CUT_OFF),
        ("confidence", True, QualityFault.COVERED),
        ("eye_contrast", True, QualityFault.COVERED),
        ("mouth_contrast", True, QualityFault.COVERED),
    ],
)
def test_a_threshold_itself_passes(fact: str, least: bool, fault: QualityFault) -> None:
    bound = getattr(QualityThresholds(), f"{'least' if least else 'most'}_{fact}")
    beyond = np.nextafter(bound, -np.inf if least else np.inf)
    assert quality_faults(replace(GOOD, **{fact: bound})) == ()
    assert quality_faults(replace(GOOD, **{fact: beyond})) == (fault,)


def test_a_turn_to_either_side_counts() -> None:
    assert quality_faults(replace(GOOD, yaw_deg=-60)) == (QualityFault.TURNED_AWAY,)


def test_a_face_is_not_called_covered_when_something_else_explains_it() -> None:
    hidden = replace(GOOD, confidence=0.5, eye_contrast=0.0, mouth_contrast=0.0)
    assert quality_faults(hidden) == (QualityFault.COVERED,)
    assert quality_faults(replace(hidden, luminance=5, sharpness=0.1)) == (
        QualityFault.TOO_DARK,
        QualityFault.BLURRED,
    )


def test_a_burnt_face_is_not_called_dark_for_its_lack_of_contrast() -> None:
    assert quality_faults(replace(GOOD, burnt_share=0.9, contrast=3)) == (QualityFault.TOO_BRIGHT,)
    assert quality_faults(replace(GOOD, burnt_share=0.1, contrast=3)) == (QualityFault.TOO_DARK,)


def test_thresholds_come_with_the_call() -> None:
    strict = QualityThresholds(least_eye_distance_px=100, least_sharpness=0.5)
    assert quality_faults(GOOD, strict) == (QualityFault.TOO_SMALL, QualityFault.BLURRED)


# --- The facts ---


@PORTRAITS
@pytest.mark.parametrize("eyes_px", [40, 24, 16])
def test_the_eye_distance_follows_the_size(eyes_px: float, portrait: Portrait, engine: PhotoEngine) -> None:
    quality = copy("reduced", eyes_px, portrait, engine).quality
    assert quality is not None
    assert quality.eye_distance_px == pytest.approx(eyes_px, rel=0.06)


@PORTRAITS
@pytest.mark.parametrize("yaw_deg", [25, 45])
def test_the_yaw_follows_a_turned_head(yaw_deg: float, portrait: Portrait, engine: PhotoEngine) -> None:
    quality = copy("turned", yaw_deg, portrait, engine).quality
    assert quality is not None
    assert abs(quality.yaw_deg) == pytest.approx(yaw_deg, abs=9)


@PORTRAITS
@pytest.mark.parametrize("share", [0.1, 0.2, 0.3])
def test_the_share_outside_follows_a_cut(share: float, portrait: Portrait, engine: PhotoEngine) -> None:
    quality = copy("cropped left", share, portrait, engine).quality
    assert quality is not None
    assert quality.outside_share == pytest.approx(share, abs=0.05)


def test_the_confidence_is_low_where_a_face_is_hidden_and_not_where_it_is_small(engine: PhotoEngine) -> None:
    hidden = copy("hand over a side", 0.6, portraits.hopper, engine).quality
    small = copy("reduced", 24, portraits.hopper, engine).quality
    assert hidden is not None
    assert small is not None
    assert hidden.confidence < QualityThresholds().least_confidence < 0.9 < small.confidence


def face_at(left: float, top: float, landmarks: np.ndarray = FRONTAL) -> Face:
    return Face(left, top, 100, 120, 0.9, landmarks + np.array([left, top]))


def even_chip(value: int = 120) -> np.ndarray:
    return np.full((112, 112, 3), value, np.uint8)


# The face of FRONTAL goes from 10 to 90 and from 12 to 108.
@pytest.mark.parametrize(
    ("left", "top", "outside_share"),
    [(0, 0, 0.0), (-50, 0, 0.5), (0, -36, 0.25), (60, 60, 0.79), (200, 0, 1.0)],
)
def test_the_share_beyond_the_edge(left: int, top: int, outside_share: float) -> None:
    quality = measure(face_at(left, top), even_chip(), (100, 120))
    assert quality.outside_share == pytest.approx(outside_share, abs=0.05)


@pytest.mark.parametrize("roll_deg", [0, 30])
@pytest.mark.parametrize("nose_px", [-12, 0, 12])
def test_the_nose_says_which_way_a_face_is_turned(nose_px: float, roll_deg: float) -> None:
    landmarks = FRONTAL + np.array([(0, 0), (0, 0), (nose_px, 0), (0, 0), (0, 0)])
    angle = np.radians(roll_deg)
    rolled = landmarks @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    quality = measure(face_at(0, 0, rolled), even_chip(), (100, 120))
    assert np.sign(round(quality.yaw_deg)) == np.sign(nose_px)
    assert quality.eye_distance_px == pytest.approx(40)


def test_points_that_are_no_face_count_as_turned_away() -> None:
    in_line = np.outer(np.arange(5), (10, 10)).astype(float)
    quality = measure(face_at(0, 0, in_line), even_chip(), (100, 120))
    assert QualityFault.TURNED_AWAY in quality_faults(quality)


def test_only_the_inner_face_counts_for_its_light() -> None:
    """A bright window or a dark room around it, or hair, change nothing."""
    chip = even_chip(120)
    chip[:38], chip[:, :28], chip[:, 84:], chip[102:] = 255, 0, 255, 0
    quality = measure(face_at(0, 0), chip, (100, 120))
    assert quality.luminance == pytest.approx(120)
    assert quality.burnt_share == 0


def test_the_contrast_is_the_spread_of_its_light() -> None:
    chip = even_chip(100)
    chip[:, :56] = 120
    assert measure(face_at(0, 0), chip, (100, 120)).contrast == pytest.approx(10)


def test_the_burnt_share_is_that_of_white_pixels() -> None:
    chip = even_chip(200)
    chip[:, :56] = 250
    assert measure(face_at(0, 0), chip, (100, 120)).burnt_share == pytest.approx(0.5)


def grey(luma: np.ndarray) -> np.ndarray:
    return np.dstack([luma.clip(0, 255).astype(np.uint8)] * 3)


def texture() -> np.ndarray:
    noise = np.random.default_rng(0).normal(128, 60, (112, 112)).clip(0, 255).astype(np.uint8)
    return np.asarray(Image.fromarray(noise).filter(ImageFilter.GaussianBlur(1)), float)


def test_a_soft_picture_is_less_sharp() -> None:
    soft = Image.fromarray(texture().astype(np.uint8)).filter(ImageFilter.GaussianBlur(3))
    sharpness = [
        measure(face_at(0, 0), grey(luma), (100, 120)).sharpness for luma in (texture(), np.asarray(soft))
    ]
    assert sharpness[0] > 0.6
    assert sharpness[1] < 0.3


@pytest.mark.parametrize("towards", [(0, 1), (1, 0), (1, 1), (1, -1), (2, 1), (-1, 2)], ids=str)
def test_a_smear_in_any_direction_costs_sharpness(towards: tuple[int, int]) -> None:
    luma = texture()
    moves = [(round(step * towards[0] / 2), round(step * towards[1] / 2)) for step in range(-6, 7)]
    for _ in range(3):
        luma = np.mean([np.roll(luma, move, (0, 1)) for move in moves], axis=0)
    still, shaken = (
        measure(face_at(0, 0), grey(values), (100, 120)).sharpness for values in (texture(), luma * 4 - 384)
    )
    assert shaken < 0.65 * still


def test_an_even_picture_is_not_sharp() -> None:
    assert measure(face_at(0, 0), grey(np.full((112, 112), 120)), (100, 120)).sharpness == pytest.approx(0)


@pytest.mark.parametrize(
    ("where", "fact"),
    [
        (np.s_[40:60, 28:48], "eye_contrast"),
        (np.s_[40:60, 64:84], "eye_contrast"),
        (np.s_[84:102, 40:74], "mouth_contrast"),
    ],
    ids=["right eye", "left eye", "mouth"],
)
def test_a_plain_patch_takes_the_contrast_of_what_it_covers(where: tuple[slice, slice], fact: str) -> None:
    luma = np.random.default_rng(0).normal(128, 30, (112, 112)) + SIDE_LIGHT
    free = measure(face_at(0, 0), grey(luma), (100, 120))
    luma[where] = 90
    covered = measure(face_at(0, 0), grey(luma), (100, 120))
    assert getattr(covered, fact) == pytest.approx(0)
    unchanged = {"eye_contrast", "mouth_contrast"} - {fact}
    assert all(getattr(covered, other) > 0.5 * getattr(free, other) for other in unchanged)
