"""Shared by the tests of several floors: a small job, a way to fill it, short timings, and a guard against blocking."""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from blockbuster import BlockBuster
from hypothesis import settings

import reggen
from reggen.backoff import Backoff
from reggen.comfy.timings import Timings
from reggen.engine.control import Observers, RunControl, RunOptions
from reggen.engine.fill import fill_dataset
from reggen.engine.summary import Summary
from reggen.engine.timings import EngineTimings
from reggen.job.models import Job
from reggen.prepare.prepared_job import prepare
from reggen.progress import RunEvent

_TESTS_PER_CORE = 3
"""Workers of `-n auto` for each core: most tests spend most of their time waiting."""

settings.register_profile("reggen", deadline=None)  # a busy machine is no failure
settings.load_profile("reggen")

SESSION_TIMINGS = Timings(
    silence=1.0,
    canary=0.5,
    poll_interval=0.1,
    grace=0.05,
    stall=2.0,
    mercy=0.5,
    gap=0.6,
    rest=Backoff(1.0, 4.0),
    sick=0.5,
)
"""Short timings for the session with a server."""

RUN_TIMINGS = EngineTimings(session=SESSION_TIMINGS, first_server=Backoff(0.2, 1.0))
"""Short timings for a run."""

PATIENCE = 60.0
"""Seconds that a test waits for what comes at once on a quiet machine: half of what pytest gives a test."""

NOWHERE = "http://127.0.0.1:9"
"""An address where nothing listens. A job without servers would use a ComfyUI that runs on this machine."""

JobMaker = Callable[..., Job]


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """Start more workers than there are cores, unless the environment says how many."""
    cores = yield
    return cores if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ else cores * _TESTS_PER_CORE


_OURS = str(Path(reggen.__file__).parent)
_MAY_BLOCK = {
    # started in a thread, a cancelled wait would leave an unknown process behind;
    # and a process that a cancelled stop has killed is gone within milliseconds
    "reggen/launch/comfy_process.py": {"_spawn", "_end"},
    "reggen/launch/log.py": {"last_lines"},  # the last few kB of a process that has ended, for the error message
}
"""Functions of reggen that may block the event loop, each with its reason."""


def _is_allowed(*_: object, **__: object) -> bool:
    """True unless a blocking call is made by a coroutine or callback of reggen.

    Tests call blocking functions of reggen while a loop of their own runs: the nearest coroutine up the stack tells
    whose loop it is. Without a coroutine the call is made in a callback, which is reggen's if its code is on the stack.
    """
    frame: FrameType | None = sys._getframe(1)
    ours = False
    while frame:
        code = frame.f_code
        inside = code.co_filename.startswith(_OURS) and "/sim/" not in Path(code.co_filename).as_posix()
        ours = ours or inside
        if code.co_flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
            return not inside
        if code.co_name == "_run" and code.co_filename.endswith("events.py"):
            return not ours
        frame = frame.f_back
    return True


@pytest.fixture(scope="session", autouse=True)
def nothing_blocks_the_event_loop() -> Iterator[None]:
    """Raise where reggen blocks its event loop: with files, SQLite, sleeps, locks."""
    guard = BlockBuster("reggen", excluded_modules=["reggen.sim"])
    for function in guard.functions.values():
        known = function.can_block_predicate
        function.can_block_predicate = lambda *given, known=known, **named: known(*given, **named) or _is_allowed()
        for file, names in _MAY_BLOCK.items():
            function.can_block_in(file, names)
    guard.activate()
    yield
    guard.deactivate()


@pytest.fixture
def job(tmp_path: Path) -> JobMaker:
    """A maker of jobs: small pictures, into a folder of the test's own."""

    def make(*urls: str, **sections: dict[str, Any]) -> Job:
        document: dict[str, dict[str, Any]] = {
            "dataset": {"root": str(tmp_path / "reg"), "class": "thing", "count": 6},
            "sampling": {"checkpoint": "AnythingXL_inkBase.safetensors", "width": 64, "height": 64, "steps": 2},
            "prompts": {"positive": ["a cat", "a dog", "a bird"], "negative": "blurry"},
            "limits": {"request": 2.0, "connect": 2.0, "download": 5.0, "away": 0.5},
        }
        for name, values in sections.items():
            document[name] = {**document.get(name, {}), **values}
        return Job.model_validate({**document, "servers": [{"url": url} for url in urls or (NOWHERE,)]})

    return make


@dataclass
class Told:
    """The events, notes and summary of a run; events and notes grow while it goes on."""

    events: list[RunEvent] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _summary: Summary | None = None

    @property
    def summary(self) -> Summary:
        """The summary, once the run is over."""
        assert self._summary is not None, "the run is not over"
        return self._summary


async def filled(  # wide: the parts of a run that a test may replace
    job: Job,
    *,
    control: RunControl | None = None,
    limit: float = PATIENCE,
    wait: bool = False,
    left: Callable[[], float] | None = None,
    told: Told | None = None,
    timings: EngineTimings = RUN_TIMINGS,
) -> Told:
    """Fill a dataset. Raises TimeoutError after `limit` seconds."""
    told = told or Told()
    async with asyncio.timeout(limit):
        (prepared,) = prepare(job, "test.toml")
        told._summary = await fill_dataset(
            prepared,
            "test.toml",
            Observers(told.events.append, told.notes.append),
            control,
            options=RunOptions(wait=wait, seconds_left=left),
            timings=timings,
        )
    return told


async def eventually(what: Callable[[], bool], limit: float = PATIENCE) -> None:
    """Wait for a condition. Raises TimeoutError after `limit` seconds."""
    async with asyncio.timeout(limit):
        while not what():
            await asyncio.sleep(0.002)
