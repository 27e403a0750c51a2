"""The same stores and databases as the service's tests."""

from tests.service.conftest import databases, no_sweeps_in_between, stores

__all__ = ["databases", "no_sweeps_in_between", "stores"]
