"""The labelled set: a folder of photographs with ``labels.tsv``, one line a photograph."""

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from face.evaluation.fault import EvaluationFault

_COLUMNS = ("person", "file", "group")
_GROUP = re.compile(r"[\w-][\w.-]*")  # it becomes part of a file's name


@dataclass(frozen=True, slots=True)
class Photo:
    """``file`` is relative to the set's folder, as ``labels.tsv`` names it."""

    person: str
    file: str
    group: str


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """Photographs in the order of ``labels.tsv``; a person belongs to one group."""

    folder: Path
    photos: tuple[Photo, ...]

    @property
    def groups(self) -> tuple[str, ...]:
        """In the order in which they first appear."""
        return tuple(dict.fromkeys(photo.group for photo in self.photos))

    @property
    def persons(self) -> frozenset[str]:
        return frozenset(photo.person for photo in self.photos)

    def only(self, wanted: Callable[[Photo], bool]) -> "LabelledSet":
        return LabelledSet(self.folder, tuple(filter(wanted, self.photos)))


def read_labels(folder: Path) -> LabelledSet:
    """The set in ``folder``: tab-separated UTF-8 with a header that names ``person``, ``file`` and ``group``.

    Raises :class:`EvaluationFault`, which names the line, when something is missing, double or contradictory.
    """
    photos = tuple(_checked(folder, _rows(folder / "labels.tsv")))
    if not photos:
        raise EvaluationFault(f"{folder / 'labels.tsv'} names no photograph")
    return LabelledSet(folder, photos)


def _rows(path: Path) -> Iterator[tuple[str, Photo]]:
    """Each photograph with the place where it is named."""
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationFault(f"{path} can't be read: {error}") from None
    table = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    if missing := [column for column in _COLUMNS if column not in (table.fieldnames or ())]:
        raise EvaluationFault(f"{path}: the first line must name the column {missing[0]}")
    for row in table:
        cells = [row[column] for column in _COLUMNS]
        if not all(cells):
            raise EvaluationFault(f"{path}, line {table.line_num}: person, file and group are all needed")
        yield f"{path}, line {table.line_num}", Photo(*cells)


def _checked(folder: Path, rows: Iterator[tuple[str, Photo]]) -> Iterator[Photo]:
    named: set[Path] = set()
    group_of: dict[str, str] = {}
    for place, photo in rows:
        path = (folder / photo.file).resolve()
        if not path.is_file():
            raise EvaluationFault(f"{place}: there is no file {photo.file}")
        if path in named:
            raise EvaluationFault(f"{place}: {photo.file} is named twice")
        if not _GROUP.fullmatch(photo.group):
            raise EvaluationFault(f"{place}: a group's name has letters, digits, _ - . only: {photo.group}")
        if group_of.setdefault(photo.person, photo.group) != photo.group:
            raise EvaluationFault(f"{place}: {photo.person} is in {group_of[photo.person]} already")
        named.add(path)
        yield photo
