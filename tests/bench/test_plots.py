"""That what was measured is drawn, and what is drawn is shown."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.bench import plots, publication, report
from tests.bench.report import Table

SOON, LATE = [[50, 100.0], [95, 200.0], [99.9, 400.0]], [[50, 900.0], [95, None], [99.9, None]]
TABLES = [
    Table(
        "one",
        "",
        plotted={
            "latency": {"one": {"easy": SOON, "too much": LATE}},
            "cpu": {"one": {"service": 3.0, "face": 20.0}},
            "rate": {"one": 41.29},
        },
    ),
    Table(
        "other",
        "",
        plotted={
            "latency": {"other": {"easy": SOON}},
            "cpu": {"naive": {"naive": 200.0}},
            "growth": {"check-in": [[1e4, 1.0], [1e7, 1.1]], "status": [[1e4, 1.0], [1e7, 1.3]]},
        },
    ),
]
LINKS = re.compile(r"!\[[^]]+\]\(plots/([\w.]+)\)")
COMMAND = "<!-- make bench -->"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With the page, into which it may be published."""
    for module, name, path in (
        (publication, "FOLDER", "artifacts"),
        (publication, "PAGE", "docs/page.md"),
        (publication, "PLOTS", "docs/plots"),
        (plots, "FOLDER", "artifacts"),
        (plots, "PLOTS", "docs/plots"),
    ):
        monkeypatch.setattr(module, name, tmp_path / path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/page.md").write_text(f"{COMMAND}\n{report.END}\n")
    return tmp_path


def svg(path: Path) -> ElementTree.Element:
    return ElementTree.parse(path).getroot()


def lines(path: Path) -> dict[str, str]:
    """The path of each line of data, by its name."""
    groups = svg(path).iterfind(".//{*}g")
    named = {group.get("id", ""): group for group in groups}
    return {
        name: _path(group) for name, group in named.items() if re.match("one|other|check-in|status", name)
    }


def _path(group: ElementTree.Element) -> str:
    drawn = group.find("{*}path")
    assert drawn is not None
    return drawn.get("d", "")


def test_each_load_has_a_line_which_leaves_where_nobody_is_judged_any_more(folder: Path) -> None:
    plots.draw(report.as_record("", TABLES, whole=True), folder)
    assert set(lines(folder / "growth.svg")) == {"check-in", "status"}
    latency = lines(folder / "latency.svg")
    assert set(latency) == {"one: easy", "one: too much", "other: easy"}
    highest = {name: min(float(y) for y in re.findall(r"[ML] \S+ (\S+)", d)) for name, d in latency.items()}
    # a picture's y grows downward
    assert highest["one: too much"] < 0 < highest["one: easy"]
    assert highest["one: easy"] == highest["other: easy"]


def test_no_bar_is_rounded_to_the_better(folder: Path) -> None:
    plots.draw(report.as_record("", [Table("", "", plotted={"rate": {"one": 41.29}})], whole=True), folder)
    texts = "".join(svg(folder / "rate.svg").itertext())
    assert "41.2" in texts
    assert "41.3" not in texts


def test_the_same_record_makes_the_same_files(folder: Path) -> None:
    publication.publish("make bench", "bench", "machine", TABLES, whole=True)
    drawn = {path.name: path.read_bytes() for path in (folder / "docs/plots").iterdir()}
    assert set(drawn) == {f"{name}.svg" for name in plots.ALL}
    assert set(LINKS.findall((folder / "docs/page.md").read_text())) == set(drawn)
    for path in (folder / "docs/plots").iterdir():
        path.unlink()
    plots.main()
    assert {path.name: path.read_bytes() for path in (folder / "docs/plots").iterdir()} == drawn
    assert max(map(len, drawn.values())) < 100_000


def test_what_was_measured_in_part_leaves_the_page_alone(folder: Path) -> None:
    publication.publish("make bench", "bench", "machine", TABLES[:1], whole=False)
    plots.main()
    assert (folder / "docs/page.md").read_text() == f"{COMMAND}\n{report.END}\n"
    assert not (folder / "docs/plots").exists()
    assert {path.name for path in (folder / "artifacts/plots").iterdir()} == {
        "latency.svg",
        "cpu.svg",
        "rate.svg",
    }
    assert not json.loads((folder / "artifacts/bench.json").read_text())["whole"]


def test_the_page_shows_the_plots_that_there_are_and_no_others() -> None:
    kept = {path.name for path in report.PLOTS.iterdir()} if report.PLOTS.exists() else set()
    assert set(LINKS.findall(report.PAGE.read_text("utf-8"))) == kept
