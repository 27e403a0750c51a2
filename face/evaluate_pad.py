"""How often presentation attacks pass, and honest presentations do not: ``python -m face.evaluate_pad``.

Printed are, for each species of attack, the share classified as bona fide (APCER) and, for each kind of honest
presentation, the share classified as an attack (BPCER), each as k of n with the exact 95 % interval (Clopper and
Pearson, Biometrika 26, 1934). The worst species is named; no mean over species is formed.

- Passive test (with ``--models``): photographs of ``--samples`` whose name ends in F and digits (fake) or T and digits
  (live), as minivision's samples do; the portraits of ``--portraits`` as they are, and copies of each on paper and on
  a screen, turned by up to 35 degrees. The copies are made by code (``face.evaluation.copies``).
- Active test: made-up bursts (``face.evaluation.heads``); flat copies of the portraits, turned, through the detector;
  and bursts put together of photographs of one person in ``--people`` (a folder with ``labels.tsv``): one from the
  front and one from either side, 15 degrees or more. These were taken on different days, and show only whether a real
  head is called flat.

This is not a test by ISO/IEC 30107-3: nobody attacked anything, and most presentations here are made-up. Copies of one
portrait depend on each other, so the intervals of these rows are narrower than the truth.
"""

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from face.analysis import Analysis
from face.engine import build_engine
from face.evaluation.copies import Look, held_up, on_paper, on_screen
from face.evaluation.exact import clopper_pearson
from face.evaluation.fault import EvaluationFault
from face.evaluation.heads import ATTACKS, HONEST, Burst, Scene
from face.evaluation.labels import read_labels
from face.faces import Landmarks
from face.image import decode
from face.image_errors import ImageError
from face.liveness import Action, TurnCode, TurnThresholds, judge_turns, yaw_deg
from face.manifest import WeightsError
from face.pad import crop_window

Analyse = Callable[[bytes], Analysis]

Scored = dict[str, list[float | None]]
"""By species: the passive score of each presentation, None where there was not just one face."""

Judged = dict[str, list[TurnCode]]

CHALLENGE = (Action.TURN_LEFT, Action.TURN_RIGHT)
LOOKS: dict[str, Look] = {"paper_copy": on_paper, "screen_copy": on_screen}
_ASKED_TURNS = TurnThresholds()
# Hardly anybody was photographed at 20 degrees to both sides.
_SMALL_TURNS = TurnThresholds(least_turn_deg=15)
_SEED = 20260
_NOISES = (0.01, 0.02)
_COPY_YAWS_DEG = (-35.0, -20.0, 0.0, 20.0, 35.0)
_BURST_YAWS_DEG = (20.0, 25.0, 30.0, 35.0)
_MOST_FRONTAL_DEG = 15.0
# As much of a portrait as a print or a screen would show: the face's box this many times.
_PORTRAIT_SCALE = 3.0
_SAMPLE = re.compile(r"[FT](?=\d+$)")


