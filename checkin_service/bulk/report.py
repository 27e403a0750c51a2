"""What a list's owner is told: a line a fault, with what to do."""

import csv
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from checkin_service.bulk.enrol import Report
from checkin_service.bulk.enrolment_list import Listed, ListFaults
from checkin_service.domain.reasons import NotEnrolled
from checkin_service.usecases.refusals import FieldFault, Refusal
from checkin_service.web.error_codes import ErrorCode, FaultCode
from checkin_service.web.messages import Language, fault_text, not_enrolled_text, problem_text

_FAULTS, _LEFT_OUT = frozenset(FaultCode), frozenset(NotEnrolled)
COLUMNS = ("line", "person_id", "photo", "code", "message")


@contextmanager
def written_report(path: Path, language: Language) -> Iterator[Report]:
    """A CSV file for the operator alone, with a row for everything that keeps somebody from being enrolled. Raises
    `OSError`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    # with the mark by which spreadsheets know UTF-8; each line is there as soon as it is known
    with os.fdopen(descriptor, "w", encoding="utf-8-sig", newline="", buffering=1) as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)

        def report(listed: Listed, refusal: Refusal) -> None:
            rows = list(_rows(listed, refusal, language))
            writer.writerows((listed.line, listed.person_id, *row) for row in rows)

        yield report


def _rows(listed: Listed, refusal: Refusal, language: Language) -> Iterator[tuple[str, str, str]]:
    """The photograph, where it is known, code and text."""
    if not refusal.faults:
        only = listed.photos[0] if len(listed.photos) == 1 else ""
        yield only, refusal.code, _text(FieldFault("", refusal.code, refusal.params), language)
    for fault in refusal.faults:
        photo = listed.photos[int(fault.pointer.rpartition("/")[2])]
        yield photo, fault.code, _text(fault, language)


def told(faults: ListFaults, language: Language) -> Iterator[str]:
    """A sentence a fault. No value of a cell is among them."""
    for found in faults.faults:
        column = found.fault.pointer.removeprefix("/")
        where = f"{found.line}, {column}" if column else str(found.line)
        yield f"{where}: {found.fault.code}: {_text(found.fault, language)}"


def _text(fault: FieldFault, language: Language) -> str:
    if fault.code in _LEFT_OUT:
        return not_enrolled_text(NotEnrolled(fault.code), language)
    if fault.code in _FAULTS:
        return fault_text(fault.code, language, **fault.params)
    return problem_text(ErrorCode(fault.code), language, **fault.params)[1]
