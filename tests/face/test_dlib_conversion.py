"""dlib's network on onnxruntime gives what dlib gives, and bytes that are not this network are refused."""

from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path

import dlib
import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from PIL import Image, ImageFilter

from face.conversion.dlib_resnet import dlib_resnet
from face.manifest import DLIB_FIVE_LANDMARKS, DLIB_RESNET, verified_path
from tests import portraits

Chips = npt.NDArray[np.uint8]
Templates = npt.NDArray[np.float32]
CHIP = (150, 150)
# Where dlib's own detector finds the face, with a quarter more on every side: left, top, right, bottom.
BOXES = [(portraits.hopper, (134, 93, 412, 371)), (portraits.astronaut, (94, 54, 227, 188))]
CHIPS_A_FACE = 100
TOLERANCE = 1e-4


@cache
def weights() -> bytes:
    return verified_path(DLIB_RESNET).read_bytes()


@cache
def network() -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    model = dlib_resnet(weights()).SerializeToString()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@cache
def dlib_network() -> dlib.face_recognition_model_v1:
    return dlib.face_recognition_model_v1(str(verified_path(DLIB_RESNET)))


def templates(chips: Chips) -> Templates:
    computed: list[Templates] = network().run(["templates"], {"chips": chips})
    return computed[0]


def assert_dlib_agrees(chips: Chips) -> None:
    expected = np.array(dlib_network().compute_face_descriptor(list(chips), 1), np.float32)
    assert np.linalg.norm(templates(chips) - expected, axis=1).max() < TOLERANCE


@cache
def faces() -> list[Image.Image]:
    return [Image.open(BytesIO(portrait())).crop(box) for portrait, box in BOXES]


def altered(face: Image.Image, rng: np.random.Generator) -> Chips:
    """The face seen from elsewhere in another light: moved corners, blur, mirroring, brightness, noise."""
    width, height = face.size
    corners = np.array([0, 0, 0, height, width, height, width, 0])
    moved = corners + rng.normal(0, 0.08 * width, corners.shape)
    chip = face.transform(CHIP, Image.Transform.QUAD, tuple(moved), Image.Resampling.BILINEAR)
    blurred = chip.filter(ImageFilter.GaussianBlur(int(rng.choice([0, 0, 1, 3]))))
    pixels = np.asarray(blurred)[:, :: rng.choice([1, -1])].astype(float)
    light = np.linspace(rng.uniform(0.2, 1.8, 3), rng.uniform(0.2, 1.8, 3), CHIP[0])
    noise = rng.normal(0, rng.choice([0, 5, 30]), pixels.shape)
    return np.asarray((pixels * light + noise).clip(0, 255), np.uint8)


def test_it_agrees_with_dlib_on_altered_portraits() -> None:
    rng = np.random.default_rng(1)
    chips = np.stack([altered(face, rng) for face in faces() for _ in range(CHIPS_A_FACE)])
    assert len(chips) >= 200
    apart = np.linalg.norm(templates(chips) - templates(chips[:1]), axis=1)
    assert np.median(apart) > 0.5, "the chips are too much alike to tell anything"
    assert_dlib_agrees(chips)


def test_it_agrees_with_dlib_on_pictures_without_a_face() -> None:
    rng = np.random.default_rng(2)
    noise = rng.integers(0, 256, (2, *CHIP, 3), np.uint8)
    stripes = np.where(np.arange(150)[:, None, None] % 2, [255, 0, 255], [0, 255, 0])
    edge = np.zeros((*CHIP, 3))
    edge[-30:, -30:] = 255  # the corner where dlib pads the smaller map
    flat = [np.full((*CHIP, 3), level) for level in (0, 128, 255)]
    chips = np.stack([*noise, np.broadcast_to(stripes, (*CHIP, 3)), edge, *flat]).astype(np.uint8)
    assert_dlib_agrees(chips)


