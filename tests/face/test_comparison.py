"""Scores belong to one model; nothing is compared across models."""

from math import inf, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from face import (
    DLIB_RESNET_MODEL,
    SFACE_MODEL,
    ModelMismatch,
    Score,
    Templates,
    alike_pairs,
    best_score,
    compare,
)

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


# --- Everybody against everybody ---


def crowd(seed: int, persons: int) -> list[list[Templates]]:
    """One to three photographs each; every fifth person is much like the one before."""
    random = np.random.default_rng(seed)
    faces = random.normal(size=(persons, 128))
    faces[4::5] = faces[3::5] + 0.5 * faces[4::5]
    shots = [face + 0.8 * random.normal(size=(random.integers(1, 4), 128)) for face in faces]
    return [[{SFACE_MODEL: tuple(shot)} for shot in of_one] for of_one in shots]


@pytest.mark.parametrize(("seed", "persons"), [(1, 20), (2, 150), (3, 151)])
def test_pairs_are_those_that_two_by_two_would_find_the_nearest_first(seed: int, persons: int) -> None:
    """The larger ones have more photographs than are multiplied at a time."""
    people, threshold = crowd(seed, persons), 0.3
    scores = {
        (one, other): max(best_score(people[one], photo, SFACE_MODEL).value for photo in people[other])
        for one in range(persons)
        for other in range(one + 1, persons)
    }
    expected = [pair for pair, score in scores.items() if score >= threshold]
    assert len(expected) >= persons // 5
    assert alike_pairs(people, SFACE_MODEL, threshold) == sorted(expected, key=lambda pair: -scores[pair])


@pytest.mark.parametrize("people", [[], [[]], [[{SFACE_MODEL: ZERO}], [{SFACE_MODEL: ZERO}]]])
def test_nobody_and_a_template_of_noughts_make_no_pair(people: list[list[Templates]]) -> None:
    assert alike_pairs(people, SFACE_MODEL, 0.41) == []


def test_no_crowd_is_compared_by_dlib() -> None:
    with pytest.raises(ModelMismatch):
        alike_pairs([[at(0)], [at(0)]], DLIB_RESNET_MODEL, 0.5)
