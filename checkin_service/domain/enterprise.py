"""The identity of an enterprise: its 统一社会信用代码 (USCC) by GB 32100-2015."""

import re
from typing import Literal

USCCFault = Literal["uscc_length", "uscc_character", "uscc_check_digit"]

# A character's place is its value; I, O, S, V and Z are left out because they look like digits or each other.
_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_LENGTH = 18
# Registering authority and kind of body; administrative division; organisation and check digit.
_SHAPE = re.compile(rf"[{_ALPHABET}]{{2}}[0-9]{{6}}[{_ALPHABET}]{{10}}")


def uscc_fault(uscc: str) -> USCCFault | None:
    """The first fault in a USCC, or None.

    Small letters and surrounding blanks are refused, not mended: the code identifies the enterprise in
    comparisons and constraints, so it has one spelling.

    >>> uscc_fault("91440300MA5DEM012D")
    >>> uscc_fault("91440300MA5DEM021D")
    'uscc_check_digit'
    >>> uscc_fault("91440300ma5dem012d")
    'uscc_character'
    """
    if len(uscc) != _LENGTH:
        return "uscc_length"
    if not _SHAPE.fullmatch(uscc):
        return "uscc_character"
    # The standard's check digit is what the weighted sum of the first 17 lacks to a multiple of 31.
    if sum(map(_weighted, range(_LENGTH), uscc)) % 31:
        return "uscc_check_digit"
    return None


def _weighted(place: int, character: str) -> int:
    weight = 3**place % 31 if place < _LENGTH - 1 else 1
    return weight * _ALPHABET.index(character)
