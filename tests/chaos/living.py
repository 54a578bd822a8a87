"""Living through a night: run, break off, start again, until the run ends of itself; then check everything.

The run is `fill_dataset` in this process with short timings, or the command line in a process of its own. Either way
the stand-ins are in this process, so that they can be asked what has happened to them.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from reggen.engine.control import Observers, RunControl
from reggen.engine.fill import fill_dataset
from reggen.engine.summary import Summary
from reggen.errors import BAD_JOB, COMPLETE, INCOMPLETE, NO_SERVER, STOPPED, ReggenError
from reggen.job.models import Job
from reggen.prepare.prepared_job import prepare
from reggen.progress import RunEvent, ServerChanged
from reggen.report.closing import report_data, write_report
from reggen.sim import Script, Settings, Sim, serve
from tests.chaos import stuck
from tests.chaos.checks import assert_nothing_left, assert_paid_once, assert_settled, rows_of, struck
from tests.chaos.nights import Break, Kind, Night, night
from tests.conftest import RUN_TIMINGS
from tests.invariants import assert_sound, parts

DEADLINES: dict[Kind, float] = {"inprocess": 240.0, "cli": 240.0}
"""Seconds of a whole night, beyond which it counts as stuck."""

_RUNS = 30  # starts of the same job in one night, at most
_NOTICED = 3.0  # seconds between checks for dead servers, which are restarted
_LATER = 0.2  # seconds until the next try after a run that found no server
_MEMORY = next((name for name in ("/dev/shm",) if Path(name).is_dir()), None)  # a folder in memory, where there is one
_ports = itertools.cycle(range(first := 10_000 + 2_000 * (os.getpid() % 10), first + 2_000))
"""Ports that no outgoing connection takes while a restart keeps a server down. Each process has its own."""


@dataclass
class Outcome:
    """The result of a night: its costs, and its failure, if any."""

    seed: int
    kind: Kind
    images: int = 0
    given_up: int = 0
    runs: int = 0
    struck: int = 0
    seconds: float = 0.0
    failure: str = ""

    @property
    def replay(self) -> str:
        """The command that repeats the night."""
        return f"python -m tests.chaos --nights 1 --seed {self.seed} --kind {self.kind}"


@dataclass
class Ended:
    """The end of one run: its exit code and report, or neither if it was cut off."""

    code: int | None
    report: Mapping[str, Any] = field(default_factory=dict)
    output: str = ""
    deaths: int = 0  # servers whose worker was called dead

    @property
    def of_itself(self) -> bool:
        """The run did all that it could."""
        return self.code in (COMPLETE, INCOMPLETE) and self.report["ended_early"] is None


class Runner(Protocol):
    """A way to run a job, and to break it off."""

    async def __call__(self, job: Job, sims: Sequence[Sim], breaking: Break | None) -> Ended:
        """Run it to its end, or to the break."""


async def live(seed: int, kind: Kind, also: Sequence[str] = ()) -> Outcome:
    """Live through the night of a seed. Never raises: a failure is noted in the outcome."""
    stuck.belongs_to(seed)
    planned, outcome = night(seed, kind, also), Outcome(seed, kind)
    loop, deadline = asyncio.get_running_loop(), DEADLINES[kind]
    began = loop.time()
    task = asyncio.create_task(_night(planned, outcome))
    done, _ = await asyncio.wait({task}, timeout=deadline)
    if not done:
        outcome.failure = f"stuck after {deadline:.0f} s, {outcome.runs} runs:\n{stuck.stacks(seed)}"
        task.cancel()
        _, still = await asyncio.wait({task}, timeout=10.0)
        if still:
            outcome.failure += f"\nand 10 s after it was cancelled:\n{stuck.stacks(seed)}"
    elif error := task.exception():
        outcome.failure = _words(error)
    outcome.seconds = loop.time() - began
    return outcome


async def _night(planned: Night, outcome: Outcome) -> None:
    runner = in_process if planned.kind == "inprocess" else command_line
    async with _ground(planned) as root:
        async with _stand_ins(planned) as sims:
            job = _job(planned, root, [sim.url for sim in sims])
            ended, cut_short = await _until_done(planned, job, sims, runner, outcome)
            outcome.struck = sum(struck(sims).values())
            await assert_nothing_left(sims)
            assert_settled(job, ended.report)
            assert_paid_once(planned, sims, cut_short)
        outcome.images, outcome.given_up = ended.report["kept"], ended.report["missing"]
        await _morning(planned, root, runner, missing=ended.report["missing"])


async def _until_done(
    planned: Night, job: Job, sims: Sequence[Sim], runner: Runner, outcome: Outcome
) -> tuple[Ended, int]:
    """Run and break off as planned, then run until a run ends of itself; its end, and the number of runs cut short."""
    breaks, cut_short = list(planned.breaks), 0
    mortal = any(fault.do == "zombie" for fault in planned.faults())
    rejected = any(fault.do == "reject" for fault in planned.faults())
    for _ in range(_RUNS):
        breaking = breaks.pop(0) if breaks else None
        outcome.runs += 1
        ended = await runner(job, sims, breaking)
        try:
            assert mortal or not ended.deaths, "a worker that lives was called dead"
            _check_run(job, ended, breaking, rejected=rejected)
        except BaseException as error:
            error.add_note(f"in run {outcome.runs}, {breaking}, exit {ended.code}: {ended.output}")
            raise
        cut_short += ended.code is None or ended.code == BAD_JOB or (breaking is not None and breaking.how != "once")
        if ended.of_itself and not breaks:
            return ended, cut_short
        if ended.code == NO_SERVER:
            await asyncio.sleep(_LATER)
    raise AssertionError(f"{_RUNS} runs have not finished the job, though every fault strikes a few times only")


def _check_run(job: Job, ended: Ended, breaking: Break | None, *, rejected: bool) -> None:
    """Check what holds after every run, also one that was broken off.

    A run that had to leave at once may leave part files, which the next one deletes; a killed one may leave an image
    without its row, which the next one adopts.
    """
    allowed: set[int | None] = {COMPLETE, INCOMPLETE, NO_SERVER}
    allowed |= {BAD_JOB} if rejected else set()
    allowed |= {None, STOPPED} if breaking is not None else set()
    assert ended.code in allowed, "an exit code that nothing explains"
    if breaking is not None and breaking.how == "kill":
        return
    if breaking is not None and breaking.how != "once":
        for part in parts(job):
            part.unlink()
    if rows_of(job):
        assert_sound(job, complete=False)


async def _morning(planned: Night, root: Path, runner: Runner, missing: int) -> None:
    """Check that with a healthy server the set becomes complete, and that another run asks for nothing.

    A machine that stands still for a second is no fault of the night: the server gets its default time limits.
    """
    limits = {key: value for key, value in planned.document["limits"].items() if key not in {"connect", "request"}}
    planned = replace(planned, document={**planned.document, "limits": limits})
    for wanted in (missing, 0):
        async with _stand_in(Settings(seconds=0.0), Script()) as sim:
            job = _job(planned, root, [sim.url])
            ended = await runner(job, [sim], None)
            assert ended.code == COMPLETE, f"in the morning: exit {ended.code}: {ended.output}"
            assert_settled(job, ended.report)
            assert ended.report["made"] == wanted
            assert sim.executed <= wanted
            assert wanted or not sim.requests, "a finished job asked a server for something"


# ---- the two ways to run


async def in_process(job: Job, sims: Sequence[Sim], breaking: Break | None) -> Ended:
    """Run `fill_dataset` in this process, with short timings."""
    control, told, deaths, reached = RunControl(), 0, 0, asyncio.Event()

    def tell(event: RunEvent) -> None:
        nonlocal told, deaths
        told += 1
        deaths += isinstance(event, ServerChanged) and "its worker is dead" in event.why
        if breaking is not None and told >= breaking.events:
            reached.set()

    (prepared,) = prepare(job, "night.toml")
    observers = Observers(tell, _unheard)
    filling = asyncio.create_task(fill_dataset(prepared, "night.toml", observers, control, timings=RUN_TIMINGS))
    guarded = asyncio.create_task(control.guard(filling))
    breaker = asyncio.create_task(_break_off(breaking, reached, control, guarded)) if breaking is not None else None
    await asyncio.wait({guarded})
    if breaker is not None:
        breaker.cancel()
        await asyncio.wait({breaker})
    return replace(_ended(job, guarded), deaths=deaths)


async def _break_off(
    breaking: Break, reached: asyncio.Event, control: RunControl, running: asyncio.Task[Summary]
) -> None:
    if breaking.events:
        await reached.wait()
    await asyncio.sleep(breaking.seconds)
    if breaking.how == "cancel":
        running.cancel()
        return
    control.interrupt()
    if breaking.how == "twice":
        await asyncio.sleep(breaking.seconds)
        control.interrupt()


def _ended(job: Job, task: asyncio.Task[Summary]) -> Ended:
    if task.cancelled():
        return Ended(None)
    error = task.exception()
    if isinstance(error, ReggenError):
        return Ended(error.exit_code, {"ended_early": str(error)}, str(error))
    summary = task.result()
    write_report(summary, job.dataset.state / "report.json")
    return Ended(summary.exit_code, report_data(summary), str(summary.error or summary.stopped))


def _unheard(_: str) -> None:
    """Drop a note."""


async def command_line(job: Job, sims: Sequence[Sim], breaking: Break | None) -> Ended:
    """Run the command line in a process of its own; it is sent signals, and killed if the night ends before it."""
    file = job.dataset.root / "night.toml"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "reggen", "run", str(file), "--plain"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    breaker = asyncio.create_task(_signal(breaking, sims, process)) if breaking is not None else None
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        if breaker is not None:
            breaker.cancel()
    said = output.decode(errors="replace")
    if process.returncode == -signal.SIGKILL and breaking is not None and breaking.how == "kill":
        return Ended(None)
    assert "Traceback" not in said, said
    return _reported(job, process.returncode, said)


async def _signal(breaking: Break, sims: Sequence[Sim], process: asyncio.subprocess.Process) -> None:
    before = sum(len(sim.requests) for sim in sims)
    while sum(len(sim.requests) for sim in sims) - before < breaking.events:
        await asyncio.sleep(0.002)
    await asyncio.sleep(breaking.seconds)
    sent = {
        "kill": (signal.SIGKILL,),
        "once": (signal.SIGINT,),
        "twice": (signal.SIGINT, signal.SIGINT),
        "terminate": (signal.SIGTERM,),
    }[breaking.how]
    for number in sent:
        if process.returncode is None:
            process.send_signal(number)
        await asyncio.sleep(breaking.seconds)


def _reported(job: Job, code: int | None, said: str) -> Ended:
    """The exit code and report.json; a run that ended before it began has no report."""
    file = job.dataset.state / "report.json"
    if code in (COMPLETE, INCOMPLETE) or (code == STOPPED and "Stopped before" not in said):
        found = json.loads(file.read_text(encoding="utf-8"))
        assert found["exit_code"] == code, f"exit {code}, but the report says {found['exit_code']}: {said}"
        return Ended(code, found, said)
    return Ended(code, {"ended_early": said}, said)


# ---- the setting


@asynccontextmanager
async def _ground(planned: Night) -> AsyncIterator[Path]:
    """A folder for the night's dataset, deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix=f"night-{planned.seed}-", dir=_MEMORY) as name:
        yield Path(name)


