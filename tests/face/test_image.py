"""Decoding: the right pixels the right way up, and little memory for hostile files."""

import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from face.image import Photograph, decode
from face.image_errors import ImageError, ImageUnreadable
from face.picture import Pixels
from tests.face import pictures

SCENE = np.asarray(pictures.scene()).astype(int)
GREY = np.asarray(pictures.scene().convert("L")).astype(int)[:, :, None].repeat(3, axis=2)


def difference(pixels: Pixels, wanted: np.ndarray[tuple[int, ...], np.dtype[np.int_]]) -> float:
    assert pixels.shape == wanted.shape
    assert pixels.dtype == np.uint8
    return float(np.abs(pixels.astype(int) - wanted).mean())


def grey16() -> bytes:
    values = np.asarray(pictures.scene().convert("L")).astype(np.uint16) * 257
    return pictures.saved(Image.fromarray(values), "PNG")


def transparent() -> bytes:
    """The scene's right half is transparent."""
    picture = pictures.scene().convert("RGBA")
    picture.paste((0, 0, 0, 0), (100, 0, 200, 150))
    return pictures.saved(picture, "PNG")


MODES: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: pictures.jpeg(quality=95),
    "progressive": lambda: pictures.jpeg(quality=95, progressive=True),
    "cmyk": lambda: pictures.saved(pictures.scene().convert("CMYK"), "JPEG", quality=95),
    "png": pictures.png,
    "rgba": lambda: pictures.png(mode="RGBA"),
    "palette": lambda: pictures.saved(pictures.scene().quantize(256), "PNG"),
}
GREYS: dict[str, Callable[[], bytes]] = {
    "grey jpeg": lambda: pictures.saved(pictures.scene().convert("L"), "JPEG", quality=95),
    "grey png": lambda: pictures.png(mode="L"),
    "grey and alpha": lambda: pictures.png(mode="LA"),
    "16-bit grey": grey16,
}


@pytest.mark.parametrize("mode", MODES)
def test_colours(mode: str) -> None:
    assert difference(decode(MODES[mode]()), SCENE) < 8


@pytest.mark.parametrize("mode", GREYS)
def test_greys(mode: str) -> None:
    assert difference(decode(GREYS[mode]()), GREY) < 2


def test_transparent_parts_are_white_as_a_person_would_see_them() -> None:
    pixels = decode(transparent())
    assert (pixels[:, 100:] == 255).all()
    assert difference(pixels[:, :100], SCENE[:, :100]) == 0


def test_black_and_white() -> None:
    assert set(np.unique(decode(pictures.png(mode="1")))) == {0, 255}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_ends_upright(orientation: int) -> None:
    stored = pictures.scene()
    for step in REVERSED[orientation]:
        stored = stored.transpose(step)
    photo = pictures.saved(stored, "JPEG", quality=95, exif=b"Exif\0\0" + pictures.exif(orientation))
    assert difference(decode(photo), SCENE) < 3


_T = Image.Transpose
# From the definition of the eight (TIFF 6.0, page 36): how the upright picture becomes the stored one.
REVERSED = {
    1: [],
    2: [_T.FLIP_LEFT_RIGHT],
    3: [_T.ROTATE_180],
    4: [_T.FLIP_TOP_BOTTOM],
    5: [_T.ROTATE_90, _T.FLIP_TOP_BOTTOM],
    6: [_T.ROTATE_90],
    7: [_T.ROTATE_270, _T.FLIP_TOP_BOTTOM],
    8: [_T.ROTATE_270],
}


@pytest.mark.parametrize(
    ("photo", "shape"),
    [
        (lambda: pictures.jpeg((5000, 5000)), (1250, 1250, 3)),
        (lambda: pictures.jpeg((3024, 4032)), (2016, 1512, 3)),
        (lambda: pictures.png((4000, 3000), mode="RGBA", compress_level=1), (1500, 2000, 3)),
        (lambda: pictures.png((2161, 2160)), (1080, 1081, 3)),
        (lambda: pictures.png((2159, 2159)), (2159, 2159, 3)),
    ],
    ids=["25 megapixels", "a phone's", "12 png", "just halved", "just not"],
)
def test_large_pictures_are_scaled_down(photo: Callable[[], bytes], shape: tuple[int, int, int]) -> None:
    pixels = decode(photo())
    assert pixels.shape == shape
    corner, opposite = pixels[:20, :20].mean(axis=(0, 1)), pixels[-20:, -20:].mean(axis=(0, 1))
    assert corner[1] < 8 < 247 < opposite[1]


