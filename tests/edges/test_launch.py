"""A ComfyUI of our own: started, watched, restarted and ended, as a real process on a real port."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from reggen.comfy.client import Client
from reggen.launch.comfy_process import ComfyProcess, LaunchError
from reggen.launch.process import kill_tree, memory
from reggen.launch.settings import LaunchSettings, LaunchTimings
from reggen.sim import serve
from tests.conftest import eventually

MAIN = """
import argparse, os, signal, subprocess, sys, time

parser = argparse.ArgumentParser()
parser.add_argument("--listen")
parser.add_argument("--port", type=int)
parser.add_argument("--cuda-device")
parser.add_argument("--mood", default="good")
asked = parser.parse_args()
mood = asked.mood

print(f"stdin={sys.stdin.read()!r} word={os.environ.get('REGGEN_TEST_WORD')} gpu={asked.cuda_device}", flush=True)
if mood == "broken":
    sys.exit("\\x1b[31mNo module named 'torch'\\x1b[0m")
if mood == "mute":
    time.sleep(600)
if mood == "stubborn":
    signal.signal(signal.SIGTERM, lambda *_: print("I will not", flush=True))
if mood == "parent":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", __file__])
    with open("child", "w") as file:
        file.write(f"{child.pid}\\n")

import asyncio
from reggen.sim import serve

async def answer(reader, writer):
    request = await reader.readuntil(b"\\r\\n\\r\\n")
    allowed = b"x-token: secret" in request.lower()
    body = b'{"exec_info": {"queue_remaining": 0}}' if allowed else b"{}"
    writer.write(b"HTTP/1.1 %d x\\r\\nContent-Length: %d\\r\\n\\r\\n" % (200 if allowed else 401, len(body)) + body)
    writer.close()

async def main():
    if mood == "guarded":
        await asyncio.start_server(answer, asked.listen, asked.port)
        await asyncio.Event().wait()
    async with serve(host=asked.listen, port=asked.port):
        if mood == "crash":
            await asyncio.sleep(0.5)
            print("CUDA error: the GPU has fallen off the bus", flush=True)
            os._exit(3)
        while mood == "chatty":
            print("x" * 200)
            await asyncio.sleep(0)
        await asyncio.Event().wait()

asyncio.run(main())
"""

posix = pytest.mark.skipif(os.name == "nt", reason="signals as POSIX knows them")

Maker = Callable[..., ComfyProcess]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def left_of(folder: Path) -> list[list[str]]:
    """The command lines of processes that run something in a folder."""
    lines = (process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"]))
    return [line for line in lines if any(str(folder) in word for word in line)]


def runs(pid: int) -> bool:
    """A process that has ended and waits for init to notice runs no more."""
    try:
        return psutil.Process(pid).status() not in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def settings(tmp_path: Path) -> LaunchSettings:
    """A ComfyUI in a folder of this test's own."""
    folder = tmp_path / "ComfyUI"
    folder.mkdir()
    (folder / "main.py").write_text(textwrap.dedent(MAIN), encoding="utf-8")
    url = f"http://127.0.0.1:{free_port()}"
    return LaunchSettings(folder=folder, url=url, python=Path(sys.executable), log=tmp_path / "logs" / "comfy.log")


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
async def make(settings: LaunchSettings, told: list[str], tmp_path: Path) -> AsyncIterator[Maker]:
    """A maker of processes. None of them, nor of their children, outlives the test."""
    made: list[ComfyProcess] = []

    def one(mood: str = "good", timings: LaunchTimings | None = None, **changes: Any) -> ComfyProcess:
        changed = replace(settings, arguments=("--mood", mood), **changes)
        made.append(ComfyProcess(changed, tell=told.append, timings=timings))
        return made[-1]

    yield one
    await asyncio.gather(*(process.stop() for process in made))
    await eventually(lambda: not left_of(tmp_path))


async def answers(url: str) -> bool:
    async with Client(url) as client:
        return await client.queue_depth() == 0


def pid_of(process: ComfyProcess) -> int:
    assert process.pid is not None
    return process.pid


# ---- starting


async def test_a_process_is_started_answers_and_is_ended(
    make: Maker, settings: LaunchSettings, told: list[str]
) -> None:
    """Start returns when the server can be asked, and does nothing when it runs; so does stop when it does not."""
    process = make(device=1)
    await process.start()
    assert await answers(settings.url)
    pid = pid_of(process)
    await process.start()
    assert pid_of(process) == pid
    await process.stop()
    await process.stop()
    assert process.pid is None
    assert not process.alive
    assert "gpu=1" in settings.log.read_text(encoding="utf-8")
    assert "starting ComfyUI" in told[0]
    assert "is ready" in told[1]


