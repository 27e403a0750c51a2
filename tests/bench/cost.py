"""What processes use, by their kind, as /proc tells it: so that the face engine and whoever generates the load stay out
of the service's account."""

import os
import time
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
GENERATOR = "generator"
# By what stands in its command line; the first that fits, for a service's names its database.
KINDS = {
    "naive": b"tests.bench.naive",
    "face": b"face.worker",
    "service": b"tests.faults.served",
    "nginx": b"nginx",
    "postgres": b"postgres",
    "valkey": b"valkey",
}


@dataclass(slots=True)
class Cost:
    """What a piece of work took: seconds of wall clock, and of CPU by kind of process."""

    wall_s: float = 0
    cpu_s: Counter[str] = field(default_factory=Counter)

    def ms(self, number: float, *kinds: str) -> float:
        """CPU of these kinds, for each of so many."""
        return sum(self.cpu_s[kind] for kind in kinds) / number * 1000


@contextmanager
def measured() -> Iterator[Cost]:
    """Filled in when the block ends."""
    cost, since, before = Cost(), time.perf_counter(), cpu_by_kind()
    yield cost
    cost.wall_s, cost.cpu_s = time.perf_counter() - since, cpu_by_kind() - before


def cpu_by_kind() -> Counter[str]:
    """Seconds of user and system time of this process and of all below it, with those of their children that have
    ended."""
    used: Counter[str] = Counter()
    for pid in below(os.getpid()):
        with suppress(FileNotFoundError, ProcessLookupError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            used[kind_of(pid)] += sum(map(int, fields[11:15])) / TICKS_PER_S  # type: ignore[assignment]
    return used


def memory_by_kind() -> dict[str, list[float]]:
    """MB (10^6 bytes) of each process, the largest first."""
    held: dict[str, list[float]] = {}
    for pid in below(os.getpid()):
        with suppress(FileNotFoundError, ProcessLookupError):
            held.setdefault(kind_of(pid), []).append(_memory_of(pid) / 1e6)
    return {kind: sorted(of_kind, reverse=True) for kind, of_kind in held.items()}


def _memory_of(pid: int) -> int:
    """Bytes, what several processes share divided among them; undivided where only root may see that."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except PermissionError:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def below(pid: int) -> list[int]:
    """The process and all its descendants that live now."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [pid, *(found for child in children for found in below(int(child)))]


def kind_of(pid: int) -> str:
    if pid == os.getpid():
        return GENERATOR
    command = Path(f"/proc/{pid}/cmdline").read_bytes()
    return next((kind for kind, mark in KINDS.items() if mark in command), "other")


@contextmanager
def pinned(cores: Collection[int], generator: Collection[int] | None = None) -> Iterator[None]:
    """Everything below this process, and it itself, on these cores as long as the block lasts; the generator, which is
    this process, on cores of its own where they are given."""
    before = os.sched_getaffinity(0)
    _pin(cores, generator or cores)
    try:
        yield
    finally:
        _pin(before, before)


def _pin(cores: Collection[int], generator: Collection[int]) -> None:
    for pid in below(os.getpid()):
        with suppress(FileNotFoundError, ProcessLookupError):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), generator if pid == os.getpid() else cores)
