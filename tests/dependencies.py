"""What the service is made of, told to others: `make sbom` and `make audit`.

    python -m tests.dependencies sbom .artifacts/sbom.json
    python -m tests.dependencies audit [--advisories URL]

Both speak of the packages of requirements/runtime.txt, and then of requirements/face-tier.txt, with their hashes, which
is what is installed: they are made a project of their own, resolved by uv (which asks the package index), and held
against that file. The face tier's bill lies beside the service's: .artifacts/sbom-face-tier.json.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUNTIME, FACE_TIER = ROOT / "requirements/runtime.txt", ROOT / "requirements/face-tier.txt"
UV = Path(sys.executable).parent / "uv"
EXPORT = ("export", "--quiet", "--frozen", "--no-emit-project", "--no-header", "--no-annotate")
FAILED = 2  # uv could not do what it was asked; 1 says that it found something
TROUBLES = {
    "lock": "the package index can't be asked",
    "audit": "the database of advisories can't be asked",
}


class Unreachable(RuntimeError):
    """Somebody whom uv has to ask does not answer from here."""


def pinned(requirements: str) -> list[str]:
    """The requirements of a hashed file, each on one line and without its hashes.

    >>> pinned("a==1 ; python_version < '3.12' \\\\\\n    --hash=sha256:00\\nb==2 \\\\\\n    --hash=sha256:01\\n")
    ["a==1 ; python_version < '3.12'", 'b==2']
    """
    return [line.removesuffix("\\").strip() for line in requirements.splitlines() if "==" in line]


def project(requirements: str, pyproject: str) -> str:
    """The text of a project that needs these and nothing else, under the same rules of resolution."""
    rules = pyproject[pyproject.index("[tool.uv]") : pyproject.index("[tool.setuptools]")]
    needs = "".join(f'    "{line}",\n' for line in pinned(requirements))
    head = '[project]\nname = "checkin-service"\nversion = "0.1.0"\nrequires-python = ">=3.11"\n'
    return f"{head}dependencies = [\n{needs}]\n\n{rules}"


@contextmanager
def locked(requirements: Path) -> Iterator[Path]:
    """A folder with that project and its lock. Raises `Unreachable`."""
    with tempfile.TemporaryDirectory(prefix="checkin-locked-") as name:
        folder = Path(name)
        text = project(requirements.read_text("utf-8"), (ROOT / "pyproject.toml").read_text("utf-8"))
        (folder / "pyproject.toml").write_text(text, "utf-8")
        uv(folder, "lock", "--quiet")
        again = uv(folder, *EXPORT, "--no-default-groups").stdout
        if again != requirements.read_text("utf-8"):
            sys.exit(f"requirements/{requirements.name} is not what its own pins resolve to: make lock")
        yield folder


def uv(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Raises `Unreachable` with uv's own words when it fails; that it found something is in the result."""
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never", "UV_PYTHON": sys.executable}
    done = subprocess.run([UV, *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode >= FAILED:
        raise Unreachable(f"{TROUBLES.get(arguments[0], 'uv failed')}: {done.stderr.strip()}")
    return done


def sbom(requirements: Path, target: Path) -> int:
    """Writes a CycloneDX bill of materials."""
    with locked(requirements) as folder:
        made = uv(folder, *EXPORT, "--format=cyclonedx1.5", "--preview-features=sbom-export").stdout
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(made, "utf-8")
    print(f"{target} names {len(json.loads(made)['components'])} packages")
    return 0


def audit(requirements: Path, advisories: str | None) -> int:
    """1 when there are advisories of a package, which are printed."""
    elsewhere = [f"--service-url={advisories}"] if advisories else []
    with locked(requirements) as folder:
        done = uv(folder, "audit", "--frozen", "--preview-features=audit-command", *elsewhere)
    print(f"requirements/{requirements.name}:\n{done.stdout}{done.stderr}", end="")
    return done.returncode


def main(arguments: list[str] | None = None) -> int:
    """What can't be asked from here is no fault of the packages: it is told and ends with 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.dependencies")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("sbom").add_argument("target", type=Path)
    commands.add_parser("audit").add_argument("--advisories", help="a mirror of the database")
    options = parser.parse_args(arguments)
    try:
        if options.command == "audit":
            return max([audit(requirements, options.advisories) for requirements in (RUNTIME, FACE_TIER)])
        sbom(RUNTIME, options.target)
        return sbom(FACE_TIER, options.target.with_stem(f"{options.target.stem}-face-tier"))
    except Unreachable as error:
        print(f"{options.command}: NOT DONE, for {error}", file=sys.stderr)
        return 0


if __name__ == "__main__":
    sys.exit(main())