def test_it_agrees_with_dlib_on_other_people(shared: Path) -> None:
    files = sorted((shared / "data" / "faces_eval").glob("*/*.jpg"))[::20]
    assert len(files) >= 20
    crops = (Image.open(file).convert("RGB").crop((75, 75, 275, 275)) for file in files)
    chips = [np.asarray(crop.resize(CHIP)) for crop in crops]
    assert_dlib_agrees(np.stack(chips))


def test_a_batch_gives_the_templates_of_single_chips() -> None:
    rng = np.random.default_rng(3)
    chips = np.stack([altered(face, rng) for face in (*faces(), faces()[0])])
    single = np.concatenate([templates(chip[None]) for chip in chips])
    batch = templates(chips)
    assert batch.shape == (3, 128)
    assert batch.dtype == np.float32
    assert np.linalg.norm(batch - single, axis=1).max() < 1e-6
    assert np.linalg.norm(batch[0] - batch[1]) > 0.3


def test_the_same_weights_give_the_same_bytes() -> None:
    assert dlib_resnet(weights()).SerializeToString() == dlib_resnet(weights()).SerializeToString()


def replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def damage(content: bytes) -> bytes:
        assert old in content
        return content.replace(old, new, 1)

    return damage


def swapped(content: bytes) -> bytes:
    """The first ReLU after the pooling that should follow it: every layer is whole, the order is wrong."""
    relu, pool, end = (
        content.index(part) for part in (b"\x01\x05relu_", b"\x01\x0amax_pool_2", b"\x01\x05con_4")
    )
    end = content.index(b"\x01\x05con_4", end + 1)
    return content[:relu] + content[pool:end] + content[relu:pool] + content[end:]


DAMAGES: list[tuple[str, Callable[[bytes], bytes], str]] = [
    ("empty", lambda content: b"", "1 more bytes"),
    ("another model", lambda content: verified_path(DLIB_FIVE_LANDMARKS).read_bytes(), "13 expected"),
    ("cut in a tensor", lambda content: content[:10_000], "18944 more bytes expected near byte 352"),
    ("cut at the end", lambda content: content[:-1], "1 more bytes"),
    ("one byte too many", lambda content: content + b"\0", "the end"),
    ("a second network", lambda content: content * 2, "the end"),
    ("another loss", replaced(b"loss_metric_2", b"loss_binary_l"), "loss_metric_2"),
    ("a layer less", replaced(b"\x01\x02\x01\x02\x01\x01", b"\x01\x02\x01\x01"), "2 expected"),
    ("another layer", replaced(b"relu_", b"sig__"), "relu_"),
    ("another order", swapped, "5 expected"),
    ("another size of input", replaced(b"\x01\x96\x01\x96", b"\x01\x96\x01\x97"), "150 expected"),
    ("an infinite average", replaced(b"\x03b\x90\xf5\x81\x11", b"\x01\x00\x02\x00\x7d"), "a finite number"),
    (
        "more weights than there are",
        replaced(b"con_4\x01\x02\x02\x80\x12", b"con_4\x01\x02\x02\x80\x7f"),
        "4736",
    ),
    ("another kernel", replaced(b"\x01\x20\x01\x07\x01\x07", b"\x01\x20\x01\x07\x01\x05"), "7 expected"),
    ("another stride", replaced(b"\x01\x07\x01\x02\x01\x02", b"\x01\x07\x01\x02\x01\x01"), "2 expected"),
    ("another pooling", replaced(b"max_pool_2\x01\x03", b"max_pool_2\x01\x02"), "3 expected"),
    ("no such flag", replaced(b"relu_110", b"relu_1x0"), "flags"),
    ("no number", replaced(b"max_pool_2\x01", b"max_pool_2\x41"), "a number"),
    ("a weight that is no number", replaced(b"ME\xf0\xbc", b"\0\0\xc0\x7f"), "finite weights"),
]


@pytest.mark.parametrize(("damage", "message"), [row[1:] for row in DAMAGES], ids=[row[0] for row in DAMAGES])
def test_bytes_that_are_not_this_network_are_refused(damage: Callable[[bytes], bytes], message: str) -> None:
    with pytest.raises(ValueError, match=f"not dlib's face recognition network: .*{message}"):
        dlib_resnet(damage(weights()))
