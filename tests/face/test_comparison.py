"""Scores belong to one model; nothing is compared across models."""

from math import inf, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from face import DLIB_RESNET_MODEL, ModelMismatch, Score, Templates, best_score, compare

ZERO = (0.0,) * 128


def at(distance: float) -> Templates:
    """A template that far from ``ZERO``."""
    return {DLIB_RESNET_MODEL: (distance, *ZERO[1:])}


def test_the_distance_of_face_recognition_and_the_score() -> None:
    assert compare(at(0), at(0.45), DLIB_RESNET_MODEL).value == pytest.approx(0.55)
    assert compare(at(0), at(0), DLIB_RESNET_MODEL) == Score(1.0, DLIB_RESNET_MODEL)


def test_the_best_of_several_references_counts() -> None:
    assert best_score([at(0.9), at(0.2), at(0.5)], at(0), DLIB_RESNET_MODEL).value == pytest.approx(0.8)


def test_no_reference_gives_no_score() -> None:
    with pytest.raises(ValueError, match="at least one"):
        best_score([], at(0), DLIB_RESNET_MODEL)


@pytest.mark.parametrize(
    ("reference", "model_id", "words"),
    [
        ({"sface": ZERO}, DLIB_RESNET_MODEL, "only of: sface"),
        ({}, DLIB_RESNET_MODEL, "only of: none"),
        ({"sface": ZERO}, "sface", "sface is not known"),
    ],
    ids=["another model's", "none at all", "unknown model"],
)
def test_templates_of_other_models_are_refused(reference: Templates, model_id: str, words: str) -> None:
    with pytest.raises(ModelMismatch, match=words):
        compare(reference, {"sface": ZERO, **at(0)}, model_id)


@pytest.mark.parametrize("vector", [ZERO[1:], (*ZERO, 0.0), (nan, *ZERO[1:]), (inf, *ZERO[1:]), ()])
def test_a_template_is_128_finite_numbers(vector: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="128 finite numbers"):
        compare({DLIB_RESNET_MODEL: vector}, at(0), DLIB_RESNET_MODEL)


@settings(max_examples=20)
@given(st.lists(st.lists(st.floats(-1, 1, width=32), min_size=128, max_size=128), min_size=2, max_size=2))
def test_the_score_is_one_minus_the_euclidean_distance_either_way(vectors: list[list[float]]) -> None:
    one, other = ({DLIB_RESNET_MODEL: vector} for vector in vectors)
    score = compare(one, other, DLIB_RESNET_MODEL)
    assert score == compare(other, one, DLIB_RESNET_MODEL)
    wanted = 1 - float(np.sqrt(sum((a - b) ** 2 for a, b in zip(*vectors, strict=True))))
    assert score.value == pytest.approx(wanted, abs=1e-5)
