"""How the page looks and reads: every screen in three languages, on 360 pixels, in large text, to a screen reader."""

import gzip
import re
from itertools import combinations

import pytest

from checkin_service.web.pages import APP, read_page
from tests.browser.accessibility import serious_findings
from tests.browser.chromium import Page, ScriptError
from tests.browser.conftest import Street, outcome, take_picture
from tests.service.stage import FAR, INSIDE, Stage

LANGUAGES = ("zh-CN", "zh-HK", "en")
CHARACTER_SETS = {"zh-CN": "gb2312", "zh-HK": "big5hkscs"}
MODULES = {path.name: path.read_text("utf-8") for path in sorted(APP.glob("*.js"))}
STYLE = (APP / "style.css").read_text("utf-8")
COMMENT = re.compile(r"/\*.*?\*/|^\s*//.*$", re.DOTALL | re.MULTILINE)
STRING = re.compile(r'"([^"\n]*)"|`([^`]*)`')
WITH_A_NAME = {
    "button",
    "link",
    "textbox",
    "checkbox",
    "radio",
    "combobox",
    "progressbar",
    "option",
    "switch",
}
TOO_WIDE = "document.scrollingElement.scrollWidth - innerWidth"
TOO_SMALL = """[...document.querySelectorAll('button, select, input, textarea, summary')]
  .filter((one) => one.checkVisibility())
  .map((one) => [one.outerHTML.slice(0, 60), (one.closest('.choice') ?? one).getBoundingClientRect()])
  .filter(([, box]) => box.width < 44 || box.height < 44).map(([what]) => what)"""


# --- What is written ---


@pytest.mark.asyncio(loop_scope="package")
async def test_every_text_is_there_in_every_language_and_put_to_use(street: Street) -> None:
    async with street.phone() as page:
        await page.go("/app/")
        texts = await page.run("import(document.baseURI + 'texts.js').then((m) => m.TEXTS)")
    # the challenge names them
    by_the_service = {"turn_left", "turn_right"}
    code = "\n".join(text for name, text in MODULES.items() if name != "texts.js")
    for key, languages in texts.items():
        assert tuple(languages) == LANGUAGES, key
        assert all(text.strip() == text != "" for text in languages.values()), key
        figures = {tuple(sorted(re.findall(r"{(\w+)}", text))) for text in languages.values()}
        assert len(figures) == 1 or key == "instant", key
        for language, characters in CHARACTER_SETS.items():
            languages[language].encode(characters)
        family = f"`{key.partition('_')[0]}_${{"
        assert f'"{key}"' in code or family in code or key in by_the_service, f"{key} is unused"
    for key in re.findall(r'\bsay\("(\w+)"', code):
        assert key in texts


def test_no_text_stands_anywhere_else() -> None:
    """Nothing with Chinese in it, nor a sentence, in any module but the one of texts."""
    for name, text in MODULES.items():
        if name == "texts.js":
            continue
        for match in STRING.finditer(COMMENT.sub("", text)):
            said = match[1] or match[2] or ""
            assert said.isascii(), (name, said)
            assert not re.search(r"\b[A-Z][a-z]+ [a-z]+ [a-z]+", said), (name, said)


def test_the_page_is_small_and_all_of_it_is_asked_for_at_once() -> None:
    page = read_page(APP)
    assert sum(len(file.compressed) for file in page.files.values()) < 150_000
    first = page.files["index.html"].content.decode()
    assert set(re.findall(r'modulepreload" href="([\w.]+)"', first)) == MODULES.keys() - {"main.js"}
    imported = {name for text in MODULES.values() for name in re.findall(r'from "\./([\w.]+)"', text)}
    assert imported == MODULES.keys() - {"main.js"}
    assert gzip.decompress(page.files["main.js"].compressed) == page.files["main.js"].content


