"""What a benchmark prints, and writes for programs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from face.benchmark.benchmark import Benchmark
from face.benchmark.contenders import PATHS, STOCK
from face.benchmark.timing import Cost

LEAST_RATIOS: Mapping[str, Mapping[str, float]] = {
    "480x640": {"dlib": 12, "sface": 8, "both": 6, "both_pad": 4.5},
    "1080x1920": {"dlib": 25, "sface": 25, "both": 20, "both_pad": 15},
}
"""How many times faster than ``face_recognition`` a path is meant to be."""

LEAST_OF_TWO = 1.9
MOST_AFTER_LARGEST_MB = 350.0
MOST_GROWTH_MB = 10.0
MOST_START_S = 2.0

_REST = "the rest"


def ratio(costs: Mapping[str, Cost], path: str) -> float:
    """How many times less CPU time than ``face_recognition`` the path takes."""
    return costs[STOCK].ms / costs[path].ms


def verdict(met: bool, target: str) -> str:
    return f"target {target}: {'ok' if met else 'MISSED'}"


# --- For programs ---


def to_json(benchmark: Benchmark) -> dict[str, Any]:
    """Times in CPU ms a photograph; a path that could not be run is null."""
    return {
        "sizes": {size: _size_record(costs) for size, costs in benchmark.costs.items()},
        "stages": {size: _stage_record(costs) for size, costs in benchmark.costs.items()},
        "workers": {
            size: {
                "one_per_s": _short(rates.one),
                "two_per_s": _short(rates.two),
                "ratio": _short(rates.ratio),
            }
            for size, rates in benchmark.throughput.items()
        },
        "memory": _memory_record(benchmark),
        "start": {"wall_s": benchmark.start.wall_s, "cpu_s": benchmark.start.cpu_s},
        "rounds": dict(benchmark.plan.rounds),
        "notes": list(benchmark.notes),
    }


def _size_record(costs: Mapping[str, Cost]) -> dict[str, Any]:
    paths = {
        path: {"ms": _short(costs[path].ms), "ratio": _short(ratio(costs, path))} if path in costs else None
        for path in PATHS
    }
    return {"face_recognition_ms": _short(costs[STOCK].ms), "paths": paths}


def _stage_record(costs: Mapping[str, Cost]) -> dict[str, dict[str, float]]:
    return {
        name: {stage: _short(ms) for stage, ms in _with_rest(cost).items()} for name, cost in costs.items()
    }


def _memory_record(benchmark: Benchmark) -> dict[str, float] | None:
    held = benchmark.memory
    if held is None:
        return None
    return {
        "photographs": held.photographs,
        "started_mb": _short(held.started_mb),
        "after_tenth_mb": _short(held.after_tenth_mb),
        "after_mb": _short(held.after_mb),
        "after_largest_mb": _short(held.after_largest_mb),
        "peak_mb": _short(held.peak_mb),
    }


def _short(value: float) -> float:
    return round(value, 4)


def _with_rest(cost: Cost) -> dict[str, float]:
    return {**cost.stages, _REST: max(0.0, cost.ms - sum(cost.stages.values()))}


# --- For people ---


def to_text(benchmark: Benchmark) -> str:
    sections = (_ratios, _stages, _workers, _memory, _start, _notes)
    return "\n".join(line for section in sections for line in section(benchmark))


def _ratios(benchmark: Benchmark) -> Iterator[str]:
    yield f"CPU ms a photograph, and how many times less than {STOCK}"
    for size, costs in benchmark.costs.items():
        yield f"\n{size:<14}{costs[STOCK].ms:>9.1f}  {STOCK} (rounds: {benchmark.plan.rounds[size]})"
        for path in PATHS:
            yield _ratio_line(size, costs, path) if path in costs else f"  {path:<12}{'-':>9}  (see below)"


def _ratio_line(size: str, costs: Mapping[str, Cost], path: str) -> str:
    times = ratio(costs, path)
    least = LEAST_RATIOS.get(size, {}).get(path)
    judged = f"   {verdict(times >= least, f'>= {least:g}x')}" if least else ""
    return f"  {path:<12}{costs[path].ms:>9.1f}{times:>8.1f}x{judged}"


def _stages(benchmark: Benchmark) -> Iterator[str]:
    """Of the path that does most, and of ``face_recognition``."""
    sizes = list(benchmark.costs)
    some_size = benchmark.costs[sizes[0]]
    for name in (STOCK, "both_pad" if "both_pad" in some_size else "both"):
        columns = [_with_rest(benchmark.costs[size][name]) for size in sizes]
        yield f"\n{f'stages of {name}':<28}" + "".join(f"{size:>12}" for size in sizes)
        for stage in dict.fromkeys(stage for column in columns for stage in column):
            yield f"  {stage:<26}" + "".join(f"{column.get(stage, 0):>12.2f}" for column in columns)


def _workers(benchmark: Benchmark) -> Iterator[str]:
    yield "\nworker processes, photographs a second: one, two, two against one"
    for size, rates in benchmark.throughput.items():
        judged = verdict(rates.ratio >= LEAST_OF_TWO, f">= {LEAST_OF_TWO:g}")
        yield f"  {size:<12}{rates.one:>9.1f}{rates.two:>9.1f}{rates.ratio:>8.2f}   {judged}"


def _memory(benchmark: Benchmark) -> Sequence[str]:
    held = benchmark.memory
    if held is None:
        return ["\nmemory of a worker: not measured, there is no /proc"]
    flat = verdict(held.growth_mb <= MOST_GROWTH_MB, f"grows by <= {MOST_GROWTH_MB:g} MB")
    small = verdict(held.after_largest_mb <= MOST_AFTER_LARGEST_MB, f"<= {MOST_AFTER_LARGEST_MB:g} MB")
    tenth = held.photographs // 10
    return [
        f"\nmemory of a worker: {held.started_mb:.0f} MB warm",
        f"  after {tenth} photographs {held.after_tenth_mb:.0f}, after {held.photographs} {held.after_mb:.0f}   {flat}",
        f"  after one of the largest size {held.after_largest_mb:.0f}, peak {held.peak_mb:.0f}   {small}",
    ]


def _start(benchmark: Benchmark) -> Sequence[str]:
    wall_s, cpu_s = benchmark.start.wall_s, benchmark.start.cpu_s
    judged = verdict(wall_s <= MOST_START_S, f"<= {MOST_START_S:g} s on an idle core")
    cpu = "" if cpu_s is None else f", {cpu_s:.2f} s of it CPU"
    return [f"\nstart of a worker: {wall_s:.2f} s{cpu}   {judged}"]


def _notes(benchmark: Benchmark) -> Sequence[str]:
    return ["", *benchmark.notes]
