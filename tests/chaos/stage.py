"""One dataset being filled from the real server by the real command line, and checks of it."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import re
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from reggen.dataset.folder import Folder
from reggen.dataset.ledger import Ledger
from reggen.dataset.rows import Row
from reggen.images.check import inspect
from reggen.job.loader import load
from reggen.job.models import Job
from tests.chaos.between import Between
from tests.chaos.real import RealComfy, Watcher
from tests.conftest import eventually
from tests.invariants import parts
from tests.preparing import plan_of, prepared_of

DEADLINE = 420.0
"""Seconds for one breakage, beyond which it counts as stuck."""

_JOB = """
[dataset]
root = '{root}'
class = "live"
count = {images}
[[servers]]
url = "{url}"
keep_history = true
{server}
[sampling]
checkpoint = "{checkpoint}"
width = {size}
height = {size}
steps = {steps}
seed = {seed}
[prompts]
positive = "a cat"
negative = "bad"
"""


@dataclass
class BreakageOutcome:
    """The result of one breakage."""

    name: str
    images: int = 0
    executed: int = 0
    failed_prompts: int = 0
    seconds: float = 0.0
    exit_code: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    failure: str = ""

    @property
    def line(self) -> str:
        """The result in a line."""
        facts = "".join(f"; {key}: {value}" for key, value in self.facts.items())
        head = f"{self.name}: {'FAILED' if self.failure else 'ok'}"
        sums = f"{self.images} images for {self.executed} prompts executed in {self.seconds:.0f} s"
        return f"{head}: {sums}{facts}" + (f"\n  {self.failure}" if self.failure else "")


class Stage:
    """One dataset being filled from one server, possibly through a proxy."""

    def __init__(
        self, comfy: RealComfy, between: Between | None, place: Path, options: argparse.Namespace, images: int
    ) -> None:
        self.comfy, self.between, self.images, self._options = comfy, between, images, options
        self.file = place / "live.toml"
        text = _JOB.format(
            root=(place / "dataset").as_posix(),
            images=images,
            url=between.url if between else comfy.url,
            server=between.keys if between else "",
            checkpoint=options.checkpoint,
            size=options.size,
            steps=options.steps,
            seed=time.time_ns() % (1 << 50),  # pictures that the server cannot have in its cache
        )
        self.file.write_text(text, encoding="utf-8")
        self.job: Job = load(str(self.file))
        self.watcher = Watcher(comfy)
        self.said = place / "reggen.log"
        self.facts: dict[str, Any] = {}
        self.process: asyncio.subprocess.Process

    async def start(self) -> None:
        """Start reggen."""
        with self.said.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "reggen", "run", str(self.file), "--plain"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def reach(self, share: float) -> None:
        """Wait for this share of the images. Raises AssertionError if reggen ends before."""
        wanted = max(1, int(share * self.images))
        await eventually(lambda: self._made() >= wanted or self.process.returncode is not None, DEADLINE)
        assert self.process.returncode is None, "the run was over before it was broken; ask for more images"

    async def goes_on(self) -> None:
        """Wait for the next image, and note the seconds until it came."""
        began, made = time.monotonic(), self._made()
        await eventually(lambda: self._made() > made or self.process.returncode is not None, DEADLINE)
        self.facts["next image after, s"] = round(time.monotonic() - began, 1)

    @property
    def output(self) -> str:
        """The output of reggen so far."""
        return self.said.read_text(encoding="utf-8", errors="replace")

    async def says(self, pattern: str, limit: float) -> float:
        """Wait until the output matches; the seconds that took. Raises AssertionError after `limit` seconds."""
        began = time.monotonic()
        try:
            await eventually(lambda: re.search(pattern, self.output) is not None, limit)
        except TimeoutError:
            raise AssertionError(f"after {limit:.0f} s the output does not match {pattern!r}") from None
        return round(time.monotonic() - began, 1)

    def lines(self, pattern: str) -> list[str]:
        """The lines of the output that match."""
        return [line for line in self.output.splitlines() if re.search(pattern, line)]

    def _made(self) -> int:
        return len(list(self.job.dataset.folder.glob("*.png")))


# ---- checks of real pictures


def assert_whole(job: Job) -> int:
    """Check that every slot has its picture, whole, the right one, each once; the number of pictures."""
    folder = Folder(job.dataset)
    rows = _rows(folder)
    assert [row.idx for row in rows] == list(range(len(plan_of(job)))), f"done are {[row.name for row in rows]}"
    assert {file.name for file in folder.images.iterdir()} == {f"{row.name}.png" for row in rows}
    for row in rows:
        file = folder.file(row.name)
        finding = inspect(file, row.name, prepared_of(job).check_settings)
        note = {"index": row.idx, "take": row.take, "seed": row.seed, "batch": row.batch}
        assert finding.note == note, f"{row.name}: {finding.note}"
        assert _painted_seed(file) == row.seed, f"{row.name} was painted under another seed"
        assert hashlib.sha256(file.read_bytes()).hexdigest() == row.sha256
    assert len({row.sha256 for row in rows}) == len(rows), "two images are the same"
    assert parts(job) == []
    return len(rows)


def _rows(folder: Folder) -> list[Row]:
    ledger = Ledger.read(folder.state)
    assert ledger is not None
    with ledger:
        return list(ledger.slots.walk("done"))


def _painted_seed(file: Path) -> int:
    """The seed in the graph that ComfyUI wrote into the file."""
    with Image.open(file) as image:
        graph = json.loads(image.info["prompt"])
    return next(int(node["inputs"]["seed"]) for node in graph.values() if node["class_type"] == "KSampler")


async def assert_nothing_left(comfy: RealComfy) -> None:
    """Check that the server has no prompts left."""
    queue = await comfy.ask("/queue")
    assert queue is not None, "the server does not answer"
    assert queue["queue_running"] == queue["queue_pending"] == [], "prompts are left on the server"


async def assert_finished(stage: Stage, *, gone: bool = False) -> None:
    """Check that the same command asks for nothing more, with the server there or ``gone``."""
    before = len(stage.watcher.executed)
    await stage.start()
    assert await stage.process.wait() == 0
    await stage.watcher.poll()
    if not gone:
        await assert_nothing_left(stage.comfy)
    assert len(stage.watcher.executed) == before, "a finished job asked for more"
