"""The same stores and databases as the service's tests."""

from tests.faults.conftest import own_stores
from tests.service.conftest import database_url, databases, no_sweeps_in_between, shared_stage, stage, stores

__all__ = [
    "database_url",
    "databases",
    "no_sweeps_in_between",
    "own_stores",
    "shared_stage",
    "stage",
    "stores",
]
