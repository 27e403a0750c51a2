"""What the tests of the face library share."""

from pathlib import Path

import pytest

from face.engine import PhotoEngine, build_engine


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for networks, each made by the first test that needs it."""
    return tmp_path_factory.mktemp("networks")


@pytest.fixture(scope="session")
def engine(networks: Path) -> PhotoEngine:
    """The real engine, in this process."""
    return build_engine(str(networks))
