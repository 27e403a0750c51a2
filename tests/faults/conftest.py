"""The same stores and databases as the service's tests, and how far the fault tests go."""

import os

import pytest

from tests.service.conftest import database_url, databases, no_sweeps_in_between, stage, stores

__all__ = ["database_url", "databases", "no_sweeps_in_between", "stage", "stores"]


@pytest.fixture(scope="session")
def full() -> bool:
    """Whether the promises' full counts are wanted: CHECKIN_FAULTS=full, minutes instead of seconds."""
    return os.environ.get("CHECKIN_FAULTS") == "full"
