"""What `make sbom` and `make audit` do; asking the network is theirs alone."""

import tomllib
from typing import Any

import pytest

from tests import dependencies
from tests.dependencies import ROOT, RUNTIME, pinned, project


def test_the_bill_is_of_every_package_that_is_installed() -> None:
    requirements = RUNTIME.read_text("utf-8")
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
