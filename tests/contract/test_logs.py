"""What the service may log is one list, and what it logs is on it; it leaves no core file."""

import ast
import json
import logging
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from checkin_service.logs import EVENTS, configure_logs
from tests.contract.source import modules, texts

LEVELS = {"debug", "info", "warning", "error", "critical"}


@pytest.fixture
def logging_as_it_was() -> Iterator[None]:
    """Loggers belong to the whole process."""
    aiohttp, handlers, level = (
        logging.getLogger("aiohttp.server"),
        logging.root.handlers[:],
        logging.root.level,
    )
    yield
    structlog.reset_defaults()
    logging.root.handlers[:], aiohttp.disabled = handlers, False
    logging.root.setLevel(level)


def _logged() -> Iterator[tuple[str, set[str]]]:
    """Every event that the service logs, with its fields."""
    for module, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _is_logging(node.func):
                events = [event for argument in node.args for event in texts(argument)]
                assert len(events) == len(node.args) == 1, f"{module}:{node.lineno} does not name one event"
                yield events[0], {str(keyword.arg) for keyword in node.keywords}


def _is_logging(function: ast.expr) -> bool:
    if not isinstance(function, ast.Attribute) or not isinstance(function.value, ast.Name):
        return False
    return function.value.id == "log" and function.attr in LEVELS


def test_every_event_is_listed_with_its_fields_and_every_listed_one_is_logged() -> None:
    found: dict[str, set[str]] = defaultdict(set)
    for event, fields in _logged():
        found[event] |= fields
    assert found | {"library": set(EVENTS["library"])} == {
        event: set(names) for event, names in EVENTS.items()
    }


@pytest.mark.usefixtures("logging_as_it_was")
def test_a_library_s_sentence_is_not_told(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logs()
    logging.getLogger("asyncio").error("never retrieved: %s", "张三", exc_info=ValueError("about 张三"))
    line = json.loads(capfd.readouterr().err)
    assert (line["event"], line["logger"], line["error"]) == ("library", "asyncio", "ValueError")
    assert "张三" not in str(line)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a stream that can't be written needs /dev/full")
def test_nobody_fails_with_a_log_that_cannot_be_written() -> None:
    program = """
import structlog
from checkin_service.logs import configure_logs
configure_logs()
structlog.get_logger().info("request", status=200)
print("went on")
"""
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=full, check=False, text=True)
    assert done.stdout == "went on\n"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says whether a process may be dumped")
def test_a_command_leaves_no_core_file(tmp_path: Path) -> None:
    program = """
import ctypes, resource
from checkin_service.__main__ import main
main(["token", "--sub", "platform", "--scope", "tasks"])
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), *resource.getrlimit(resource.RLIMIT_CORE))
"""
    environment = {**os.environ, "CHECKIN_DATA_DIR": str(tmp_path / "data")}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, check=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "0 0 0"
