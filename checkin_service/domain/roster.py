"""The roster of a verification task and the quota it must fill (domain rule 2)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

RosterFaultCode = Literal[
    "person_twice", "technical_lead_missing", "quota_total", "quota_registered", "quota_titled"
]


class Category(StrEnum):
    """What a person counts as: 注册人员 or 职称人员."""

    REGISTERED = "registered"
    TITLED = "titled"


@dataclass(frozen=True, slots=True)
class RosterMember:
    """A person selected for the task; ValueError without a category, since everyone counts as something."""

    person_id: str
    categories: frozenset[Category]
    technical_lead: bool

    def __post_init__(self) -> None:
        if not self.categories:
            raise ValueError(f"{self.person_id} is neither registered nor titled")


@dataclass(frozen=True, slots=True)
class Requirement:
    """How many persons the qualification standard asks for, and whether the firm holds a 安全生产许可证."""

    registered: int
    titled: int
    has_safety_permit: bool


@dataclass(frozen=True, slots=True)
class RosterFault:
    """A broken rule: `needed` against `present` persons (for `person_twice`: 1 against the rows naming him).

    `indexes` are the rows of the roster concerned, from 0, ascending; only `person_twice` has them.
    """

    code: RosterFaultCode
    needed: int
    present: int
    indexes: tuple[int, ...] = ()


def roster_faults(
    members: Sequence[RosterMember], requirement: Requirement | None
) -> tuple[RosterFault, ...]:
    """Every broken rule, in the order of `RosterFaultCode`; one `person_twice` for each such person.

    A person named twice counts once, in each category that any of the rows gives. Without a requirement
    only identity and the technical lead are checked.

    >>> lead = RosterMember("p-1", frozenset(Category), technical_lead=True)
    >>> roster_faults([lead], Requirement(registered=2, titled=1, has_safety_permit=True))
    (RosterFault(code='quota_total', needed=2, present=1, indexes=()),)
    """
    faults = [*_repeated_persons(members), *_missing_lead(members)]
    if requirement is not None:
        faults.extend(_unfilled_quotas(members, requirement))
    return tuple(faults)


def _repeated_persons(members: Sequence[RosterMember]) -> Iterator[RosterFault]:
    rows_of: dict[str, list[int]] = {}
    for index, member in enumerate(members):
        rows_of.setdefault(member.person_id, []).append(index)
    for rows in rows_of.values():
        if len(rows) > 1:
            yield RosterFault("person_twice", needed=1, present=len(rows), indexes=tuple(rows))


def _missing_lead(members: Sequence[RosterMember]) -> Iterator[RosterFault]:
    if not any(member.technical_lead for member in members):
        yield RosterFault("technical_lead_missing", needed=1, present=0)


def _unfilled_quotas(members: Sequence[RosterMember], requirement: Requirement) -> Iterator[RosterFault]:
    registered = _persons_in(Category.REGISTERED, members)
    titled = _persons_in(Category.TITLED, members)
    needed = _needed(requirement)
    present = (len(registered | titled), len(registered), len(titled))
    codes: tuple[RosterFaultCode, ...] = ("quota_total", "quota_registered", "quota_titled")
    for code, least, named in zip(codes, needed, present, strict=True):
        if named < least:
            yield RosterFault(code, needed=least, present=named)


def _persons_in(category: Category, members: Sequence[RosterMember]) -> set[str]:
    return {member.person_id for member in members if category in member.categories}


def _needed(requirement: Requirement) -> tuple[int, int, int]:
    """The least numbers in total, registered and titled."""
    registered, titled = requirement.registered, requirement.titled
    if requirement.has_safety_permit:
        return _half(registered + titled), _half(registered), _half(titled)
    # Who fills both categories in full fills the standard; one person may stand in both.
    return 0, registered, titled


def _half(required: int) -> int:
    """The least k with 2*k >= required."""
    return (required + 1) // 2
