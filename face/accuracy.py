"""What the error rates are and were measured with: ``python -m face.accuracy DIR`` writes ``docs/accuracy.json``.

DIR is as in :mod:`face.evaluate`. Every photograph is compared with every other of its group. The file binds the counts
of wrong comparisons at each named threshold to what they hang on: weights, converted networks, libraries, thresholds. A
test compares these with the ones at hand, and the counts where the photographs are there.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from face.comparison import DLIB_RESNET_MODEL, SFACE_MODEL, Templates
from face.evaluation.arguments import add_cache
from face.evaluation.comparisons import Group, Progress, compared, describe_all
from face.evaluation.engines import ModelPlaces, named_engine
from face.evaluation.fault import EvaluationFault
from face.evaluation.labels import LabelledSet, Photo, read_labels
from face.evaluation.progress import show_progress
from face.manifest import DLIB_FIVE_LANDMARKS, DLIB_RESNET, SFACE, YUNET, WeightsError
from face.models import DLIB_NETWORK, SFACE_NETWORK, YUNET_LARGE_NETWORK, YUNET_NETWORK
from face.operating_points import operating_points

FILE = Path("docs", "accuracy.json")
COMMAND = "python -m face.accuracy DIR"

_WEIGHTS = (YUNET, SFACE, DLIB_RESNET, DLIB_FIVE_LANDMARKS)
_NETWORKS = (YUNET_NETWORK, YUNET_LARGE_NETWORK, SFACE_NETWORK, DLIB_NETWORK)
_PACKAGES = ("onnxruntime", "numpy", "pillow", "dlib-bin", "onnx")
_ENGINES = {SFACE_MODEL: "sface", DLIB_RESNET_MODEL: "dlib"}
_DESCRIBES_BY_ALL = "fused"

Json = dict[str, Any]
Described = Mapping[Photo, Templates | None]


def bindings() -> Json:
    """What the counts hang on, as it is here and now; two levels of names."""
    return {
        "weights": {weights.name: weights.sha256 for weights in _WEIGHTS},
        "networks": {recipe.name: recipe.file_name for recipe in _NETWORKS},
        "packages": {package: version(package) for package in _PACKAGES},
        "thresholds": {
            f"{model_id} {point.name}": point.threshold
            for model_id in _ENGINES
            for point in operating_points(model_id).values()
        },
    }


def mismatches(stored: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """A sentence for every binding that differs.

    >>> mismatches({"packages": {"numpy": "2.4.6"}}, {"packages": {"numpy": "2.5.0"}})
    ['packages: numpy is 2.5.0, but the rates were measured with 2.4.6']
    """
    kinds = sorted({*stored, *found})
    return [
        f"{kind}: {name} is {now}, but the rates were measured with {before}"
        for kind in kinds
        for name, before, now in _different(stored.get(kind, {}), found.get(kind, {}))
    ]


def _different(stored: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in sorted({*stored, *found}):
        if stored.get(name) != found.get(name):
            yield name, stored.get(name), found.get(name)


def describe(labelled: LabelledSet, places: ModelPlaces, progress: Progress) -> Described:
    """Every photograph of the set as both models see it."""
    return describe_all(labelled, named_engine(_DESCRIBES_BY_ALL).build(places), progress)


def count(labelled: LabelledSet, described: Described) -> Json:
    """What went wrong, by group."""
    measured: Json = {}
    for name in labelled.groups:
        photos = [photo for photo in labelled.photos if photo.group == name]
        templates = [described[photo] for photo in photos]
        groups = {
            model_id: compared(name, photos, templates, named_engine(engine).score_all)
            for model_id, engine in _ENGINES.items()
        }
        measured[name] = {"photographs": _digest(labelled, name), **_counts(groups)}
    return measured


def _digest(labelled: LabelledSet, group: str) -> str:
    """SHA-256 of who is on which photograph, and of the photographs."""
    digest = hashlib.sha256()
    for photo in labelled.photos:
        if photo.group == group:
            content = hashlib.sha256((labelled.folder / photo.file).read_bytes()).hexdigest()
            digest.update(f"{photo.person}\t{photo.file}\t{content}\n".encode())
    return digest.hexdigest()


def _counts(groups: Mapping[str, Group]) -> Json:
    one = next(iter(groups.values()))
    return {
        "persons": one.persons,
        "files": len(one.photos),
        "without_a_face": one.not_found,
        "mated_pairs": len(one.mated),
        "nonmated_pairs": len(one.nonmated),
        "wrong": {
            f"{model_id} {point.name}": _wrong(group, point.threshold)
            for model_id, group in groups.items()
            for point in operating_points(model_id).values()
        },
    }


def _wrong(group: Group, threshold: float) -> Json:
    """``nearest`` is how far the score next to the threshold lies from it: so much may scores move by, on another
    processor, say, before a count can change."""
    scores = np.concatenate([group.mated.score, group.nonmated.score])
    return {
        "false_non_matches": int((group.mated.score < threshold).sum()),
        "false_matches": int((group.nonmated.score >= threshold).sum()),
        "nearest": float(np.format_float_positional(np.abs(scores - threshold).min(), 2, fractional=False)),
    }


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 0, or 1 with a sentence on stderr."""
    options = _parser().parse_args(arguments)
    try:
        places = ModelPlaces(options.cache, options.models)
        labelled = read_labels(options.folder)
        measured = count(labelled, describe(labelled, places, show_progress))
    except (EvaluationFault, WeightsError, OSError) as fault:
        sys.stderr.write(f"face.accuracy: {fault}\n")
        return 1
    content = {"command": COMMAND, "measured_with": bindings(), "measured": measured}
    options.out.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m face.accuracy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--out", type=Path, default=FILE, metavar="FILE", help="default: %(default)s")
    add_cache(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
