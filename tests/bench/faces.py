"""The face pipeline beside `face_recognition`, by `face.bench`'s own parts in a process of their own, for they change
Pillow for whoever imports them.

python -m tests.bench.faces full|quick FILE
"""

import asyncio
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from face.benchmark.benchmark import Plan as FacePlan
from face.benchmark.benchmark import benchmark
from face.benchmark.contenders import Models
from face.benchmark.photos import installed_files, read_pictures
from face.benchmark.report import (
    LEAST_OF_TWO,
    LEAST_RATIOS,
    MOST_AFTER_LARGEST_MB,
    MOST_GROWTH_MB,
    MOST_START_S,
    to_json,
)
from tests.bench.fault import BenchFault
from tests.bench.plan import QUICK, Plan
from tests.bench.report import Row, Table
from tests.bench.site import Site

PLANS = {
    "full": FacePlan({"480x640": 20, "1080x1920": 10}, bursts=3, burst_s=4.0, memory_photos=1000, starts=5),
    "quick": FacePlan({"480x640": 5, "1080x1920": 2}, bursts=1, burst_s=1.2, memory_photos=100, starts=2),
}
ROOT = Path(__file__).resolve().parents[2]


async def measure(site: Site, plan: Plan) -> list[Table]:
    written = site.folder / "bench-faces.json"
    name, models = "quick" if plan is QUICK else "full", site.stage.settings.data_dir / "models"
    command = (sys.executable, "-m", "tests.bench.faces", name, str(models), str(written))
    with (site.folder / "bench-faces.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
    if await process.wait():
        raise BenchFault("the face benchmark failed, see bench-faces.log")
    return list(tables(json.loads(written.read_text())))


def tables(found: Mapping[str, Any]) -> Iterator[Table]:
    """Of what `face.bench` writes for programs."""
    notes = "; ".join(found["notes"])
    for size, of_size in found["sizes"].items():
        width, height = size.split("x")
        title = f"The face pipeline beside face_recognition, {width}×{height}"
        note = f"CPU of one thread, warm, in turns, median of {found['rounds'][size]} rounds. {notes}."
        yield Table(title, note, list(_paths(size, of_size)))
    yield Table(
        "Face workers", "Processes of the pipeline with everything that is configured.", list(_workers(found))
    )


def _paths(size: str, found: Mapping[str, Any]) -> Iterator[Row]:
    yield Row("face_recognition", found["face_recognition_ms"], "ms")
    for path, cost in found["paths"].items():
        if cost:
            yield Row(path, cost["ms"], "ms")
            yield Row(
                f"{path}, so many times faster", cost["ratio"], least=LEAST_RATIOS.get(size, {}).get(path)
            )


def _workers(found: Mapping[str, Any]) -> Iterator[Row]:
    for size, rates in found["workers"].items():
        yield Row(f"one worker, {size}", rates["one_per_s"], "/s")
        yield Row(f"two against one, {size}", rates["ratio"], least=LEAST_OF_TWO)
    if held := found["memory"]:
        grown = held["after_mb"] - held["after_tenth_mb"]
        yield Row("memory after one of 1080×1920", held["after_largest_mb"], "MB", most=MOST_AFTER_LARGEST_MB)
        yield Row(f"grown from a tenth to all of {held['photographs']}", grown, "MB", most=MOST_GROWTH_MB)
    yield Row("start of a worker", found["start"]["wall_s"], "s", most=MOST_START_S)


def _models_dir() -> Path | None:
    """Where the nets of passive PAD may lie."""
    shared = Path(os.environ.get("CHECKIN_SHARED", ROOT.parent / "shared")) / "data" / "models"
    named = os.environ.get("CHECKIN_MODELS_DIR") or (shared if shared.is_dir() else None)
    return Path(named) if named else None


def main(name: str, cache: str, written: str) -> None:
    pictures, models = read_pictures(installed_files()), Models(Path(cache), _models_dir())
    Path(written).write_text(json.dumps(to_json(benchmark(pictures, models, PLANS[name], print)), indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
