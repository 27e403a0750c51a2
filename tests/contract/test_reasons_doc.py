"""docs/reasons.md says what the code says: every code, and nothing else."""

from pathlib import Path

import pytest

from checkin_service.domain.reasons import (
    COUNTED,
    DOUBTFUL,
    INFORMING,
    REFUSING,
    Doubt,
    Missing,
    NotEnrolled,
    PhotoWarning,
    Reason,
    in_order,
)
from checkin_service.web.error_codes import ErrorCode, FaultCode

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reasons.md").read_text("utf-8")


def table(heading: str) -> list[list[str]]:
    """The rows of the one table under a heading, without its head."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def quoted(code: str) -> str:
    return f"`{code}`"


def test_reasons_with_class_and_count_in_order() -> None:
    kinds = {"refusing": REFUSING, "doubtful": DOUBTFUL, "informing": INFORMING}
    expected = [
        [
            quoted(reason),
            next(kind for kind, reasons in kinds.items() if reason in reasons),
            "yes" if reason in COUNTED else "no",
        ]
        for reason in Reason
    ]
    assert [row[:3] for row in table("Reasons of a check-in")] == expected


def test_problem_codes_with_status() -> None:
    assert [row[:2] for row in table("Problem codes")] == [
        [quoted(code), str(code.status)] for code in ErrorCode
    ]


def test_field_codes() -> None:
    assert [row[0] for row in table("Codes of single fields")] == [quoted(code) for code in FaultCode]


def test_warnings_of_an_enrolment() -> None:
    assert [row[0] for row in table("Warnings of an enrolment")] == [quoted(code) for code in PhotoWarning]


def test_why_a_line_of_a_list_is_left_out() -> None:
    assert [row[0] for row in table("Left out of an enrolment list")] == [
        quoted(code) for code in NotEnrolled
    ]


def test_what_keeps_a_member_and_what_is_doubted() -> None:
    assert [row[0] for row in table("Why a member is missing")] == [quoted(code) for code in Missing]
    assert [row[0] for row in table("Doubts before the first day")] == [quoted(code) for code in Doubt]


@pytest.mark.parametrize(
    "heading",
    [
        "Reasons of a check-in",
        "Problem codes",
        "Codes of single fields",
        "Warnings of an enrolment",
        "Left out of an enrolment list",
        "Why a member is missing",
        "Doubts before the first day",
    ],
)
def test_no_cell_is_empty(heading: str) -> None:
    rows = table(heading)
    assert len({len(row) for row in rows}) == 1
    assert all(all(row) for row in rows)


def test_every_reason_has_one_class() -> None:
    assert sorted([*REFUSING, *DOUBTFUL, *INFORMING]) == sorted(Reason)
    assert not COUNTED & INFORMING


def test_reasons_are_reported_in_the_order_of_the_list() -> None:
    assert in_order(reversed(Reason)) == tuple(Reason)
    assert in_order([]) == ()
