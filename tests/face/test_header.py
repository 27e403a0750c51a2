"""One hostile upload a test: told from its header, with a code, a cause and a sentence."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from face import ImageError, ImageLimits, ImageUnreadable, UnsupportedMediaType, check_header
from tests.face import pictures

FOREIGN = {
    "webp": pictures.saved(pictures.scene(), "WEBP"),
    "gif": pictures.saved(pictures.scene(), "GIF"),
    "avif": pictures.saved(pictures.scene(), "AVIF"),
    "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "svg": b"\xef\xbb\xbf <?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>",
    "unknown": b"#!/bin/sh\n",
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_other_formats_are_named(kind: str) -> None:
    with pytest.raises(UnsupportedMediaType, match="Take the photograph as a JPEG") as caught:
        check_header(FOREIGN[kind])
    assert caught.value.detail == {"found": kind}


def test_an_animated_png_is_no_photograph() -> None:
    animated = pictures.saved(
        pictures.scene(), "PNG", save_all=True, append_images=[pictures.scene().rotate(180)]
    )
    with pytest.raises(UnsupportedMediaType, match="animated"):
        check_header(animated)


@pytest.mark.parametrize(
    ("photo", "found"),
    [
        (pictures.jpeg(), ("JPEG", 200, 150, 1, True)),
        (pictures.jpeg(progressive=True), ("JPEG", 200, 150, 10, False)),
        (pictures.png(), ("PNG", 200, 150, 1, False)),
        (
            pictures.jpeg() + b"PK\x03\x04 a motion photo's film, or a polyglot's archive",
            ("JPEG", 200, 150, 1, True),
        ),
    ],
    ids=["baseline", "progressive", "png", "trailing bytes"],
)
def test_what_a_header_says(photo: bytes, found: tuple[str, int, int, int, bool]) -> None:
    header = check_header(photo)
    assert (header.format, header.width, header.height, header.scans, header.in_rows) == found


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_read_from_jpeg_and_png(orientation: int, order: str) -> None:
    tiff = pictures.exif(orientation, order)
    in_jpeg = pictures.with_segments(pictures.jpeg(), pictures.jpeg_segment(0xE1, b"Exif\0\0" + tiff))
    in_png = pictures.with_chunks(pictures.png(), pictures.png_chunk(b"eXIf", tiff))
    assert [check_header(photo).orientation for photo in (in_jpeg, in_png)] == [orientation] * 2


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation: int) -> None:
    tiff = pictures.exif(orientation)
    photo = pictures.with_segments(pictures.jpeg(), pictures.jpeg_segment(0xE1, b"Exif\0\0" + tiff))
    assert check_header(photo).orientation == 1


REFUSED: dict[str, tuple[str, Callable[[], bytes]]] = {
    "nothing": ("empty", lambda: b""),
    "jpeg cut in its pixels": ("truncated", lambda: pictures.jpeg()[:-100]),
    "jpeg cut in its header": ("truncated", lambda: pictures.jpeg()[:50]),
    "jpeg of two bytes": ("truncated", lambda: pictures.jpeg()[:2]),
    "png cut in its pixels": ("truncated", lambda: pictures.png()[:-100]),
    "png cut in its header": ("truncated", lambda: pictures.png()[:20]),
    "jpeg without a picture": ("damaged", lambda: b"\xff\xd8\xff\xd9"),
    "jpeg with two frames": ("damaged", lambda: _frame_twice()),
    "jpeg in a jpeg": ("damaged", lambda: pictures.with_segments(pictures.jpeg(), b"\xff\xd8")),
    "jpeg segment of no length": (
        "damaged",
        lambda: pictures.with_segments(pictures.jpeg(), b"\xff\xfe\0\0"),
    ),
    "png without a header": ("damaged", lambda: pictures.png()[:8] + pictures.png()[33:]),
    "lossless jpeg": ("unsupported_coding", lambda: pictures.jpeg_with_frame(200, 150, 0xC3)),
    "arithmetic jpeg": ("unsupported_coding", lambda: pictures.jpeg_with_frame(200, 150, 0xC9)),
    "jpeg of two components": (
        "unsupported_coding",
        lambda: pictures.jpeg_with_frame(200, 150, components=2),
    ),
    "jpeg over 25 megapixels": ("too_many_pixels", lambda: pictures.jpeg_with_frame(5001, 5000)),
    "progressive over 12": ("too_many_pixels", lambda: pictures.jpeg_with_frame(4001, 3000, 0xC2)),
    "png over 12": ("too_many_pixels", lambda: pictures.png_of_size(4001, 3000)),
    "jpeg of no width": ("too_few_pixels", lambda: pictures.jpeg_with_frame(0, 150)),
    "one pixel": ("too_few_pixels", lambda: pictures.png((1, 1))),
    "65535 x 1": ("too_few_pixels", lambda: pictures.jpeg_with_frame(65535, 1)),
    "65535 x 100": ("too_long", lambda: pictures.jpeg_with_frame(65535, 100)),
    "101 scans": ("too_many_scans", lambda: pictures.jpeg_with_scans(pictures.SIDES, 101)),
    "21 scans of 12 megapixels": ("too_many_scans", lambda: _many_large_scans()),
    "jpeg of 10,000 segments": ("too_many_segments", lambda: b"\xff\xd8" + b"\xff\xfe\0\2" * 1_500_000),
    "png of 10,000 chunks": (
        "too_many_segments",
        lambda: pictures.with_chunks(pictures.png(), pictures.png_chunk(b"tEXt", b"") * 100_000),
    ),
    "6 MB of FF": ("truncated", lambda: b"\xff\xd8" + b"\xff" * 6_000_000),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_a_pixel_is_decoded(case: str) -> None:
    fault, photo = REFUSED[case]
    with pytest.raises(ImageUnreadable) as caught:
        check_header(photo())
    assert caught.value.fault == fault
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    "photo",
    [
        pictures.jpeg_with_frame(5000, 5000),
        pictures.jpeg_with_frame(4000, 3000, 0xC2),
        pictures.png_of_size(4000, 3000),
        pictures.jpeg_with_scans(pictures.SIDES, 100),
        pictures.jpeg_with_frame(256, 32),
    ],
    ids=["25 megapixels", "12 progressive", "12 png", "100 scans", "32 narrow"],
)
def test_just_within_the_limits(photo: bytes) -> None:
    assert check_header(photo).width >= pictures.SIDES[0]


def test_a_baseline_jpeg_of_several_scans_is_held_whole_by_the_decoder_and_limited_so() -> None:
    photo = bytearray(pictures.jpeg_with_frame(5000, 5000))
    scan = photo.index(b"\xff\xda")
    photo[scan : scan + 14] = pictures.jpeg_segment(0xDA, b"\x01\x01\x00\x00\x3f\x00")
    with pytest.raises(ImageUnreadable) as caught:
        check_header(bytes(photo))
    assert caught.value.detail["most_pixels"] == ImageLimits().whole_pixels


def test_limits_come_with_the_call() -> None:
    with pytest.raises(
        ImageUnreadable, match=r"200 by 150 pixels; a baseline JPEG may have 0\.01 megapixels"
    ):
        check_header(pictures.jpeg(), ImageLimits(in_rows_pixels=10_000))


def test_the_bomb_among_the_shared_pictures(shared: Path) -> None:
    bomb = (shared / "data" / "images_edge" / "bomb_20000x20000.png").read_bytes()
    with pytest.raises(ImageUnreadable, match="20000 by 20000"):
        check_header(bomb)


GOOD = [pictures.jpeg(), pictures.jpeg(progressive=True), pictures.png()]


@given(st.sampled_from(GOOD), st.lists(st.tuples(st.integers(0, 900), st.integers(0, 255)), max_size=8))
def test_any_other_bytes_are_a_header_or_a_refusal(photo: bytes, changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(photo)
    for at, value in changes:
        damaged[at % len(damaged)] = value
    with suppress(ImageError):
        needed = check_header(bytes(damaged)).needed
        assert all(start < end <= len(damaged) for start, end in needed)


def _frame_twice() -> bytes:
    photo = pictures.jpeg()
    start = photo.index(b"\xff\xc0")
    frame = photo[start : start + 19]
    return photo[:start] + frame + photo[start:]


def _many_large_scans() -> bytes:
    photo = bytearray(pictures.jpeg_with_scans(pictures.SIDES, 21))
    frame = photo.index(b"\xff\xc2")
    photo[frame + 5 : frame + 9] = (3000).to_bytes(2) + (4000).to_bytes(2)
    return bytes(photo)
