"""What `make sbom` and `make audit` do; asking the network is theirs alone."""

import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests import dependencies
from tests.dependencies import FACE_TIER, ROOT, RUNTIME, pinned, project


@pytest.mark.parametrize("of", [RUNTIME, FACE_TIER], ids=lambda path: path.stem)
def test_the_bill_is_of_every_package_that_is_installed(of: Path) -> None:
    requirements = of.read_text("utf-8")
    text = project(requirements, (ROOT / "pyproject.toml").read_text("utf-8"))
    needs = tomllib.loads(text)["project"]["dependencies"]
    assert needs == pinned(requirements)
    assert len(needs) == requirements.count("==") - requirements.count("'==") > 40


def test_who_cannot_be_asked_is_told_and_breaks_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise dependencies.Unreachable("nobody there")

    monkeypatch.setattr(dependencies, "uv", fail)
    assert dependencies.main(["audit"]) == 0
    assert "NOT DONE" in capsys.readouterr().err


def uv_that_resolves(folder: Path, command: str, *_: Any) -> Any:
    """As uv answers for a project that resolves to what is installed; advisories for KServe alone."""
    needs = (folder / "pyproject.toml").read_text("utf-8")
    of = FACE_TIER if "kserve==" in needs else RUNTIME
    told = {"lock": "", "audit": "", "export": of.read_text("utf-8")}
    found = int(command == "audit" and of is FACE_TIER)
    return subprocess.CompletedProcess([], found, told[command], "")


def test_a_fault_of_the_face_tiers_packages_alone_is_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dependencies, "uv", uv_that_resolves)
    assert dependencies.main(["audit"]) == 1
    told = capsys.readouterr().out
    assert [path.name in told for path in (RUNTIME, FACE_TIER)] == [True, True]