@pytest.mark.parametrize(
    "photo",
    [
        pictures.jpeg()[:-400] + b"\xff\xd9",
        pictures.png_of_size(300, 300),
        pictures.with_chunks(pictures.png(), pictures.png_chunk(b"IDAT", b"not deflated")),
        pictures.jpeg().replace(b"\xff\xc4", b"\xff\xfe"),
    ],
    ids=["jpeg ends early", "png too short", "png not deflated", "jpeg without tables"],
)
def test_damaged_pixels_are_refused_or_decoded_but_never_crash(photo: bytes) -> None:
    try:
        outcome: object = decode(photo).shape
    except ImageUnreadable as error:
        outcome = error.fault
    assert outcome in {(150, 200, 3), "damaged"}


def test_truncated_pictures_are_refused_whatever_pillow_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(ImageUnreadable, match="did not arrive whole"):
        decode(pictures.jpeg()[:-400])


@settings(max_examples=60)
@given(st.sampled_from(["jpeg", "progressive", "png", "palette"]), st.data())
def test_no_damage_raises_anything_else(mode: str, data: st.DataObject) -> None:
    damaged = bytearray(MODES[mode]())
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with suppress(ImageError):
        assert decode(bytes(damaged)).ndim == 3


@pytest.mark.parametrize(("size", "scaled"), [((959, 1400), False), ((1400, 960), True)])
def test_what_will_be_scaled_is_told(size: tuple[int, int], scaled: bool) -> None:
    photo = pictures.jpeg(size)
    assert Photograph(photo).is_scaled(480) == scaled == (decode(photo, 480).size < 3 * size[0] * size[1])


SEVERAL_SIZES = {
    "baseline": lambda: pictures.jpeg((2400, 2800)),
    "progressive": lambda: pictures.jpeg((2400, 2800), progressive=True),
    "png": lambda: pictures.png((2400, 2800), compress_level=1),
    "alpha": lambda: pictures.png((2400, 2800), mode="RGBA", compress_level=1),
    "grey": lambda: pictures.png((2400, 2800), mode="L", compress_level=1),
}


@pytest.mark.parametrize("kind", SEVERAL_SIZES)
def test_one_photograph_at_several_sizes(kind: str) -> None:
    photograph = Photograph(SEVERAL_SIZES[kind]())
    near, far = photograph.pixels(480), photograph.pixels(1080)
    assert 480 <= min(near.shape[:2]) < 960
    assert far.shape == (1400, 1200, 3)
    again = Image.fromarray(far).resize(near.shape[1::-1])
    assert np.abs(near.astype(int) - np.asarray(again)).mean() < 2
    assert (photograph.pixels(1080) == far).all()


def memory_taken(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_an_exif_bomb_is_never_read() -> None:
    bomb = pictures.jpeg_segment(0xE1, b"Exif\0\0" + pictures.exif_bomb())
    photo = pictures.with_segments(pictures.jpeg(), bomb)
    assert memory_taken(lambda: decode(photo)) < 5_000_000
    with pytest.warns(UserWarning, match="Tag data larger than file"):  # the negative control: Pillow tries
        Image.open(BytesIO(photo)).getexif()


def test_bombs_in_a_pngs_texts_and_profile_are_never_inflated() -> None:
    megabytes = zlib.compress(bytes(50_000_000))
    photo = pictures.with_chunks(
        pictures.png(),
        pictures.png_chunk(b"iCCP", b"profile\0\0" + megabytes),
        pictures.png_chunk(b"zTXt", b"Comment\0\0" + megabytes),
    )
    assert difference(decode(photo), SCENE) == 0
    assert memory_taken(lambda: decode(photo)) < 5_000_000
    with pytest.raises(ValueError, match="too large"):  # the negative control: Pillow gives the picture up
        Image.open(BytesIO(photo))


def test_a_second_picture_in_the_file_is_not_read() -> None:
    two = pictures.saved(pictures.scene(), "MPO", save_all=True, append_images=[pictures.scene().rotate(180)])
    assert difference(decode(two), SCENE) < 3
