"""The files of an evaluation beside the DET curves: JSON, and one line a pair."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from face.evaluation.comparisons import Group
from face.evaluation.evaluation import Evaluation
from face.evaluation.report import to_json


def write_json(evaluation: Evaluation, path: Path) -> None:
    path.write_text(
        json.dumps(to_json(evaluation), indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8"
    )


def write_scores(evaluation: Evaluation, path: Path) -> None:
    """Tab-separated: file, file, score or ``not_found``, for every pair within a group; no header.

    The score is written so that reading it gives the very same number.
    """
    with path.open("w", encoding="utf-8") as lines:
        for result in evaluation.results:
            lines.writelines(_lines(result.group))


def _lines(group: Group) -> Iterator[str]:
    files = [photo.file for photo in group.photos]
    scores = group.scores.tolist()
    for one, other in zip(*np.triu_indices(len(files), k=1), strict=True):
        both = group.found[one] and group.found[other]
        yield f"{files[one]}\t{files[other]}\t{scores[one][other] if both else 'not_found'}\n"
