"""What axe finds on a page, by WCAG and good practice."""

import importlib.util
from functools import cache
from pathlib import Path

from tests.browser.chromium import Page

FOUND = """axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) => violations
  .filter(({ impact }) => impact === 'serious' || impact === 'critical')
  .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 120)).join(' ')}`))"""


async def serious_findings(page: Page) -> list[str]:
    """Each with the elements that it is about."""
    await page.run(_axe() + "; null")
    found: list[str] = await page.run(FOUND)
    return found


@cache
def _axe() -> str:
    """Its source, from a package for another driver of browsers, of which nothing else is used."""
    spec = importlib.util.find_spec("axe_playwright_python")
    assert spec is not None
    assert spec.origin is not None
    return (Path(spec.origin).parent / "axe.min.js").read_text("utf-8")
