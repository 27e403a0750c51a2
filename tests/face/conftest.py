"""What the tests of the face library share."""

import pytest

from face.engine import DlibEngine, dlib_engine


@pytest.fixture(scope="session")
def engine() -> DlibEngine:
    """The real engine, in this process."""
    return dlib_engine()
