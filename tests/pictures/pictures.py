"""Which pictures there are, and how each is made."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from datetime import UTC
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pypdfium2
from rich.console import RenderableType

from tests.pictures import samples, terminal
from tests.pictures.png import png
from tests.support.browser import browser
from tests.support.processes import Process
from worker.report.page import render
from worker.sealing import age
from worker.telemetry.panel import Panel

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "pictures"
"""Where the pictures are."""
LARGEST = 200_000
"""The most bytes of one."""


async def make(name: str, folder: Path) -> Path:
    """Make that picture in the folder."""
    await asyncio.to_thread(folder.mkdir, exist_ok=True)
    with TemporaryDirectory(prefix="pictures-") as work:
        data = await PICTURES[name].maker(Path(work))
    (folder / name).write_bytes(data)
    return folder / name


async def _first_steps(work: Path) -> bytes:
    """From nothing to a rehearsed rollout, as somebody new types it."""
    shown: list[RenderableType] = []
    commands: tuple[list[str], ...] = (
        [],
        ["init", "--pool", "eu-central-1_AbCdEfGhI", "--issuer", "Example"],
        ["rehearse", "-c", "mfa-worker.toml", "--users", "60"],
    )
    for arguments in commands:
        ended = await Process.start(work, "typed", *arguments).ended()
        said = ended.out or ended.err
        shown += [terminal.typed(" ".join(["mfa-worker", *arguments])), terminal.said(said.replace(str(work), "…")), ""]
    return terminal.picture("from nothing to a rehearsed rollout", shown[:-1]).encode()


async def _run(_work: Path) -> bytes:
    """What a terminal shows while the worker runs."""
    panel = Panel(samples.RUN, UTC)
    return terminal.picture("while it runs", [terminal.typed("mfa-worker run"), "", panel], 84).encode()


async def _page(work: Path, *, scrolled_to: str = "", dark: bool = False) -> bytes:
    """The report page in a window of a desktop, where the heading with that id is at its top."""
    file = work / "rollout.html"
    file.write_text(render(samples.page()), "utf-8")
    async with browser() as page:
        await page.open(file)
        await page.seen_as(width=1_280, height=1_000, dark=dark)
        if scrolled_to:
            await page.evaluate(
                f"scrollTo(0, document.getElementById('{scrolled_to}').getBoundingClientRect().top - 40)"
            )
        return base64.b64decode((await page.call("Page.captureScreenshot", format="png"))["data"])


async def _letter(work: Path) -> bytes:
    identity, recipient = age.keygen("today")
    age.write_identity(work / "identity.key", identity)
    sealed = age.AgeSealer([recipient]).seal(json.dumps(samples.RECORD).encode())
    (work / "enrolments.age").write_bytes(sealed)
    arguments = ("-i", "identity.key", "--letters", "letters.pdf", "--until", "2027-01-31", "enrolments.age")
    ended = await Process.start(work, "typed", "open", *arguments).ended()
    assert ended.code == 0, ended.err
    return _first_page(work / "letters.pdf")


def _first_page(pdf: Path) -> bytes:
    document = pypdfium2.PdfDocument(pdf)
    try:
        bitmap = document[0].render(scale=1.5, rev_byteorder=True, force_bitmap_format=pypdfium2.raw.FPDFBitmap_Gray)
        rows = bytes(bitmap.buffer)
        pixels = b"".join(rows[at : at + bitmap.width] for at in range(0, bitmap.stride * bitmap.height, bitmap.stride))
        return png(bitmap.width, bitmap.height, pixels, channels=1)
    finally:
        document.close()


class Picture(NamedTuple):
    """How a picture is made, and what it takes."""

    maker: Callable[[Path], Awaitable[bytes]]
    browser: bool = False


PICTURES: dict[str, Picture] = {
    "first-steps.svg": Picture(_first_steps),
    "run.svg": Picture(_run),
    "page.png": Picture(_page, browser=True),
    "page-dark.png": Picture(partial(_page, scrolled_to="over-time", dark=True), browser=True),
    "letter.png": Picture(_letter),
}
"""Every picture, by the name of its file."""
