"""Leaving while something blocks: the first Ctrl-C ends what can go on later, the second waits for nothing."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from reggen.comfy.session import ServerSession
from reggen.dataset import reconcile
from reggen.dataset.ledger import Ledger
from reggen.engine.control import Observers, RunControl
from reggen.engine.fill import fill_dataset
from reggen.engine.read_ahead import ReadAhead
from reggen.engine.summary import BY_USER
from reggen.engine.threads import Threads
from reggen.engine.timings import EngineTimings
from reggen.errors import StorageError
from reggen.images import check
from reggen.job.models import Job
from reggen.prepare.prepared_job import prepare
from reggen.progress import RunStarted, Scanning
from reggen.sim import Settings, paint, serve
from tests.conftest import NOWHERE, RUN_TIMINGS, JobMaker, Told, eventually, filled

HERE = Path()


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A disk that does not answer while an adopted image is read; the event is set when it is asked."""
    asked, release = threading.Event(), threading.Event()

    def inspect(*_: object) -> None:
        asked.set()
        release.wait()

    monkeypatch.setattr(reconcile, "inspect", inspect)
    yield asked
    release.set()


def by_hand(job: Job, count: int) -> None:
    """So many images without a ledger."""
    job.dataset.folder.mkdir(parents=True)
    for number in range(1, count + 1):
        (job.dataset.folder / f"reg_{number:03d}.png").write_bytes(paint(f"image {number}", number, 64, 64))


def rows(job: Job) -> int:
    with suppress(StorageError):
        if ledger := Ledger.read(job.dataset.state):
            with ledger:
                return ledger.slots.counts(1 << 40).get("done", 0)
    return 0


async def begun(job: Job, control: RunControl, timings: EngineTimings = RUN_TIMINGS) -> asyncio.Task[object]:
    (prepared,) = prepare(job, "test.toml")
    work = fill_dataset(prepared, "test.toml", Observers(), control, timings=timings)
    return asyncio.create_task(control.guard(asyncio.create_task(work)))


