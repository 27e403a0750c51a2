"""`python -m checkin_service enrol`: everybody on a list, once, whatever is cut off or runs beside it."""

import asyncio
import csv
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from checkin_service import __main__ as command_line
from checkin_service.adapters.postgres import persons
from checkin_service.adapters.postgres.database import open_database
from checkin_service.adapters.postgres.persons import EnrolmentHistory
from checkin_service.app import policy_of
from checkin_service.bulk import enrol
from checkin_service.bulk.enrol import Enroller, Rest, enrol_list
from checkin_service.bulk.enrolment_list import Listed, ListFaults, read_list
from checkin_service.bulk.photo_folder import PhotoFolder
from checkin_service.bulk.report import written_report
from checkin_service.domain.reasons import NotEnrolled
from checkin_service.usecases import enrol_listed
from checkin_service.usecases.caller import Caller
from checkin_service.usecases.enrol_listed import Standing
from checkin_service.usecases.enrol_person import enrol_person
from checkin_service.usecases.refusals import Refusal
from checkin_service.web.form import FILE_LIMIT
from checkin_service.web.messages import Language
from face import DLIB_RESNET_MODEL, Analysis, PoolFull
from tests.service.fixed_engine import MODEL, MODELS, FixedEngine
from tests.service.stage import Stage, photo_of, until

OPERATOR = Caller("checkin_service", "operator-7", frozenset())
Row = Mapping[str, str]


def write_list(folder: Path, *rows: Row, photos: bool = True) -> Path:
    """A list of these rows, each with a photograph of its person where it names none."""
    columns = list(dict.fromkeys(name for row in rows for name in ("person_id", "photo", *row)))
    path = folder / "list.csv"
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for row in rows:
            own = {"photo": f"{row['person_id']}.jpg"} | dict(row)
            writer.writerow(own)
            if photos and "photo" not in row:
                (folder / own["photo"]).write_bytes(photo_of(row["person_id"]))
    return path


def people(number: int) -> list[Row]:
    return [{"person_id": f"p-{n}"} for n in range(number)]


@dataclass(slots=True)
class Went:
    """How a run went, and what the report says without its texts."""

    counts: Counter[Standing | Rest]
    report: list[tuple[str, ...]]
    told: list[tuple[int, int]] = field(default_factory=list)


@asynccontextmanager
async def enroller(
    stage: Stage, folder: Path, engine: FixedEngine | None = None, at_once: int = 4
) -> AsyncIterator[Enroller]:
    photos = PhotoFolder(folder)
    async with open_database(stage.service_url, 5) as database, stage.keys() as keys:
        faces = engine or FixedEngine()
        yield Enroller(database, keys, faces, policy_of(stage.settings), OPERATOR, photos, at_once)
    photos.close()


def listed_in(path: Path) -> Sequence[Listed]:
    folder = PhotoFolder(path.parent)
    try:
        return read_list(path, folder, "separate_consent", lambda _: None)
    finally:
        folder.close()


async def run(stage: Stage, path: Path, engine: FixedEngine | None = None, at_once: int = 4) -> Went:
    listed, told, refused = listed_in(path), list[tuple[int, int]](), path.with_suffix(".refused.csv")
    async with enroller(stage, path.parent, engine, at_once) as by:
        with written_report(refused, Language.EN) as report:
            counts = await enrol_list(by, listed, report, lambda *done: told.append(done))
    return Went(counts, reported(refused), told)


