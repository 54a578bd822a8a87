"""What the operating system has to say of a child process: its group, its memory, its end, its log."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

import psutil

_WINDOWS = os.name == "nt"
DEATH = 5.0  # seconds from a kill to the end; a driver that lets go of a full GPU needs some
_GLANCE = 0.02  # seconds between two looks at a process that is to end
_TAIL = 1 << 14  # bytes of the log that are looked at for its last lines
_LINES, _WIDTH = 8, 200
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class ProcessLog:
    """The file that a process writes to by itself: a pipe would fill up as soon as nobody reads."""

    def __init__(self, path: Path, limit: int) -> None:
        self._path, self._limit = path, limit
        self._older = path.with_name(f"{path.name}.1")
        self._begin = 0  # where the words of the process that runs now begin

    @property
    def is_long(self) -> bool:
        """Whether it is to be put aside."""
        try:
            return self._path.stat().st_size > self._limit
        except OSError:
            return False

    def open(self) -> BinaryIO:
        """For the next process. Raises OSError."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self.is_long:
            with suppress(OSError):  # Windows: somebody reads it
                self._path.replace(self._older)
        log = self._path.open("ab")
        self._begin = log.seek(0, os.SEEK_END)
        return log

    def put_aside(self) -> None:
        """When it is long: copy and cut, since the process keeps its handle; what it says in between is lost.

        Windows cannot cut. Blocking.
        """
        if _WINDOWS or not self.is_long:
            return
        with suppress(OSError):  # with a full disk it is cut all the same
            shutil.copyfile(self._path, self._older)
        with suppress(OSError):
            os.truncate(self._path, 0)
            self._begin = 0

    def quoted(self) -> str:
        """The last lines of the process that runs or ran, without colours; empty when it said nothing."""
        try:
            with self._path.open("rb") as log:
                end = log.seek(0, os.SEEK_END)
                log.seek(max(self._begin, end - _TAIL))
                text = log.read(_TAIL).decode(errors="replace")
        except OSError:
            return ""
        lines = ("".join(filter(str.isprintable, line)).rstrip() for line in _ESCAPES.sub("", text).splitlines())
        last = [f"  | {line[:_WIDTH]}" for line in lines if line][-_LINES:]
        return "\n".join([f"The last lines of {self._path}:", *last]) if last else ""


@cache
def tie() -> tuple[str, ...]:
    """Words before a command that make Linux kill it when reggen dies, be it by kill -9; none where there are none.

    setpriv sets that death signal and then becomes the command, under the same process id. Setting it between fork
    and exec (`preexec_fn`) is not safe in a process with threads.
    """
    tool = shutil.which("setpriv") if sys.platform == "linux" else None
    if tool is None:
        return ()
    try:
        asked = subprocess.run([tool, "--help"], capture_output=True, check=False, timeout=5)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return ()
    return (tool, "--pdeathsig", "KILL", "--") if b"--pdeathsig" in asked.stdout else ()


def gone(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has ended. What it leaves in its group is killed in that moment: the number is still its own."""
    if process.returncode is None and process.poll() is not None and sys.platform != "win32":
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode is not None


async def gone_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether it has ended, waiting so long for it."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not gone(process):  # noqa: ASYNC110 - the only way that all systems and event loops have
                await asyncio.sleep(_GLANCE)
    return gone(process)


def end_group(process: subprocess.Popen[bytes], *, kill: bool) -> None:
    """Ask the process and its children to end, or kill them. Nothing is done once it has ended."""
    if gone(process):
        return
    with suppress(OSError):  # it ended in between
        if sys.platform == "win32":
            if kill:
                kill_tree(process.pid)
            else:
                process.send_signal(signal.CTRL_BREAK_EVENT)
        else:
            os.killpg(process.pid, signal.SIGKILL if kill else signal.SIGTERM)
            os.killpg(process.pid, signal.SIGCONT)  # a stopped process does not hear the first


def memory(pid: int) -> int:
    """Bytes that a process and its descendants hold in RAM; 0 once it has ended. Blocking: looks at all processes."""
    total = 0
    for one in _tree(pid):
        with suppress(psutil.Error):  # it ended in between
            total += one.memory_info().rss
    return total


def kill_tree(pid: int) -> None:
    """Kill a process and its descendants."""
    for one in _tree(pid):
        with suppress(psutil.Error):
            one.kill()


def _tree(pid: int) -> list[psutil.Process]:
    try:
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    except psutil.Error:
        return []
