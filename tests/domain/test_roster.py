"""The quota against its vectors and against shares counted with fractions."""

import json
from fractions import Fraction
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkin_service.domain.roster import Category, Requirement, RosterFault, RosterMember, roster_faults

REGISTERED = frozenset({Category.REGISTERED})
TITLED = frozenset({Category.TITLED})
DUAL = REGISTERED | TITLED

REQUIREMENTS = st.builds(Requirement, st.integers(0, 40), st.integers(0, 40), st.booleans())


def roster(registered_only: int, titled_only: int, dual: int, *, lead: bool = True) -> list[RosterMember]:
    kinds = [REGISTERED] * registered_only + [TITLED] * titled_only + [DUAL] * dual
    return [
        RosterMember(f"p-{index}", categories, technical_lead=lead and index == 0)
        for index, categories in enumerate(kinds)
    ]


def codes(members: list[RosterMember], requirement: Requirement | None) -> list[str]:
    return [fault.code for fault in roster_faults(members, requirement)]


def share(named: set[str], required: int) -> Fraction:
    return Fraction(len(named), required) if required else Fraction(1)


def unfilled_by_fractions(members: list[RosterMember], requirement: Requirement) -> list[str]:
    """The quotas missed, by the words of the rule: shares of persons, each a fraction."""
    registered = {member.person_id for member in members if member.categories in (REGISTERED, DUAL)}
    titled = {member.person_id for member in members if member.categories in (TITLED, DUAL)}
    everyone = {member.person_id for member in members}
    least = Fraction(1, 2) if requirement.has_safety_permit else Fraction(1)
    shares = {
        "quota_total": share(everyone, requirement.registered + requirement.titled),
        "quota_registered": share(registered, requirement.registered),
        "quota_titled": share(titled, requirement.titled),
    }
    if not requirement.has_safety_permit:
        del shares["quota_total"]
    return [code for code, part in shares.items() if part < least]


def test_vectors(shared: Path) -> None:
    vectors = json.loads((shared / "data" / "vectors" / "roster_quota.json").read_text())
    assert len(vectors) >= 13
    for vector in vectors:
        args = vector["args"]
        members = roster(
            args["registered_only"], args["titled_only"], args["dual"], lead=args.get("tech_lead", True)
        )
        assert codes(members, Requirement(args["R"], args["T"], args["permit"])) == vector["violations"], args


def test_every_small_roster_is_judged_as_by_fractions() -> None:
    for registered, titled, permit in product(range(6), range(6), (True, False)):
        requirement = Requirement(registered, titled, permit)
        for counts in product(range(4), repeat=3):
            members = roster(*counts)
            assert codes(members, requirement) == [
                *([] if members else ["technical_lead_missing"]),
                *unfilled_by_fractions(members, requirement),
            ], (requirement, counts)


@given(
    st.lists(st.sampled_from([REGISTERED, TITLED, DUAL]), min_size=1, max_size=60),
    REQUIREMENTS,
)
def test_a_roster_in_any_order_is_judged_as_by_fractions(
    kinds: list[frozenset[Category]], requirement: Requirement
) -> None:
    members = [RosterMember(f"p-{n}", kind, technical_lead=True) for n, kind in enumerate(kinds)]
    assert codes(members, requirement) == unfilled_by_fractions(members, requirement)


@given(st.tuples(st.integers(1, 9), st.integers(0, 9), st.integers(0, 9)), REQUIREMENTS)
def test_the_missing_number_is_the_least_that_mends_the_fault(
    counts: tuple[int, int, int], requirement: Requirement
) -> None:
    registered_only, titled_only, dual = counts
    for fault in roster_faults(roster(*counts), requirement):
        missing = fault.needed - fault.present
        in_titled = fault.code == "quota_titled"
        for added, remains in ((missing - 1, True), (missing, False)):
            enlarged = roster(
                registered_only + (0 if in_titled else added), titled_only + (added if in_titled else 0), dual
            )
            assert (fault.code in codes(enlarged, requirement)) is remains


def test_faults_say_how_many_are_needed_and_named_in_the_order_of_the_contract() -> None:
    members = roster(1, 1, 0, lead=False)
    assert roster_faults([*members, members[0]], Requirement(5, 6, has_safety_permit=True)) == (
        RosterFault("person_twice", needed=1, present=2, indexes=(0, 2)),
        RosterFault("technical_lead_missing", needed=1, present=0),
        RosterFault("quota_total", needed=6, present=2),
        RosterFault("quota_registered", needed=3, present=1),
        RosterFault("quota_titled", needed=3, present=1),
    )


def test_without_a_permit_there_is_no_rule_on_the_total() -> None:
    assert codes(roster(0, 2, 3), Requirement(3, 5, has_safety_permit=False)) == []
    assert codes(roster(2, 4, 0), Requirement(3, 5, has_safety_permit=False)) == [
        "quota_registered",
        "quota_titled",
    ]


def test_without_a_requirement_only_the_lead_and_identity_are_checked() -> None:
    assert codes(roster(1, 0, 0), None) == []
    assert codes(roster(1, 0, 0, lead=False), None) == ["technical_lead_missing"]


def test_each_person_named_twice_is_a_fault_with_all_rows() -> None:
    first, second, third = roster(3, 0, 0)
    assert roster_faults([first, second, third, second, first, second], None) == (
        RosterFault("person_twice", needed=1, present=2, indexes=(0, 4)),
        RosterFault("person_twice", needed=1, present=3, indexes=(1, 3, 5)),
    )


def test_a_person_named_twice_fills_no_second_place() -> None:
    again = RosterMember("p-0", TITLED, technical_lead=False)
    assert codes([*roster(1, 0, 0), again], Requirement(1, 2, has_safety_permit=True)) == [
        "person_twice",
        "quota_total",
    ]


def test_an_empty_roster_has_no_lead() -> None:
    assert codes([], None) == ["technical_lead_missing"]


def test_a_member_without_category_is_refused() -> None:
    with pytest.raises(ValueError, match="neither registered nor titled"):
        RosterMember("p-1", frozenset(), technical_lead=True)