@pytest.mark.asyncio(loop_scope="package")
async def test_the_page_comes_with_a_policy_and_never_twice(service: Stage) -> None:
    client, page = service.client, read_page(APP)
    async with client.get("/app", allow_redirects=False) as moved:
        assert (moved.status, moved.headers["Location"]) == (308, "/app/")
    async with client.get("/app/") as first:
        policy = dict(part.split(" ", 1) for part in first.headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert not re.search(r"unsafe|\*|https?:", first.headers["Content-Security-Policy"])
        etag = first.headers["ETag"]
    async with client.get("/app/", headers={"If-None-Match": etag}) as again:
        assert again.status == 304
    async with client.get(f"/app/{page.version}/main.js") as module:
        assert (module.status, module.content_type) == (200, "text/javascript")
        assert "immutable" in module.headers["Cache-Control"]
        assert module.headers["X-Content-Type-Options"] == "nosniff"
    for path in ("0123456789abcdef/main.js", f"{page.version}/none.js", f"{page.version}/..%2fpages.py"):
        async with client.get(f"/app/{path}") as absent:
            assert absent.status == 404


@pytest.mark.asyncio(loop_scope="package")
async def test_the_policy_bites(street: Street) -> None:
    """And what it forbids is seen by every other test, which may have none of it."""
    async with street.phone() as page:
        await page.go("/app/")
        with pytest.raises(ScriptError, match="TrustedHTML"):
            await page.run("document.body.innerHTML = '<b>x</b>'")
        await page.run("document.body.setAttribute('style', 'color: red')")
        await page.run("fetch('https://example.invalid/').catch(() => null)")
        await page.until("getComputedStyle(document.body).color !== 'rgb(255, 0, 0)'")
        assert {"style-src", "connect-src"} <= set(re.findall(r"(\w+-src)", " ".join(page.faults)))
        page.faults.clear()


# --- What is seen and heard ---


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_the_palette_can_be_read() -> None:
    """WCAG AA: 4.5 for text, 3 for edges."""
    palette = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", STYLE))
    grounds = [palette[name] for name in ("paper", "ground", "good-ground", "bad-ground", "warn-ground")]
    assert all(contrast(palette["ink"], ground) >= 4.5 for ground in grounds)
    for name in ("faint", "deep", "bad"):
        assert all(contrast(palette[name], palette[ground]) >= 4.5 for ground in ("paper", "ground")), name
    assert contrast(palette["good"], palette["good-ground"]) >= 4.5
    assert contrast(palette["bad"], palette["bad-ground"]) >= 4.5
    assert contrast(palette["line"], palette["paper"]) >= 3
    used = set(
        re.findall(r"(?<!--)(?:color|background|border\w*|fill|stroke): [^;]*?(#\w+)", STYLE.split("}", 1)[1])
    )
    assert used <= {"#000", "#fff"}
    assert all(one != other for one, other in combinations(palette, 2))


async def look(page: Page, name: str, language: str) -> None:
    """What holds for every screen."""
    await page.screenshot(f"phone-{name}-{language}")
    assert await page.run("document.documentElement.lang") == language
    assert await page.run("document.querySelectorAll('h1').length") == 1
    assert await page.run("document.title === document.querySelector('h1').textContent")
    assert await page.run("document.activeElement.tagName") in {"H1", "BODY", "SELECT"}, name
    assert await page.run(TOO_SMALL) == [], name
    for large in ("add", "remove"):
        await page.run(f"document.documentElement.classList.{large}('large')")
        assert await page.run(TOO_WIDE) <= 0, name
    assert await serious_findings(page) == [], name
    tree = (await page.send("Accessibility.getFullAXTree"))["nodes"]
    for node in tree:
        if not node.get("ignored") and node["role"]["value"] in WITH_A_NAME:
            assert node["name"]["value"].strip(), (name, node)


@pytest.mark.asyncio(loop_scope="package")
@pytest.mark.parametrize("language", LANGUAGES)
async def test_every_screen(street: Street, language: str) -> None:
    person = await street.person(consented=False)
    async with street.phone() as page:
        await page.send(
            "Page.addScriptToEvaluateOnNewDocument",
            source=f"try {{ localStorage.setItem('checkin.language', '{language}') }} catch {{}}",
        )
        await page.position(*FAR)
        await page.go("/app/")
        await page.until("document.querySelectorAll('#main p').length === 2")
        await look(page, "signed-out", language)
        await page.go("/livez")
        await page.go(person.link)
        await page.until("document.querySelector('fieldset')")
        await look(page, "consent", language)
        for box in ("face", "face_transfer", "location"):
            await page.tap(f"#scope-{box}")
        await page.tap("#foot .first")
        await page.until("document.querySelector('.card')")
        await page.tap(".card .link")
        await page.until("/\\d/.test(document.querySelector('.card div p').textContent)")
        await page.run("document.querySelector('h1').focus()")
        await look(page, "tasks", language)
        await page.tap("#foot .second")
        await page.until("document.querySelector('.verdict').textContent")
        await look(page, "rehearsal", language)
        await page.tap("#foot .way")
        await page.until("document.querySelector('#why')")
        await look(page, "manual", language)
        await page.tap("#foot .second")
        await page.tap("#foot .first")
        await page.until("document.querySelector('video')?.videoWidth > 0")
        await page.until("document.querySelector('#foot .first').getAttribute('aria-disabled') !== 'true'")
        await look(page, "capture", language)
        await page.tap("#foot .first")
        assert await outcome(page) == "rejected"
        await look(page, "rejected", language)
        await page.position(*INSIDE)
        await take_picture(page)
        assert await outcome(page) == "accepted"
        await look(page, "accepted", language)
        await page.tap("#foot .first")
        await page.until("document.querySelector('#code')")
        await look(page, "receipt", language)
        await page.tap("#head button:last-child")
        await page.until("document.querySelectorAll('#main h2').length === 3")
        await look(page, "mine", language)
