"""The benchmark: what it measures and writes, and its arithmetic. No timing decides anything here."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from face import bench
from face.benchmark import contenders, photos, report
from face.benchmark.benchmark import QUICK, Benchmark, Plan
from face.benchmark.contenders import STOCK, Models, stages_of_engine
from face.benchmark.fault import BenchmarkFault
from face.benchmark.photos import SIZES, fitted, installed_files, read_pictures
from face.benchmark.report import to_json, to_text
from face.benchmark.timing import Cost, Lap, Stopwatch, cost, interleaved
from face.benchmark.workers import Memory, Start, Throughput
from face.detector import Detector
from tests import portraits

TINY = Plan({"480x640": 2, "600x800": 1}, bursts=1, burst_s=0.1, memory_photos=10, starts=1)
RATES, START = Throughput(10, 20), Start(1, 1)
PATHS = ["dlib", "sface", "both", "both_pad", "both_copies"]


@pytest.fixture
def hopper(tmp_path: Path) -> Path:
    file = tmp_path / "hopper.jpg"
    file.write_bytes(portraits.hopper())
    return file


# --- The command ---


def test_a_run_writes_times_and_ratios_of_every_path_and_stage(
    hopper: Path, networks: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CHECKIN_MODELS_DIR", raising=False)
    monkeypatch.setattr(bench, "QUICK", TINY)
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    file = hopper.with_name("results.json")
    command = ["--quick", "--photo", str(hopper), "--cache-dir", str(networks), "--json", str(file)]
    assert bench.main(command) == 0
    results = json.loads(file.read_text())
    assert list(results["sizes"]) == list(TINY.rounds)
    for size in results["sizes"].values():
        assert set(size) == {"face_recognition_ms", "paths"}
        assert list(size["paths"]) == PATHS
        assert size["paths"].pop("both_pad") is None
        for path in size["paths"].values():
            assert set(path) == {"ms", "ratio"}
            assert path["ratio"] == pytest.approx(size["face_recognition_ms"] / path["ms"], rel=1e-3)
    stages = results["stages"]["480x640"]
    assert set(stages[STOCK]) == {"load_image_file", "face_locations", "face_encodings", "the rest"}
    assert set(stages["both"]) == {*contenders._STAGES, "the rest"} - {"PAD"}
    assert "SFace net" not in stages["dlib"]
    assert "dlib net" not in stages["sface"]
    assert results["workers"]["600x800"]["ratio"] > 0
    assert results["memory"]["photographs"] == 10
    assert 50 < results["memory"]["after_largest_mb"] <= results["memory"]["peak_mb"]
    assert results["start"]["wall_s"] > 0
    assert "hopper.jpg" not in "".join(results["notes"])  # nothing was left out
    printed = capsys.readouterr().out
    assert "600x800" in printed
    assert before == ImageFile.LOAD_TRUNCATED_IMAGES  # which importing face_recognition sets
    assert "both_pad: no models directory is configured" in printed


def test_passive_pad_is_a_path_where_its_networks_are(hopper: Path, networks: Path, shared: Path) -> None:
    models = Models(networks, shared / "data" / "models")
    assert models.pad_missing is None
    assert models.worker_options["passive_pad"]
    stopwatch = Stopwatch()
    with stages_of_engine(stopwatch):
        laps = {
            path: stopwatch.lap(way, hopper.read_bytes()) for path, way in contenders.paths(models).items()
        }
    assert list(laps) == PATHS
    assert [path for path, lap in laps.items() if "PAD" in lap.stages] == ["both_pad"]
    assert {lap.faces for lap in laps.values()} == {1}


def test_a_models_directory_without_the_networks_is_named(tmp_path: Path) -> None:
    (tmp_path / "minifasnet_v2_2.7_80x80.onnx").touch()
    assert Models(tmp_path, tmp_path).pad_missing == f"{tmp_path} lacks minifasnet_v1se_4.0_80x80.onnx"


def test_altered_networks_stop_the_run(
    hopper: Path, networks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("minifasnet_v2_2.7_80x80.onnx", "minifasnet_v1se_4.0_80x80.onnx"):
        (tmp_path / name).write_bytes(b"altered")
    command = ["--quick", "--photo", str(hopper), "--cache-dir", str(networks), "--models-dir", str(tmp_path)]
    assert bench.main(command) == 1
    assert "was altered: expected SHA-256" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, b"no picture"])
def test_a_file_that_is_no_photograph_is_named(
    content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "photo.jpg"
    if content is not None:
        file.write_bytes(content)
    assert bench.main(["--quick", "--photo", str(file)]) == 1
    assert f"{file} cannot be read as a photograph" in capsys.readouterr().err


def test_a_photograph_without_a_face_asks_for_another(
    tmp_path: Path, networks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "hills.jpg"
    file.write_bytes(portraits.landscape())
    assert bench.main(["--quick", "--photo", str(file), "--cache-dir", str(networks)]) == 1
    error = "no photograph shows exactly one face at 480x640: give another --photo FILE"
    assert error in capsys.readouterr().err


# --- Photographs ---


def test_without_installed_portraits_a_photograph_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [file.name for file in installed_files()] == ["astronaut.png", "grace_hopper.jpg"]
    monkeypatch.setattr(photos, "_INSTALLED", [("no_such_package", "portrait.png")])
    with pytest.raises(BenchmarkFault, match="give --photo FILE"):
        installed_files()


@pytest.mark.parametrize("size", [(960, 640), (480, 1280), (1920, 2560), (48, 64)])
def test_a_photograph_covers_the_size_and_keeps_its_middle(size: tuple[int, int]) -> None:
    """Red and green halves, one pixel of blue between them: the middle stays in the middle."""
    width, height = size
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0] = pixels[:, width // 2 :, 1] = 255
    pixels[height // 2 :, :, 2] = 255
    shown = np.asarray(fitted(Image.fromarray(pixels), "480x640"))
    assert shown.shape == (640, 480, 3)
    quarters = [shown[y, x].tolist() for y in (20, 620) for x in (20, 460)]
    assert quarters == [[255, 0, 0], [0, 255, 0], [255, 0, 255], [0, 255, 255]]
    assert (shown[:, :230, 0] > 250).all() and (shown[:, 250:, 1] > 250).all()  # noqa: PT018
    assert (shown[:310, :, 2] < 5).all() and (shown[330:, :, 2] > 250).all()  # noqa: PT018


def test_nothing_is_stretched() -> None:
    picture = Image.new("RGB", (1000, 640))
    picture.paste("white", (400, 220, 600, 420))  # a square in the middle
    shown = np.asarray(fitted(picture, "480x640"))[:, :, 0] > 127
    assert shown.sum(axis=0).max() == 200
    assert shown.sum(axis=1).max() == 200


def test_photographs_are_turned_upright_by_exif(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 32)).save(tmp_path / "lying.jpg", exif=exif)
    (picture,) = read_pictures([tmp_path / "lying.jpg"]).values()
    assert picture.size == (32, 64)


# --- Arithmetic ---


def test_a_cost_is_the_mean_over_photographs_of_the_median_over_rounds() -> None:
    one = [Lap(ms, {"decode": ms / 2}, 1) for ms in (1, 100, 3)]
    other = [Lap(ms, {"align": 1}, 1) for ms in (5, 7, 6)]
    assert cost([one, other]) == Cost(4.5, {"decode": 0.75, "align": 0.5})


def test_contenders_take_turns_on_each_photograph() -> None:
    order: list[str] = []

    def contender(name: str) -> Callable[[bytes], int]:
        def describe(photo: bytes) -> int:
            order.append(name)
            return len(photo)

        return describe

    laps = interleaved(Stopwatch(), {"a": contender("a"), "b": contender("b")}, b"one", rounds=3)
    assert order == ["a", "b"] * 3
    assert [lap.faces for lap in laps["b"]] == [3, 3, 3]


def test_a_lap_knows_its_stages_and_forgets_those_of_the_lap_before() -> None:
    stopwatch = Stopwatch()
    work = stopwatch.timed("work", lambda: sum(range(20_000)))

    def twice(photo: bytes) -> int:
        work()
        return work()

    lap = stopwatch.lap(twice, b"")
    assert lap.faces == sum(range(20_000))
    assert 0 < lap.stages["work"] <= lap.ms
    assert stopwatch.lap(len, b"").stages == {}


def test_the_engine_is_left_as_it_was() -> None:
    find = Detector.find
    with stages_of_engine(Stopwatch()):
        assert Detector.find is not find
    assert Detector.find is find


@pytest.mark.parametrize(("stock_ms", "verdict"), [(54, "ok"), (53, "MISSED")])
def test_targets_stand_beside_what_was_measured(stock_ms: float, verdict: str) -> None:
    results = made_up(stock_ms)
    (line,) = (line for line in to_text(results).splitlines() if line.startswith("  both_pad"))
    assert line.split() == f"both_pad 12.0 {stock_ms / 12:.1f}x target >= 4.5x: {verdict}".split()
    assert to_json(results)["sizes"]["480x640"] == {
        "face_recognition_ms": stock_ms,
        "paths": dict.fromkeys(PATHS) | {"both_pad": {"ms": 12, "ratio": round(stock_ms / 12, 4)}},
    }


@pytest.mark.parametrize(
    ("memory", "rates", "start", "missed"),
    [
        (Memory(1000, 200, 240, 250, 350, 360), Throughput(10, 19), Start(2.0, 1.5), []),
        (Memory(1000, 200, 240, 251, 350, 360), Throughput(10, 19), Start(2.0, 1.5), ["grows by <= 10 MB"]),
        (Memory(1000, 200, 240, 250, 351, 360), Throughput(10, 19), Start(2.0, 1.5), ["<= 350 MB"]),
        (None, Throughput(10, 18.9), Start(2.1, None), [">= 1.9", "<= 2 s on an idle core"]),
    ],
)
def test_each_target_is_judged(
    memory: Memory | None, rates: Throughput, start: Start, missed: list[str]
) -> None:
    text = to_text(made_up(100, memory, rates, start))
    assert [line.partition("target ")[2] for line in text.splitlines() if "MISSED" in line] == [
        f"{target}: MISSED" for target in missed
    ]


def test_every_target_belongs_to_a_path_and_a_size_that_are_measured() -> None:
    assert set(report.LEAST_RATIOS) <= set(SIZES)
    assert all(set(paths) <= set(PATHS) for paths in report.LEAST_RATIOS.values())


def test_several_photographs_share_the_rounds_of_a_quick_run() -> None:
    assert QUICK.shared_by(2).rounds["480x640"] == QUICK.rounds["480x640"] // 2
    assert set(QUICK.shared_by(100).rounds.values()) == {1}


def made_up(
    stock_ms: float,
    memory: Memory | None = None,
    rates: Throughput = RATES,
    start: Start = START,
) -> Benchmark:
    costs = {"480x640": {STOCK: Cost(stock_ms, {}), "both_pad": Cost(12, {"decode": 2})}}
    return Benchmark(TINY, costs, {"480x640": rates}, memory, start, ["a note"])
