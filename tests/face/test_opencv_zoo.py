"""SFace and YuNet against OpenCV's own runs of the same files."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from face.align import cut_chip, similarity
from face.conversion.minifasnet import minifasnet
from face.conversion.opencv_zoo import sface, yunet
from face.detector import Detector
from face.faces import Face
from face.manifest import SFACE, YUNET, verified_path
from face.models import SFACE_NETWORK, YUNET_LARGE_NETWORK, YUNET_NETWORK, ready_network
from face.network import Network
from face.picture import Pixels
from face.sface import CHIP_PX, SFaceEncoder, align
from face.yunet import STRIDES, YuNet
from tests import portraits

Portrait = Callable[[], bytes]
PORTRAITS = [portraits.hopper, portraits.hopper_altered, portraits.astronaut, portraits.astronaut_altered]
SIZES = [(512, 600), (320, 320), (333, 517), (160, 192)]


def pixels_of(photo: bytes, size: tuple[int, int]) -> Pixels:
    return np.asarray(Image.open(BytesIO(photo)).convert("RGB").resize(size))


@pytest.fixture(scope="module")
def detector(networks: Path) -> YuNet:
    return YuNet(Network(ready_network(YUNET_NETWORK, networks)))


@pytest.fixture(scope="module")
def encoder(networks: Path) -> SFaceEncoder:
    return SFaceEncoder(Network(ready_network(SFACE_NETWORK, networks)))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("portrait", PORTRAITS, ids=lambda portrait: portrait.__name__)
def test_the_detector_finds_what_opencv_finds(
    portrait: Portrait, size: tuple[int, int], detector: YuNet
) -> None:
    pixels = pixels_of(portrait(), size)
    judge = cv2.FaceDetectorYN.create(str(verified_path(YUNET)), "", size, 0.5, 0.3)
    _, expected = judge.detect(np.ascontiguousarray(pixels[:, :, ::-1]))
    rows = [[*face.box, *face.landmarks.ravel(), face.confidence] for face in detector.find(pixels)]
    assert len(rows) == len(expected)
    assert np.abs(np.array(rows) - expected).max() < 1e-3


@pytest.mark.parametrize("portrait", PORTRAITS, ids=lambda portrait: portrait.__name__)
def test_the_template_is_the_one_of_opencv(
    portrait: Portrait, detector: YuNet, encoder: SFaceEncoder
) -> None:
    pixels = pixels_of(portrait(), (512, 600))
    judge = cv2.FaceRecognizerSF.create(str(verified_path(SFACE)), "")
    [face] = detector.find(pixels)
    chip = align(pixels, face)
    expected = judge.feature(np.ascontiguousarray(chip[:, :, ::-1]))[0]
    [vector] = encoder.templates(chip[np.newaxis])
    assert float(vector @ expected) / np.linalg.norm(vector) / np.linalg.norm(expected) > 0.99999


@pytest.mark.parametrize("turn_deg", [0, 17, -40])
def test_chips_are_cut_where_opencv_cuts_them(turn_deg: float) -> None:
    """Where nothing is scaled away; there we average first, which OpenCV does not."""
    pixels = pixels_of(portraits.hopper(), (512, 600))
    turned = np.asarray(cv2.getRotationMatrix2D((256, 300), turn_deg, 1.0), np.float64)
    turned[:, 2] += np.array([CHIP_PX / 2 - 256, CHIP_PX / 2 - 300])
    expected = cv2.warpAffine(pixels, turned, (CHIP_PX, CHIP_PX), flags=cv2.INTER_LINEAR)
    difference = np.abs(cut_chip(pixels, turned, CHIP_PX).astype(int) - expected)
    assert np.percentile(difference, 99) <= 2


@pytest.mark.parametrize("scale", [0.9, 0.34, 0.12])
def test_a_chip_that_is_scaled_down_keeps_its_place(scale: float) -> None:
    """A smooth picture gives nearly the same however it is sampled, unless the place is off."""
    down, across = np.mgrid[0:900, 0:900]
    waves = (127 + 60 * np.sin(across / 90) + 60 * np.cos(down / 70)).astype(np.uint8)
    pixels = np.repeat(waves[:, :, None], 3, axis=2)
    shrunk = np.array([[scale, 0, -20.0], [0, scale, -11.0]])
    expected = cv2.warpAffine(pixels, shrunk, (60, 60), flags=cv2.INTER_LINEAR).astype(int)
    assert np.abs(cut_chip(pixels, shrunk, 60) - expected)[2:-2, 2:-2].max() <= 3


@pytest.mark.parametrize("scale", [0.9, 0.34, 0.12])
def test_a_chip_does_not_depend_on_what_lies_far_from_it(scale: float) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (1200, 1200, 3), dtype=np.uint8)
    middle = np.array([[scale, -0.1 * scale, 30 - 540 * scale], [0.1 * scale, scale, 30 - 660 * scale]])
    far = np.hypot(*(np.mgrid[0:1200, 0:1200] - 600)) > 50 / scale + 20
    assert np.array_equal(
        cut_chip(pixels, middle, 60), cut_chip(np.where(far[..., None], 0, pixels), middle, 60)
    )
    assert cut_chip(pixels, middle, 60).min(axis=2).mean() > 10


@pytest.mark.parametrize("shift", [(-5000, 0), (0, 5000), (30, 30)])
def test_a_chip_beyond_the_edge_is_black(shift: tuple[int, int]) -> None:
    white = np.full((200, 100, 3), 255, np.uint8)
    chip = cut_chip(white, np.column_stack([0.3 * np.eye(2), shift]), 60)
    assert chip.shape == (60, 60, 3)
    assert chip[31:59, 31:58].all() == (shift == (30, 30))
    assert not chip[:28, :28].any()


def test_a_similarity_is_found_again() -> None:
    source = np.array([[0, 0], [4, 0], [2, 3], [1, 5], [3, 5]], float)
    turn = 1.7 * np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    target = source @ turn.T + (7, -2)
    assert np.allclose(similarity(source, target), np.column_stack([turn, (7, -2)]))


def test_nearer_looks_place_the_landmarks_better(networks: Path) -> None:
    """On a face of a fifth of the picture, against those of the same face filling its own."""
    face_alone = pixels_of(portraits.hopper(), (512, 600))
    small = np.full((2000, 2000, 3), 128, np.uint8)
    small[700:1300, 700:1212] = face_alone
    close = YuNet(Network(ready_network(YUNET_LARGE_NETWORK, networks)), STRIDES[-1:])
    looking = Detector(YuNet(Network(ready_network(YUNET_NETWORK, networks))), close)
    true = looking.refined(face_alone, looking.find(face_alone).faces[0]).landmarks + 700
    first = looking.find(small).faces[0]
    errors = [np.abs(face.landmarks - true).max() for face in (first, looking.refined(small, first))]
    assert errors[1] < errors[0]
    assert errors[1] < 0.07 * np.linalg.norm(true[1] - true[0])


@pytest.mark.parametrize("convert", [sface, yunet, minifasnet])
def test_bytes_that_are_no_network_are_refused(convert: Callable[[bytes], object]) -> None:
    with pytest.raises(ValueError, match="not an ONNX file"):
        convert(b"\x00 no network")


def test_a_face_without_extent_is_no_crash(encoder: SFaceEncoder) -> None:
    nowhere = Face(0, 0, 0, 0, 0.9, np.zeros((5, 2)))
    assert align(np.zeros((40, 40, 3), np.uint8), nowhere).shape == (CHIP_PX, CHIP_PX, 3)
