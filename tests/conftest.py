"""Fixtures that every kind of test may need."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Timings never decide a test, and the machine is shared.
settings.register_profile("shared_machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared_machine")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of photographs and vectors that are not part of the project; skips where it is absent."""
    folder = Path(os.environ.get("CHECKIN_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no test data at {folder}; set CHECKIN_SHARED to the folder that holds data/")
    return folder
