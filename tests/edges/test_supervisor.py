"""Runs that start their own ComfyUI: a folder with a main.py that serves the stand-in."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import socket
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from reggen import progress
from reggen.backoff import Backoff
from reggen.comfy.session import ServerSession
from reggen.job.models import Job
from reggen.launch.comfy_process import ComfyProcess, LaunchError
from reggen.launch.settings import LaunchTimings
from tests.conftest import RUN_TIMINGS, JobMaker, Told, eventually, filled
from tests.invariants import assert_sound

MAIN = """
import argparse, asyncio, os, pathlib
from reggen import sim

parser = argparse.ArgumentParser()
parser.add_argument("--listen")
parser.add_argument("--port", type=int)
parser.add_argument("--cuda-device", type=int, default=-1)
options = parser.parse_args()
pathlib.Path(f"pid-{options.port}").write_text(f"{os.getpid()} {options.cuda_device}")
script = pathlib.Path(f"script-{options.port}.toml")
faults = sim.Script.from_toml(script.read_text()) if script.exists() else sim.Script()
script.unlink(missing_ok=True)
serving = sim.run_forever(
    sim.Settings(seconds=0.05), host="127.0.0.1", port=options.port, count=1, script=faults, on_ready=print
)
asyncio.run(serving)
"""


@pytest.fixture
def comfy(tmp_path: Path) -> Path:
    folder = tmp_path / "ComfyUI"
    folder.mkdir()
    (folder / "main.py").write_text(MAIN, encoding="utf-8")
    return folder


def free_ports(count: int) -> int:
    """The first of so many consecutive ports that nobody uses."""
    candidates = range(20_000 + os.getpid() % 20_000, 60_000, count)
    return next(first for first in candidates if all(is_free(first + number) for number in range(count)))


def is_free(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) != 0


def process(comfy: Path, port: int) -> int:
    return int((comfy / f"pid-{port}").read_text(encoding="utf-8").split()[0])


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid)


async def test_a_comfyui_for_each_gpu_is_started_and_ended(job: JobMaker, comfy: Path) -> None:
    """On consecutive ports, each told its GPU; afterwards there is none."""
    port = free_ports(2)
    one = job(dataset={"count": 8})
    server = {"url": f"http://127.0.0.1:{port}", "launch": str(comfy), "gpus": [0, 1]}
    one = type(one).model_validate({**one.model_dump(by_alias=True), "servers": [server]})
    told = await filled(one, limit=60)
    assert told.summary.exit_code == 0
    assert_sound(one)
    assert [(comfy / f"pid-{port + gpu}").read_text(encoding="utf-8").split()[1] for gpu in (0, 1)] == ["0", "1"]
    assert not any(is_alive(process(comfy, port + gpu)) for gpu in (0, 1))
    assert (one.dataset.state / f"comfyui-{port}.log").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot kill like this")
async def test_a_comfyui_that_crashes_in_mid_run_is_started_again(job: JobMaker, comfy: Path) -> None:
    """And what it had is made after all, each once."""
    port = free_ports(1)
    one = launched_job(job, comfy, port, count=12)
    told = Told()
    running = asyncio.create_task(filled(one, limit=60, told=told))
    await eventually(lambda: len(list(one.dataset.folder.glob("*.png"))) >= 3)
    first = process(comfy, port)
    os.kill(first, signal.SIGKILL)
    await running
    assert told.summary.exit_code == 0
    assert process(comfy, port) != first
    assert_sound(one)


async def test_a_comfyui_whose_worker_died_is_started_again(job: JobMaker, comfy: Path) -> None:
    """It answers and does nothing: nobody has to get up for it."""
    timings = replace(RUN_TIMINGS, glance=0.1)
    port = free_ports(1)
    one = launched_job(job, comfy, port, count=6)
    (comfy / f"script-{port}.toml").write_text('[[fault]]\ndo = "zombie"\non = "start"\nnth = 3\n', encoding="utf-8")
    told = await filled(one, limit=60, timings=timings)
    assert told.summary.exit_code == 0
    assert_sound(one)


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot stop a process like this")
async def test_a_comfyui_that_freezes_is_started_again(job: JobMaker, comfy: Path) -> None:
    """The process lives and answers nothing: after a while it is ended and another takes its place."""
    timings = replace(RUN_TIMINGS, glance=0.1, frozen=1.0)
    port = free_ports(1)
    one = launched_job(job, comfy, port, count=12)
    told = Told()
    running = asyncio.create_task(filled(one, limit=90, told=told, timings=timings))
    await eventually(lambda: len(list(one.dataset.folder.glob("*.png"))) >= 3)
    first = process(comfy, port)
    os.kill(first, signal.SIGSTOP)
    await running
    assert told.summary.exit_code == 0
    assert process(comfy, port) != first
    assert not is_alive(first)
    assert_sound(one)


async def test_a_comfyui_that_grows_is_restarted_between_two_prompts(
    job: JobMaker, comfy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has is finished first: nothing is lost, and nothing is paid for twice."""
    timings = replace(RUN_TIMINGS, glance=0.05)
    port = free_ports(1)
    one = limited(launched_job(job, comfy, port, count=12))
    told, sizes = Told(), dict[str, int]()

    def memory(pid: int) -> int:
        return 2 << 40 if len(list(one.dataset.folder.glob("*.png"))) >= 4 and pid == sizes.get("first") else 1

    monkeypatch.setattr("reggen.launch.comfy_process.memory", memory)
    running = asyncio.create_task(filled(one, limit=90, told=told, timings=timings))
    await eventually(lambda: len(list(one.dataset.folder.glob("*.png"))) >= 1)
    sizes["first"] = process(comfy, port)
    await running
    assert told.summary.exit_code == 0
    assert process(comfy, port) != sizes["first"]
    assert all(event.text.find("vanished") < 0 for event in told.events if isinstance(event, progress.Trouble))
    assert_sound(one)


