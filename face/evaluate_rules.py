"""How often the rules around the comparison are right: ``python -m face.evaluate_rules DIR``.

DIR holds photographs and ``labels.tsv`` (see :mod:`face.evaluate`). Each photograph is analysed once, by the engine as
the service builds it; quality is not judged. Printed are

- ``duplicate_photo``: pairs of different photographs of one person that are called copies, and altered copies
  (:mod:`face.evaluation.altered`) that are;
- ``look_alike``, for rosters of 20 and of 50 drawn from each group and from all: who is himself and flagged, and who
  passes for another and is (:mod:`face.evaluation.rosters`);
- several references of a person, by the best and by the mean of their scores (:mod:`face.evaluation.references`);
- the fusion of SFace with dlib against SFace alone (:mod:`face.evaluation.fusion`).

k of n come with a 95 % interval: for ``duplicate_photo`` the exact one, which takes pairs and copies as independent,
for the others one that counts persons.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

from face.comparison import SFACE_MODEL
from face.engine import build_engine
from face.evaluation.arguments import add_common, add_every
from face.evaluation.comparisons import Group, Progress, compared, describe_all
from face.evaluation.duplicates import Described, catches, false_alarms, of_group
from face.evaluation.engines import Describe, ScoreAll, cosine, describer, fused
from face.evaluation.fault import EvaluationFault
from face.evaluation.fusion import gain
from face.evaluation.labels import LabelledSet, read_labels
from face.evaluation.progress import show_progress
from face.evaluation.references import several_references
from face.evaluation.rosters import look_alikes
from face.evaluation.tables import as_records, as_table
from face.manifest import WeightsError
from face.operating_points import OperatingPoint, operating_points

MARGIN = 0.05
ROSTER_SIZES = (20, 50)

Tables = Mapping[str, Sequence[Any]]
"""Rows of one kind, by what they are about."""

Row = TypeVar("Row")


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 0, or 1 with a sentence on stderr."""
    options = _parser().parse_args(arguments)
    point = operating_points(SFACE_MODEL)[options.operating_point]
    try:
        describe = describer(build_engine(str(options.cache), options.models and str(options.models)))
        tables = evaluate(
            read_labels(options.folder), describe, point.threshold, options.every, show_progress
        )
        if options.json:
            _write_json(tables, point, options.json)
    except (EvaluationFault, WeightsError, OSError) as fault:
        sys.stderr.write(f"face.evaluate_rules: {fault}\n")
        return 1
    sys.stdout.write(f"threshold {point.threshold} ({point.name}), margin {MARGIN}\n\n")
    sys.stdout.write("\n\n".join(f"## {title}\n\n{as_table(rows)}" for title, rows in tables.items()) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m face.evaluate_rules",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument(
        "--operating-point",
        choices=[*operating_points(SFACE_MODEL)],
        default="lfw_ea_1e3",
        help="default: %(default)s",
    )
    add_every(parser)
    add_common(parser)
    return parser


def evaluate(
    labelled: LabelledSet, describe: Describe, threshold: float, every: int, progress: Progress
) -> Tables:
    """``describe`` gives templates of both encoders and the fingerprint; ``threshold`` is on SFace's score, and each
    ``every``th photograph is copied."""
    described = describe_all(labelled, describe, progress)
    everybody = _group("all", described, cosine(SFACE_MODEL))
    sface, with_dlib = (
        [_group(name, of_group(described, name), score_all) for name in labelled.groups]
        for score_all in (cosine(SFACE_MODEL), fused)
    )
    return {
        "duplicate_photo: false alarms": false_alarms(described),
        "duplicate_photo: copies caught": catches(labelled, described, describe, every, progress),
        "look_alike": _rows(
            look_alikes(group, size, threshold, MARGIN)
            for group, size in product((*sface, everybody), ROSTER_SIZES)
        ),
        "several references": [row for group in sface for row in several_references(group, threshold)],
        "fusion": _rows(map(gain, sface, with_dlib)),
    }


def _rows(found: Iterable[Row | None]) -> list[Row]:
    return [row for row in found if row is not None]


def _group(name: str, described: Described, score_all: ScoreAll) -> Group:
    return compared(name, [*described], [*described.values()], score_all)


def _write_json(tables: Tables, point: OperatingPoint, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    records = {title: as_records(rows) for title, rows in tables.items()}
    report = {"operating_point": asdict(point), "margin": MARGIN, "tables": records}
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
