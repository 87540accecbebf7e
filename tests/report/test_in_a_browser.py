"""The page in a real browser: what it shows in light and dark, on a phone, on paper, and to a screen reader."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pypdfium2
import pytest

from tests.support import report_samples
from tests.support.browser import CHROMIUM, Page, browser
from worker.report.page import render

ACCENT = bytes((0x0A, 0x6A, 0x73))
"""The colour of the charts on paper."""
WIDTHS = (390, 1_280)

POOR_CONTRAST = """
(() => {
  const channels = text => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return {r, g, b, a}; };
  const light = ({r, g, b}) => { const f = v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
    return .2126 * f(r) + .7152 * f(g) + .0722 * f(b); };
  const over = (top, below) => { const mix = k => top[k] * top.a + below[k] * (1 - top.a);
    return {r: mix('r'), g: mix('g'), b: mix('b'), a: 1}; };
  const ratio = (one, other) => { const [a, b] = [light(one), light(other)].sort((x, y) => y - x);
    return (a + .05) / (b + .05); };
  const behind = element => { for (let each = element; each; each = each.parentElement) {
      const colour = channels(getComputedStyle(each).backgroundColor); if (colour.a === 1) return colour; }
    return {r: 255, g: 255, b: 255, a: 1}; };
  const soft = document.querySelector('.chart .area');
  const found = new Set();
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  while (walk.nextNode()) {
    const text = walk.currentNode.data.trim(), element = walk.currentNode.parentElement;
    if (!text || ['title', 'desc'].includes(element.localName) || !element.checkVisibility()) continue;
    seen += 1;
    const style = getComputedStyle(element), drawn = element.namespaceURI.includes('svg');
    const colour = channels(drawn ? style.fill : style.color);
    colour.a *= Number(style.opacity);
    const grounds = [behind(element)];
    if (element.matches('.label.on') && soft) grounds.push(channels(getComputedStyle(soft).fill));
    const large = parseFloat(style.fontSize) >= 24 || parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700;
    for (const ground of grounds) {
      const has = ratio(over(colour, ground), ground);
      if (has < (large ? 3 : 4.5)) found.add(`${element.localName}.${element.getAttribute('class')} ${has.toFixed(2)}`);
    }
  }
  if (seen < 20) found.add(`only ${seen} texts seen`);
  return [...found];
})()
"""
"""Texts whose colour stands out too little from what is behind them (WCAG 2.2, 1.4.3 AA), with the ratio."""
FAINT_CURVES = """
(() => {
  const light = text => { const f = v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
    const [r, g, b] = text.match(/[\\d.]+/g).map(Number); return .2126 * f(r) + .7152 * f(g) + .0722 * f(b); };
  const ground = light(getComputedStyle(document.body).backgroundColor);
  return ['.enrolled', '.quota', '.median', '.p95', '.small', '.part.delivered', '.part.needs_session', '.part.failed']
    .filter(each => { const found = document.querySelector(`main ${each}`); if (!found) return false;
      const style = getComputedStyle(found), filled = style.stroke === 'none' || each.includes('part');
      const one = light(filled ? style.fill : style.stroke);
      return (Math.max(one, ground) + .05) / (Math.min(one, ground) + .05) < 3; });
})()
"""
"""Curves and bars that stand out too little (1.4.11 AA)."""


async def _tree(page: Page) -> list[dict[str, Any]]:
    nodes = (await page.call("Accessibility.getFullAXTree"))["nodes"]
    return [
        {
            "role": node["role"]["value"],
            "name": node.get("name", {}).get("value", ""),
            **{each["name"]: each["value"].get("value") for each in node.get("properties", ())},
        }
        for node in nodes
        if not node["ignored"]
    ]


def _is_in_order(levels: list[int]) -> bool:
    return levels[0] == 1 and levels.count(1) == 1 and all(b <= a + 1 for a, b in pairwise(levels))


async def _press(page: Page, key: str, code: int) -> None:
    for kind in ("keyDown", "keyUp"):
        text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
        await page.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)


async def _read_aloud(page: Page) -> None:
    tree = await _tree(page)
    roles = [node["role"] for node in tree]

    assert {"banner", "main", "contentinfo"} <= set(roles)
    assert [
        node
        for node in tree
        if node["role"] in ("image", "img", "link", "DisclosureTriangle", "button") and not node["name"]
    ] == []
    assert all(node["name"] for node in tree if node["role"] in ("heading", "table"))
    levels = await page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(each => Number(each.localName[1]))")
    assert _is_in_order(levels)
    assert sum(node["role"] == "heading" for node in tree) == len(levels)
    assert await page.evaluate(
        "[...document.querySelectorAll('table')].every(each => each.caption?.textContent.trim())"
    )
    assert await page.evaluate("[...document.querySelectorAll('th')].every(each => each.scope)")
    assert roles.count("table") == await page.evaluate(
        "[...document.querySelectorAll('table')].filter(each => each.checkVisibility()).length"
    )


async def _looked_at(page: Page) -> None:
    for dark in (False, True):
        for width in WIDTHS:
            await page.seen_as(width=width, dark=dark)
            assert await page.evaluate("document.documentElement.scrollWidth") <= width
        assert await page.evaluate(POOR_CONTRAST) == []
        assert await page.evaluate(FAINT_CURVES) == []
        paper = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (max(map(int, paper[4:-1].split(","))) < 64) is dark


async def _printed(page: Page) -> int:
    """Print it while the screen is dark; return how many pages that made."""
    await page.call(
        "Emulation.setEmulatedMedia", media="", features=[{"name": "prefers-color-scheme", "value": "dark"}]
    )
    printed = await page.call("Page.printToPDF", preferCSSPageSize=True)
    document = pypdfium2.PdfDocument(base64.b64decode(printed["data"]))
    try:
        width, height = document[0].get_size()
        assert (round(width), round(height)) == (595, 842)  # A4 in points
        drawn = document[0].render(rev_byteorder=True, fill_color=(255, 255, 255, 255))
        pixels = bytes(drawn.buffer)
        assert pixels[:3] == b"\xff\xff\xff"
        assert ACCENT in pixels
        return len(document)
    finally:
        document.close()


@pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")
async def test_it_is_good_to_read_for_everybody_and_asks_nobody_for_anything(tmp_path: Path) -> None:
    in_trouble = replace(report_samples.trouble(), left=report_samples.named().left)
    samples = {
        "in trouble": in_trouble,
        "14 hours": report_samples.fourteen_hours(),
        "empty": report_samples.empty(),
    }
    files = {name: tmp_path / f"{name.replace(' ', '-')}.html" for name in samples}
    for name, facts in samples.items():
        files[name].write_text(render(facts), "utf-8")

    async with browser() as page:
        for name, file in files.items():
            await page.open(file)
            await page.seen_as(width=1_280)
            await _read_aloud(page)
            await page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
            await _looked_at(page)
            pages = await _printed(page)
            assert pages <= {"in trouble": 9, "14 hours": 4, "empty": 2}[name]

        await page.open(files["in trouble"])
        await page.seen_as(width=390)
        await _press(page, "Tab", 9)
        assert await page.evaluate("document.activeElement.className") == "skip"
        assert await page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        assert await page.evaluate("document.activeElement.getBoundingClientRect().top") >= 0
        await _press(page, "Enter", 13)
        assert await page.evaluate("document.activeElement.id") == "main"

        asked = {each["request"]["url"] for each in page.named("Network.requestWillBeSent")}
        said = [
            each
            for event in ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
            for each in page.named(event)
        ]
        assert {each for each in asked if not each.startswith("data:")} == {each.as_uri() for each in files.values()}
        assert json.dumps(said) == "[]"
