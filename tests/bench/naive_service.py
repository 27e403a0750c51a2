"""What would be there without this project: an aiohttp handler that calls `face_recognition` in an executor and writes
one row. No token, no place, no window, no second look at a retry.

python -m tests.bench.naive_service --database URL --port PORT --executor threads|processes --reference FILE
"""

import argparse
import asyncio
import multiprocessing
import os
import warnings
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import asyncpg
from aiohttp import web

TOLERANCE = 0.6
TABLE = """
    CREATE TABLE IF NOT EXISTS naive_check_in (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, task_id text, distance double precision,
        at timestamptz DEFAULT now())
"""
# Of the one reference, in each process that compares with it.
known: Any = None


def learn(reference: Path) -> None:
    global known
    [known] = _encodings(reference.read_bytes())


def distance_to(selfie: bytes) -> float:
    import face_recognition

    [found] = _encodings(selfie)
    return float(face_recognition.face_distance([known], found)[0])


def _encodings(photo: bytes) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import face_recognition
    return face_recognition.face_encodings(face_recognition.load_image_file(BytesIO(photo)))


def make_executor(kind: str, reference: Path) -> Executor:
    cores = len(os.sched_getaffinity(0))
    if kind == "threads":
        learn(reference)
        return ThreadPoolExecutor(cores)
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(cores, context, initializer=learn, initargs=(reference,))


async def serve(options: argparse.Namespace) -> None:
    pool, executor = (
        await asyncpg.create_pool(options.database),
        make_executor(options.executor, options.reference),
    )
    await pool.execute(TABLE)

    async def check_in(request: web.Request) -> web.Response:
        fields = await request.post()
        selfie: Any = fields["selfie"]
        work = asyncio.get_running_loop().run_in_executor(executor, distance_to, selfie.file.read())
        distance = await work
        insert = "INSERT INTO naive_check_in (task_id, distance) VALUES ($1, $2)"
        await pool.execute(insert, fields["task_id"], distance)
        return web.json_response(
            {"outcome": "accepted" if distance <= TOLERANCE else "rejected", "reasons": []}, status=201
        )

    app = web.Application(client_max_size=8 * 2**20)
    app.router.add_post("/v1/check-ins", check_in)
    await web._run_app(app, host="127.0.0.1", port=options.port, print=None)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--database", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--executor", choices=("threads", "processes"), required=True)
    parser.add_argument("--reference", type=Path, required=True)
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
