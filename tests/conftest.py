"""Fixtures that every kind of test may need."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of photographs and vectors that are not part of the project; skips where it is absent."""
    folder = Path(os.environ.get("CHECKIN_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no test data at {folder}; set CHECKIN_SHARED to the folder that holds data/")
    return folder
