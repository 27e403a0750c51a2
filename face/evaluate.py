"""How well an engine tells persons apart: ``python -m face.evaluate DIR``.

DIR holds photographs and ``labels.tsv`` (tab-separated, with a header: ``person``, ``file``, ``group``). Every
photograph is compared with every other of its group. Printed are, for each group, the true match rate at thresholds
that were fixed on *other* persons, with the false match rate observed there, and both error rates at the engine's named
operating points.

Whom thresholds are fixed on:

- no option: random halves of the group's persons; median and 5-95 % of the splits.
- ``--thresholds-from OTHER``: the group of the same name in OTHER; where it has none, the strictest of the thresholds
  of OTHER's groups. Persons of DIR are left out of OTHER, by name; OTHER the same folder as DIR means splits.
- ``--threshold-group NAME``: that one group, for all groups (of OTHER, or of DIR itself; then NAME itself is reported
  by splits). One threshold for everybody is what a service has, so this shows the gap between groups.
"""

import argparse
import sys
from pathlib import Path

from face.evaluation.arguments import add_common
from face.evaluation.det import can_draw, write_det
from face.evaluation.engines import DEFAULT_ENGINE, ENGINES, ModelPlaces, named_engine
from face.evaluation.evaluation import Evaluation, Plan, evaluate
from face.evaluation.fault import EvaluationFault
from face.evaluation.files import write_json, write_scores
from face.evaluation.held_out import DEFAULT_SPLITS, LEAST_SPLITS
from face.evaluation.labels import read_labels
from face.evaluation.progress import show_progress
from face.evaluation.report import to_text
from face.manifest import WeightsError


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 0, or 1 with a sentence on stderr."""
    options = _parser().parse_args(arguments)
    try:
        places = ModelPlaces(options.cache, options.models)
        engine = named_engine(options.engine)
        evaluation = evaluate(options.engine, engine, places, _plan(options), show_progress)
        sys.stdout.write(to_text(evaluation) + "\n")
        _write_files(evaluation, options)
    except (EvaluationFault, WeightsError, OSError) as fault:
        sys.stderr.write(f"face.evaluate: {fault}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m face.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    names = f"{', '.join(ENGINES)}; default: %(default)s"
    parser.add_argument("--engine", default=DEFAULT_ENGINE, metavar="NAME", help=names)
    parser.add_argument("--thresholds-from", type=Path, metavar="OTHER", help="a folder like DIR")
    parser.add_argument("--threshold-group", metavar="NAME", help="the one group to fix thresholds on")
    parser.add_argument("--splits", type=_splits, default=DEFAULT_SPLITS, help="default: %(default)s")
    parser.add_argument("--scores", type=Path, metavar="FILE", help="one line a pair: file, file, score")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="for DET curves; default .artifacts/evaluate/NAME"
    )
    add_common(parser)
    return parser


def _splits(text: str) -> int:
    splits = int(text)
    if splits < LEAST_SPLITS:
        raise argparse.ArgumentTypeError(f"at least {LEAST_SPLITS}")
    return splits


def _plan(options: argparse.Namespace) -> Plan:
    folder, other = options.folder, options.thresholds_from
    elsewhere = other is not None and other.resolve() != folder.resolve()
    others = read_labels(other) if elsewhere else None
    return Plan(read_labels(folder), others, options.threshold_group, options.splits)


def _write_files(evaluation: Evaluation, options: argparse.Namespace) -> None:
    for write, path in ((write_scores, options.scores), (write_json, options.json)):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            write(evaluation, path)
    for path in write_det(evaluation, options.out or Path(".artifacts", "evaluate", evaluation.engine)):
        sys.stderr.write(f"written: {path}\n")
    if not can_draw():
        sys.stderr.write(
            "no picture of the DET curves: matplotlib is not installed (`make test` installs it)\n"
        )


if __name__ == "__main__":
    sys.exit(main())
