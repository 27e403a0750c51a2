"""Debian's Chromium over the DevTools protocol, spoken on a websocket: no driver and no package of its own.

https://chromedevtools.github.io/devtools-protocol/
"""

import asyncio
import base64
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp

Json = dict[str, Any]
PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WAIT_S = 30.0
# an element is {}: there
_NOT_YET = (None, False, 0, "")
ARTEFACTS = Path(__file__).resolve().parents[2] / ".artifacts" / "screenshots"


class ScriptError(AssertionError):
    """What a script in the page threw."""


class Browser:
    """One running Chromium; `open_page` gives tabs that share nothing with each other."""

    def __init__(self, connection: aiohttp.ClientWebSocketResponse) -> None:
        self._connection = connection
        self._numbers = count(1)
        self._answers: dict[int, asyncio.Future[Json]] = {}
        self._listeners: dict[str, Callable[[str, Json], None]] = {}

    async def send(self, method: str, params: Json | None = None, session: str | None = None) -> Json:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params or {}}
        if session:
            message["sessionId"] = session
        answer: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        await self._connection.send_json(message)
        async with asyncio.timeout(WAIT_S):
            return await answer

    async def listen(self) -> None:
        async for message in self._connection:
            if message.type is aiohttp.WSMsgType.TEXT:
                self._take(json.loads(message.data))

    def _take(self, message: Json) -> None:
        if "id" in message:
            answer = self._answers.pop(message["id"])
            if answer.done():
                return
            if "error" in message:
                answer.set_exception(ScriptError(message["error"]["message"]))
            else:
                answer.set_result(message["result"])
        elif listener := self._listeners.get(message.get("sessionId", "")):
            listener(message["method"], message["params"])

    @asynccontextmanager
    async def open_page(
        self, base: str, *, camera: bool = True, position: bool = True
    ) -> AsyncIterator["Page"]:
        """A tab of a phone 360 x 640 with nothing stored, which may, or may not, use camera and position."""
        context = (await self.send("Target.createBrowserContext"))["browserContextId"]
        for name, allowed in (("camera", camera), ("geolocation", position)):
            setting = "granted" if allowed else "denied"
            permission = {
                "permission": {"name": name},
                "setting": setting,
                "origin": base,
                "browserContextId": context,
            }
            await self.send("Browser.setPermission", permission)
        try:
            page = await self._new_page(base, context)
            yield page
            assert page.faults == []
        finally:
            await self.send("Target.disposeBrowserContext", {"browserContextId": context})

    async def another_tab(self, page: "Page") -> "Page":
        """A further tab beside one, with the same storage."""
        return await self._new_page(page.base, page.context)

    async def _new_page(self, base: str, context: str) -> "Page":
        target = await self.send("Target.createTarget", {"url": "about:blank", "browserContextId": context})
        attached = await self.send("Target.attachToTarget", {"targetId": target["targetId"], "flatten": True})
        page = Page(self, attached["sessionId"], base, context)
        self._listeners[page.session] = page.take
        await page.prepare()
        return page