async def test_one_ctrl_c_ends_a_reconciliation_and_the_next_run_goes_on_there(
    job: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not when everything is adopted: with the image it is at. What is adopted by then stands."""
    quick = check.inspect

    def slow(path: Path, name: str, check_settings: check.CheckSettings, kind: str) -> check.Inspection:
        time.sleep(0.02)
        return quick(path, name, check_settings, kind)

    monkeypatch.setattr(reconcile, "inspect", slow)
    by_hand(one := job(dataset={"count": 150}), 150)
    task = await begun(one, control := RunControl())
    await eventually(lambda: rows(one) >= 3)
    control.interrupt()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert 3 <= rows(one) < 100
    monkeypatch.setattr(reconcile, "inspect", quick)
    told = await filled(one)
    assert (told.summary.exit_code, told.summary.made, told.summary.missing) == (0, 0, 0)


async def test_a_long_look_is_told_while_it_goes_on(job: JobMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many images of how many were looked at, before the run begins; a short look says nothing."""
    quick = check.inspect

    def slow(path: Path, name: str, check_settings: check.CheckSettings, kind: str) -> check.Inspection:
        time.sleep(0.02)
        return quick(path, name, check_settings, kind)

    monkeypatch.setattr(reconcile, "inspect", slow)
    by_hand(one := job(dataset={"count": 40}), 40)
    timings = replace(RUN_TIMINGS, scan_silence=0.1, scan_interval=0.05)
    told = await filled(one, timings=timings)
    *looks, began = told.events
    assert isinstance(began, RunStarted)
    assert all(isinstance(look, Scanning) and look.total == 40 for look in looks)
    counts = [look.done for look in looks if isinstance(look, Scanning)]
    assert counts == sorted(counts)
    assert len(counts) > 2
    assert counts[-1] == 40
    shutil.rmtree(one.dataset.state)
    told = await filled(one, timings=replace(timings, scan_silence=60.0))
    assert not [event for event in told.events if isinstance(event, Scanning)]


async def test_the_second_ctrl_c_waits_for_no_disk(job: JobMaker, stuck: threading.Event) -> None:
    """The thread is left where it hangs, whatever the limit; nothing else is asked of that disk."""
    by_hand(one := job(dataset={"count": 3}), 3)
    task = await begun(one, control := RunControl(), replace(RUN_TIMINGS, leaving=3600.0))
    await eventually(stuck.is_set)
    control.interrupt()
    await asyncio.sleep(0.05)
    assert not task.done()
    control.interrupt()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_first_ctrl_c_waits_no_longer_than_it_says(job: JobMaker, stuck: threading.Event) -> None:
    """A disk that hangs keeps the loop free, and the run for a known time."""
    by_hand(one := job(dataset={"count": 3}), 3)
    task = await begun(one, control := RunControl(), replace(RUN_TIMINGS, leaving=0.2))
    await eventually(stuck.is_set)
    control.interrupt()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(30):
            await task


async def test_a_disk_that_hangs_in_mid_run_is_left_behind(job: JobMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice asked, the run ends within its limits, in words, though an image is still being written."""
    hung, release = threading.Event(), threading.Event()

    def sync(*_: object) -> None:
        hung.set()
        release.wait()

    monkeypatch.setattr("reggen.dataset.folder.Folder.sync", sync)
    try:
        async with serve(Settings(seconds=0.02)) as sim:
            task = await begun(job(sim.url), control := RunControl(), replace(RUN_TIMINGS, leaving=0.2))
            await eventually(hung.is_set)
            control.interrupt()
            control.interrupt()
            with pytest.raises(StorageError, match="the disk does not answer"):
                async with asyncio.timeout(30):
                    await task
    finally:
        release.set()


async def test_what_does_not_end_when_it_is_asked_twice_is_left_at_the_third_time() -> None:
    """Whatever it waits for."""

    class Deaf:
        asked: ClassVar[list[str]] = []

        def stop(self, why: str) -> None:
            self.asked.append(why)

        def abort(self) -> None:
            self.asked.append("abort")

    control = RunControl()
    task: asyncio.Task[Any] = asyncio.create_task(asyncio.sleep(60))
    waiting = asyncio.create_task(control.guard(task))
    await asyncio.sleep(0)
    control.steer(Deaf())  # type: ignore[arg-type]
    for _ in range(2):
        control.interrupt()
        await asyncio.sleep(0)
        assert not task.done()
    control.interrupt()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert Deaf.asked == [BY_USER, "abort"]


@pytest.mark.parametrize("times", [1, 2])
async def test_who_asks_again_while_prompts_are_taken_back_is_told_what_was_made(
    job: JobMaker, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """The third Ctrl-C waits for no server, and the run has its summary as after two; nothing stays in its state.

    However often it is asked, what it was is known.
    """
    withdrawing = asyncio.Event()

    async def withdraw(_: ServerSession) -> None:
        withdrawing.set()
        await asyncio.sleep(60)

    monkeypatch.setattr(ServerSession, "withdraw", withdraw)
    async with serve(Settings(seconds=0.02)) as sim:
        control, told = RunControl(), Told()
        one = job(sim.url, dataset={"count": 500})
        running = asyncio.create_task(control.guard(asyncio.create_task(filled(one, control=control, told=told))))
        await eventually(lambda: rows(one) >= 3)
        control.interrupt()
        control.interrupt()
        await withdrawing.wait()
        for _ in range(times):
            control.interrupt()
        with suppress(asyncio.CancelledError):
            async with asyncio.timeout(30):
                await running
        summary = control.reached
        assert summary is not None
        assert (summary.exit_code, summary.before, summary.made) == (130, 0, rows(one))
        await eventually(lambda: not (one.dataset.state / "parts").exists())
        assert not (one.dataset.state / "holder.txt").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals to send to one process")
async def test_the_command_hears_ctrl_c_while_it_reconciles(job: JobMaker, tmp_path: Path) -> None:
    """The real command over 600 images that have no row: one SIGINT, exit 130, most of them left for later."""
    by_hand(one := job(dataset={"count": 600}), 600)
    file = tmp_path / "job.toml"
    file.write_text(
        f"[dataset]\nroot = '{one.dataset.root.as_posix()}'\nclass = 'thing'\ncount = 600\n[sampling]\n"
        "checkpoint = 'a.safetensors'\nwidth = 64\nheight = 64\n[prompts]\npositive = 'a cat'\nnegative = ''\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "reggen", "run", str(file), "--server", NOWHERE]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        await eventually(lambda: rows(one) >= 5)
        process.send_signal(signal.SIGINT)
        said, _ = await asyncio.wait_for(process.communicate(), 30)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 130, said.decode()
    assert "Traceback" not in said.decode()
    assert rows(one) < 600


# ---- the threads themselves


async def test_work_that_is_left_behind_keeps_no_process() -> None:
    """The interpreter ends although a thread hangs."""
    words = (
        "import asyncio, time\nfrom pathlib import Path\nfrom reggen.engine.threads import Threads\n"
        "async def main():\n  threads = Threads(1, 'x', Path())\n  threads.submit(time.sleep, 60)\nasyncio.run(main())"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", words, stderr=subprocess.PIPE)
    _, said = await asyncio.wait_for(process.communicate(), 30)  # half as long as it hangs
    assert (process.returncode, said) == (0, b"")


async def test_what_is_asked_for_last_is_done_last() -> None:
    """In order, in one thread; what was cancelled before its turn is not done."""
    done: list[int] = []
    threads = Threads(1, "test", HERE)
    jobs = [threads.submit(done.append, number) for number in range(5)]
    await threads.close(lambda: done.append(9))
    assert (done, all(job.done() for job in jobs)) == ([0, 1, 2, 3, 4, 9], True)
    with pytest.raises(RuntimeError, match="closed"):
        threads.submit(print)


async def test_what_has_not_begun_can_be_dropped() -> None:
    """Only what is being done is waited for."""
    gate, done = threading.Event(), list[int]()
    threads = Threads(1, "test", HERE)
    first = threads.submit(gate.wait, 30)
    await eventually(first.running)
    others = [threads.submit(done.append, number) for number in range(5)]
    closing = asyncio.create_task(threads.close(cancel=True))
    await asyncio.sleep(0)
    gate.set()
    await closing
    assert (done, [other.cancelled() for other in others]) == ([], [True] * 5)


async def test_what_goes_wrong_in_a_thread_goes_wrong_for_whoever_waits() -> None:
    """As if it had been called."""
    threads = Threads(2, "test", HERE)
    with pytest.raises(ZeroDivisionError):
        await threads.do(lambda: 1 / 0)
    assert await threads.do(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await threads.close(lambda: 1 / 0)


# ---- reading ahead


@pytest.mark.parametrize("count", [0, 1, 3, 64, 200])
async def test_what_is_read_ahead_is_all_of_it_in_order(count: int) -> None:
    """And after the end there is nothing, however often it is asked."""
    threads = Threads(1, "test", HERE)
    ahead, found = ReadAhead(iter(range(count)), threads, 64), list[int]()
    while window := await next_window(ahead):
        found += window
    assert found == list(range(count))
    assert [ahead(), ahead()] == [[], []]
    await threads.close()


async def test_reading_ahead_waits_for_no_disk() -> None:
    """While a window is being read there is none, and whoever asked is told when there is."""
    gate, told = threading.Event(), asyncio.Event()

    def items() -> Iterator[int]:
        gate.wait(30)
        yield 1

    threads = Threads(1, "test", HERE)
    ahead = ReadAhead(items(), threads, 8)
    ahead.on_ready = told.set
    assert ahead() is None
    gate.set()
    await told.wait()
    assert ahead() == [1]
    await threads.close()


async def test_reading_ahead_that_fails_fails_for_the_reader() -> None:
    """When its turn has come."""

    def items() -> Iterator[int]:
        yield from range(10)
        raise StorageError("ledger", "reading", "it is gone")

    threads = Threads(1, "test", HERE)
    ahead = ReadAhead(items(), threads, 8)
    assert await next_window(ahead) == list(range(8))
    with pytest.raises(StorageError):
        await next_window(ahead)
    await threads.close()


async def next_window(ahead: ReadAhead[int]) -> list[int]:
    """The next window, as soon as it is read."""
    while (window := ahead()) is None:
        await asyncio.sleep(0.002)
    return window