async def test_what_was_stopped_can_be_started_again(make: Maker, settings: LaunchSettings) -> None:
    """Its port is free at once."""
    process = make()
    for _ in range(2):
        await process.start()
        assert await answers(settings.url)
        await process.stop()


async def test_an_early_end_is_reported_with_the_process_s_own_last_words(
    make: Maker, settings: LaunchSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its colours, and without those of an earlier night; it got our environment and nothing to read."""
    monkeypatch.setenv("REGGEN_TEST_WORD", "hello")
    settings.log.parent.mkdir()
    settings.log.write_text("the words of last night\n", encoding="utf-8")
    with pytest.raises(LaunchError, match=r"it exited with status 1 before it was ready") as caught:
        await make("broken").start()
    text = str(caught.value)
    assert text.endswith("  | stdin='' word=hello gpu=None\n  | No module named 'torch'")
    assert "last night" not in text
    assert caught.value.folder == str(settings.folder)
    assert "the words of last night" in settings.log.read_text(encoding="utf-8")


async def test_a_process_that_never_answers_is_ended(make: Maker) -> None:
    """After the time it was given, and not one process is left."""
    process = make("mute", LaunchTimings(ready=0.3))
    with pytest.raises(LaunchError, match=r"it was not ready within 0\.3 s"):
        await process.start()
    assert not process.alive


async def test_a_comfyui_that_wants_a_token_is_asked_with_it(make: Maker) -> None:
    """Some node packs add a login: the job's headers go with the requests that find out if it is ready."""
    await make("guarded", headers={"X-Token": "secret"}).start()
    with pytest.raises(LaunchError, match="not ready"):
        await make("guarded", LaunchTimings(ready=0.5), url=f"http://127.0.0.1:{free_port()}").start()


async def test_a_folder_without_main_py_is_no_comfyui(make: Maker, settings: LaunchSettings) -> None:
    """Said before anything is started."""
    (settings.folder / "main.py").unlink()
    with pytest.raises(LaunchError, match=r"there is no main\.py\. Name the folder"):
        await make().start()
    assert not settings.log.exists()


async def test_a_python_that_is_not_there_is_named(make: Maker, tmp_path: Path) -> None:
    """With its path, and with what to do."""
    with pytest.raises(LaunchError, match=r"no python to run at .*gone.* Name the python"):
        await make(python=tmp_path / "gone").start()


async def test_a_log_that_cannot_be_written_is_named(make: Maker, tmp_path: Path) -> None:
    """A process without a log is not started."""
    (tmp_path / "file").touch()
    with pytest.raises(LaunchError, match=r"starting ComfyUI in .*\(.*file.*\)"):
        await make(log=tmp_path / "file" / "comfy.log").start()


async def test_a_port_that_is_taken_belongs_to_somebody_else(make: Maker) -> None:
    """Nothing is started there, and what answers there is never ended."""
    async with serve() as other:
        process = make(url=other.url)
        with pytest.raises(LaunchError, match=r"already taken by a server that reggen did not start"):
            await process.start()
        await process.stop()
        assert await answers(other.url)


async def test_a_start_can_be_called_off(make: Maker) -> None:
    """Stop does not wait for a process to get ready."""
    process = make("mute")
    starting = asyncio.create_task(process.start())
    await eventually(lambda: process.alive)
    await process.stop()
    with pytest.raises(LaunchError, match="it was stopped before it was ready"):
        await starting
    assert not process.alive


async def test_a_cancelled_start_leaves_no_process(make: Maker) -> None:
    """It is ended on the way out."""
    process = make("mute")
    starting = asyncio.create_task(process.start())
    await eventually(lambda: process.alive)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not process.alive


# ---- restarting


@posix
async def test_a_killed_process_is_started_again(make: Maker, settings: LaunchSettings, told: list[str]) -> None:
    """As long as it is watched, and it is told once; the watch ends when the process is stopped."""
    process = make()
    await process.start()
    first = pid_of(process)
    watching = asyncio.create_task(process.watch())
    os.kill(first, signal.SIGKILL)
    await eventually(lambda: sum("is ready" in line for line in told) == 2)
    assert pid_of(process) != first
    assert await answers(settings.url)
    assert [line for line in told if "ended by SIGKILL" in line and "restart 1 of at most 6 an hour" in line]
    await process.stop()
    async with asyncio.timeout(30):
        await watching


async def test_a_process_that_keeps_crashing_is_given_up(make: Maker) -> None:
    """After the cap of the hour, with its last words."""
    process = make("crash", restarts_per_hour=1)
    await process.start()
    with pytest.raises(LaunchError, match=r"it was restarted once within the hour already") as caught:
        async with asyncio.timeout(30):
            await process.watch()
    assert "it exited with status 3" in caught.value.what
    assert str(caught.value).endswith("  | CUDA error: the GPU has fallen off the bus")
    assert not process.alive


async def test_a_start_that_fails_at_night_counts_as_a_crash(make: Maker, settings: LaunchSettings) -> None:
    """It is tried again up to the cap, and what went wrong last is told."""
    process = make(restarts_per_hour=1)
    await process.start()
    (settings.folder / "main.py").write_text("raise SystemExit('out of order')", encoding="utf-8")
    with pytest.raises(LaunchError, match=r"it was restarted once within the hour already") as caught:
        await process.restart("its worker is dead")
    assert "it exited with status 1 before it was ready" in caught.value.what
    assert "out of order" in str(caught.value)


async def test_a_restart_on_request_says_why_and_counts(make: Maker, settings: LaunchSettings, told: list[str]) -> None:
    """Another process serves the same address; once the cap is reached the process is left as it is."""
    process = make(restarts_per_hour=1)
    await process.start()
    first = pid_of(process)
    await process.restart("its worker is dead")
    second = pid_of(process)
    assert second != first
    assert await answers(settings.url)
    assert [line for line in told if "its worker is dead; starting ComfyUI again" in line]
    with pytest.raises(LaunchError, match="it holds too much memory, and it was restarted once"):
        await process.restart("it holds too much memory")
    assert process.pid == second


async def test_two_who_want_a_restart_get_one(make: Maker, told: list[str]) -> None:
    """And the watch takes the pause between the two processes for no crash."""
    process = make()
    await process.start()
    watching = asyncio.create_task(process.watch())
    await asyncio.gather(*(process.restart("its worker is dead") for _ in range(2)))
    assert len([line for line in told if "starting ComfyUI again" in line]) == 1
    await process.stop()
    await watching


async def test_nothing_is_restarted_after_the_end(make: Maker, told: list[str]) -> None:
    """Neither by a wish that comes late, nor by a watch."""
    process = make("mute")
    await process.restart("nobody started it")
    await process.watch()
    assert told == []
    assert not process.alive


async def test_a_pause_before_a_restart_is_cut_short_by_the_end(make: Maker, told: list[str]) -> None:
    """Whoever stops does not wait for a back-off of a minute, and nothing starts after it."""
    process = make()
    await process.start()
    first = process.pid
    restarting = asyncio.create_task(process.restart("its worker is dead"))
    await eventually(lambda: process.pid != first)
    await process.stop()
    async with asyncio.timeout(30):
        with suppress(LaunchError):  # the pause was over already
            await restarting
    assert not process.alive


# ---- ending


@posix
async def test_a_process_that_will_not_end_is_killed(make: Maker, settings: LaunchSettings) -> None:
    """After the time it was given for an end of its own."""
    process = make("stubborn", timings=LaunchTimings(end=0.3))
    await process.start()
    await process.stop()
    assert not process.alive
    assert "I will not" in settings.log.read_text(encoding="utf-8")


@posix
async def test_a_stop_that_is_cancelled_kills_at_once(make: Maker, settings: LaunchSettings) -> None:
    """The second Ctrl-C does not wait for a process that takes its time."""
    process = make("stubborn", timings=LaunchTimings(end=600.0))
    await process.start()
    stopping = asyncio.create_task(process.stop())
    await eventually(lambda: "I will not" in settings.log.read_text(encoding="utf-8"))
    assert process.alive
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert not process.alive


@posix
async def test_its_children_end_with_it(make: Maker, settings: LaunchSettings) -> None:
    """Custom nodes start processes of their own, and these hold GPU memory."""
    process = make("parent")
    await process.start()
    child = int((settings.folder / "child").read_text())
    assert runs(child)
    await process.stop()
    await eventually(lambda: not runs(child))


@posix
async def test_the_children_of_a_crashed_process_end_before_the_next_begins(
    make: Maker, settings: LaunchSettings
) -> None:
    """They would hold what the next one needs."""
    process = make("parent")
    await process.start()
    child = int((settings.folder / "child").read_text())
    os.kill(pid_of(process), signal.SIGKILL)
    await eventually(lambda: not process.alive)
    await eventually(lambda: not runs(child))


@posix
async def test_a_frozen_process_is_ended(make: Maker) -> None:
    """It is woken to hear that it is to end; nobody waits for the kill."""
    process = make(timings=LaunchTimings(end=600.0))
    await process.start()
    os.kill(pid_of(process), signal.SIGSTOP)
    await asyncio.to_thread(os.waitpid, pid_of(process), os.WUNTRACED)  # returns when it has stopped
    async with asyncio.timeout(30):
        await process.stop()
    assert not process.alive


@posix
async def test_a_ctrl_c_in_the_terminal_does_not_reach_it(make: Maker) -> None:
    """It has a session of its own: reggen decides when it ends."""
    process = make("mute")
    starting = asyncio.create_task(process.start())
    await eventually(lambda: process.alive)
    pid = pid_of(process)
    assert os.getsid(pid) == os.getpgid(pid) == pid
    await process.stop()
    with pytest.raises(LaunchError):
        await starting


REGGEN = """
import asyncio, sys
from pathlib import Path
from reggen.launch.comfy_process import ComfyProcess
from reggen.launch.settings import LaunchSettings

async def main(folder, url, log):
    process = ComfyProcess(
        LaunchSettings(folder=Path(folder), url=url, python=Path(sys.executable), log=Path(log)), tell=lambda line: None
    )
    await process.start()
    print(process.pid, flush=True)
    await process.watch()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("setpriv"), reason="Linux's death signal")
async def test_it_does_not_outlive_a_reggen_that_is_killed(settings: LaunchSettings) -> None:
    """By kill -9, so that nothing of reggen's own could have ended it."""
    words = [sys.executable, "-c", REGGEN, str(settings.folder), settings.url, str(settings.log)]
    reggen = await asyncio.create_subprocess_exec(*words, stdout=subprocess.PIPE)
    assert reggen.stdout is not None
    async with asyncio.timeout(30):
        pid = int(await reggen.stdout.readline())
    assert await answers(settings.url)
    reggen.kill()
    await reggen.wait()
    await eventually(lambda: not runs(pid))


# ---- the log, the memory


@posix
async def test_the_log_of_a_long_night_is_cut(make: Maker, settings: LaunchSettings) -> None:
    """While the process writes on: one older piece is kept beside it, and no more."""
    process = make("chatty", log_limit=50_000)
    await process.start()
    watching = asyncio.create_task(process.watch())
    older = settings.log.with_name("comfy.log.1")
    await eventually(lambda: older.exists() and settings.log.stat().st_size < 50_000)
    await eventually(lambda: settings.log.stat().st_size > 0)
    assert b"\0" not in settings.log.read_bytes()
    await process.stop()
    await watching


async def test_a_long_log_is_put_aside_at_a_start(make: Maker, settings: LaunchSettings) -> None:
    """The new process begins a new one."""
    settings.log.parent.mkdir()
    settings.log.write_text("x" * 2_000, encoding="utf-8")
    with pytest.raises(LaunchError, match="torch"):
        await make("broken", log_limit=1_000).start()
    assert settings.log.with_name("comfy.log.1").stat().st_size == 2_000
    assert settings.log.stat().st_size < 1_000


async def test_a_process_with_too_much_ram_is_known(make: Maker) -> None:
    """By the limit it was given; one that does not run has none."""
    small, big = make(memory_limit=1 << 20), make(memory_limit=1 << 40)
    for process in (small, big):
        assert not await process.is_too_big()
        await process.start()
        assert await process.is_too_big() is (process is small)
        await process.stop()
        assert not await process.is_too_big()


LARGE = "import subprocess, sys, time; held = bytearray(60 << 20); {0}; print('ready', flush=True); time.sleep(60)"
CHILD = "subprocess.Popen([sys.executable, '-c', sys.argv[1]], start_new_session=True).pid"


@contextmanager
def a_family() -> Iterator[tuple[int, int]]:
    """A process and its child, which has left its group; each holds 60 MiB."""
    program = LARGE.format(f"print({CHILD}, flush=True)")
    words = [sys.executable, "-c", program, LARGE.format("pass")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        lines = [parent.stdout.readline().strip() for _ in range(3)]
        try:
            yield parent.pid, next(int(line) for line in lines if line != "ready")
        finally:
            kill_tree(parent.pid)


def test_the_memory_of_a_process_is_its_family_s() -> None:
    """Custom nodes start workers, and these hold most of it; a process that has ended holds none."""
    with a_family() as (parent, child):
        assert memory(parent) > 120 << 20
        assert 60 << 20 < memory(child) < memory(parent)
    assert memory(parent) == 0


def test_a_killed_process_takes_its_family_along() -> None:
    """Also those that left its group, where groups are not what a process is killed by."""
    with a_family() as (parent, child):
        kill_tree(parent)
        while runs(child):
            time.sleep(0.01)
