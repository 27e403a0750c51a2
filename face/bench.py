"""What the engine costs beside ``face_recognition``: ``python -m face.bench``.

In one run, for photographs of 480x640, 720x1280, 1080x1920 and 3024x4032: the whole way from the bytes of a JPEG to
the analysis, and its stages, in turns with ``load_image_file``, ``face_locations`` and ``face_encodings``. Times are
CPU times of one warm process, the median of 20 rounds; with several photographs the mean of their medians. Then, in
worker processes with everything that is configured: photographs a second with one and with two, memory, start-up.

The paths: ``dlib`` and ``sface`` alone, ``both``, ``both_pad`` with both networks of passive PAD, and ``both_copies``
with the fingerprint by which a copy is recognised, which is what a check-in runs. All measure quality.

Ratios hold on a busy machine as well, because all take turns; two workers against one and start-up need an idle one.
"""

import argparse
import json
import os
import sys
from pathlib import Path

from face.benchmark.benchmark import FULL, QUICK, benchmark
from face.benchmark.contenders import Models
from face.benchmark.fault import BenchmarkFault
from face.benchmark.photos import installed_files, read_pictures
from face.benchmark.report import to_json, to_text
from face.manifest import WeightsError


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 0, also where a target is missed, or 1 with a sentence on stderr."""
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except (BenchmarkFault, WeightsError, OSError) as fault:
        sys.stderr.write(f"face.bench: {fault}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m face.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--photo",
        type=Path,
        action="append",
        metavar="FILE",
        help="scaled to cover each size and cropped around its middle; may be repeated; default: the portraits that "
        "scikit-image and matplotlib bring along",
    )
    parser.add_argument("--quick", action="store_true", help="about a minute: fewer rounds, shorter, rougher")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the results for programs")
    parser.add_argument(
        "--cache-dir", type=Path, default=Path(".artifacts", "models"), metavar="FOLDER", help="for networks"
    )
    models_dir = os.environ.get("CHECKIN_MODELS_DIR")
    parser.add_argument(
        "--models-dir",
        type=Path,
        default=Path(models_dir) if models_dir else None,
        metavar="FOLDER",
        help="weights that go before the packages', and those of passive PAD; default: CHECKIN_MODELS_DIR",
    )
    return parser


def _run(options: argparse.Namespace) -> None:
    pictures = read_pictures(options.photo or installed_files())
    plan = QUICK.shared_by(len(pictures)) if options.quick else FULL
    models = Models(options.cache_dir, options.models_dir)
    results = benchmark(pictures, models, plan, _show_progress)
    sys.stdout.write(to_text(results) + "\n")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(to_json(results), indent=2, allow_nan=False) + "\n", "utf-8")


def _show_progress(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
