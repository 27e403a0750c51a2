"""Tasks of twenty, of whom one checks in: as many as are wanted, with templates sealed as by an enrolment.

Who checks in is enrolled with one photograph, and sends others of the same face. Their colleagues are described by
vectors of nobody: registered, enrolled and compared with like real ones, and like nobody else.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import asyncpg
from PIL import Image

from face import Templates
from face.benchmark.photos import as_jpeg, fitted
from face.engine import build_engine
from tests import portraits
from tests.large_case import analyse, enrol_all, templates_of_nobody
from tests.service.fixed_engine import vectors_of
from tests.service.stage import INSIDE, Stage, photo_of

SIZE = "480x640"
# Different ones, so that no cache holds them all; and such as face_recognition's own detector finds the face in, too.
SELFIES = (2, 3, 4, 5, 6, 10, 11, 14, 16, 17, 18, 20, 25, 27, 28, 30)
COLLEAGUES = [f"c-{number}" for number in range(95)]
ON_A_ROSTER = 19
FIRST = "b-0"


@dataclass(frozen=True, slots=True)
class Faces:
    """The face of everybody who checks in: what an enrolment keeps of its `reference`, and photographs by number.
    `other` is of somebody else. `switches` make a service judge by it; making the networks, as at the first start of
    all, took `made_in_s`."""

    templates: Templates
    selfie: Callable[[int], bytes]
    reference: bytes
    other: bytes
    switches: Sequence[str] = ()
    made_in_s: float = 0

    def photo(self, person_id: str, number: int) -> bytes:
        """No two persons' alike in all their bytes."""
        return self.selfie(number) + person_id.encode()

    def stranger(self, person_id: str, _: int) -> bytes:
        """Who is somebody else."""
        return self.other + person_id.encode()


def real_faces(models: Path) -> Faces:
    """Described by the face engine, whose networks are in this folder afterwards."""
    since = time.perf_counter()
    engine = build_engine(str(models))
    made_in_s = time.perf_counter() - since
    selfies = [_of_size(portraits.hopper_selfie(number)) for number in SELFIES]
    reference = reference_photo()
    return Faces(
        engine.analyse(reference).templates,
        lambda number: selfies[number % len(SELFIES)],
        reference,
        _of_size(portraits.astronaut_altered()),
        ["--analyse-for-real"],
        made_in_s,
    )


def fixed_faces() -> Faces:
    """Of the engine of fixed answers, to try the benchmark itself."""
    return Faces(vectors_of("b"), lambda number: photo_of("b", number), photo_of("b"), photo_of("stranger"))


def place_of(person_id: str) -> tuple[float, float]:
    """Within the fence, no two at the same coordinates: whoever shares them is a signal, and counted."""
    number = int(person_id.removeprefix("b-"))
    lon, lat = INSIDE
    return lon + number % 500 * 1e-6, lat + number // 500 * 1e-6


def reference_photo() -> bytes:
    return _of_size(portraits.hopper())


def _of_size(jpeg: bytes) -> bytes:
    with Image.open(BytesIO(jpeg)) as picture:
        return as_jpeg(fitted(picture.convert("RGB"), SIZE))


async def gather(stage: Stage, faces: Faces, number: int) -> list[tuple[str, str]]:
    """So many persons with a task each, of which they are the only ones to check in; persons and tasks."""
    first = await stage.register("T-0", FIRST, *COLLEAGUES[:ON_A_ROSTER])
    assert first.status == 201, first.body
    members = [(f"b-{n}", f"T-{n}") for n in range(number)]
    connection = await asyncpg.connect(stage.database_url)
    try:
        await _copy_first_task(connection, number)
        async with stage.keys() as keys:
            await enrol_all(connection, keys, _described(faces, members))
        await analyse(connection)
    finally:
        await connection.close()
    return members


def _described(faces: Faces, members: Sequence[tuple[str, str]]) -> Mapping[str, Sequence[Templates]]:
    colleagues = {person_id: [templates_of_nobody(person_id)] for person_id in COLLEAGUES}
    return colleagues | {person_id: [faces.templates] for person_id, _ in members}


async def _copy_first_task(connection: asyncpg.Connection, number: int) -> None:
    """Each copy has a person of its own who checks in, and other colleagues."""
    people = [f"b-{n}" for n in range(number)] + COLLEAGUES
    await connection.execute(
        "INSERT INTO person (person_id) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING", people
    )
    for table in ("task", "fence_version"):
        other = "jsonb_build_object('case_id', 'C-' || n)" if table == "task" else "'{}'::jsonb"
        await connection.execute(
            f"""
            INSERT INTO {table}
            SELECT (jsonb_populate_record(row, {other} || jsonb_build_object('task_id', 'T-' || n))).*
            FROM {table} AS row, generate_series(1, $1::integer - 1) AS n
            """,
            number,
        )
    await connection.execute(
        """
        INSERT INTO member
        SELECT 'T-' || n, CASE position WHEN lead THEN 'b-' || n ELSE colleague END, position, name, categories,
               technical_lead
        FROM (SELECT *, min(position) OVER () AS lead FROM member WHERE task_id = 'T-0') AS row,
             generate_series(1, $1::integer - 1) AS n,
             concat('c-', (n * $2::integer + position) % $3::integer) AS colleague
        """,
        number,
        ON_A_ROSTER,
        len(COLLEAGUES),
    )
    feed = "INSERT INTO change SELECT nextval('change_seq'), task_id, 1, 'task_registered', now() FROM task"
    await connection.execute(f"{feed} WHERE task_id <> 'T-0'")
