"""Pictures are decoded in face workers and nowhere else, and a worker reaches neither keys nor stores."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest

from checkin_service.adapters.embedded import EmbeddedStores
from checkin_service.adapters.token_keys import development_token
from face import ImageUnreadable, WorkerPool
from tests import portraits
from tests.service.own_process import served
from tests.service.stage import Stage

DECODERS = ("PIL/", "onnxruntime/", "_dlib", "cv2/")


def decoders_of(pid: int) -> set[str]:
    """Libraries that a process has loaded, told by the files it has mapped."""
    try:
        maps = Path(f"/proc/{pid}/maps").read_text()
    except PermissionError:
        pytest.skip("of a process that leaves no core files only root sees what it has loaded")
    return {decoder for decoder in DECODERS if f"/{decoder}" in maps}


async def test_a_service_that_has_judged_photographs_has_loaded_no_decoder() -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux tells what another process has loaded")
    with served(CHECKIN_FACE_WORKERS="1") as process:
        data_dir = Path(process.environment["CHECKIN_DATA_DIR"])
        token = development_token(data_dir, "platform", "tasks", 15)
        form = aiohttp.FormData()
        form.add_field("photo", io.BytesIO(portraits.hopper()), filename="p.jpg", content_type="image/jpeg")
        headers = {"Authorization": f"Bearer {token}"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.put(f"{process.base}/v1/persons/p-1/reference", data=form) as reply,
        ):
            assert reply.status == 201
        assert decoders_of(process.pid) == set()


def test_control_a_process_that_decodes_is_told() -> None:
    script = "import PIL._imaging, dlib, sys; print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert decoders_of(process.pid) == {"PIL/", "_dlib"}
        process.communicate()


def within_reach(stage: Stage, stores: EmbeddedStores) -> dict[str, list[Any]]:
    """Attempts of tests/face/escapes.py on a service's own keys, evidence and stores."""
    (stage.settings.data_dir / "evidence").mkdir(exist_ok=True)
    return {
        "wrapping keys": ["read", str(stage.settings.key_path)],
        "receipt keys": ["read", str(stage.settings.receipt_key_path)],
        "evidence": ["list", str(stage.settings.data_dir / "evidence")],
        "PostgreSQL": connecting(stage.database_url),
        "Valkey": connecting(stores.redis_url or ""),
    }


def connecting(url: str) -> list[Any]:
    """The attempt to connect to the server at this URL: the embedded ones have sockets in the file system."""
    place = urlsplit(url)
    if place.scheme == "unix":
        return ["unix", place.path]
    query = parse_qs(place.query)
    return ["unix", f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}"]


@pytest.mark.parametrize(
    ("factory", "outcomes"), [("confined", {"EPERM", "EACCES"}), ("unconfined", {"done"})]
)
async def test_a_worker_reaches_neither_keys_nor_stores_and_control_unconfined_it_would(
    stage: Stage, stores: EmbeddedStores, factory: str, outcomes: set[str]
) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux confines workers")
    async with WorkerPool(f"tests.face.escapes:{factory}", workers=1, spares=0) as pool:
        found = {}
        for name, attempt in within_reach(stage, stores).items():
            with pytest.raises(ImageUnreadable) as caught:
                await pool.analyse(json.dumps(attempt).encode())
            found[name] = str(caught.value.detail["outcome"])
    assert set(found.values()) <= outcomes, found
