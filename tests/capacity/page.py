"""The tables of docs/capacity.md."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from tests.bench.report import figure, put_into
from tests.capacity.demand import ASSUMPTIONS, LIMITS, PERSONS, PLACES, Assumption, planned
from tests.capacity.inputs import COSTS, ROOT, Inputs
from tests.capacity.model import MACHINE_CORES, Need, needs, one_primary_bears, prices, waiting_share

PAGE = ROOT / "docs" / "capacity.md"
DEMAND = (
    "closing_together",
    "on_last_evening",
    "in_last_hour",
    "surge",
    "with_face",
    "without_face",
    "polls",
)
Rows = Iterator[Sequence[str]]


def write_page(inputs: Inputs, page: Path = PAGE) -> None:
    for name, table in TABLES.items():
        put_into(page, mark_of(name), as_table(*table(inputs)))


def mark_of(name: str) -> str:
    return f"capacity: {name}"


def as_table(head: Sequence[str], rows: Rows) -> str:
    lines = chain([head, ["---"] * len(head)], rows)
    return "\n".join(["", *(f"| {' | '.join(cells)} |" for cells in lines), ""])


def of(value: float, unit: str = "") -> str:
    return figure(value, unit)


def gb(value: float) -> str:
    return of(value / 1000, "TB") if value >= 1000 else of(value, "GB")


Table = tuple[Sequence[str], Rows]


# --- What to order ---


def answer(inputs: Inputs) -> Table:
    head = (
        "", "persons a month", "check-ins a second: last hour, last two minutes",
        f"application machines of {MACHINE_CORES} cores", "PostgreSQL: primary and standby", "cores and memory in all",
        "rows and evidence after a year", "money a month",
    )  # fmt: skip
    return head, _answers(inputs)


def _answers(inputs: Inputs) -> Rows:
    for place, need in zip(PLACES, needs(inputs, planned(), PLACES), strict=True):
        each, times = "" if place.installations == 1 else f"{place.installations} × ", place.installations
        hour, surge = need.rates
        yield (
            f"**{place.name}**",
            f"{place.times * PERSONS:,.0f}",
            f"{each}{of(hour)}, {of(surge)}",
            f"{each}{need.machines}",
            f"{each}2 of {need.at_once[1]} cores, {gb(need.postgres_gb)}",
            f"{times * need.cores:,}, {gb(times * need.memory_gb)}",
            f"{gb(times * need.rows_gb(12))}, {gb(times * need.evidence_gb(12))}",
            _money(need, times),
        )


def _money(need: Need, times: int) -> str:
    low, usual, high = (need.money(prices(name)).total * times for name in ("least", "planned", "most"))
    return f"{usual:,.0f} CNY ({low:,.0f} to {high:,.0f})"


# --- Each installation ---


def _by_place(inputs: Inputs, rows: Sequence[tuple[str, Callable[[Need], str]]]) -> Table:
    names = (
        f"{place.name}, each of {place.installations}" if place.installations > 1 else place.name
        for place in PLACES
    )
    found = needs(inputs, planned(), PLACES)
    return ("", *names), ((what, *(told(need) for need in found)) for what, told in rows)


def cores(inputs: Inputs) -> Table:
    who = {"face": "face workers", "service": "service", "postgres": "PostgreSQL", "proxy": "nginx and TLS"}
    busy = [(f"busy in the last two minutes: {name}", _busy(part)) for part, name in who.items()]
    return _by_place(
        inputs,
        [
            *busy,
            ("all, if everybody is judged at once", lambda need: of(sum(need.busy.values()))),
            ("**cores to judge at once**: application, PostgreSQL", lambda need: _pair(need.at_once)),
            ("**cores with receipts first**: application, PostgreSQL", lambda need: _pair(need.receipts_first)),
            ("the event loop of each process, all machines there", lambda need: of(100 * need.event_loop, "%")),
            ("a month's enrolments with the application's cores", lambda need: of(need.enrolling_hours, "h")),
        ],
    )  # fmt: skip


def _busy(part: str) -> Callable[[Need], str]:
    return lambda need: of(need.busy[part])


def _pair(cores: tuple[int, int]) -> str:
    return f"{cores[0]}, {cores[1]}"


def disk(inputs: Inputs) -> Table:
    return _by_place(
        inputs,
        [
            ("rows with indexes, after a month", lambda need: gb(need.rows_gb(1))),
            ("after a year", lambda need: gb(need.rows_gb(12))),
            ("after three years, when the first audit goes", lambda need: gb(need.rows_gb(36))),
            ("of it for good, a year", lambda need: gb(need.rows_for_good_gb)),
            ("evidence, from the fourth month on", lambda need: gb(need.evidence_gb(12))),
            ("log to archive, a month, at most", lambda need: gb(need.log_gb)),
        ],
    )


def writes(inputs: Inputs) -> Table:
    return _by_place(
        inputs,
        [
            ("transactions that write, a second", lambda need: of(need.commits_per_s)),
            ("changes of the feed, a second", lambda need: of(need.changes_per_s)),
            (
                "log, MB a second: pages changed before",
                lambda need: of(need.log_mb_per_s / need.log_growth),
            ),
            ("each page for the first time since a checkpoint", lambda need: of(need.log_mb_per_s)),
            ("all taken first, selfies in the log", lambda need: of(need.log_mb_per_s_deferred)),
            ("database connections, at most", lambda need: str(need.connections)),
            ("selfies on the network, Mbit a second", lambda need: of(_mbit_per_s(need))),
        ],
    )


def _mbit_per_s(need: Need) -> float:
    return need.rates[1] * need.assumed["selfie_kb"] * 8 / 1000


def limits(inputs: Inputs) -> Table:
    need = needs(inputs, planned(), PLACES)[1]
    return ("limit", "assumed", "reached at"), (
        (LIMITS[name].what, of(LIMITS[name].planned), f"{of(times)} times Shenzhen")
        for name, times in one_primary_bears(need).items()
    )


def sensitivity(inputs: Inputs) -> Table:
    head = ("", *(f"{place.name}: cores at once, receipts first" for place in PLACES[:2]))
    return head, _sensitivities(inputs)


def _sensitivities(inputs: Inputs) -> Rows:
    yield ("as planned", *_in_cores(inputs, {}))
    for name in DEMAND:
        told = ASSUMPTIONS[name]
        for value in dict.fromkeys((told.least, told.most)):
            if value != told.planned:
                yield (f"{of(value)} {told.what}", *_in_cores(inputs, {name: value}))
    yield ("all of them at the most", *_in_cores(inputs, {name: ASSUMPTIONS[name].most for name in DEMAND}))


def _in_cores(inputs: Inputs, changes: dict[str, float]) -> Sequence[str]:
    found = needs(inputs, planned(**changes), PLACES[:2])
    return [f"{sum(need.at_once)}, {sum(need.receipts_first)}" for need in found]


def waiting(inputs: Inputs) -> Table:
    busy = (0.5, 0.65, 0.8, 0.9, 0.95)
    head = ("workers", *(f"{share:.0%} busy" for share in busy))
    return head, (
        (str(workers), *(f"{of(waiting_share(workers, share)[1])}" for share in busy))
        for workers in (2, 4, 16)
    )


# --- What it rests on ---


def assumptions(_: Inputs) -> Table:
    return ("planned", "least to most", "", "why"), (
        (of(told.planned), _range(told), told.what, told.why) for told in ASSUMPTIONS.values()
    )


def _range(told: Assumption) -> str:
    return f"{of(told.least)} to {of(told.most)}"


def costs(inputs: Inputs) -> Table:
    return ("", "measured", "row of performance.md"), (
        (f"`{name}`", of(inputs.costs[name]), ": ".join(source)) for name, source in COSTS.items()
    )


def left(inputs: Inputs) -> Table:
    head = (
        "one", "of", "service, ms", "PostgreSQL, ms", "rows and indexes, bytes", "log, bytes", "transactions",
        "object, bytes",
    )  # fmt: skip
    return head, (
        (name.replace("_", " "), *_left(found))
        for name, found in inputs.left_behind.items()
        if name != "commit"
    )


def _left(found: dict[str, float]) -> Sequence[str]:
    keys = ("number", "service_ms", "postgres_ms", "tables", "wal_bytes", "transactions", "object_bytes")
    values = {**found, "tables": sum(found["tables"].values())} if "tables" in found else found  # type: ignore[attr-defined]
    return [of(values[key]) if key in values else "" for key in keys]


def about(inputs: Inputs) -> Table:
    return ("figures", "measured"), ((name.replace("_", " "), text) for name, text in inputs.about.items())


def replay(inputs: Inputs) -> Table:
    head = [""]
    for seen in inputs.replays:
        rate = f"{seen['attempts']} attempts in {seen['length_s']} s"
        head += [f"{seen['name']}, {rate}: foretold", "for what others left of the cores", "came", "off by"]
    return head, (_replayed(inputs, what, key) for key, what in REPLAYED.items())


REPLAYED = {
    "service_ms": "service, ms of CPU an attempt",
    "postgres_ms": "PostgreSQL",
    "face_ms": "face workers",
    "generator_ms": "the callers",
    "all_ms": "all",
    "deferred": "taken first, judged later, %",
    "longest_s": "longest from receipt to verdict, s",
    "latency_p95_ms": "95 of 100 had their answer within, ms",
    "calls": "calls an attempt",
    "missed": "missed the end",
    "untrue": "judged otherwise than true",
    "elsewhere": "of the two cores, used by others, %",
}


def _replayed(inputs: Inputs, what: str, key: str) -> Sequence[str]:
    cells = [what]
    for seen in inputs.replays:
        told = [seen[when].get(key) for when in ("foretold", "foretold_left", "came")]
        _, foretold, came = told
        off = f"{100 * (came / foretold - 1):+.0f} %" if foretold else ""
        cells += ["" if value is None else of(value) for value in told] + [off]
    return cells


TABLES: dict[str, Callable[[Inputs], Table]] = {
    "answer": answer,
    "cores": cores,
    "disk": disk,
    "writes": writes,
    "limits": limits,
    "sensitivity": sensitivity,
    "waiting": waiting,
    "assumptions": assumptions,
    "costs": costs,
    "left behind": left,
    "replay": replay,
    "about": about,
}