def reported(path: Path) -> list[tuple[str, ...]]:
    """Line, person, photograph and code."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(row["message"] for row in rows)
    return sorted((row["line"], row["person_id"], row["photo"], row["code"]) for row in rows)


async def enrolments(stage: Stage) -> Counter[str]:
    """How often each person who has a reference was enrolled, by every place that says so."""
    async with stage.keys() as keys:
        rows = await stage.sql("SELECT person_id FROM person WHERE reference_id IS NOT NULL")
        by_pseudonym = {keys.pseudonym(row["person_id"]): row["person_id"] for row in rows}
    records = await stage.sql("SELECT pseudonym FROM processing_record WHERE kind = 'enrolled'")
    audited = await stage.sql(
        "SELECT details::json->>'pseudonym' AS pseudonym FROM audit WHERE action = 'enrol'"
    )
    found = Counter(by_pseudonym[row["pseudonym"]] for row in records)
    assert found == Counter(by_pseudonym[bytes.fromhex(row["pseudonym"])] for row in audited)
    assert set(found) == set(by_pseudonym.values())
    assert len(by_pseudonym) == (await stage.sql("SELECT count(*) FROM reference"))[0][0]
    return found


def once(number: int) -> Counter[str]:
    return Counter(f"p-{n}" for n in range(number))


# --- The same as by the call ---


async def test_it_is_as_good_as_the_call(stage: Stage, tmp_path: Path) -> None:
    await stage.register("T1", "p-0", "p-1")
    await stage.consent("p-0")
    (tmp_path / "张三").mkdir()
    (tmp_path / "张三" / "2.png").write_bytes(photo_of("p-0", 2))
    basis = {"basis": "statutory_duty", "basis_document": "深建〔2026〕1号"}
    went = await run(
        stage,
        write_list(tmp_path, {"person_id": "p-0", "photo_3": "张三/2.png", **basis}, {"person_id": "p-1"}),
    )
    assert (went.counts[Standing.ENROLLED], went.report, went.told) == (2, [], [(1, 2), (2, 2)])
    reference = (await stage.platform("GET", "/v1/persons/p-0/reference")).body
    document = {"kind": "statutory_duty", "document": "深建〔2026〕1号"}
    assert (reference["photos"], reference["engine"], reference["basis"]) == (2, MODEL, document)
    assert (await stage.check_in("p-0", "T1")).body["outcome"] == "accepted"
    assert [change["type"] for change in await stage.changes()].count("material_ready") == 2
    [one, _] = await stage.sql("SELECT iss, actor, task_id FROM audit WHERE action = 'enrol' ORDER BY seq")
    assert tuple(one) == (OPERATOR.iss, OPERATOR.sub, None)
    assert await enrolments(stage) == once(2)


REFUSED = ("nobody", "crowd", "dark", "broken")


async def test_it_refuses_as_the_call_does_and_goes_on(stage: Stage, tmp_path: Path) -> None:
    for name in REFUSED:
        (tmp_path / f"{name}.jpg").write_bytes(photo_of(name))
    (tmp_path / "gif.jpg").write_bytes(b"GIF89a")
    (tmp_path / "large.jpg").write_bytes(photo_of("p-1") + bytes(FILE_LIMIT))
    names = (*REFUSED, "gif", "large")
    rows = [{"person_id": f"r-{name}", "photo": f"{name}.jpg"} for name in names]
    second = {"person_id": "p-1", "photo_2": "dark.jpg"}
    went = await run(stage, write_list(tmp_path, *rows, second, {"person_id": "p-0"}))
    expected = [
        (str(line), f"r-{name}", f"{name}.jpg", code)
        for line, name in enumerate(names, 2)
        for code in await codes_of_the_call(stage, (tmp_path / f"{name}.jpg").read_bytes())
    ]
    expected += [("8", "p-1", "dark.jpg", code) for code in ("poor_quality", "too_dark")]
    assert went.report == sorted(expected)
    assert (went.counts[Rest.REFUSED], went.counts[Standing.ENROLLED]) == (7, 1)
    assert await enrolments(stage) == once(1)


async def codes_of_the_call(stage: Stage, photo: bytes) -> list[str]:
    refused = await stage.enrol("p-other", photo)
    assert refused.status >= 400
    return [fault["code"] for fault in refused.body["errors"]] or [refused.code]


async def test_the_report_says_what_to_do_in_the_language_asked_for(tmp_path: Path) -> None:
    one = Listed(2, "p-1", ["a.jpg"], "statutory_duty", None)
    for language in Language:
        path = tmp_path / f"{language}.csv"
        with written_report(path, language) as report:
            for code in (*NotEnrolled, "payload_too_large", "unavailable"):
                report(one, Refusal(code, limit_mb=6))
        assert len(reported(path)) == len(NotEnrolled) + 2
        assert path.stat().st_mode & 0o077 == 0


# --- Once, whatever happens ---


async def test_who_is_in_is_not_looked_at_again(stage: Stage, tmp_path: Path) -> None:
    path = write_list(tmp_path, *people(3))
    await stage.enrol("p-0")  # with the same photograph, by the platform
    first, second = FixedEngine(), FixedEngine()
    assert (await run(stage, path, first)).counts[Standing.ALREADY] == 1
    assert sorted(first.analysed) == ["p-1", "p-2"]
    went = await run(stage, path, second)
    assert (went.counts[Standing.ALREADY], second.analysed) == (3, [])
    assert await enrolments(stage) == once(3)


@pytest.mark.parametrize("place", ["analysis", "transaction", "commit"])
async def test_killed_it_goes_on_where_it_was(stage: Stage, tmp_path: Path, place: str) -> None:
    path = write_list(tmp_path, *people(12))
    await killed(stage, path, place)
    there = await enrolments(stage)
    assert 0 < len(there) < 12
    engine = FixedEngine()
    await run(stage, path, engine)
    assert await enrolments(stage) == once(12)
    assert Counter(engine.analysed) == once(12) - there


async def test_without_a_memory_it_would_begin_again(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above, and of all that asks for `once`."""
    await run(stage, write_list(tmp_path, *people(2)))

    async def forgetful(*_: Any) -> EnrolmentHistory:
        return EnrolmentHistory(taken_back=False, known=False, newest=False, engine=None)

    monkeypatch.setattr(persons, "read_history", forgetful)
    await run(stage, write_list(tmp_path, *people(4)))
    assert await enrolments(stage) == once(4) + once(2)


