"""What a simulation found, as values, as JSON and as text."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from checkin_service.simulator.phone import Life

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Row:
    """One behaviour: how many persons, how many of them were answered as expected, the first answers that differ, and
    percentiles of the time from a submission to its answer."""

    behaviour: str
    persons: int
    as_expected: int
    differences: Sequence[str]
    latencies_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Report:
    """`submissions`: each once, however often it was sent. `seconds` from the first arrival to the last answer; `cpu_s`
    what the simulator took meanwhile, and `late_s` by how much it was late with an arrival, at the worst. `platform`:
    what status or feed told wrong.
    """

    seed: int
    rows: Sequence[Row]
    submissions: int
    seconds: float
    late_s: float
    cpu_s: float
    retries: Mapping[str, int]
    platform: Sequence[str]

    @property
    def as_expected(self) -> bool:
        return not self.platform and all(row.persons == row.as_expected for row in self.rows)

    def as_json(self) -> dict[str, object]:
        return {"as_expected": self.as_expected, **asdict(self)}

    def as_text(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{'behaviour':18}{'persons':>8}{'right':>7}{'wrong':>7}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}"
        for row in self.rows:
            counts = f"{row.persons:8}{row.as_expected:7}{row.persons - row.as_expected:7}"
            yield f"{row.behaviour:18}{counts}" + "".join(f"{ms:9.0f}" for ms in row.latencies_ms.values())
        for row in self.rows:
            yield from (f"  {row.behaviour}: {difference}" for difference in row.differences)
        rate = self.submissions / self.seconds
        yield f"\n{self.submissions} submissions in {self.seconds:.1f} s, {rate:.1f} a second; seed {self.seed}"
        yield f"sent again: {_counts(self.retries)}"
        yield f"the simulator took {self.cpu_s:.1f} s of CPU and was late by {self.late_s:.2f} s at most"
        yield from (f"  the platform: {difference}" for difference in self.platform)
        yield "Everything was as expected." if self.as_expected else "NOT EVERYTHING WAS AS EXPECTED."


def _counts(retries: Mapping[str, int]) -> str:
    return ", ".join(f"{count} after {code}" for code, count in sorted(retries.items())) or "nothing"


def rows(lives: Sequence[Life]) -> list[Row]:
    """One a behaviour, by name, and the last for all persons."""
    groups: dict[str, list[Life]] = {}
    for life in sorted(lives, key=lambda life: life.person.behaviour.name):
        groups.setdefault(life.person.behaviour.name, []).append(life)
    return [*(_row(name, group) for name, group in groups.items()), _row("all", lives, shown=0)]


def _row(name: str, lives: Sequence[Life], shown: int = _SHOWN) -> Row:
    differences = [difference for life in lives for difference in life.differences]
    latencies_ms = percentiles_ms([latency for life in lives for latency in life.latencies_s])
    right = sum(not life.differences for life in lives)
    return Row(name, len(lives), right, differences[:shown], latencies_ms)


def percentiles_ms(seconds: Sequence[float]) -> dict[str, float]:
    """p50, p95 and p99 in milliseconds, by nearest rank; nothing for behaviours that submit nothing.

    >>> percentiles_ms([0.003, 0.001, 0.002, 0.004])
    {'p50': 2.0, 'p95': 4.0, 'p99': 4.0}
    """
    ordered = sorted(seconds)
    if not ordered:
        return {}
    return {
        f"p{share}": round(ordered[-(-len(ordered) * share // 100) - 1] * 1000, 2) for share in (50, 95, 99)
    }
