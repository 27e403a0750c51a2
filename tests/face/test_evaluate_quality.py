"""The report on good photographs and degraded copies, on the portraits of the demonstration."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from face import evaluate_quality
from face.engine import PhotoEngine
from face.evaluate_quality import evaluate, lines, main
from face.evaluation import degraded
from face.evaluation.degraded import SPECIES, Scene, Species
from face.evaluation.fault import EvaluationFault
from face.evaluation.labels import read_labels
from tests import portraits

PERSONS: dict[str, tuple[Callable[[], bytes], ...]] = {
    "hopper": (portraits.hopper, portraits.hopper_altered),
    "astronaut": (portraits.astronaut, portraits.astronaut_altered),
}
FEW = {("out of focus", 0.03), ("out of focus", 0.1), ("reduced", 12), ("light mask", 0)}


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Two persons of two groups, two photographs each."""
    folder = tmp_path / "set"
    folder.mkdir()
    rows = ["person\tfile\tgroup"]
    for person, photos in PERSONS.items():
        for photo in photos:
            (folder / f"{photo.__name__}.jpg").write_bytes(photo())
            rows.append(f"{person}\t{photo.__name__}.jpg\tgroup_of_{person}")
    (folder / "labels.tsv").write_text("\n".join(rows) + "\n", "utf-8")
    return folder


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some of the copies, so that a test takes seconds."""
    species = [
        Species(kind.name, kind.fault, kind.unit, degrees, kind.make)
        for kind in SPECIES
        if (degrees := tuple(degree for degree in kind.degrees if (kind.name, degree) in FEW))
    ]
    monkeypatch.setattr(evaluate_quality, "SPECIES", species)
    monkeypatch.setattr(evaluate_quality, "BYSTANDER_SHARES", (0.3, 0.8))


def row(report: dict[str, Any], name: str, degree: float) -> dict[str, Any]:
    (found,) = (row for row in report["copies"] if (row["copies"], row["degree"]) == (name, degree))
    return {key: found[key] for key in ("n", "refused", "reasons", "matched")}


@pytest.mark.usefixtures("few")
def test_good_photographs_pass_and_bad_copies_are_called_by_their_fault(
    labelled: Path, engine: PhotoEngine
) -> None:
    report = evaluate(read_labels(labelled), engine)
    good = [
        (row["photographs"], row["group"], row["n"], row["refused"], row["matched"]) for row in report["good"]
    ]
    assert good == [
        (kind, group, n, 0, n)
        for kind in ("as they are", "in a frame")
        for group, n in (("all", 4), ("group_of_astronaut", 2), ("group_of_hopper", 2))
    ]
    passed = {"n": 4, "refused": 0, "reasons": {}, "matched": 4}
    assert row(report, "out of focus", 0.03) == passed
    assert row(report, "out of focus", 0.1)["reasons"] == {"blurred": 4}
    assert row(report, "light mask", 0)["reasons"] == {"covered": 4}
    assert row(report, "somebody beside", 0.3) == passed
    assert row(report, "somebody beside", 0.8) == {
        "n": 4,
        "refused": 4,
        "reasons": {"multiple_faces": 4},
        "matched": 0,
    }


@pytest.mark.usefixtures("few")
def test_faults_of_the_crop_are_counted_apart(labelled: Path, engine: PhotoEngine) -> None:
    copies = evaluate(read_labels(labelled), engine, every=4)["copies"]
    small, blurred = (
        next(row for row in copies if (row["copies"], row["degree"]) == key)
        for key in (("reduced", 12), ("out of focus", 0.1))
    )
    assert (small["n"], small["refused"], small["refused_without_cut_off_and_too_small"]) == (1, 1, 0)
    assert (blurred["n"], blurred["refused"], blurred["refused_without_cut_off_and_too_small"]) == (1, 1, 1)


@pytest.mark.usefixtures("few")
def test_a_photograph_without_a_face_counts_as_refused_and_is_not_copied(
    labelled: Path, engine: PhotoEngine
) -> None:
    (labelled / "hopper.jpg").write_bytes(portraits.landscape())
    report = evaluate(read_labels(labelled), engine)
    as_they_are, in_frames = (
        next(row for row in report["good"] if (row["photographs"], row["group"]) == (kind, "all"))
        for kind in ("as they are", "in a frame")
    )
    assert (as_they_are["n"], as_they_are["reasons"]) == (4, {"no_face": 1})
    assert as_they_are["matched"] == 2  # nor has the other photograph anything to match
    assert in_frames["n"] == 3
    assert {row["n"] for row in report["copies"]} == {3}


def test_a_person_needs_two_photographs(labelled: Path, engine: PhotoEngine) -> None:
    table = labelled / "labels.tsv"
    table.write_text("\n".join(table.read_text("utf-8").splitlines()[:-1]) + "\n", "utf-8")
    with pytest.raises(EvaluationFault, match="astronaut has a single photograph"):
        evaluate(read_labels(labelled), engine)


@pytest.mark.usefixtures("few")
def test_the_command(
    labelled: Path, networks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "report.json"
    arguments = [str(labelled), "--every", "2", "--cache", str(networks), "--json", str(file)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed == list(lines(json.loads(file.read_text("utf-8"))))
    assert any(line.split()[:6] == ["light", "mask", "0", "2", "2", "2"] for line in printed)


def test_the_command_says_what_is_missing(
    tmp_path: Path, networks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path), "--cache", str(networks)]) == 1
    assert "labels.tsv can't be read" in capsys.readouterr().err


@pytest.fixture(scope="module")
def scene(engine: PhotoEngine) -> Scene:
    landmarks = engine.analyse(portraits.astronaut()).landmarks
    return degraded.framed(Scene(np.zeros((330, 360, 3), np.uint8) + 90, np.array(landmarks)))


@pytest.mark.parametrize("species", SPECIES, ids=lambda species: species.name)
def test_every_copy_is_a_picture_and_the_same_each_time(species: Species, scene: Scene) -> None:
    for degree in species.degrees:
        one, again = (species.make(scene, degree, np.random.default_rng(5)) for _ in range(2))
        assert one.dtype == np.uint8
        assert one.shape[2] == 3
        assert np.array_equal(one, again)


def test_a_frame_holds_the_face_at_its_place(scene: Scene) -> None:
    assert scene.pixels.shape == (640, 480, 3)
    assert scene.eyes_px == pytest.approx(90)
    assert scene.landmarks[:2].mean(axis=0) == pytest.approx([240, 270], abs=1)
