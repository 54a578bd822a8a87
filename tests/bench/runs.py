"""Runs of reggen's command line, each a process of its own, watched to the end or to the first prompt. Needs /proc."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.bench.servers import listener
from tests.bench.soak import ended, held_by
from tests.bench.watched import Watched, cpu_of, peak_mib

_LONGEST = 3600.0  # seconds that a watched run may take


def run_watched(job_file: Path, place: Path) -> Watched:
    """Run a job to its end in a process of its own; the figures noted there, with its most descriptors and threads."""
    result, said = place / "watched.json", place / "watched.log"
    result.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tests.bench.watched", str(result), "run", str(job_file), "--plain"]
    began, fds, threads = time.time(), 0, 0
    with said.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    try:
        while process.poll() is None and time.time() - began < _LONGEST:
            with suppress(OSError, KeyError):
                *_, own_fds, own_threads = held_by(process.pid)
                fds, threads = max(fds, own_fds), max(threads, own_threads)
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.5)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
    if not result.exists():
        sys.exit(f"the run has failed: {said.read_text(encoding='utf-8')[-2000:]}")
    seen = Watched(**json.loads(result.read_text(encoding="utf-8")))
    seen.began, seen.fds, seen.threads = began, fds, threads
    return seen


@dataclass(frozen=True, slots=True)
class FirstPost:
    """A run up to its first prompt: seconds since its process was started, CPU seconds, and its peak of RAM."""

    wall: float
    cpu: float
    peak_mib: float


def first_post(job_file: Path, said: Path) -> FirstPost:
    """Run a job that names no server until its first prompt arrives, then kill it."""
    posted, found = threading.Event(), list[FirstPost]()

    def first() -> None:
        now = time.monotonic()
        found.append(FirstPost(now - begun, cpu_of(process.pid), peak_mib(process.pid)))
        posted.set()

    with listener(first) as url, said.open("w", encoding="utf-8") as log:
        command = [sys.executable, "-m", "reggen", "run", str(job_file), "--plain", "--server", url]
        begun = time.monotonic()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, text=True)
        with ended(process):
            while process.poll() is None and not posted.wait(0.2):
                pass
    if not found:
        sys.exit(f"nothing was posted: {said.read_text(encoding='utf-8')[-2000:]}")
    return found[0]


def cpu_of_command(words: Sequence[str]) -> tuple[float, float]:
    """Wall and CPU seconds of a python with these arguments, to its end. Its output is thrown away."""
    begun = time.monotonic()
    process = subprocess.Popen([sys.executable, *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    wall, process.returncode = time.monotonic() - begun, os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"python {' '.join(words)} ended with {process.returncode}")
    return wall, used.ru_utime + used.ru_stime
