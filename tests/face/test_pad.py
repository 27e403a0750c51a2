"""The passive test: crops as its authors cut them, colours in their order, and their own samples told apart."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from face.engine import PhotoEngine, build_engine
from face.evaluate_pad import main, passive_report
from face.evaluation.exact import clopper_pearson
from face.image import decode
from face.manifest import MINIFASNET_V2, verified_path
from face.models import MINIFASNET_V1SE_NETWORK, MINIFASNET_V2_NETWORK, Recipe, ready_network
from face.network import Network
from face.pad import Box, MiniFasNet, crop_window
from face.picture import Pixels
from tests import portraits

NETWORKS = (MINIFASNET_V2_NETWORK, MINIFASNET_V1SE_NETWORK)
Floats = npt.NDArray[np.float32]


class Recorder(Network):
    """A network that answers with fixed shares and keeps what it was shown."""

    def __init__(self, live: float) -> None:
        self.live = live
        self.batches: list[npt.NDArray[np.generic]] = []

    def run(self, batch: npt.NDArray[np.generic]) -> list[Floats]:
        self.batches.append(batch)
        return [np.array([[0.75 * (1 - self.live), self.live, 0.25 * (1 - self.live)]], np.float32)]


def shown(pixels: Pixels, box: Box) -> tuple[Floats, Floats]:
    """What both networks are given, height × width × 3."""
    v2, v1se = Recorder(0.5), Recorder(0.5)
    MiniFasNet(v2, v1se).score(pixels, box)
    assert [batch.shape for net in (v2, v1se) for batch in net.batches] == [(1, 3, 80, 80)] * 2
    assert v2.batches[0].dtype == v1se.batches[0].dtype == np.float32
    return tuple(np.asarray(net.batches[0][0].transpose(1, 2, 0)) for net in (v2, v1se))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("box", "scale", "window"),
    [
        ((300, 200, 40, 60), 2.7, (266, 149, 375, 312)),
        ((0, 0, 100, 100), 2.7, (0, 0, 271, 271)),
        ((-30, 380, 100, 100), 2.7, (0, 209, 271, 480)),
        ((560, 10, 100, 100), 2.7, (369, 0, 640, 271)),
        ((200, 100, 200, 200), 4.0, (60, 0, 540, 480)),
        ((100, 20, 400, 300), 4.0, (0, 0, 639, 480)),
        ((-50, -50, 2000, 1000), 2.7, (0, 159, 640, 480)),
        ((700, 500, 50, 50), 2.7, (504, 344, 640, 480)),
    ],
    ids=[
        *("inside", "upper left corner", "across the lower left", "across the right", "too high"),
        *("too wide and too high", "larger than the picture", "outside"),
    ],
)
def test_crop_windows(box: Box, scale: float, window: tuple[int, int, int, int]) -> None:
    """In a picture of 640 × 480; computed by hand."""
    assert crop_window((640, 480), box, scale) == window


@given(
    st.tuples(st.integers(1, 900), st.integers(1, 900)),
    st.tuples(*[st.floats(-2000, 2000)] * 2, *[st.floats(0.01, 2000)] * 2),
    st.sampled_from([2.7, 4.0]),
)
def test_a_crop_lies_within_the_picture(size: tuple[int, int], box: Box, scale: float) -> None:
    left, top, right, bottom = crop_window(size, box, scale)
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]


@pytest.mark.parametrize(
    "box", [(0, 0, 0, 10), (0, 0, 10, -1), (float("nan"), 0, 9, 9), (0, 0, float("inf"), 9)]
)
def test_a_box_needs_an_area(box: Box) -> None:
    with pytest.raises(ValueError, match="area"):
        crop_window((640, 480), box, 2.7)


@pytest.mark.parametrize(
    "box", [(180, 90, 150, 190), (-20, 60, 150, 190), (400, 300, 100, 120), (10, 10, 30, 40)]
)
def test_inputs_are_those_of_opencv(box: Box) -> None:
    """minivision cuts and scales with OpenCV, whose plain linear sampling is what the networks learnt from."""
    pixels = decode(portraits.hopper())
    for scale, given_to_net in zip((2.7, 4.0), shown(pixels, box), strict=True):
        left, top, right, bottom = crop_window((pixels.shape[1], pixels.shape[0]), box, scale)
        expected = cv2.resize(pixels[top:bottom, left:right, ::-1], (80, 80))
        assert np.abs(given_to_net - expected).max() <= 1


def test_colours_are_blue_green_red() -> None:
    red = np.zeros((100, 100, 3), np.uint8)
    red[:, :, 0] = 200
    for given_to_net in shown(red, (40, 40, 20, 20)):
        assert given_to_net.reshape(-1, 3).tolist() == [[0, 0, 200]] * 6400


@pytest.mark.parametrize(("v2", "v1se", "score"), [(1, 1, 1), (0, 0, 0), (0.9, 0.3, 0.6), (0.3, 0.9, 0.6)])
def test_the_score_is_the_mean_of_both(v2: float, v1se: float, score: float) -> None:
    net = MiniFasNet(Recorder(v2), Recorder(v1se))
    assert net.score(np.zeros((90, 90, 3), np.uint8), (20, 20, 30, 30)) == pytest.approx(score)


@pytest.fixture(scope="module")
def models(shared: Path) -> Path:
    return shared / "data" / "models"


@pytest.fixture(scope="module")
def pad_engine(networks: Path, models: Path) -> PhotoEngine:
    return build_engine(str(networks), str(models), encoders=(), passive_pad=True)


def sample(shared: Path, name: str) -> bytes:
    return (shared / "data" / "pad_samples" / f"minivision-ai_image_{name}.jpg").read_bytes()


def test_the_authors_samples_are_told_apart(pad_engine: PhotoEngine, shared: Path) -> None:
    lives = {name: pad_engine.analyse(sample(shared, name)).live for name in ("F1", "F2", "T1")}
    # F1 moves with the box by a tenth and more
    assert lives == {
        "F1": pytest.approx(0.2, abs=0.2),
        "F2": pytest.approx(0, abs=0.05),
        "T1": pytest.approx(1, abs=0.02),
    }


@pytest.mark.parametrize("recipe", NETWORKS, ids=lambda recipe: recipe.name)
def test_the_converted_network_says_the_same(recipe: Recipe, networks: Path, models: Path) -> None:
    authors = Network(verified_path(recipe.weights, models))
    ours = Network(ready_network(recipe, networks, models))
    noise = np.random.default_rng(0).integers(0, 255, (20, 3, 80, 80)).astype(np.float32)
    assert np.abs(np.subtract(authors.run(noise), ours.run(noise))).max() < 1e-4


def test_with_red_for_blue_the_fakes_would_pass(models: Path, shared: Path) -> None:
    """Negative control: the test above would fail if the colours came in the other order."""
    net = MiniFasNet(*(Network(verified_path(recipe.weights, models)) for recipe in NETWORKS))
    pixels, box = decode(sample(shared, "F2")), (139.0, 216.0, 223.0, 299.0)
    assert net.score(pixels, box) < 0.05
    assert net.score(pixels[:, :, ::-1], box) > 0.9


@pytest.mark.parametrize("portrait", [portraits.hopper, portraits.astronaut], ids=["hopper", "astronaut"])
def test_portraits_look_live(portrait: Callable[[], bytes], pad_engine: PhotoEngine) -> None:
    live = pad_engine.analyse(portrait()).live
    assert live is not None
    assert live > 0.5


@pytest.mark.parametrize(
    ("errors", "n", "low", "high"),
    [
        (0, 10, 0, 0.3085),
        (10, 10, 0.6915, 1),
        (1, 1, 0.025, 1),
        (5, 20, 0.0866, 0.4910),
        (50, 1000, 0.0373, 0.0654),
        (0, 0, 0, 1),
    ],
)
def test_exact_intervals(errors: int, n: int, low: float, high: float) -> None:
    """Values of R's ``binom.test``."""
    assert clopper_pearson(errors, n) == pytest.approx((low, high), abs=1e-4)


