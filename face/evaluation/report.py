"""What was found, as tables for people and as JSON for programs."""

from collections.abc import Iterable, Iterator
from math import isnan
from typing import Any

from face.evaluation.evaluation import Evaluation, GroupResult
from face.evaluation.held_out import WANTED_FMRS, HeldOut, Spread
from face.evaluation.rates import Rate

LIMITS = """\
What these figures are not: a rate for the field. They hold for these photographs, cameras and persons; a small set
holds few persons, and the intervals count persons, not what they and their photographs have in common. A network of
which nobody has documented the training set may have seen published photographs before. Pairs are formed within a
group; a face not found counts as a non-match, mated or not. Before relying on a rate, measure a pilot population."""

Row = tuple[str, ...]


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """``tar`` is [value, low, high] or None where not estimable; rates without any pair are None."""
    groups = {result.group.name: _group_json(evaluation, result) for result in evaluation.results}
    return {"engine": evaluation.engine, "groups": groups}


def _group_json(evaluation: Evaluation, result: GroupResult) -> dict[str, Any]:
    group, rates = result.group, result.rates
    return {
        "persons": group.persons,
        "photos": len(group.photos),
        "not_found": group.not_found,
        "mated": len(group.mated),
        "nonmated": len(group.nonmated),
        "tar": {
            wanted: cell and [cell.tar.value, cell.tar.low, cell.tar.high]
            for wanted, cell in result.cells.items()
        },
        "at_threshold": {
            name: {
                "fmr": _number_or_none(rates.fmr(threshold)),
                "fnmr": _number_or_none(rates.fnmr(threshold)),
            }
            for name, threshold in evaluation.operating_points.items()
        },
    }


def _number_or_none(rate: Rate) -> float | None:
    return None if isnan(rate.value) else rate.value


def to_text(evaluation: Evaluation) -> str:
    """Two tables a group, in Markdown, and the limits of it all."""
    parts = [f"# {evaluation.engine}"]
    for result in evaluation.results:
        parts += [_heading(result), _held_out_table(result), _fixed_table(evaluation, result)]
    return "\n\n".join([*parts, LIMITS])


def _heading(result: GroupResult) -> str:
    group = result.group
    return (
        f"## {group.name}: {group.persons} persons, {len(group.photos)} photographs "
        f"({group.not_found} without a face found), {len(group.mated)} mated and {len(group.nonmated)} "
        "non-mated pairs"
    )


def _held_out_table(result: GroupResult) -> str:
    rows: list[Row] = [("FMR wanted", "threshold", "TAR", "FMR observed")]
    rows += [_cell_row(wanted, cell, result) for wanted, cell in result.cells.items()]
    return f"Thresholds fixed on other persons: {result.fixed_on}.\n\n{aligned(rows)}"


def _cell_row(wanted: str, cell: HeldOut | None, result: GroupResult) -> Row:
    if cell is None:
        return (wanted, "", f"not estimable, n = {result.fewest_nonmated}", "")
    return (wanted, f"{cell.threshold:.4g}", shown(cell.tar), shown(cell.fmr))


def shown(rate: Rate | Spread) -> str:
    """Share, interval, and what was counted."""
    if isinstance(rate, Rate) and not rate.pairs:
        return "no pair"
    counted = f", {rate.errors} of {rate.pairs}" if isinstance(rate, Rate) else ""
    return f"{_number(rate.value)} [{_number(rate.low)}, {_number(rate.high)}]{counted}"


def _number(share: float) -> str:
    """Three digits for a common event, two for a rare one.

    >>> _number(0.6543), _number(0.00123), _number(0.0)
    ('0.654', '1.2e-03', '0')
    """
    if share in (0.0, 1.0):
        return f"{share:.0f}"
    return f"{share:.3f}" if share >= 0.01 else f"{share:.1e}"


def _fixed_table(evaluation: Evaluation, result: GroupResult) -> str:
    rows = [("threshold", "score", "FMR", "FNMR")]
    for name, threshold in _named_thresholds(evaluation, result):
        rates = result.rates
        rows.append((name, f"{threshold:.4g}", shown(rates.fmr(threshold)), shown(rates.fnmr(threshold))))
    return f"All persons of the group, 95 % intervals by person.\n\n{aligned(rows)}"


def _named_thresholds(evaluation: Evaluation, result: GroupResult) -> Iterator[tuple[str, float]]:
    yield from evaluation.operating_points.items()
    for wanted in WANTED_FMRS:
        threshold = result.own_thresholds[wanted]
        if threshold is not None:
            yield f"{wanted} fixed on these very persons", threshold


def aligned(rows: Iterable[Row]) -> str:
    """A table in Markdown; the first row is its header."""
    header, *body = rows
    widths = [max(len(row[place]) for row in (header, *body)) for place in range(len(header))]
    rule = tuple("-" * width for width in widths)
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |"
        for row in (header, rule, *body)
    )
