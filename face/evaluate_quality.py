"""How many good photographs are refused, and how many bad ones are not: ``python -m face.evaluate_quality DIR``.

DIR holds photographs and ``labels.tsv`` (see :mod:`face.evaluate`); all of them count as good. Printed are

- for the photographs as they are, and laid whole into the frame of a phone: how many are refused, for each reason;
- for copies that were made worse by code (:mod:`face.evaluation.degraded`): how many are called by their fault, how
  many are refused at all (for any fault, no face or several), and, to show where the comparison itself fails, how
  many still match another photograph of the same person, which nothing was done to;
- for frames with somebody else in them: how many are refused for several faces, by how large the other face is.

A copy without a single face is one that does not match. The copies of one photograph depend on each other.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from itertools import count, product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from face.analysis import Analysis, Engine
from face.comparison import Templates, compare
from face.engine import build_engine
from face.evaluation.arguments import add_common, add_every
from face.evaluation.degraded import BYSTANDER_SHARES, PLACES, SPECIES, Scene, Species, accompanied, framed
from face.evaluation.fault import EvaluationFault
from face.evaluation.labels import LabelledSet, Photo, read_labels
from face.image import decode
from face.image_errors import ImageError
from face.manifest import WeightsError
from face.operating_points import OperatingPoint, operating_points
from face.picture import Pixels
from face.quality import quality_faults

NO_FACE, SEVERAL = "no_face", "multiple_faces"
OPERATING_POINT = "lfw_ea_1e3"
# Judged only where the picture was not cropped, and where it is as large as a phone's.
_LEFT_OUT = {"cut_off", "too_small"}
_QUALITY_OF_JPEG = 92


@dataclass(frozen=True, slots=True)
class Good:
    """A photograph as it is; ``mate`` are the templates of another one of the person, empty when that shows no face."""

    path: Path
    group: str
    analysis: Analysis
    mate: Templates

    @property
    def is_framed(self) -> bool:
        """Whether it is known where the face is."""
        return self.analysis.landmarks is not None and not self.analysis.turned_deg


@dataclass(frozen=True, slots=True)
class Trial:
    """Why a picture is refused, and its score against the other photograph; None where either shows no single face."""

    reasons: tuple[str, ...]
    score: float | None


@dataclass(frozen=True, slots=True)
class Tester:
    engine: Engine
    point: OperatingPoint

    def trial_of(self, pixels: Pixels, mate: Templates) -> Trial:
        """Through a JPEG, as a phone sends it."""
        file = BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=_QUALITY_OF_JPEG)
        return self.judged(self.engine.analyse(file.getvalue()), mate)

    def judged(self, analysis: Analysis, mate: Templates) -> Trial:
        if analysis.quality is None:
            return Trial((SEVERAL if analysis.faces else NO_FACE,), None)
        score = compare(mate, analysis.templates, self.point.model_id).value if mate else None
        return Trial(quality_faults(analysis.quality), score)

    def counted(self, trials: Sequence[Trial]) -> dict[str, Any]:
        scores = [trial.score for trial in trials if trial.score is not None]
        judged = [{*trial.reasons} - _LEFT_OUT for trial in trials]
        return {
            "n": len(trials),
            "refused": sum(bool(trial.reasons) for trial in trials),
            "refused_without_cut_off_and_too_small": sum(map(bool, judged)),
            "reasons": dict(Counter(reason for trial in trials for reason in trial.reasons).most_common()),
            "matched": sum(score >= self.point.threshold for score in scores),
            "median_score": round(median(scores), 3) if scores else None,
        }


Copies = tuple[dict[str, Any], Iterable[Pixels]]
"""What was made, as a row of the report begins, and one picture for each scene."""


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 0, or 1 with a sentence on stderr."""
    options = _parser().parse_args(arguments)
    try:
        engine = build_engine(str(options.cache), options.models and str(options.models), encoders=("sface",))
        report = evaluate(read_labels(options.folder), engine, options.every)
        if options.json:
            options.json.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", "utf-8")
    except (EvaluationFault, WeightsError, ImageError, OSError) as fault:
        sys.stderr.write(f"face.evaluate_quality: {fault}\n")
        return 1
    sys.stdout.write("\n".join(lines(report)) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m face.evaluate_quality",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    add_every(parser)
    add_common(parser)
    return parser


def evaluate(labelled: LabelledSet, engine: Engine, every: int = 1) -> dict[str, Any]:
    """The report as it is written to JSON. Each ``every``th photograph is copied; all are judged as they are."""
    tester = Tester(engine, operating_points(engine.model_id)[OPERATING_POINT])
    good = good_photographs(labelled, engine)
    return {
        "operating_point": {"name": tester.point.name, "threshold": tester.point.threshold},
        "good": [*_good_rows(good, tester)],
        "copies": [*_copied_rows([one for one in good if one.is_framed][::every], tester)],
    }


def good_photographs(labelled: LabelledSet, engine: Engine) -> list[Good]:
    """Each photograph with what the engine says of it and of the person's next one.

    Raises :class:`EvaluationFault` for a person with a single photograph.
    """
    analyses = {
        photo: engine.analyse((labelled.folder / photo.file).read_bytes()) for photo in labelled.photos
    }
    return [
        Good(labelled.folder / photo.file, photo.group, analysis, analyses[_mate(labelled, photo)].templates)
        for photo, analysis in analyses.items()
    ]


def _mate(labelled: LabelledSet, photo: Photo) -> Photo:
    own = [other for other in labelled.photos if other.person == photo.person]
    if len(own) < 2:
        raise EvaluationFault(f"{photo.person} has a single photograph; there is nothing to compare it with")
    return own[(own.index(photo) + 1) % len(own)]


def _scene(good: Good) -> Scene:
    pixels = decode(good.path.read_bytes())
    scale = pixels.shape[1] / good.analysis.width  # the engine may have looked at a smaller copy
    return framed(Scene(pixels, np.array(good.analysis.landmarks) * scale))


def _good_rows(good: Sequence[Good], tester: Tester) -> Iterator[dict[str, Any]]:
    as_they_are = [(one, tester.judged(one.analysis, one.mate)) for one in good]
    in_frames = [(one, tester.trial_of(_scene(one).pixels, one.mate)) for one in good if one.is_framed]
    for kind, trials in (("as they are", as_they_are), ("in a frame", in_frames)):
        for group in ("all", *sorted({one.group for one in good})):
            those = [trial for one, trial in trials if group in ("all", one.group)]
            yield {"photographs": kind, "group": group, **tester.counted(those)}


def _copied_rows(good: Sequence[Good], tester: Tester) -> Iterator[dict[str, Any]]:
    scenes = [_scene(one) for one in good]
    for what, pictures in (*_degraded(scenes), *_accompanied(scenes)):
        sys.stderr.write(f"{what['copies']}, {what['degree']:g} {what['unit']}\n")
        trials = [tester.trial_of(picture, one.mate) for picture, one in zip(pictures, good, strict=True)]
        yield {**what, **tester.counted(trials)}


def _degraded(scenes: Sequence[Scene]) -> Iterator[Copies]:
    for species in SPECIES:
        what = {"copies": species.name, "fault": species.fault, "unit": species.unit}
        for degree in species.degrees:
            yield what | {"degree": degree}, map(partial(_spoilt, species, degree), scenes, count())


def _spoilt(species: Species, degree: float, scene: Scene, seed: int) -> Pixels:
    return species.make(scene, degree, np.random.default_rng(seed))


def _accompanied(scenes: Sequence[Scene]) -> Iterator[Copies]:
    half = len(scenes) // 2
    others = [*scenes[half:], *scenes[:half]]
    for place, share in product(PLACES, BYSTANDER_SHARES):
        what = {"copies": f"somebody {place}", "fault": SEVERAL, "unit": "of the face's width"}
        yield (
            what | {"degree": share},
            map(partial(accompanied, share=share, place=place), scenes, others),
        )


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """The report for people."""
    point = report["operating_point"]
    yield f"a match is a score of {point['threshold']} ({point['name']}) or more"
    yield "good photographs                        n  refused  but for cut_off, too_small  match  reasons"
    for row in report["good"]:
        name = f"{row['photographs']}, {row['group']}"
        kept = row["refused_without_cut_off_and_too_small"]
        reasons = ", ".join(f"{reason} {count}" for reason, count in row["reasons"].items())
        yield f"{name:36} {row['n']:4} {row['refused']:8} {kept:27} {row['matched']:6}  {reasons}".rstrip()
    yield "copies                degree   n  called  refused  match  score  by their fault; all reasons"
    for row in report["copies"]:
        yield _copied_line(row)


def _copied_line(row: Mapping[str, Any]) -> str:
    called = row["reasons"].get(row["fault"], 0)
    score = "-" if row["median_score"] is None else f"{row['median_score']:.3f}"
    reasons = ", ".join(f"{reason} {count}" for reason, count in row["reasons"].items())
    counts = f"{row['n']:4} {called:7} {row['refused']:8} {row['matched']:6}  {score:>5}"
    return f"{row['copies']:22} {row['degree']:5g} {counts}  {row['fault']}; {reasons}"


if __name__ == "__main__":
    sys.exit(main())
