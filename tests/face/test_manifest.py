"""A file of weights that is missing or altered is named, with the digest it should have."""

import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import face
from face.manifest import (
    DLIB_FIVE_LANDMARKS,
    DLIB_RESNET,
    MINIFASNET_V1SE,
    MINIFASNET_V2,
    SFACE,
    YUNET,
    WeightFile,
    WeightsError,
    verified_path,
)

PUBLIC_DOMAIN = "CC0-1.0"


@pytest.mark.parametrize(
    "weights", [DLIB_RESNET, DLIB_FIVE_LANDMARKS, SFACE, YUNET], ids=lambda weights: weights.name
)
def test_the_installed_weights_are_the_ones_that_were_measured(weights: WeightFile) -> None:
    assert verified_path(weights).name == weights.name


def test_the_texts_of_the_licences_go_with_the_library() -> None:
    every = (DLIB_RESNET, DLIB_FIVE_LANDMARKS, SFACE, YUNET, MINIFASNET_V2, MINIFASNET_V1SE)
    needed = {weights.licence for weights in every} - {PUBLIC_DOMAIN}
    texts = Path(face.__file__).parent / "licences"
    assert {text.stem for text in texts.glob("*.txt")} == needed


@pytest.mark.parametrize("weights", [MINIFASNET_V2, MINIFASNET_V1SE], ids=lambda weights: weights.name)
def test_what_is_not_installed_is_found_in_the_folder(weights: WeightFile, shared: Path) -> None:
    folder = shared / "data" / "models"
    assert verified_path(weights, folder) == folder / weights.name
    with pytest.raises(WeightsError, match="a models directory \\(none is configured\\)"):
        verified_path(weights)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an installed package's weights."""
    folder = tmp_path / "altered_models" / "models"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "altered_models", raising=False)
    return folder


ELSEWHERE = replace(DLIB_FIVE_LANDMARKS, package="altered_models")


def test_an_altered_file_is_named_with_both_digests(package: Path) -> None:
    (package / ELSEWHERE.name).write_bytes(b"altered")
    found = hashlib.sha256(b"altered").hexdigest()
    words = rf"{ELSEWHERE.name} was altered: expected SHA-256 {ELSEWHERE.sha256}, found {found}"
    with pytest.raises(WeightsError, match=words):
        verified_path(ELSEWHERE)


def test_a_missing_file_is_named(package: Path) -> None:
    with pytest.raises(
        WeightsError, match=rf"{ELSEWHERE.name} is missing: expected SHA-256 {ELSEWHERE.sha256}"
    ):
        verified_path(ELSEWHERE)


def test_a_missing_package_is_named() -> None:
    with pytest.raises(WeightsError, match="or the package not_installed"):
        verified_path(replace(ELSEWHERE, package="not_installed"))