class Page:
    """`faults`: what the page's scripts threw, and what its policy kept it from doing. `seen`: every event so far."""

    def __init__(self, browser: Browser, session: str, base: str, context: str) -> None:
        self.browser, self.session, self.base, self.context = browser, session, base, context
        self.faults: list[str] = []
        self._clip: Json = {}
        self.seen: list[tuple[str, Json]] = []
        self.taps = 0
        self._events: list[tuple[str, Json]] = []
        self._changed = asyncio.Event()

    async def send(self, method: str, **params: Any) -> Json:
        return await self.browser.send(method, params, self.session)

    def take(self, method: str, params: Json) -> None:
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.faults.append(details.get("exception", {}).get("description") or details["text"])
        if method == "Log.entryAdded" and params["entry"]["source"] in {"security", "violation"}:
            self.faults.append(params["entry"]["text"])
        self.seen.append((method, params))
        self._events.append((method, params))
        self._changed.set()

    async def prepare(self) -> None:
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.send(f"{domain}.enable")
        await self.use_screen(360, 640, mobile=True)

    async def use_screen(self, width: int, height: int, *, mobile: bool = False) -> None:
        """A phone's screen or a desk's. Drawn large only for pictures, and only a phone's: that takes time."""
        self._clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 2 if mobile else 1}
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        await self.send("Emulation.setDeviceMetricsOverride", **size)

    async def event(self, method: str) -> Json:
        """The next event of this kind that nobody has asked for yet."""
        async with asyncio.timeout(WAIT_S):
            while True:
                for index, (name, params) in enumerate(self._events):
                    if name == method:
                        del self._events[index]
                        return params
                self._changed.clear()
                await self._changed.wait()

    # --- Doing ---

    async def go(self, path: str) -> None:
        """Opens an address and waits until it is loaded."""
        self._events.clear()
        await self.send("Page.navigate", url=self.base + path)
        await self.event("Page.loadEventFired")

    async def reload(self) -> None:
        self._events.clear()
        await self.send("Page.reload")
        await self.event("Page.loadEventFired")

    async def run(self, expression: str) -> Any:
        """The value of an expression in the page, awaited."""
        answer = await self.send(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if "exceptionDetails" in answer:
            raise ScriptError(answer["exceptionDetails"]["exception"].get("description", "thrown"))
        return answer["result"].get("value")

    async def until(self, expression: str) -> Any:
        """Waits until an expression is true, and gives its value."""
        try:
            async with asyncio.timeout(WAIT_S):
                while (found := await self._tried(expression)) in _NOT_YET:  # noqa: ASYNC110
                    await asyncio.sleep(0.03)
                return found
        except TimeoutError:
            shown = await self.run("document.body.innerText")
            await self.screenshot("never")
            raise AssertionError(f"never: {expression}\nshown: {shown}\nfaults: {self.faults}") from None

    async def _tried(self, expression: str) -> Any:
        # while a page goes and another comes there is no context to run in
        with suppress(ScriptError):
            return await self.run(expression)

    async def tap(self, selector: str) -> None:
        """A touch in the middle of what a person can see, once it is there and may be tapped."""
        place = await self.until(
            f"""(() => {{
              const found = document.querySelector({json.dumps(selector)});
              if (!found || found.getAttribute("aria-disabled") === "true" || found.hidden) return null;
              found.scrollIntoView({{ block: "center", behavior: "instant" }});
              const {{ x, y, width, height }} = found.getBoundingClientRect();
              const at = {{ x: x + width / 2, y: y + height / 2 }};
              const hit = document.elementFromPoint(at.x, at.y);
              return hit && (found.contains(hit) || hit.contains(found)) ? at : null;
            }})()"""
        )
        self.taps += 1
        await self.send("Input.dispatchTouchEvent", type="touchStart", touchPoints=[place])
        await self.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    async def position(self, lon: float, lat: float, accuracy_m: float = 12) -> None:
        await self.send("Emulation.setGeolocationOverride", longitude=lon, latitude=lat, accuracy=accuracy_m)

    async def network(self, *, offline: bool) -> None:
        """Airplane mode, or its end."""
        rates = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        await self.send("Network.emulateNetworkConditions", offline=offline, **rates)

    async def hold(self, path: str, stage: str = "Request") -> None:
        """From now on every call of this path waits, before it is sent or (`Response`) before its answer is seen."""
        pattern = {"urlPattern": f"*{path}", "requestStage": stage}
        await self.send("Fetch.enable", patterns=[pattern] if path else [])

    async def held(self) -> str:
        """The next call that waits."""
        return str((await self.event("Fetch.requestPaused"))["requestId"])

    async def let(self, held: str) -> None:
        await self.send("Fetch.continueRequest", requestId=held)

    async def lose(self, held: str) -> None:
        """The network fails it."""
        await self.send("Fetch.failRequest", requestId=held, errorReason="ConnectionReset")

    async def answer(self, held: str, status: int, body: Json, **headers: str) -> None:
        """An answer that did not come from the service."""
        content = {"Content-Type": "application/json", **{n.replace("_", "-"): v for n, v in headers.items()}}
        await self.send(
            "Fetch.fulfillRequest",
            requestId=held,
            responseCode=status,
            responseHeaders=[{"name": name, "value": value} for name, value in content.items()],
            body=base64.b64encode(json.dumps(body).encode()).decode(),
        )

    async def screenshot(self, name: str) -> None:
        """Kept under .artifacts/, for people to look at."""
        ARTEFACTS.mkdir(parents=True, exist_ok=True)
        (ARTEFACTS / f"{name}.png").write_bytes(await self.seen_now())

    async def seen_now(self) -> bytes:
        """What is on the screen, PNG."""
        picture = await self.send("Page.captureScreenshot", format="png", clip=self._clip)
        return base64.b64decode(picture["data"])


@asynccontextmanager
async def chromium(camera: Path) -> AsyncIterator[Browser]:
    """Chromium without a window, whose camera plays a Y4M file."""
    with tempfile.TemporaryDirectory(prefix="checkin-chromium-", ignore_cleanup_errors=True) as profile:
        process, address = await asyncio.to_thread(_start, Path(profile), camera)
        try:
            async with (
                aiohttp.ClientSession() as http,
                http.ws_connect(address, max_msg_size=0) as connection,
            ):
                browser = Browser(connection)
                listening = asyncio.create_task(browser.listen())
                yield browser
                listening.cancel()
        finally:
            process.kill()
            await asyncio.to_thread(process.wait)


def _start(profile: Path, camera: Path) -> tuple[subprocess.Popen[bytes], str]:
    """The process, and where it speaks. Raises `RuntimeError` with its log when it does not start."""
    assert PROGRAM is not None
    log, port_file = profile / "log", profile / "DevToolsActivePort"
    with log.open("w") as errors:
        process = subprocess.Popen([PROGRAM, *_switches(profile, camera)], stdout=errors, stderr=errors)
    due = time.monotonic() + WAIT_S
    while not (port_file.exists() and port_file.read_text().count("\n")):
        if process.poll() is not None or time.monotonic() > due:
            process.kill()
            raise RuntimeError(f"Chromium did not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.02)
    port, path = port_file.read_text().split()
    return process, f"ws://127.0.0.1:{port}{path}"


def _switches(profile: Path, camera: Path) -> list[str]:
    return [
        "--headless=new",
        "--no-sandbox",  # tests run as root in containers
        "--remote-debugging-port=0",
        f"--user-data-dir={profile}",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={camera}",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--no-first-run",
        "--touch-events=enabled",
        "about:blank",
    ]