async def test_a_link_that_is_up_before_the_restart_is_over_is_given_work(
    job: JobMaker, comfy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server answers again while nothing may be handed to it yet: when it may, somebody must wake the run."""
    timings = replace(RUN_TIMINGS, glance=0.05)
    port, sessions, restart = free_ports(1), list[ServerSession](), ComfyProcess.restart
    one = limited(launched_job(job, comfy, port, count=8))

    async def until_it_is_up_again(self: ComfyProcess, why: str) -> None:
        await restart(self, why)
        big.clear()
        await eventually(lambda: sessions[0].up)

    big = {True}
    monkeypatch.setattr(ComfyProcess, "restart", until_it_is_up_again)
    monkeypatch.setattr(ServerSession, "listen", _noted(ServerSession.listen, sessions))
    monkeypatch.setattr("reggen.launch.comfy_process.memory", lambda _: 2 << 40 if big and _images(one) >= 2 else 1)
    told = await filled(one, limit=60, timings=timings)
    assert told.summary.exit_code == 0
    assert_sound(one)


async def test_a_comfyui_that_is_small_again_is_given_work_again(
    job: JobMaker, comfy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It held too much while a prompt ran, and let go of it at its end: no restart, and no rest without an end."""
    timings = replace(RUN_TIMINGS, glance=0.01)
    port, looks = free_ports(1), itertools.count()
    one = limited(launched_job(job, comfy, port, count=8))

    def memory(_: int) -> int:
        return 2 << 40 if _images(one) >= 2 and next(looks) == 0 else 1

    monkeypatch.setattr("reggen.launch.comfy_process.memory", memory)
    told = await filled(one, limit=60, timings=timings)
    assert told.summary.exit_code == 0
    assert_sound(one)


async def test_a_comfyui_that_may_not_be_restarted_is_given_work_all_the_same(
    job: JobMaker, comfy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds too much and the hour's restarts are spent: a large server is better than none."""
    timings = replace(RUN_TIMINGS, glance=0.01)
    one = limited(launched_job(job, comfy, free_ports(1), count=8))

    async def refused(self: ComfyProcess, why: str) -> None:
        raise LaunchError("ComfyUI", "restarting it", f"it is not restarted any more: {why}")

    monkeypatch.setattr(ComfyProcess, "restart", refused)
    monkeypatch.setattr("reggen.launch.comfy_process.memory", lambda _: 2 << 40 if _images(one) >= 2 else 1)
    told = await filled(one, limit=60, timings=timings)
    assert told.summary.exit_code == 0
    assert any("not restarted any more" in event.text for event in told.events if isinstance(event, progress.Trouble))


def limited(one: Job) -> Job:
    """The same with a limit of memory, which the tests say when it is passed."""
    server = {**one.model_dump(by_alias=True)["servers"][0], "memory_gib": 1024}
    return type(one).model_validate({**one.model_dump(by_alias=True), "servers": [server]})


def _images(one: Job) -> int:
    return len(list(one.dataset.folder.glob("*.png")))


def _noted(
    listen: Callable[[ServerSession], Coroutine[None, None, None]], sessions: list[ServerSession]
) -> Callable[[ServerSession], Coroutine[None, None, None]]:
    async def noting(self: ServerSession) -> None:
        sessions.append(self)
        await listen(self)

    return noting


async def test_a_comfyui_that_keeps_crashing_is_tried_again_later(job: JobMaker, comfy: Path) -> None:
    """The hour's restarts are spent, and the night is longer: when it can live again, the run goes on."""
    timings = replace(RUN_TIMINGS, relaunch=0.5, launch=LaunchTimings(restart=Backoff(0.01, 0.02), hour=4.0))
    port = free_ports(1)
    one = launched_job(job, comfy, port, count=6)
    told = Told()
    running = asyncio.create_task(filled(one, limit=100, told=told, timings=timings))
    await eventually(lambda: len(list(one.dataset.folder.glob("*.png"))) >= 2)
    works = (comfy / "main.py").read_text(encoding="utf-8")
    (comfy / "main.py").write_text("raise SystemExit(1)", encoding="utf-8")
    end_process(process(comfy, port))
    await eventually(lambda: any("the next try is in" in text for text in troubles(told)), 60)
    (comfy / "main.py").write_text(works, encoding="utf-8")
    await running
    assert told.summary.exit_code == 0
    assert any(isinstance(event, progress.ServersAwaited) for event in told.events)
    assert_sound(one)


def troubles(told: Told) -> list[str]:
    return [event.text for event in told.events if isinstance(event, progress.Trouble)]


def end_process(pid: int) -> None:
    os.kill(pid, signal.SIGTERM if os.name == "nt" else signal.SIGKILL)


async def test_a_folder_that_is_no_comfyui_is_a_sentence(job: JobMaker, tmp_path: Path) -> None:
    """Before anything is posted."""
    with pytest.raises(LaunchError, match=r"there is no main\.py"):
        await filled(launched_job(job, tmp_path, free_ports(1), count=1))


def launched_job(job: JobMaker, folder: Path, port: int, *, count: int) -> Job:
    made = job(dataset={"count": count})
    server = {"url": f"http://127.0.0.1:{port}", "launch": str(folder)}
    return type(made).model_validate({**made.model_dump(by_alias=True), "servers": [server]})
