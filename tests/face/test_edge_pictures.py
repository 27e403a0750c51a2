"""The shared pictures that are hard to read, each by its label."""

from collections.abc import Callable
from pathlib import Path

import pytest

from face import DLIB_RESNET_MODEL, Analysis, ImageError, QualityFault, Templates, compare, quality_faults
from face.engine import PhotoEngine

Analyse = Callable[[str], Analysis]

UPRIGHT = [
    *(f"exif_orientation_{orientation}.jpg" for orientation in range(2, 9)),
    *("gray_L.jpg", "cmyk.jpg", "gray16.png", "palette.png", "la.png"),
    *("progressive.jpg", "jpeg_q5.jpg", "png_named.jpg"),
]
TOO_SMALL = ["tiny_face_24px.jpg", "tiny_face_in_big_frame.jpg"]
REFUSED = {
    # The contract takes JPEG and PNG only, so a WebP is refused although its label says that it has a face.
    "lossy.webp": "unsupported_media_type",
    "photo.avif": "unsupported_media_type",
    "photo.heic": "unsupported_media_type",
    "text.jpg": "unsupported_media_type",
    "one_pixel.png": "image_unreadable",
    "bomb_20000x20000.png": "image_unreadable",
}


@pytest.fixture(scope="module")
def reference(shared: Path, engine: PhotoEngine) -> Templates:
    """The same man, from another file."""
    return engine.analyse(
        (shared / "data" / "portraits" / "fr_barack_obama" / "1.jpg").read_bytes()
    ).templates


@pytest.fixture
def analyse(shared: Path, engine: PhotoEngine) -> Analyse:
    return lambda name: engine.analyse((shared / "data" / "images_edge" / name).read_bytes())


def test_every_labelled_picture_is_judged_here(shared: Path) -> None:
    rows = (shared / "data" / "images_edge" / "labels.tsv").read_text("utf-8").splitlines()[1:]
    assert {row.split("\t")[0] for row in rows} == {*UPRIGHT, *TOO_SMALL, *REFUSED}


@pytest.mark.parametrize("name", UPRIGHT)
def test_one_good_face_and_the_right_person(name: str, analyse: Analyse, reference: Templates) -> None:
    analysis = analyse(name)
    assert (analysis.faces, analysis.turned_deg, analysis.width) == (1, 0, 910)
    assert analysis.quality
    assert quality_faults(analysis.quality) == ()
    assert compare(reference, analysis.templates, DLIB_RESNET_MODEL).value > 0.7


@pytest.mark.parametrize("name", TOO_SMALL)
def test_a_tiny_face_is_found_and_called_too_small(name: str, analyse: Analyse) -> None:
    analysis = analyse(name)
    assert analysis.faces == 1
    assert analysis.quality
    assert quality_faults(analysis.quality) == (QualityFault.TOO_SMALL,)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_photograph_is_refused(name: str, analyse: Analyse) -> None:
    with pytest.raises(ImageError) as caught:
        analyse(name)
    assert caught.value.code == REFUSED[name]