@asynccontextmanager
async def _stand_ins(planned: Night) -> AsyncIterator[list[Sim]]:
    """The night's servers; those whose worker has died are restarted."""
    async with AsyncExitStack() as stack:
        sims = [await stack.enter_async_context(_stand_in(*server)) for server in planned.servers]
        keeping = asyncio.create_task(_keep(sims)) if any(one.do == "zombie" for one in planned.faults()) else None
        try:
            yield sims
        finally:
            if keeping is not None:
                keeping.cancel()
                await asyncio.wait({keeping})


async def _keep(sims: Sequence[Sim]) -> None:
    """Restart dead servers, a few seconds after their death."""
    while True:
        await asyncio.sleep(_NOTICED)
        for sim in [sim for sim in sims if sim.listening and sim.world.dead]:
            await sim.restart(down=0.1)


@asynccontextmanager
async def _stand_in(settings: Settings, script: Script) -> AsyncIterator[Sim]:
    """A server on the next free port."""
    async with AsyncExitStack() as stack:
        for port in _ports:
            try:
                sim = await stack.enter_async_context(serve(settings, script, port=port))
            except OSError:
                continue
            yield sim
            return


def _job(planned: Night, root: Path, urls: Sequence[str]) -> Job:
    """The night's job against these servers; its file is written into ``root``, too."""
    servers = [{"url": url, "depth": depth} for url, depth in zip(urls, planned.depths, strict=False)]
    document = {**planned.document, "dataset": {**planned.document["dataset"], "root": str(root)}}
    (root / "night.toml").write_text(_toml(document, servers), encoding="utf-8")
    return Job.model_validate({**document, "servers": servers})


def _toml(document: Mapping[str, Mapping[str, Any]], servers: Sequence[Mapping[str, Any]]) -> str:
    """Numbers, strings and lists of strings are written alike in TOML and in JSON."""
    tables = [(f"[{name}]", values) for name, values in document.items()] + [("[[servers]]", one) for one in servers]
    return "\n".join(
        "\n".join((head, *(f"{key} = {json.dumps(value)}" for key, value in values.items()))) for head, values in tables
    )


def _words(error: BaseException) -> str:
    """An error with the last few lines of its traceback; of a group, each error."""
    return "".join(traceback.format_exception(error, limit=-4)).rstrip()
