"""Child processes and their trees: their end, their memory, their tie to reggen."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from functools import cache

import psutil

KILL_LIMIT = 5.0
"""Seconds from a kill to the end of a process; a driver that frees a full GPU needs some."""
_GLANCE = 0.02  # seconds between two looks at a process that is ending


@cache
def tie() -> tuple[str, ...]:
    """Words before a command that make Linux kill it when reggen dies, even by kill -9; none where that is impossible.

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


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Tell a process that has ended. What is left of its group is killed the moment that is noticed.

    psutil does not help there: children that outlive their parent are no longer its children, but still in its group.
    """
    if process.returncode is None and process.poll() is not None and sys.platform != "win32":
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode is not None


async def ends_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait for the end of a process. True when it has ended."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not has_ended(process):  # noqa: ASYNC110 - the only way that all systems and event loops have
                await asyncio.sleep(_GLANCE)
    return has_ended(process)


def end_group(process: subprocess.Popen[bytes], *, kill: bool) -> None:
    """Ask a process and its children to end, or kill them. Does nothing once it has ended."""
    if has_ended(process):
        return
    with suppress(OSError):  # it ended in between
        if sys.platform != "win32":
            os.killpg(process.pid, signal.SIGKILL if kill else signal.SIGTERM)
            os.killpg(process.pid, signal.SIGCONT)  # a stopped process does not hear the first
        elif kill:
            kill_tree(process.pid)
        else:
            process.send_signal(signal.CTRL_BREAK_EVENT)


def memory(pid: int) -> int:
    """Bytes that a process and its descendants hold in RAM; 0 once it has ended. Blocking: reads all processes."""
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
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []
