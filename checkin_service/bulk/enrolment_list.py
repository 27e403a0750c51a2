"""The list of persons to enrol, a CSV file as docs/operations.md describes it. All faults at once, and by line."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

from checkin_service.bulk.photo_folder import PhotoFolder
from checkin_service.usecases.refusals import FieldFault, Refusal
from checkin_service.web.persons import MAX_PHOTOS
from checkin_service.web.shape import Faults, Id, Shape, line, parse_fields

_Name = Annotated[str, line(500)]
PHOTOS = ("photo", *(f"photo_{number}" for number in range(2, MAX_PHOTOS + 1)))


class ListedShape(Shape):
    person_id: Id
    photo: _Name
    photo_2: _Name | None = None
    photo_3: _Name | None = None
    photo_4: _Name | None = None
    photo_5: _Name | None = None
    basis: Literal["separate_consent", "statutory_duty"] | None = None
    basis_document: Annotated[str, line(200)] | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """A line of the list. `photos`: names below the folder."""

    line: int
    person_id: str
    photos: Sequence[str]
    basis_kind: str
    basis_document: str | None


@dataclass(frozen=True, slots=True)
class LineFault:
    line: int
    fault: FieldFault


class ListFaults(ValueError):
    """The list can't be used; `faults` is all that is wrong with it."""

    def __init__(self, faults: Sequence[LineFault]) -> None:
        super().__init__(f"{len(faults)} faults")
        self.faults = faults


def read_list(
    path: Path, folder: PhotoFolder, default_basis: str, tell: Callable[[int], None]
) -> Sequence[Listed]:
    """Every line of a sound list, each of whose files is there. `tell` is given how many lines are read.

    Raises `ListFaults`, and `OSError` without a list.
    """
    faults: list[LineFault] = []
    listed: list[Listed] = []
    lines: dict[str, int] = {}
    for number, row in _rows(path, faults):
        found: Faults = []
        fields = parse_fields(ListedShape, row, "", found)
        photos = [fields[name] for name in PHOTOS if fields.get(name)]
        found += _file_faults(folder, row, fields)
        if (person_id := fields.get("person_id")) and lines.setdefault(person_id, number) != number:
            found.append(FieldFault("/person_id", "person_twice"))
        faults += [LineFault(number, fault) for fault in found]
        if not faults:
            basis = fields["basis"] or default_basis
            listed.append(Listed(number, person_id or "", photos, basis, fields["basis_document"]))
        tell(number)
    if not lines and not faults:
        faults.append(LineFault(1, FieldFault("", "too_short", {"minimum": 1})))
    if faults:
        raise ListFaults(faults)
    return listed


def _file_faults(
    folder: PhotoFolder, row: Mapping[str, str], fields: Mapping[str, str]
) -> Iterator[FieldFault]:
    for name in PHOTOS:
        if name in row and fields.get(name):
            try:
                folder.check(fields[name])
            except Refusal as refusal:
                yield FieldFault(f"/{name}", refusal.code)


def _rows(path: Path, faults: list[LineFault]) -> Iterator[tuple[int, dict[str, str]]]:
    """Cells by column, without the empty ones, and the line on which each row ends; lines without any cell are passed
    over."""
    with path.open("rb") as file:
        reader = csv.reader(_decoded(file), strict=True)
        try:
            names = next(reader, [])
            found = list(_head_faults(names))
            faults += [LineFault(1, fault) for fault in found]
            if found:
                return
            for cells in reader:
                if len(cells) > len(names):
                    fault = FieldFault("", "too_long", {"maximum": len(names)})
                    faults.append(LineFault(reader.line_num, fault))
                elif any(cells):
                    yield reader.line_num, {n: c for n, c in zip(names, cells, strict=False) if c}
        except UnicodeDecodeError:
            wanted = {"expected": "UTF-8"}
            faults.append(LineFault(reader.line_num + 1, FieldFault("", "bad_format", wanted)))
        except csv.Error:
            wanted = {"expected": "CSV"}
            faults.append(LineFault(reader.line_num, FieldFault("", "bad_format", wanted)))


def _decoded(file: BinaryIO) -> Iterator[str]:
    """Line by line, so that a fault is found where it stands; spreadsheets begin a file with a mark."""
    for number, content in enumerate(file):
        yield content.decode("utf-8" if number else "utf-8-sig")


def _head_faults(names: Sequence[str]) -> Iterator[FieldFault]:
    """Columns that are not known are refused, so that nobody hands over more about people than is needed; and told by
    their number, for a list without a head has somebody's name there."""
    for number, name in enumerate(names, 1):
        if name not in ListedShape.model_fields:
            yield FieldFault(f"/{number}", "unknown_field")
        elif name in names[: number - 1]:
            yield FieldFault(f"/{name}", "duplicate_field")
    required = (name for name, field in ListedShape.model_fields.items() if field.is_required())
    yield from (FieldFault(f"/{name}", "missing") for name in required if name not in names)
