"""How the console looks and reads: its texts in three languages, its policy, every view to eye and ear."""

import json
import re
from collections.abc import Iterable

import pytest

from checkin_service.domain.decision import Outcome
from checkin_service.domain.reasons import Reason
from checkin_service.domain.review import ReviewState
from checkin_service.domain.roster import Category
from checkin_service.domain.task import Flow, MemberState, TaskState
from checkin_service.web.pages import CONSOLE, SHARED, read_page
from geofence import Frame, Zone
from tests.browser.accessibility import serious_findings
from tests.browser.chromium import Browser, Page
from tests.browser.test_console import click, clock, console, office, press
from tests.browser.test_looks import CHARACTER_SETS, LANGUAGES, STRING, WITH_A_NAME, contrast
from tests.service.reviewing import asked, doubtful
from tests.service.stage import FAR, Stage

__all__ = ["clock", "office"]

MODULES = {path.name: path.read_text("utf-8") for path in sorted(CONSOLE.glob("*.js"))}
CODE = "\n".join(text for name, text in MODULES.items() if name != "texts.js")
COMMENT = re.compile(r"^\s*(//|/\*\*).*$", re.MULTILINE)
STYLE = (CONSOLE / "style.css").read_text("utf-8")
# The words of the service that the console has texts of its own for.
FAMILIES: dict[str, Iterable[str]] = {
    "state": TaskState,
    "member": MemberState,
    "flow": Flow,
    "outcome": Outcome,
    "review": ReviewState,
    "zone": Zone,
    "frame": Frame,
    "category": Category,
    "reason": Reason,
}


# --- What is written ---


def written() -> dict[str, dict[str, str]]:
    """The page's texts, one a line."""
    line = re.compile(r'^  (\w+): { "zh-CN": (".*?"), "zh-HK": (".*?"), en: (".*?") },$', re.MULTILINE)
    found = {key: tuple(map(json.loads, told)) for key, *told in line.findall(MODULES["texts.js"])}
    assert len(found) == MODULES["texts.js"].count("zh-HK")
    return {key: dict(zip(LANGUAGES, told, strict=True)) for key, told in found.items()}


def test_every_text_is_there_in_every_language_and_put_to_use() -> None:
    texts = written()
    for key, languages in texts.items():
        assert all(text.strip() == text != "" for text in languages.values()), key
        assert (
            len({tuple(sorted(re.findall(r"{(\w+)}", text))) for text in languages.values()}) == 1
            or key == "instant"
        )
        for language, characters in CHARACTER_SETS.items():
            languages[language].encode(characters)
        assert f'"{key}"' in CODE or f"`{key.partition('_')[0]}_${{" in CODE or key == "instant", (
            f"{key} is unused"
        )
    assert set(re.findall(r'\bsay\("(\w+)"', CODE)) <= texts.keys()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_word_of_the_service_has_its_text(family: str) -> None:
    assert {f"{family}_{word}" for word in FAMILIES[family]} <= written().keys()


def test_no_text_stands_anywhere_else() -> None:
    for name, text in MODULES.items():
        if name == "texts.js":
            continue
        for match in STRING.finditer(COMMENT.sub("", text)):
            said = match[1] or match[2] or ""
            assert not re.search(r"[\u4e00-\u9fff]|\b[A-Z][a-z]+ [a-z]+ [a-z]+", said), (name, said)


def test_all_of_it_is_asked_for_at_once() -> None:
    page = read_page(CONSOLE)
    named = {name for name in (*MODULES, *SHARED) if name.endswith(".js")} - {"main.js"}
    assert (
        set(re.findall(r'modulepreload" href="([\w.]+)"', page.files["index.html"].content.decode())) == named
    )
    assert sum(len(file.compressed) for file in page.files.values()) < 60_000


def test_the_palette_can_be_read() -> None:
    palette = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", STYLE))
    for name in ("ink", "faint", "deep", "good", "bad", "warn"):
        assert all(contrast(palette[name], palette[ground]) >= 4.5 for ground in ("paper", "ground")), name
    assert all(contrast(palette["ink"], palette[f"{kind}-ground"]) >= 4.5 for kind in ("good", "bad", "warn"))
    assert contrast("#748595", palette["paper"]) >= 3  # the edge of whatever can be touched


