"""Kills the real command line again and again in mid-run, and checks what each killed run has left.

    python -m tests.chaos.kills --kills 200 [--seed 1] [--kinds png,webp,batch] [--jobs 1]

A series is one dataset, filled from a stand-in by `python -m reggen run`. Each of its runs is killed (SIGKILL) at a
moment that is drawn from the time the rest of the run would take, from its first post on; the last one may end.
After each kill every image is whole and is the one of its name, and every image that is done by the ledger is there.
In the end the set is complete; no image that a killed run has left was lost or changed; each shows its own slot; no
part file is left, no prompt was executed without need; and another run asks for nothing.

Kills count if their run left images. Prints one line for each series and the sum at the end; the exit code is 1 when
anything was wrong. Needs POSIX signals.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import math
import random
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reggen.dataset.caption_files import CAPTIONS
from reggen.dataset.folder import Folder
from reggen.images.check import inspect
from reggen.job.loader import load
from reggen.job.models import Job
from reggen.sim import Settings, Sim, serve
from tests.chaos.checks import assert_marked, assert_settled, rows_of
from tests.conftest import eventually
from tests.preparing import plan_of, prepared_of

KINDS = {
    "png": "",
    "webp": 'format = "webp"\n',
    "batch": "",
}
"""Kinds of jobs, and the lines of their dataset table."""

_DEADLINE = 120.0  # seconds for one run, beyond which it counts as stuck
_JOB = """
[dataset]
root = '{root}'
class = "killed"
count = {images}
{dataset}
[[servers]]
url = "{url}"
depth = 2
[sampling]
checkpoint = "AnythingXL_inkBase.safetensors"
width = 64
height = 64
steps = 2
batch = {batch}
[prompts]
positive = ["a cat", "a dog", "a bird"]
negative = "blurry"
"""


@dataclass
class Series:
    """One dataset and its killed runs."""

    seed: int
    kind: str
    left: list[int] = field(default_factory=list)
    """The number of images that each killed run has left."""
    images: int = 0
    executed: int = 0
    adopted: int = 0
    seconds: float = 0.0
    failure: str = ""

    @property
    def line(self) -> str:
        """The result in a line."""
        head = f"series {self.seed} ({self.kind}): {'FAILED' if self.failure else 'ok'}"
        sums = f"{len(self.left)} kills left {self.left} of {self.images} images, {self.adopted} without their rows"
        return f"{head}: {sums}; {self.executed} prompts executed; {self.seconds:.0f} s" + (
            f"\n{self.failure}" if self.failure else ""
        )


class Run:
    """`python -m reggen run` in a process of its own."""

    def __init__(self, file: Path, sim: Sim) -> None:
        self._file, self._sim = file, sim
        self._process: asyncio.subprocess.Process

    async def start(self) -> None:
        """Start it, and wait for its first post, for the first image that it takes over, or for its end."""
        posts, before = self._sim.count("POST", "/prompt"), len(files(load(str(self._file))))
        job = load(str(self._file))
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "reggen", "run", str(self._file), "--plain"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self._said = asyncio.create_task(self._process.communicate())

        def began() -> bool:
            return self._sim.count("POST", "/prompt") > posts or len(files(job)) > before

        await eventually(lambda: began() or self._said.done(), _DEADLINE)

    async def kill(self, seconds: float) -> bool:
        """Kill it after so many seconds; False if it has ended before."""
        await asyncio.wait({self._said}, timeout=seconds)
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        await self._said
        return self._process.returncode == -9

    async def end(self) -> str:
        """Wait for its end; its output. Raises AssertionError if it fails."""
        async with asyncio.timeout(_DEADLINE):
            output, _ = await self._said
        assert self._process.returncode == 0, f"exit code {self._process.returncode}: {output.decode()}"
        return output.decode()


def files(job: Job) -> dict[str, Path]:
    """The images of a dataset, by name."""
    with contextlib.suppress(FileNotFoundError):
        return {file.stem: file for file in job.dataset.folder.iterdir() if _is_image(file)}
    return {}


def _is_image(file: Path) -> bool:
    return file.suffix not in CAPTIONS and not file.name.endswith(".part")


def _batch(kind: str) -> int:
    return 4 if kind == "batch" else 1


def job_file(place: Path, kind: str, url: str, images: int) -> Path:
    """Write a job of a kind, against one stand-in."""
    file = place / "kills.toml"
    text = _JOB.format(
        root=(place / "dataset").as_posix(),
        images=images,
        dataset=KINDS[kind],
        url=url,
        batch=_batch(kind),
    )
    file.write_text(text, encoding="utf-8")
    return file


async def length(kind: str, settings: Settings, images: int) -> float:
    """Seconds of an undisturbed run, from its first post on."""
    with tempfile.TemporaryDirectory(prefix="kills-") as place:
        async with serve(settings) as sim:
            run = Run(job_file(Path(place), kind, sim.url, images), sim)
            await run.start()
            began = time.monotonic()
            await run.end()
            return time.monotonic() - began


async def run_series(series: Series, settings: Settings, images: int, run_length: float, most: int) -> Series:
    """Run a series with at most so many kills. Never raises: a failure is noted in the series."""
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix=f"kills-{series.seed}-") as place:
            async with serve(settings) as sim:
                file = job_file(Path(place), series.kind, sim.url, images)
                await _killed_until_done(series, file, sim, run_length, most)
    except Exception as error:  # noqa: BLE001
        series.failure = "".join(traceback.format_exception(error, limit=-4)).rstrip()
    series.seconds = time.monotonic() - began
    return series


async def _killed_until_done(series: Series, file: Path, sim: Sim, run_length: float, most: int) -> None:
    job, rng = load(str(file)), random.Random(f"{series.kind}/{series.seed}")
    kept: dict[str, str] = {}
    for _ in range(most):
        share = 1 - len(kept) / len(plan_of(job))
        run = Run(file, sim)
        await run.start()
        killed = await run.kill(rng.uniform(0.0, share * run_length))
        found = _assert_whole(job, kept)
        if killed:
            series.left.append(len(found) - len(kept))
            series.adopted += len(found) - len(_done(job))
        kept = found
        if not killed:
            break
    run = Run(file, sim)
    await run.start()
    await run.end()
    assert_settled(job, json.loads((job.dataset.state / "report.json").read_text(encoding="utf-8")))
    _assert_whole(job, kept)
    series.images, series.executed = len(files(job)), sim.executed
    needed = math.ceil(len(plan_of(job)) / _batch(series.kind))
    assert sim.executed == needed, f"{sim.executed} prompts were executed, while {needed} were needed"
    requests = len(sim.requests)
    again = Run(file, sim)
    await again.start()
    await again.end()
    assert len(sim.requests) == requests, "a finished job asked for more"


def _assert_whole(job: Job, kept: dict[str, str]) -> dict[str, str]:
    """Check that every image is whole and the right one, and that the ``kept`` ones are unchanged; their hashes."""
    folder = Folder(job.dataset)
    found = {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files(job).items()}
    for name, digest in kept.items():
        assert found.get(name) == digest, f"{name} was {'changed' if name in found else 'lost'}"
    for name in found:
        inspect(folder.file(name), name, prepared_of(job).check_settings, folder.ending)  # raises BadImage: torn
    assert len(set(found.values())) == len(found), "two images are the same"
    for row in _done(job):
        assert found.get(row.name) == row.sha256, f"the ledger calls {row.name} done"
    assert_marked(job)
    return found


def _done(job: Job) -> list[Any]:
    return [row for row in rows_of(job) if row.state == "done"]


async def all_of(options: argparse.Namespace) -> list[Series]:
    """Run series until so many kills have left images."""
    settings = Settings(seconds=options.seconds)
    lengths = {kind: await length(kind, settings, options.images) for kind in options.kinds}
    print("undisturbed, s: " + ", ".join(f"{kind} {seconds:.1f}" for kind, seconds in lengths.items()), flush=True)
    numbers: Iterator[int] = iter(range(options.seed, sys.maxsize))
    ended: list[Series] = []

    async def one_after_another() -> None:
        while sum(_counting(one) for one in ended) < options.kills:
            number = next(numbers)
            kind = options.kinds[number % len(options.kinds)]
            series = Series(number, kind)
            ended.append(await run_series(series, settings, options.images, lengths[kind], options.most))
            print(series.line, flush=True)

    async with asyncio.TaskGroup() as group:
        for _ in range(options.jobs):
            group.create_task(one_after_another())
    return ended


def _counting(series: Series) -> int:
    return sum(left > 0 for left in series.left)


def _kinds(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(KINDS):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: there is {', '.join(KINDS)}")
    return names


def main() -> int:
    """Kill as often as the command line says; 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.kills", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="that each left images")
    parser.add_argument("--seed", type=int, default=1, help="of the first series; the others follow")
    parser.add_argument("--kinds", type=_kinds, default=list(KINDS))
    parser.add_argument("--images", type=int, default=60, help="of each series")
    parser.add_argument("--most", type=int, default=6, help="kills in one series")
    parser.add_argument("--seconds", type=float, default=0.05, help="that an image takes")
    parser.add_argument("--jobs", type=int, default=1, help="series at a time")
    ended = asyncio.run(all_of(parser.parse_args()))
    left = [images for one in ended for images in one.left]
    failed = [one.seed for one in ended if one.failure]
    counting = [images for images in left if images]
    print(
        f"{len(ended)} series, {len(left)} kills, of which {len(counting)} left images: "
        f"{sum(counting)} in all, {statistics.median(counting):.0f} in the median, {max(counting)} at most; "
        f"{sum(one.executed for one in ended)} prompts executed for {sum(one.images for one in ended)} images; "
        f"{sum(one.adopted for one in ended)} adopted; failed: {failed or 'none'}"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
