"""docs/capacity.json: what the model is fed with, and where each figure was measured."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.capacity.left_behind import Figures

ROOT = Path(__file__).resolve().parents[2]
FILE, BENCH = ROOT / "docs" / "capacity.json", ROOT / ".artifacts" / "bench.json"

# By the benchmark's table and its rows: the last row is the first of its name after those before it.
_TIME, _MEMORY = (
    f"{what}, both encoders with quality and fingerprint" for what in ("Whose the time is", "Memory")
)
_READING, _SEVERAL = "Reading, on one core", "Several processes"
_BOTH = "service, PostgreSQL"
COSTS: Mapping[str, tuple[str, ...]] = {
    "face_ms": (_TIME, "face"),
    "service_ms": (_TIME, "service"),
    "postgres_ms": (_TIME, "postgres"),
    "valkey_ms": (_TIME, "valkey"),
    "generator_ms": (_TIME, "generator"),
    "proxied_ms": (_SEVERAL, "2 on 2: judged", "nginx, generator"),
    "poll_ms": (_READING, "poll with a current ETag, 304", _BOTH),
    "status_ms": (_READING, "status", _BOTH),
    "feed_page_ms": (_READING, "page of the feed, 100 changes", _BOTH),
    "enrolment_face_ms": ("Enrolments", "face"),
    "enrolment_service_ms": ("Enrolments", "service"),
    "enrolment_postgres_ms": ("Enrolments", "postgres"),
    "worker_mb": (_MEMORY, "the largest face worker"),
    "service_mb": (_MEMORY, "service"),
}


@dataclass(frozen=True, slots=True)
class Inputs:
    """`costs` by the names of `COSTS`, ms of CPU or MB; `left_behind` by event; `replays`, what was foretold and seen.
    `about` says of each on what machine, when and at which commit."""

    about: Mapping[str, str]
    costs: Mapping[str, float]
    left_behind: Mapping[str, Figures]
    replays: list[dict[str, Any]]


def read_inputs(file: Path = FILE) -> Inputs:
    return Inputs(**json.loads(file.read_text("utf-8")))


def write_inputs(inputs: Inputs, file: Path = FILE) -> None:
    parts = {name: getattr(inputs, name) for name in Inputs.__dataclass_fields__}
    file.write_text(json.dumps(_rounded(parts), indent=1, ensure_ascii=False) + "\n", "utf-8")


def _rounded(value: Any) -> Any:
    """To four digits: more are noise, and make every run another file."""
    if isinstance(value, Mapping):
        return {name: _rounded(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def costs_of(record: Mapping[str, Any]) -> dict[str, float]:
    """Those that a report of the benchmark has; none of one that was measured in a hurry."""
    if ", in full, " not in record["about"]:
        return {}
    tables = {table["title"]: table["rows"] for table in record["tables"]}
    return {
        name: found
        for name, (title, *rows) in COSTS.items()
        if (found := _value(tables.get(title, []), rows)) is not None
    }


def _value(table: list[dict[str, Any]], rows: list[str]) -> float | None:
    lines, found = iter(table), None
    for what in rows:
        found = next((line["value"] for line in lines if line["what"] == what), None)
    return found
