"""What stops a start, and that it leaves nothing behind."""

import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from checkin_service.__main__ import listen, main
from checkin_service.adapters.embedded import EmbeddedStores
from checkin_service.adapters.postgres.database import DatabaseSetupError
from checkin_service.adapters.token_keys import development_key_set
from checkin_service.settings import SettingError, read_settings
from tests.service.stage import running_service


async def test_a_replica_with_another_key_does_not_start(
    database_url: str, stores: EmbeddedStores, tmp_path: Path
) -> None:
    redis_url = stores.redis_url or ""
    first, second = tmp_path / "first", tmp_path / "second"
    async with running_service(database_url, redis_url, first) as stage:
        assert (await stage.enrol("p-1")).status == 201
    with pytest.raises(DatabaseSetupError, match="CHECKIN_KEY_FILE"):
        async with running_service(database_url, redis_url, second):
            pytest.fail("it started with keys that read nothing")
    # the refused one has not left its key as one that the first would have to know
    async with running_service(database_url, redis_url, first) as stage:
        assert (await stage.enrol("p-1")).status == 201


async def test_a_replica_that_would_not_publish_a_key_that_signs_does_not_start(
    database_url: str, stores: EmbeddedStores, tmp_path: Path
) -> None:
    redis_url, first, second = stores.redis_url or "", tmp_path / "first", tmp_path / "second"
    async with running_service(database_url, redis_url, first) as stage:
        shared = {"CHECKIN_KEY_FILE": str(stage.settings.key_path)}
        receipts = {"CHECKIN_RECEIPT_KEY_FILE": str(stage.settings.receipt_key_path)}
    with pytest.raises(DatabaseSetupError, match="CHECKIN_RECEIPT_KEY_FILE"):
        async with running_service(database_url, redis_url, second, None, **shared):
            pytest.fail("it started with a key that the others do not publish")
    async with running_service(database_url, redis_url, second, None, **shared, **receipts) as stage:
        assert (await stage.enrol("p-1")).status == 201


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("CHECKIN_PORT", "eighty"),
        ("CHECKIN_PORT", "70000"),
        ("CHECKIN_FACE_ENGINE", "hog"),
        ("CHECKIN_OPERATING_POINT", "0.5"),
        ("CHECKIN_PASSIVE_PAD", "maybe"),
        ("CHECKIN_SERVICE_BOX", "23,22,113,115"),
        ("CHECKIN_ENROLMENT_BASIS", "because"),
        ("CHECKIN_ATTEMPTS_PER_DAY", "0"),
        ("CHECKIN_FACE_WORKERS", "0"),
        ("CHECKIN_EVIDENCE_URL", "/var/evidence"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(variable: str, text: str) -> None:
    with pytest.raises(SettingError, match=variable):
        read_settings({variable: text})


NOBODY_THERE = "postgresql://checkin:secret@127.0.0.1:1/checkin"
CONFIGURED = {"DATABASE_URL": "postgresql:///x", "REDIS_URL": "redis://x", "CHECKIN_JWKS": "{jwks}"}


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"CHECKIN_PORT": "x"}, "CHECKIN_PORT"),
        ({"DATABASE_URL": "postgresql:///nowhere?host=/nonexistent"}, "CHECKIN_JWKS"),
        (
            {"DATABASE_URL": "mysql://x", "REDIS_URL": "redis://x", "CHECKIN_JWKS": "absent.json"},
            "absent.json",
        ),
        ({"DATABASE_URL": "mysql://x", "REDIS_URL": "redis://x", "CHECKIN_JWKS": "{jwks}"}, "mysql"),
        ({**CONFIGURED, "CHECKIN_RECEIPT_KEY_FILE": "receipt.json"}, "receipt.json"),
        ({**CONFIGURED, "CHECKIN_EVIDENCE_URL": "s3://"}, "s3://"),
        ({**CONFIGURED, "CHECKIN_DATA_DIR": "/proc"}, "/proc"),
        (
            {**CONFIGURED, "DATABASE_URL": NOBODY_THERE},
            "no server answers at postgresql://127.0.0.1:1/checkin (",
        ),
    ],
)
def test_a_start_that_fails_says_what_to_do_in_a_sentence(
    environment: dict[str, str], said: str, tmp_path: Path
) -> None:
    jwks = str(development_key_set(tmp_path))
    settings = {name: value.format(jwks=jwks) for name, value in environment.items()}
    run = subprocess.run(
        [sys.executable, "-m", "checkin_service", "serve"],
        env={"CHECKIN_DATA_DIR": str(tmp_path / "data"), **settings},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 1
    assert said in run.stderr
    assert "Traceback" not in run.stderr
    assert "secret" not in run.stderr


@pytest.mark.parametrize("command", ["migrate", "audit-verify"])
def test_a_command_says_where_no_server_answers(command: str, tmp_path: Path) -> None:
    variables = ("DATABASE_URL", "CHECKIN_AUDIT_DATABASE_URL")
    run = subprocess.run(
        [sys.executable, "-m", "checkin_service", command],
        env={"CHECKIN_DATA_DIR": str(tmp_path), **dict.fromkeys(variables, NOBODY_THERE)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (run.returncode, "127.0.0.1:1/checkin" in run.stderr, "secret" in run.stderr) == (1, True, False)


async def test_a_port_that_somebody_has_is_named_by_its_setting() -> None:
    runner = web.AppRunner(web.Application())
    await runner.setup()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = replace(read_settings({}), port=taken.getsockname()[1])
        with pytest.raises(SettingError, match="CHECKIN_PORT"):
            await listen(settings, runner)
    await runner.cleanup()


def test_no_development_token_beside_a_configured_issuer(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "checkin_service", "token", "--sub", "p-1", "--scope", "tasks"],
        env={"CHECKIN_DATA_DIR": str(tmp_path / "data"), "CHECKIN_JWKS": "https://issuer.example/jwks.json"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (run.returncode, run.stdout) == (1, "")
    assert "embedded stores" in run.stderr


@pytest.mark.parametrize("scope", ["task", "tasks reviews", " "])
def test_no_token_for_a_scope_that_no_call_asks_for(scope: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["token", "--sub", "p-1", "--scope", scope])
    assert (ended.value.code, capsys.readouterr().out) == (2, "")
