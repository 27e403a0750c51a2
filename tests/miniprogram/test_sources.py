"""What can be told of the mini-program without a phone: types, texts, markup, and what its configuration names."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.miniprogram.phone import CLIENT, ROOT, node

PAGES = sorted((CLIENT / "checkin/pages").iterdir())
ROOTS_OF_LOOPS = re.compile(r'wx:for-item="(\w+)"')


def texts(file: Path) -> dict[str, dict[str, str]]:
    """The texts of a module, as node reads it."""
    script = f"import({json.dumps(file.as_uri())}).then((m) => console.log(JSON.stringify(m.TEXTS)))"
    command = [node(), "--disable-warning=ExperimentalWarning", "--input-type=module", "-e", script]
    found: dict[str, dict[str, str]] = json.loads(subprocess.check_output(command, text=True))
    return found


def test_what_the_phone_page_says_too_is_said_in_the_same_words() -> None:
    here = texts(CLIENT / "checkin/core/texts.ts")
    page = texts(ROOT / "checkin_service/web/app/texts.js")
    assert {key: page[key] for key in here.keys() & page.keys()} == {
        key: here[key] for key in here.keys() & page.keys()
    }
    assert all(set(said) == {"zh-CN", "zh-HK", "en"} and all(said.values()) for said in here.values())


@pytest.mark.parametrize("module", ["frames", "framing", "qr", "retry"])
def test_the_phone_pages_own_code_reckons(module: str) -> None:
    """Which is tested there, against other packages; neither side can import the other's."""
    script = """
        import { stripTypeScriptTypes } from "node:module";
        import { readFileSync } from "node:fs";
        const bare = (text) => text.replace(/\\/\\*[^]*?\\*\\/|^\\s*\\/\\/.*$/gm, "").replace(/[\\s;]/g, "");
        const [here, page] = process.argv.slice(1).map((file) => readFileSync(file, "utf-8"));
        console.log(JSON.stringify([bare(stripTypeScriptTypes(here)), bare(page)]));
    """
    files = CLIENT / f"checkin/core/{module}.ts", ROOT / f"checkin_service/web/app/{module}.js"
    command = [
        node(),
        "--disable-warning=ExperimentalWarning",
        "--input-type=module",
        "-e",
        script,
        *map(str, files),
    ]
    here, page = json.loads(subprocess.check_output(command, text=True))
    assert here == page


def test_there_is_no_way_to_choose_an_old_picture() -> None:
    """On either side: a picture comes from the camera."""
    page = ROOT / "checkin_service/web/app"
    sources = [*(CLIENT / "checkin").rglob("*.ts"), *(CLIENT / "checkin").rglob("*.wxml"), *page.glob("*.*")]
    written = "".join(file.read_text("utf-8") for file in sources)
    assert "takePhoto" in written
    assert "getUserMedia" in written
    assert not re.search(r"choose(Media|Image|MessageFile|Video)\b|type: \"file\"|type=\"file\"", written)


def test_every_text_is_used_and_every_one_used_is_there() -> None:
    here = set(texts(CLIENT / "checkin/core/texts.ts"))
    sources = "".join(
        file.read_text("utf-8")
        for file in sorted((CLIENT / "checkin").rglob("*"))
        if file.suffix in {".ts", ".wxml"} and file.name != "texts.ts"
    )
    asked = set(re.findall(r"\bt\.(\w+)", sources)) | set(re.findall(r'\bsay\(\s*"(\w+)"', sources))
    assert asked <= here
    named = set(re.findall(r'["`](\w+)["`]', sources)) | asked
    composed = ("check_", "scope_", "outcome_")
    # of the service and of WeChat: turns of the head and the light come as codes
    assert {key for key in here - named if not key.startswith(composed)} <= {"turn_left", "turn_right"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_markup_names_what_its_page_has(page: Path) -> None:
    script = (page / "index.ts").read_text("utf-8") + (CLIENT / "checkin/screen.ts").read_text("utf-8")
    markup = (page / "index.wxml").read_text("utf-8")
    used = set(re.findall(r'<template (?:wx:elif="[^"]*" )?is="(\w+)"', markup))
    parts = (CLIENT / "checkin/parts.wxml").read_text("utf-8")
    for name in used:
        markup += parts.partition(f'<template name="{name}">')[2].partition("</template>\n")[0]
    for method in re.findall(r'\bbind\w+="(\w+)"', markup):
        assert re.search(rf"^  (async )?{method}\(", script, re.MULTILINE), method
    loops = set(ROOTS_OF_LOOPS.findall(markup)) | {"index"}
    for expression in re.findall(r"{{(.*?)}}", markup):
        bare = re.sub(r"'[^']*'", "", expression)
        for name in re.findall(r"(?<![\w.])([a-zA-Z]\w*)", bare):
            assert name in loops or re.search(rf"\b{name}\b:?", script), name
    assert markup.startswith("<page-meta")


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name != "manual"], ids=lambda page: page.name
)
def test_the_manual_way_is_on_every_page(page: Path) -> None:
    markup = (page / "index.wxml").read_text("utf-8")
    outside = re.sub(r"<block.*?</block>", "", markup, flags=re.DOTALL)
    assert 'bindtap="toManual"' in outside or 'is="ways"' in outside


def test_every_page_is_named_and_every_call_that_wechat_wants_declared() -> None:
    app: Any = json.loads((CLIENT / "app.json").read_text("utf-8"))
    [package] = app["subPackages"]
    assert sorted(package["pages"]) == [f"pages/{page.name}/index" for page in PAGES]
    core = "".join(file.read_text("utf-8") for file in sorted((CLIENT / "checkin/core").glob("*.ts")))
    private = {"getLocation", "startLocationUpdate", "onLocationChange"}
    assert set(app["requiredPrivateInfos"]) == {name for name in private if f"wx.{name}(" in core} == private
    for page in PAGES:
        assert {file.name for file in page.iterdir()} == {
            "index.ts",
            "index.wxml",
            "index.wxss",
            "index.json",
        }


def test_the_lock_names_hashes_and_no_registry() -> None:
    lock: Any = json.loads((CLIENT / "package-lock.json").read_text("utf-8"))
    packages = [each for name, each in lock["packages"].items() if name]
    assert all(each["integrity"].startswith("sha512-") for each in packages)
    assert not any("resolved" in each for each in packages)


def test_types_are_right_by_wechats_own_typings(tmp_path: Path) -> None:
    folder = tmp_path / "miniprogram"
    shutil.copytree(CLIENT, folder, ignore=shutil.ignore_patterns("node_modules"))
    program = Path(node())
    npm = program.parent.parent / "lib/node_modules/npm/bin/npm-cli.js"
    quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--fetch-retries=0"]
    install = [str(program), str(npm), "ci", *quiet, "--fetch-timeout=20000"]
    try:
        done = subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=90)
    except subprocess.TimeoutExpired:
        pytest.skip("npm does not answer from here: the compiler and WeChat's typings can't be installed")
    if done.returncode:
        pytest.skip(f"npm can't install the compiler and WeChat's typings: {done.stderr.strip()[-200:]}")
    compiler = [str(program), str(folder / "node_modules/typescript/lib/tsc.js"), "--project", str(folder)]
    checked = subprocess.run(compiler, cwd=folder, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