@pytest.mark.asyncio(loop_scope="package")
async def test_the_page_comes_with_a_policy(office: Stage) -> None:
    async with office.client.get("/console", allow_redirects=False) as moved:
        assert (moved.status, moved.headers["Location"]) == (308, "/console/")
    async with office.client.get("/console/") as first:
        policy = dict(part.split(" ", 1) for part in first.headers["Content-Security-Policy"].split("; "))
        # the one host that is configured, and for pictures alone
        assert policy["img-src"] == "'self' blob: https://tiles.invalid"
        assert (policy["script-src"], policy["style-src"], policy["connect-src"]) == ("'self'",) * 3
        assert not re.search(r"unsafe|\*", first.headers["Content-Security-Policy"])
        assert "camera=()" in first.headers["Permissions-Policy"]
    assert "https:" not in read_page(CONSOLE).policy


# --- What is seen and heard ---


async def look(page: Page, name: str, language: str) -> None:
    """What holds for every view."""
    await page.screenshot(f"console-{name}-{language}")
    assert await page.run("document.documentElement.lang") == language
    assert await page.run("document.querySelectorAll('h1').length") == 1
    for width in (420, 1280):
        await page.use_screen(width, 900)
        assert await page.run("document.scrollingElement.scrollWidth - innerWidth") <= 0, (name, width)
    assert "undefined" not in await page.run("document.body.innerText"), name
    assert await serious_findings(page) == [], name
    tree = (await page.send("Accessibility.getFullAXTree"))["nodes"]
    for node in tree:
        if not node.get("ignored") and node["role"]["value"] in {*WITH_A_NAME, "table", "image", "dialog"}:
            assert node["name"]["value"].strip(), (name, node)


@pytest.mark.asyncio(loop_scope="package")
@pytest.mark.parametrize("language", LANGUAGES)
async def test_every_view(office: Stage, browser: Browser, language: str) -> None:
    await office.ready_task("T1", "p-1", "p-2", "p-3")
    await office.check_in("p-1", "T1", at=FAR)
    held = await doubtful(office, "p-2", "T1")
    await asked(office, "p-3", "T1")
    async with console(browser, office) as page:
        await page.run(f"localStorage.setItem('checkin.language', '{language}')")
        await page.run(f"localStorage.setItem('console.language', '{language}')")
        await page.reload()
        await page.until("document.querySelector('[data-task-row]')")
        await look(page, "tasks", language)
        await click(page, "[data-task=T1]")
        await page.until("document.querySelectorAll('[data-attempt-row]').length === 2")
        await click(page, "tr.rejected .link")
        await page.until("document.querySelector('.opened')")
        await look(page, "task", language)
        for part, there in (
            ("members", "document.querySelectorAll('#members tbody tr').length === 3"),
            ("why_not", "document.querySelectorAll('#missing tbody tr').length === 3"),
            ("readiness", "document.querySelector('#part .paging')"),
            ("numbers", "document.querySelector('#hours')"),
        ):
            await click(page, f"[data-part={part}]")
            await page.until(there)
            await look(page, part.replace("_", "-"), language)
        await press(page, "2")
        await page.until("document.querySelector('.selfie img')?.naturalWidth > 0")
        await look(page, "review", language)
        await press(page, "a")
        await page.until("document.querySelector('dialog[open]')")
        await look(page, "confirm", language)
        await press(page, "Escape")
        await page.until("!document.querySelector('dialog')")
        await press(page, "j")
        await page.until("document.querySelector('blockquote')")
        await look(page, "manual", language)
        await press(page, "3")
        await page.until("document.querySelector('#phones')")
        await look(page, "statistics", language)
        await page.run("sessionStorage.clear()")
        await page.reload()
        await page.until("document.querySelector('h1') && !document.querySelector('#head nav button')")
        await look(page, "signed-out", language)
    assert held
