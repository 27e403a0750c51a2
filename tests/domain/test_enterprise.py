"""The USCC against codes of known firms and what a check digit must notice."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from checkin_service.domain.enterprise import uscc_fault

ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
# The contract's example; Tencent and Huawei, both of Shenzhen, as published.
KNOWN = ["91440300MA5DEM012D", "91440300708461136T", "914403001922038216"]


def text(alphabet: str, length: int) -> st.SearchStrategy[str]:
    return st.text(alphabet, min_size=length, max_size=length)


STEMS = st.tuples(text(ALPHABET, 2), text("0123456789", 6), text(ALPHABET, 9)).map("".join)


def completions(stem: str) -> list[str]:
    """The check digits accepted after the first 17 characters."""
    return [character for character in ALPHABET if uscc_fault(stem + character) is None]


@pytest.mark.parametrize("uscc", KNOWN)
def test_known_codes_are_right(uscc: str) -> None:
    assert uscc_fault(uscc) is None


@given(STEMS)
def test_every_stem_has_exactly_one_check_digit(stem: str) -> None:
    weighted_sum = 0
    for character in reversed(stem):
        weighted_sum = 3 * weighted_sum + ALPHABET.index(character)
    assert completions(stem) == [ALPHABET[-weighted_sum % 31]]


@given(st.sampled_from(KNOWN), st.integers(0, 17), st.sampled_from(ALPHABET))
def test_one_wrong_character_is_always_noticed(uscc: str, place: int, character: str) -> None:
    assume(character != uscc[place])
    assert uscc_fault(uscc[:place] + character + uscc[place + 1 :]) in {"uscc_check_digit", "uscc_character"}


@given(st.sampled_from(KNOWN), st.integers(0, 16))
def test_exchanged_neighbours_are_always_noticed(uscc: str, place: int) -> None:
    left, right = uscc[place], uscc[place + 1]
    assume(left != right)
    assert uscc_fault(uscc[:place] + right + left + uscc[place + 2 :]) is not None


@pytest.mark.parametrize("uscc", ["", KNOWN[0][:-1], KNOWN[0] + "0", KNOWN[0] + " ", "440301103097413"])
def test_another_length_is_named_as_such(uscc: str) -> None:
    assert uscc_fault(uscc) == "uscc_length"


@pytest.mark.parametrize("stray", ["I", "O", "S", "V", "Z", "a", "m", "-", " ", "\n", "张", "９", "٣", "\0"])
@pytest.mark.parametrize("place", [0, 4, 9, 17])
def test_a_character_outside_the_alphabet_is_named_as_such(stray: str, place: int) -> None:
    assert uscc_fault(KNOWN[0][:place] + stray + KNOWN[0][place + 1 :]) == "uscc_character"


def test_the_administrative_division_has_digits_only() -> None:
    assert uscc_fault("9144A300MA5DEM012D") == "uscc_character"


def test_small_letters_are_not_mended() -> None:
    assert uscc_fault(KNOWN[0].lower()) == "uscc_character"