def test_the_worst_species_is_named_and_none_is_averaged_away() -> None:
    report = passive_report(
        {"paper": [0.1, 0.6, None, 0.2], "screen": [0.1, 0.2], "mask": []}, {"selfie": [0.9, 0.4]}, 0.5
    )
    assert report["worst"] == "paper"
    paper: dict[str, Any] = report["apcer"]["paper"]
    assert (paper["errors"], paper["n"], paper["no_face"]) == (1, 3, 1)
    assert report["apcer"]["mask"]["value"] is None
    assert report["bpcer"]["selfie"]["value"] == 0.5


def test_the_command(
    networks: Path, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hopper.jpg").write_bytes(portraits.hopper())
    given = ["--cache", networks, "--portraits", tmp_path, "--bursts", 20, "--json", tmp_path / "pad.json"]
    given += ["--models", shared / "data" / "models", "--samples", shared / "data" / "pad_samples"]
    assert main(list(map(str, given))) == 0
    printed = capsys.readouterr().out
    assert "worst species: synthetic_" in printed
    assert '"paper_copy"' in (tmp_path / "pad.json").read_text("utf-8")


def test_without_the_networks_the_command_says_so(networks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cache", str(networks), "--bursts", "2"]) == 0
    assert "passive test: not measured" in capsys.readouterr().out


def test_a_folder_without_the_networks_is_a_fault(
    networks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--cache", str(networks), "--models", str(tmp_path)]) == 1
    assert MINIFASNET_V2.name in capsys.readouterr().err
