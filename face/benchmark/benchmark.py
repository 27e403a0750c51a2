"""The benchmark: photographs fitted to each size, contenders in turns, then workers."""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from PIL import Image

from face.benchmark.contenders import STOCK, Models, paths, stages_of_engine, stock
from face.benchmark.fault import BenchmarkFault
from face.benchmark.photos import SIZES, Photo, as_jpeg, fitted
from face.benchmark.timing import Contender, Cost, Lap, Stopwatch, cost, interleaved
from face.benchmark.workers import Memory, Start, Throughput, memory, start, throughput

ShowProgress = Callable[[str], None]
Laps = dict[str, list[list[Lap]]]
"""By contender, those of each photograph."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured; ``rounds`` by size ("480x640": width and height), for each photograph."""

    rounds: Mapping[str, int]
    bursts: int
    burst_s: float
    memory_photos: int
    starts: int

    def shared_by(self, photos: int) -> "Plan":
        """The rounds shared out among so many photographs, one each at least."""
        return replace(self, rounds={size: max(1, rounds // photos) for size, rounds in self.rounds.items()})


FULL = Plan(dict.fromkeys(SIZES, 20), bursts=5, burst_s=4.0, memory_photos=10_000, starts=5)
QUICK = Plan(dict(zip(SIZES, (10, 6, 4, 2), strict=True)), bursts=1, burst_s=1.2, memory_photos=100, starts=2)


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What was measured. ``costs`` by size and contender; ``notes`` say what is to be known when reading it."""

    plan: Plan
    costs: Mapping[str, Mapping[str, Cost]]
    throughput: Mapping[str, Throughput]
    memory: Memory | None
    start: Start
    notes: Sequence[str]


def benchmark(
    pictures: Mapping[str, Image.Image], models: Models, plan: Plan, show_progress: ShowProgress
) -> Benchmark:
    """Measure everything, on ``pictures`` by name.

    Raises :class:`BenchmarkFault` when no picture shows exactly one face at one of the sizes, and ``WeightsError``.
    """
    load = f"load of the machine at the start: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    notes = [load, *([f"both_pad: {models.pad_missing}"] if models.pad_missing else [])]
    stopwatch = Stopwatch()
    contenders = {STOCK: stock(stopwatch), **paths(models)}
    photos = {size: _usable(pictures, size, contenders, notes) for size in plan.rounds}
    contenders[STOCK](next(iter(photos.values()))[0].data)  # warm
    costs = {}
    with stages_of_engine(stopwatch):
        for size, rounds in plan.rounds.items():
            laps = _laps(stopwatch, contenders, photos[size], rounds)
            notes += _unlike(size, photos[size], laps[STOCK])
            costs[size] = {name: cost(of_photos) for name, of_photos in laps.items()}
            show_progress(f"{size} measured")
    data = {size: [photo.data for photo in of_size] for size, of_size in photos.items()}
    return Benchmark(plan, costs, *asyncio.run(_workers(models, data, plan, show_progress)), notes)


def _usable(
    pictures: Mapping[str, Image.Image], size: str, contenders: Mapping[str, Contender], notes: list[str]
) -> list[Photo]:
    """Those that show exactly one face when fitted; every path has then run warm at this size."""
    fits = [Photo(name, as_jpeg(fitted(picture, size))) for name, picture in pictures.items()]
    usable = []
    for photo in fits:
        faces = {describe(photo.data) for name, describe in contenders.items() if name != STOCK}
        if faces == {1}:
            usable.append(photo)
        else:
            notes.append(f"{photo.name} is left out at {size}: {max(faces)} faces in it")
    if not usable:
        raise BenchmarkFault(f"no photograph shows exactly one face at {size}: give another --photo FILE")
    return usable


def _laps(
    stopwatch: Stopwatch, contenders: Mapping[str, Contender], photos: Sequence[Photo], rounds: int
) -> Laps:
    by_photo = [interleaved(stopwatch, contenders, photo.data, rounds) for photo in photos]
    return {name: [laps[name] for laps in by_photo] for name in contenders}


def _unlike(size: str, photos: Sequence[Photo], laps: Sequence[Sequence[Lap]]) -> list[str]:
    """Where ``face_recognition`` did not do the same work: it describes every face that it finds."""
    return [
        f"{STOCK} found {of_photo[0].faces} faces in {photo.name} at {size}"
        for photo, of_photo in zip(photos, laps, strict=True)
        if of_photo[0].faces != 1
    ]


async def _workers(
    models: Models, photos: Mapping[str, Sequence[bytes]], plan: Plan, show_progress: ShowProgress
) -> tuple[Mapping[str, Throughput], Memory | None, Start]:
    options = models.worker_options
    per_second = await throughput(options, photos, plan.bursts, plan.burst_s)
    show_progress("one and two workers measured")
    started = await start(options, plan.starts)
    *smaller, largest = photos.values()
    mixed = [photo for size in smaller or [largest] for photo in size]
    held = await memory(options, mixed, plan.memory_photos, largest[0])
    show_progress("memory measured")
    return per_second, held, started
