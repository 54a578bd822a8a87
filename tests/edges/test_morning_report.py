"""The morning report: one page that opens from the disk, with pictures inside and nothing from outside."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reggen.dataset.reject import reject
from reggen.images.thumbnail import effective_number, layout_of, most_alike, thumbnail
from reggen.prepare.prepared_job import PreparedJob
from reggen.report.morning.facts import read_facts
from reggen.report.morning.next_steps import NextSteps
from reggen.report.morning.page import render, write_morning_report
from reggen.sim import serve
from tests.conftest import JobMaker, filled
from tests.pictures import paint
from tests.preparing import prepared_of

STEPS = NextSteps("python -m reggen run <job>.toml", "python -m reggen doctor <job>.toml")


class Tags(HTMLParser):
    """Collects tags, and the sources of pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "img":
            assert found.get("alt"), "a picture without words for a screen reader"
            self.images.append(found["src"] or "")
        self.links += [value or "" for name, value in attrs if name in {"href", "src"} and tag != "img"]


async def made(job: JobMaker, **sections: object) -> PreparedJob:
    async with serve() as sim:
        document = job(sim.url, dataset={"count": 12}, prompts={"positive": "{red|blue} <b>cat</b>"}, **sections)
        await filled(document)
    return prepared_of(document)


async def test_the_page_holds_everything_and_needs_nothing(job: JobMaker) -> None:
    """Verdict, next step, pictures, sizes, values, servers and settings; no link, no script; every text escaped."""
    prepared = await made(job)
    files = write_morning_report([prepared], "spyke.toml", STEPS)
    assert [file.name for file in files] == ["contact-sheet.jpg", "report.html"]
    page = files[1].read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(page)
    assert len([src for src in tags.images if src.startswith("data:image/jpeg;base64,")]) == len(tags.images) >= 12
    assert (tags.links, "<script" in page, "<b>cat" in page) == ([], False, False)
    for words in (
        "Complete: 12 images.",
        "&lt;job&gt;.toml",
        "reg_012",
        "different layouts",
        "64x64",
        "red",
        "Settings",
    ):
        assert words in page
    with Image.open(files[0]) as sheet:
        assert sheet.format == "JPEG"


async def test_rejected_images_are_shown_with_their_reasons(job: JobMaker) -> None:
    """And the verdict says what is missing, with the command that makes it."""
    prepared = await made(job)
    reject(prepared.dataset, prepared.plan, [2], "six fingers")
    facts = read_facts(prepared)
    assert [(picture.name, picture.words) for picture in facts.rejected] == [("reg_003.png", "six fingers")]
    assert [(bar.label, bar.count) for bar in facts.rejections] == [("six fingers", 1)]
    page = render([facts], "spyke.toml", STEPS)
    assert "Incomplete: 11 of 12 images" in page
    assert "makes only what is missing" in page


def test_a_dataset_that_is_not_begun_has_a_report_too(job: JobMaker, tmp_path: Path) -> None:
    """It says so; nothing is made up."""
    (file,) = write_morning_report([prepared_of(job())], "spyke.toml", STEPS, tmp_path / "report.html")
    page = file.read_text(encoding="utf-8")
    assert re.search(r"Incomplete: 0 of \d+ images?\.", page)
    assert "<img" not in page


def test_layouts_are_counted_by_what_they_show(tmp_path: Path) -> None:
    """The same picture many times is one layout; different ones are several; a damaged file is none."""
    pictures = [thumbnail(paint(tmp_path / f"{number}.png", seed=number)) for number in range(6)]
    layouts = [layout_of(data) for data in pictures if data]
    assert len(layouts) == 6
    assert effective_number(layouts[:1] * 20) == pytest.approx(1.0)
    assert 1.5 < effective_number(layouts) <= 6.0
    assert effective_number([np.zeros(256)] * 3) == pytest.approx(1.0)
    assert effective_number([]) == 0.0
    one, other, share = most_alike([*layouts, layouts[2]], 1)[0]
    assert (one, other, round(share, 6)) == (2, 6, 1.0)
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert thumbnail(tmp_path / "torn.png") is None