@dataclass(frozen=True, slots=True)
class ErrorRate:
    """``errors`` of ``n`` presentations."""

    errors: int
    n: int

    def as_json(self) -> dict[str, Any]:
        low, high = clopper_pearson(self.errors, self.n)
        value = self.errors / self.n if self.n else None
        return {"errors": self.errors, "n": self.n, "value": value, "low": low, "high": high}


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 0, or 1 with a sentence on stderr."""
    options = _parser().parse_args(arguments)
    try:
        report = evaluate(options)
        if options.json:
            options.json.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", "utf-8")
    except (EvaluationFault, WeightsError, ImageError, OSError) as fault:
        sys.stderr.write(f"face.evaluate_pad: {fault}\n")
        return 1
    sys.stdout.write("\n".join(_lines(report)) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m face.evaluate_pad",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--models", type=Path, metavar="DIR", help="holds the MiniFASNet files")
    parser.add_argument(
        "--samples", type=Path, metavar="DIR", help="photographs named ...F1, ...T1 and so on"
    )
    parser.add_argument(
        "--portraits",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="files and folders; with room around the face",
    )
    parser.add_argument("--people", type=Path, metavar="DIR", help="several photographs a person, labels.tsv")
    parser.add_argument(
        "--threshold", type=float, default=0.5, help="of the passive score; default %(default)s"
    )
    parser.add_argument("--bursts", type=int, default=500, help="made-up ones a species; default %(default)s")
    parser.add_argument(
        "--cache", type=Path, default=Path(".artifacts/models"), metavar="DIR", help="for networks"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="the results for programs")
    return parser


def evaluate(options: argparse.Namespace) -> dict[str, Any]:
    """The report as it is written to JSON."""
    models = str(options.models) if options.models else None
    analyse = build_engine(str(options.cache), models, encoders=(), passive_pad=models is not None).analyse
    portraits = [path.read_bytes() for path in _pictures(*options.portraits or ())]
    passive = None
    if models:
        samples = _pictures(options.samples) if options.samples else []
        scores = passive_scores(analyse, samples, portraits)
        passive = passive_report(*scores, options.threshold)
    attacks, honest = made_up_bursts(options.bursts)
    attacks["portrait_copy"] = _judged(copied_bursts(analyse, portraits))
    if options.people:
        honest["photographs"] = _judged(gathered_bursts(analyse, options.people), _SMALL_TURNS)
    return {"passive": passive, "active": active_report(attacks, honest)}


def _pictures(*places: Path) -> list[Path]:
    files = [file for place in places for file in (sorted(place.rglob("*")) if place.is_dir() else [place])]
    return [file for file in files if file.suffix.lower() in {".jpg", ".jpeg", ".png"}]


def passive_scores(
    analyse: Analyse, samples: Sequence[Path], portraits: Sequence[bytes]
) -> tuple[Scored, Scored]:
    """Attacks and honest presentations."""
    named: dict[str, list[float | None]] = {"F": [], "T": []}
    for path in samples:
        kind = _SAMPLE.search(path.stem)
        if kind is None:
            raise EvaluationFault(f"{path.name} should end in F (fake) or T (live) and a number")
        named[kind.group()].append(analyse(path.read_bytes()).live)
    attacks: Scored = {"sample": named["F"]}
    for name in LOOKS:
        attacks[name] = [analyse(copy).live for copy in _copies(analyse, portraits, name)]
    return attacks, {"sample": named["T"], "portrait": [analyse(portrait).live for portrait in portraits]}


def _copies(analyse: Analyse, portraits: Sequence[bytes], look: str) -> Iterator[bytes]:
    rng = np.random.default_rng(_SEED)
    for picture, yaw in product(_cut_out(analyse, portraits), _COPY_YAWS_DEG):
        yield held_up(picture, LOOKS[look], (yaw, rng.normal(0, 5), rng.normal(0, 3)), rng)


def _cut_out(analyse: Analyse, portraits: Iterable[bytes]) -> Iterator[Image.Image]:
    """Head and shoulders of every portrait that shows one upright person from the front."""
    for portrait in portraits:
        seen = analyse(portrait)
        if seen.landmarks is None or seen.turned_deg or abs(yaw_deg(seen.landmarks)) > _MOST_FRONTAL_DEG:
            continue
        pixels, face = decode(portrait), seen.boxes[0]
        height, width = pixels.shape[:2]
        left, top, box_width, box_height = (
            width / seen.width * length for length in (face.left, face.top, face.width, face.height)
        )
        window = crop_window((width, height), (left, top, box_width, box_height), _PORTRAIT_SCALE)
        yield Image.fromarray(pixels).crop(window)


def passive_report(attacks: Scored, honest: Scored, threshold: float) -> dict[str, Any]:
    """A presentation without one face has no score and is not counted, but named."""

    def rate(scores: Sequence[float | None], is_error: Callable[[float], bool]) -> dict[str, Any]:
        found = [score for score in scores if score is not None]
        return ErrorRate(sum(map(is_error, found)), len(found)).as_json() | {
            "no_face": len(scores) - len(found),
            "scores": [round(score, 3) for score in found],
        }

    species = {name: rate(scores, lambda score: score >= threshold) for name, scores in attacks.items()}
    bpcer = {name: rate(scores, lambda score: score < threshold) for name, scores in honest.items()}
    return {"threshold": threshold} | _with_worst(species, bpcer)


def made_up_bursts(number: int) -> tuple[Judged, Judged]:
    """Attacks and honest presentations, half of each at either noise of the landmarks."""
    rng = np.random.default_rng(_SEED)

    def judged(kinds: Mapping[str, Callable[[Scene], Burst]]) -> Judged:
        scenes = [Scene(rng, noise) for noise in _NOISES for _ in range(number // len(_NOISES))]
        return {name: _judged(map(make, scenes)) for name, make in kinds.items()}

    return judged(ATTACKS), judged(HONEST)


def _judged(
    bursts: Iterable[Sequence[Landmarks]], thresholds: TurnThresholds = _ASKED_TURNS
) -> list[TurnCode]:
    return [judge_turns(burst, CHALLENGE, thresholds=thresholds).code for burst in bursts]


def copied_bursts(analyse: Analyse, portraits: Sequence[bytes]) -> Iterator[Burst]:
    """Each portrait on paper, turned instead of a head: from the front, to the left, to the right."""
    rng = np.random.default_rng(_SEED)
    for picture, yaw in product(_cut_out(analyse, portraits), _BURST_YAWS_DEG):
        angles = [(turned, rng.normal(0, 8), rng.normal(0, 5)) for turned in (0.0, yaw, -yaw)]
        seen = [analyse(held_up(picture, on_paper, angle, rng)).landmarks for angle in angles]
        yield [np.array(landmarks) for landmarks in seen if landmarks is not None]


def gathered_bursts(analyse: Analyse, folder: Path) -> Iterator[Burst]:
    """At most one burst a person: the photographs farthest to either side, and the one most between them."""
    of_person: dict[str, list[Landmarks]] = {}
    for photo in read_labels(folder).photos:
        landmarks = analyse((folder / photo.file).read_bytes()).landmarks
        if landmarks is not None:
            of_person.setdefault(photo.person, []).append(np.array(landmarks))
    for several in of_person.values():
        burst = _burst(several) if len(several) >= len(CHALLENGE) + 1 else []
        if _judged([burst], _SMALL_TURNS)[0] in (TurnCode.PASSED, TurnCode.FLAT):
            yield burst


def _burst(photographs: list[Landmarks]) -> Burst:
    least, *between, most = sorted(photographs, key=yaw_deg)
    middle_deg = (yaw_deg(least) + yaw_deg(most)) / 2
    return [min(between, key=lambda points: abs(yaw_deg(points) - middle_deg)), most, least]


def active_report(attacks: Judged, honest: Judged) -> dict[str, Any]:
    def rate(codes: Sequence[TurnCode], passed_is_error: bool) -> dict[str, Any]:
        errors = sum((code is TurnCode.PASSED) == passed_is_error for code in codes)
        return ErrorRate(errors, len(codes)).as_json() | {"codes": dict(Counter(codes).most_common())}

    species = {name: rate(codes, True) for name, codes in attacks.items()}
    return _with_worst(species, {name: rate(codes, False) for name, codes in honest.items()})


def _with_worst(species: dict[str, Any], bpcer: dict[str, Any]) -> dict[str, Any]:
    """Of species with the same rate, the one that is known least well."""
    tried = [name for name, rate in species.items() if rate["n"]]
    worst = max(tried, key=lambda name: (species[name]["value"], species[name]["high"]), default=None)
    return {"apcer": species, "worst": worst, "bpcer": bpcer}


def _lines(report: Mapping[str, Any]) -> Iterator[str]:
    for test in ("passive", "active"):
        result = report[test]
        if result is None:
            yield f"{test} test: not measured, --models is needed"
            continue
        yield f"{test} test" + (f" at {result['threshold']}" if "threshold" in result else "")
        for kind in ("apcer", "bpcer"):
            yield from (_row(kind, name, rate) for name, rate in result[kind].items())
        yield f"  worst species: {result['worst']}"


def _row(kind: str, name: str, rate: Mapping[str, Any]) -> str:
    value = "-" if rate["value"] is None else f"{rate['value']:.3f}"
    interval = f"{rate['low']:.3f}-{rate['high']:.3f}"
    seen = ", ".join(f"{code} {count}" for code, count in rate.get("codes", {}).items())
    without = f"no face {rate['no_face']}" if rate.get("no_face") else ""
    counted = f"{rate['errors']:4} of {rate['n']:4}"
    return f"  {kind.upper()} {name:30} {counted}  {value}  {interval}  {seen}{without}".rstrip()


if __name__ == "__main__":
    sys.exit(main())
