"""What the evaluations' commands have in common on their command lines."""

import argparse
import os
from pathlib import Path


def add_common(parser: argparse.ArgumentParser) -> None:
    """``--json``, ``--cache`` and ``--models``."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="the results for programs")
    add_cache(parser)


def add_cache(parser: argparse.ArgumentParser) -> None:
    """``--cache`` and ``--models``."""
    parser.add_argument("--cache", type=Path, default=Path(".artifacts", "models"), help="for networks")
    models = os.environ.get("CHECKIN_MODELS_DIR")
    parser.add_argument(
        "--models",
        type=Path,
        default=Path(models) if models else None,
        metavar="FOLDER",
        help="weights that go before the packages'; default: CHECKIN_MODELS_DIR",
    )


def add_every(parser: argparse.ArgumentParser) -> None:
    """``--every``, for copies that take their time."""
    parser.add_argument(
        "--every", type=_positive, default=4, metavar="N", help="copy each Nth photograph; default 4"
    )


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number
