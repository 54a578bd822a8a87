"""reggen's real command line, watched from inside its own process.

    python -m tests.bench.watched RESULT run JOB --plain

`fill_dataset` is wrapped, and nothing else is changed: display, log and report are as usual. A task beside
it sleeps 10 ms at a time and notes how late it wakes, which is the delay of every other task of the loop, too; that
costs half a per cent of a core.
RESULT becomes a JSON file, see `Watched`. With REGGEN_PROFILE set to a number, that many functions that took most of
the event loop's CPU time are in it; the profile itself slows the run to half.
"""

from __future__ import annotations

import asyncio
import cProfile
import json
import os
import pstats
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from reggen.cli import app
from reggen.engine import fill as filling
from reggen.engine.control import Observers
from reggen.engine.fill import fill_dataset
from reggen.engine.summary import Summary
from reggen.prepare.prepared_job import PreparedJob
from reggen.progress import ImageSaved, PromptPosted, RunEvent

_NAP = 0.01  # seconds
_TICKS = os.sysconf("SC_CLK_TCK")
_COUNTING = 100  # naps between two counts of the tasks, which cost a moment themselves


@dataclass(slots=True)
class Watched:
    """Figures of a run. Times are time.time(), lateness in seconds; ``cpu`` is the process's, ``loop`` the loop's."""

    began: float = field(default_factory=time.time)
    posted: float = 0.0
    cpu_posted: float = 0.0
    loop_posted: float = 0.0
    last_posted: float = 0.0
    committed: list[float] = field(default_factory=list)
    cpu_committed: list[float] = field(default_factory=list)
    loop_committed: list[float] = field(default_factory=list)
    late_before: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    tasks: int = 0
    peak_mib: float = 0.0
    profile: list[str] = field(default_factory=list)
    fds: int = 0
    threads: int = 0
    exit_code: int = 0

    def lateness(self, start: float, end: float) -> list[float]:
        """The lateness of the naps that began in a period, from the first post on."""
        begins = accumulate((_NAP + late for late in self.late), initial=self.posted)
        return [late for at, late in zip(begins, self.late, strict=False) if start <= at < end]

    @property
    def wall(self) -> float:
        """Seconds from the first post to the last durable commit."""
        return self.committed[-1] - self.posted

    @property
    def cpu(self) -> float:
        """CPU seconds of the same time."""
        return self.cpu_committed[-1] - self.cpu_posted

    @property
    def loop(self) -> float:
        """CPU seconds of the event loop's thread in the same time."""
        return self.loop_committed[-1] - self.loop_posted


def cpu_of(pid: int) -> float:
    """CPU seconds of a process so far, all threads; to the hundredth."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def peak_mib(pid: int | str = "self") -> float:
    """The peak of a process's RAM so far, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


class _Watch:
    """Notes the events of the run, and how late the loop is."""

    def __init__(self) -> None:
        self.seen = Watched()
        self._most = int(os.environ.get("REGGEN_PROFILE", "0"))
        self._profile = cProfile.Profile(time.thread_time)

    def note(self, event: RunEvent) -> None:
        """One event of the run."""
        seen = self.seen
        if isinstance(event, PromptPosted):
            seen.last_posted = time.time()
            if not seen.posted:
                seen.posted, seen.cpu_posted, seen.loop_posted = (
                    seen.last_posted,
                    time.process_time(),
                    time.thread_time(),
                )
                if self._most:
                    self._profile.enable()
        elif isinstance(event, ImageSaved):
            seen.committed.append(time.time())
            seen.cpu_committed.append(time.process_time())
            seen.loop_committed.append(time.thread_time())

    async def nap(self) -> None:
        """Measure for as long as it is not cancelled."""
        naps = 0
        while True:
            late = self.seen.late if self.seen.posted else self.seen.late_before
            due = time.perf_counter() + _NAP
            await asyncio.sleep(_NAP)
            late.append(time.perf_counter() - due)
            naps += 1
            if naps % _COUNTING == 0:
                self.seen.tasks = max(self.seen.tasks, len(asyncio.all_tasks()))

    async def fill(
        self, prepared: PreparedJob, job_file: str, observers: Observers, *rest: Any, **options: Any
    ) -> Summary:
        """`fill_dataset`, with this watch beside it."""

        def both(event: RunEvent) -> None:
            self.note(event)
            observers.tell(event)

        napping = asyncio.create_task(self.nap())
        try:
            return await fill_dataset(prepared, job_file, Observers(both, observers.note), *rest, **options)
        finally:
            napping.cancel()
            self._profile.disable()

    def profiled(self) -> list[str]:
        """The functions of reggen and below that the loop was longest in itself."""
        if not self._most:
            return []
        stats: Any = pstats.Stats(self._profile)
        rows = sorted(stats.stats.items(), key=lambda item: -item[1][2])[: self._most]
        return [
            f"{own:8.3f} s own {whole:8.3f} s whole {calls:9} x {'/'.join(Path(file).parts[-2:])}:{line} {name}"
            for (file, line, name), (_, calls, own, whole, _) in rows
        ]


def _watch(result: Path, words: Sequence[str]) -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    watch = _Watch()
    filling.fill_dataset = watch.fill
    code = app(list(words), standalone_mode=False)
    seen = watch.seen
    seen.exit_code, seen.peak_mib, seen.profile = int(code or 0), round(peak_mib(), 1), watch.profiled()
    result.write_text(json.dumps(asdict(seen)), encoding="utf-8")


if __name__ == "__main__":
    _watch(Path(sys.argv[1]), sys.argv[2:])
