"""The same photograph, altered, is recognised; another one of the same person is not."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image, ImageEnhance, ImageOps

from face import FINGERPRINT, Templates, is_copy, resemblance
from face.engine import PhotoEngine, build_engine
from tests import portraits

Alter = Callable[[Image.Image], Image.Image]


def _cropped(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    return picture.crop((width // 40, height // 40, width - width // 40, height - height // 40))


COPIES: dict[str, Alter] = {
    "re-encoded": lambda picture: picture,
    "scaled": lambda picture: picture.resize((picture.width * 3 // 5, picture.height * 3 // 5)),
    "cropped by 5 %": _cropped,
    "mirrored": ImageOps.mirror,
    "mirrored and cropped": lambda picture: _cropped(ImageOps.mirror(picture)),
    "darkened": lambda picture: ImageEnhance.Brightness(picture).enhance(0.6),
    "brightened": lambda picture: ImageEnhance.Brightness(picture).enhance(1.15),
    "turned by 4 degrees": lambda picture: picture.rotate(4, Image.Resampling.BICUBIC),
}
ORIGINALS = [portraits.hopper, portraits.astronaut]


def described(engine: PhotoEngine, photo: bytes) -> Templates:
    return engine.analyse(photo).templates


def altered(photo: bytes, alter: Alter) -> bytes:
    file = BytesIO()
    alter(Image.open(BytesIO(photo)).convert("RGB")).save(file, "JPEG", quality=60)
    return file.getvalue()


@pytest.mark.parametrize("kind", COPIES)
@pytest.mark.parametrize("original", ORIGINALS, ids=lambda original: original.__name__)
def test_an_altered_copy_is_recognised(original: Callable[[], bytes], kind: str, engine: PhotoEngine) -> None:
    photo = original()
    found = resemblance(described(engine, photo), described(engine, altered(photo, COPIES[kind])))
    assert found is not None
    assert is_copy(found), found


@pytest.mark.parametrize(
    ("one", "other"),
    [(portraits.hopper, portraits.hopper_altered), (portraits.astronaut, portraits.astronaut_altered)],
    ids=["hopper", "astronaut"],
)
def test_a_photograph_in_other_light_and_pose_is_another(
    one: Callable[[], bytes], other: Callable[[], bytes], engine: PhotoEngine
) -> None:
    found = resemblance(described(engine, one()), described(engine, other()))
    assert found is not None
    assert not is_copy(found), found


def test_photographs_of_one_person_are_told_apart(shared: Path, engine: PhotoEngine) -> None:
    """Some of the mated pairs of the evaluation set; all of them are in docs/accuracy.md."""
    folder = shared / "data" / "faces_eval"
    people = ["lfw_Hu_Jintao", "lfw_Zhang_Ziyi", "lfw_Chen_Shui-bian"]
    for person in people:
        photos = [described(engine, file.read_bytes()) for file in sorted((folder / person).glob("*.jpg"))]
        assert len(photos) > 1
        for number, probe in enumerate(photos):
            found = [resemblance(earlier, probe) for earlier in photos[:number]]
            assert not any(is_copy(pair) for pair in found if pair)


def test_without_a_fingerprint_nothing_is_said(engine: PhotoEngine, networks: Path) -> None:
    plain = build_engine(str(networks), recognises_copies=False)
    photo = portraits.hopper()
    assert FINGERPRINT not in described(plain, photo)
    assert resemblance(described(plain, photo), described(engine, photo)) is None
    assert resemblance(described(engine, photo), described(plain, photo)) is None