async def killed(stage: Stage, path: Path, place: str) -> None:
    """The command in a process of its own, ended by SIGKILL when its fifth person is at that place."""
    environment = {
        "DATABASE_URL": stage.service_url,
        "CHECKIN_DATA_DIR": str(stage.settings.data_dir),
        "CHECKIN_FACE_WORKERS": "1",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.service.enrolling", place, "5", str(path)),
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout
    assert await process.stdout.readline() == b"hanging\n"
    process.kill()
    await process.wait()
    await until_nobody_is_connected(stage)


async def until_nobody_is_connected(stage: Stage) -> None:
    """What was open when the process ended is rolled back by then."""
    query = """
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND state LIKE 'idle in transaction%'
    """
    async with asyncio.timeout(20):
        while (await stage.sql(query))[0][0]:  # noqa: ASYNC110  the event is in the database
            await asyncio.sleep(0.01)


async def side_by_side(stage: Stage, path: Path) -> Counter[Standing | Rest]:
    """Two runs that have both looked and analysed before either writes."""
    engines = FixedEngine(), FixedEngine()
    for engine in engines:
        engine.gate.clear()
    async with asyncio.TaskGroup() as group:
        runs = [group.create_task(run(stage, path, engine)) for engine in engines]
        await until(lambda: all(len(engine.analysed) == 4 for engine in engines))
        for engine in engines:
            engine.gate.set()
    return runs[0].result().counts + runs[1].result().counts


async def test_two_side_by_side_enrol_nobody_twice(stage: Stage, tmp_path: Path) -> None:
    counts = await side_by_side(stage, write_list(tmp_path, *people(8)))
    assert counts == {Standing.ENROLLED: 8, Standing.ALREADY: 8}
    assert await enrolments(stage) == once(8)


async def test_without_the_last_look_they_would(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def blind(*args: Any) -> dict[str, Any]:
        return await enrol_person(*args[:-1])

    monkeypatch.setattr(enrol_listed, "enrol_person", blind)
    await side_by_side(stage, write_list(tmp_path, *people(8)))
    assert max((await enrolments(stage)).values()) == 2


# --- What a list does not undo ---


async def withdraw(stage: Stage) -> None:
    await stage.consent("p-0")
    assert (await stage.person("p-0", "DELETE", "/v1/me/consent")).status == 204


async def erase(stage: Stage) -> None:
    assert (await stage.platform("DELETE", "/v1/persons/p-0")).status == 204


async def narrow(stage: Stage) -> None:
    await stage.consent("p-0")
    assert (await stage.consent("p-0", ["location"])).status == 200


@pytest.mark.parametrize("take_back", [withdraw, erase, narrow])
@pytest.mark.parametrize("was_on_it", [True, False])
async def test_who_has_taken_it_back_stays_away(
    stage: Stage, tmp_path: Path, take_back: Callable[[Stage], Awaitable[None]], was_on_it: bool
) -> None:
    path = write_list(tmp_path, {"person_id": "p-0"})
    await (run(stage, path) if was_on_it else stage.enrol("p-0", photo_of("p-0", 9)))
    await take_back(stage)
    engine = FixedEngine()
    went = await run(stage, path, engine)
    assert (went.report, engine.analysed) == ([("2", "p-0", "p-0.jpg", "taken_back")], [])
    assert (await stage.sql("SELECT count(*) FROM reference"))[0][0] == 0
    # who gives it anew comes back, and whom the platform sends
    await stage.consent("p-0")
    assert (await run(stage, path)).counts[Standing.ENROLLED] == 1


async def test_who_takes_it_back_meanwhile_stays_away(stage: Stage, tmp_path: Path) -> None:
    path, engine = write_list(tmp_path, {"person_id": "p-0"}), FixedEngine()
    await stage.consent("p-0")
    engine.gate.clear()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(run(stage, path, engine))
        await until(lambda: engine.analysed)
        assert (await stage.person("p-0", "DELETE", "/v1/me/consent")).status == 204
        engine.gate.set()
    assert [row[-1] for row in running.result().report] == ["taken_back"]
    assert (await stage.sql("SELECT count(*) FROM reference"))[0][0] == 0


async def test_what_the_platform_sent_since_stays(stage: Stage, tmp_path: Path) -> None:
    path = write_list(tmp_path, {"person_id": "p-0"})
    await run(stage, path)
    newer = (await stage.enrol("p-0", photo_of("p-0", 1))).body["reference_id"]
    assert (await run(stage, path)).counts[Standing.REPLACED] == 1
    assert (await stage.platform("GET", "/v1/persons/p-0/reference")).body["reference_id"] == newer
    # another photograph on the list is another list
    (tmp_path / "p-0.jpg").write_bytes(photo_of("p-0", 2))
    assert (await run(stage, path)).counts[Standing.ENROLLED] == 1


async def test_another_engine_describes_everybody_anew(stage: Stage, tmp_path: Path) -> None:
    path, older = write_list(tmp_path, *people(2)), FixedEngine((DLIB_RESNET_MODEL,))
    await run(stage, path, older)
    assert (await run(stage, path)).counts[Standing.ENROLLED] == 2
    models = await stage.sql("SELECT DISTINCT model_id FROM template ORDER BY 1")
    assert [row[0] for row in models] == sorted(MODELS)
    assert (await run(stage, path)).counts[Standing.ALREADY] == 2


async def test_a_reference_that_is_purged_may_come_again(stage: Stage, tmp_path: Path) -> None:
    path = write_list(tmp_path, {"person_id": "p-0"})
    await run(stage, path)
    await stage.sql("UPDATE person SET reference_id = NULL")
    await stage.sql("DELETE FROM reference")
    assert (await run(stage, path)).counts[Standing.ENROLLED] == 1


# --- Bounds and failures ---


async def test_no_more_are_on_their_way_than_may_be(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, engine, read = write_list(tmp_path, *people(30)), FixedEngine(), PhotoFolder.read
    reading: list[str] = []

    def reads(folder: PhotoFolder, name: str) -> bytes:
        reading.append(name)
        return read(folder, name)

    monkeypatch.setattr(PhotoFolder, "read", reads)
    engine.gate.clear()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(run(stage, path, engine, at_once=3))
        await until(lambda: len(engine.analysed) >= 3)
        for _ in range(10):  # whoever else were on the way would be there by then
            await stage.sql("SELECT 1")
        assert (len(engine.analysed), len(reading)) == (3, 3)
        engine.gate.set()
    assert running.result().counts[Standing.ENROLLED] == 30


class Failing(FixedEngine):
    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    async def analyse(self, photo: bytes) -> Analysis:
        if self.times:
            self.times -= 1
            raise PoolFull
        return await super().analyse(photo)


async def test_our_failures_are_tried_again(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enrol, "PAUSES_S", (0, 0))
    went = await run(stage, write_list(tmp_path, *people(3)), Failing(2), at_once=1)
    assert (went.counts[Standing.ENROLLED], went.report) == (3, [])
    went = await run(stage, write_list(tmp_path, {"person_id": "p-8"}, {"person_id": "p-9"}), Failing(3), 1)
    # given up, and with it the list: as many in a row as there may be at once
    assert (went.counts[Rest.UNAVAILABLE], went.counts[Rest.LEFT]) == (1, 1)
    assert went.report == [("2", "p-8", "p-8.jpg", "unavailable")]


# --- A list that is not sound ---


def faults_of(path: Path) -> list[tuple[int, str, str]]:
    with pytest.raises(ListFaults) as raised:
        listed_in(path)
    return [(found.line, found.fault.pointer, found.fault.code) for found in raised.value.faults]


def test_every_fault_is_told_at_once_by_its_line(tmp_path: Path) -> None:
    path = write_list(
        tmp_path,
        {"person_id": "p-1"},
        {"person_id": "p 2", "photo": "none.jpg"},
        {"person_id": "p-1", "basis": "because"},
        {"person_id": "p-3", "photo": "p-1.jpg", "photo_2": "../list.csv"},
        {"person_id": "", "photo": ""},
        {"person_id": "p-4", "photo": ""},
    )
    assert faults_of(path) == [
        (3, "/person_id", "bad_format"),
        (3, "/photo", "file_missing"),
        (4, "/basis", "not_allowed_value"),
        (4, "/person_id", "person_twice"),
        (5, "/photo_2", "file_unusable"),
        (7, "/photo", "missing"),
    ]


@pytest.mark.parametrize(
    ("content", "faults"),
    [
        (b"", [(1, "/person_id", "missing"), (1, "/photo", "missing")]),
        (b"person_id,photo\n", [(1, "", "too_short")]),
        (b"person_id,photo,photo,name\n", [(1, "/photo", "duplicate_field"), (1, "/4", "unknown_field")]),
        (b"person_id,photo\np-1,a.jpg,x\n", [(2, "", "too_long")]),
        (b'person_id,photo\np-1,"a.jpg\n', [(2, "", "bad_format")]),
        (
            "person_id,photo\np-1,a.jpg\np-2,张.jpg\n".encode("gbk"),
            [(2, "/photo", "file_missing"), (3, "", "bad_format")],
        ),
    ],
)
def test_what_is_no_list_is_said_where(
    tmp_path: Path, content: bytes, faults: list[tuple[int, str, str]]
) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(content)
    assert faults_of(path) == faults


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a photograph, and every kind of thing that is none."""
    inside = tmp_path / "inside"
    (inside / "deeper").mkdir(parents=True)
    (tmp_path / "secret.jpg").write_bytes(photo_of("secret"))
    (inside / "deeper" / "good.jpg").write_bytes(photo_of("p-1"))
    (inside / "out.jpg").symlink_to(tmp_path / "secret.jpg")
    (inside / "beside.jpg").symlink_to("deeper/good.jpg")
    (inside / "up").symlink_to(tmp_path)
    os.mkfifo(inside / "pipe.jpg")
    return inside


@pytest.mark.parametrize(
    "name",
    [
        "../secret.jpg",
        "deeper/../../secret.jpg",
        "out.jpg",
        "beside.jpg",
        "up/secret.jpg",
        "pipe.jpg",
        "deeper",
        "deeper/good.jpg/x",
        "./deeper/good.jpg",
        "deeper//good.jpg",
        "",
        "a\0b",
    ],
)
def test_no_name_leads_out_of_the_folder(folder: Path, name: str) -> None:
    photos = PhotoFolder(folder)
    for call in (photos.check, photos.read, lambda name: photos.read(str(folder / name))):
        with pytest.raises(Refusal) as raised:
            call(name)
        assert raised.value.code == "file_unusable"
    assert photos.read("deeper/good.jpg") == photo_of("p-1")
    photos.close()


async def test_what_changes_after_it_was_checked_leads_nowhere(stage: Stage, folder: Path) -> None:
    path = write_list(folder, {"person_id": "p-1", "photo": "deeper/good.jpg"}, {"person_id": "p-2"})
    listed = listed_in(path)
    (folder / "p-2.jpg").unlink()
    (folder / "deeper").rename(folder / "moved")
    (folder / "deeper").symlink_to(folder / "moved")
    codes: list[str] = []
    async with enroller(stage, folder) as by:
        await enrol_list(by, listed, lambda _, refusal: codes.append(refusal.code), lambda *_: None)
    assert sorted(codes) == ["file_missing", "file_unusable"]


# --- The command ---


async def command(stage: Stage, *arguments: str) -> tuple[int, str]:
    """Exit code, and all that it says."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.service.enrolling", "nowhere", "1", *arguments),
        env={
            **os.environ,
            "DATABASE_URL": stage.service_url,
            "CHECKIN_DATA_DIR": str(stage.settings.data_dir),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def test_it_ends_with_1_when_anybody_is_left_out_and_names_nobody(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "李四.jpg").write_bytes(photo_of("nobody"))
    path = write_list(tmp_path, {"person_id": "p-0"}, {"person_id": "p-secret", "photo": "李四.jpg"})
    report = tmp_path / "elsewhere.csv"
    ended, said = await command(stage, str(path), "--report", str(report), "--actor", "op-1")
    assert (ended, "enrolled: 1, already: 0, replaced: 0, refused: 1" in said) == (1, True)
    assert not any(word in said for word in ("p-secret", "李四"))
    assert "p-secret" in report.read_text("utf-8-sig")
    assert [
        row["actor"] for row in await stage.sql("SELECT actor FROM audit WHERE action = 'enrol' ORDER BY seq")
    ] == ["op-1"]
    (tmp_path / "李四.jpg").write_bytes(photo_of("p-secret"))
    ended, _ = await command(stage, str(path), "--report", str(report))
    assert (ended, report.read_text("utf-8-sig").count("\n")) == (0, 1)


def test_a_list_that_is_not_sound_enrols_nobody_and_names_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_list(tmp_path, {"person_id": "p-secret"}, {"person_id": "p-secret", "photo": "张三.jpg"})

    def opened(_: object) -> None:
        raise AssertionError("a store was opened")

    monkeypatch.setattr(command_line, "_databases", opened)
    for name in ("configure_logs", "leave_no_core_file"):
        monkeypatch.setattr(command_line, name, lambda: None)
    with pytest.raises(SystemExit) as ended:
        command_line.main(["enrol", str(path)])
    said = "".join(capfd.readouterr())
    assert (ended.value.code, len(said.splitlines())) == (1, 3)
    assert not any(word in said for word in ("p-secret", "张三"))


def test_a_file_that_cannot_be_read_is_that_persons_alone() -> None:
    """The kernel refuses to read its beginning, as a network share may."""
    photos = PhotoFolder(Path("/proc/self"))
    with pytest.raises(Refusal, match="file_unusable"):
        photos.read("mem")
    photos.close()
