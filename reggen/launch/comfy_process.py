"""A ComfyUI process that reggen itself starts: with its children, its log, its restarts, its end.

    process = ComfyProcess(LaunchSettings(folder=..., url="http://127.0.0.1:8188", log=...), tell=print)
    await process.start()
    try:
        await process.watch()
    finally:
        await process.stop()

Only what was started here is ever ended. On Linux and macOS the process leads a session of its own, and its whole
group ends with it; a child that leaves the group on purpose is left alone. On Windows its descendants are killed with
it. When reggen itself is killed, Linux ends the process (see `process.tie`); elsewhere it continues, and the next start
reports that the port is taken.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from reggen.backoff import full_jitter
from reggen.comfy.client import Client, Timeouts
from reggen.errors import NO_SERVER, ReggenError, ServerError
from reggen.launch.log import ProcessLog
from reggen.launch.process import KILL_LIMIT, end_group, ends_within, has_ended, memory, tie
from reggen.launch.settings import LaunchSettings, LaunchTimings, command, is_comfyui, longest_pause, pick_python

_PORT_CHECK = 5.0  # seconds; Windows takes two to refuse a connection
_READY_CHECK = Timeouts(connect=2.0, request=5.0)


class LaunchError(ReggenError):
    """A ComfyUI could not be started, or not again. ``log`` quotes the last lines of its log."""

    exit_code = NO_SERVER

    def __init__(self, folder: str, doing: str, what: str, remedy: str = "", log: str = "") -> None:
        super().__init__(folder, doing, what, remedy, log)
        self.folder, self.doing, self.what, self.remedy, self.log = folder, doing, what, remedy, log

    def __str__(self) -> str:
        sentences = (f"{self.doing} in {self.folder}: {self.what}", self.remedy, self.log)
        return ". ".join(sentence for sentence in sentences if sentence)


class ComfyProcess:
    """One supervised process.

    Use it from a thread that lives as long as the run, such as the main one: on Linux the process ends with its thread.
    ``tell`` is called with sentences for people.
    """

    def __init__(
        self,
        settings: LaunchSettings,
        *,
        tell: Callable[[str], None],
        timings: LaunchTimings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._tell, self._timings, self._clock = settings, tell, timings or LaunchTimings(), clock
        self._log = ProcessLog(settings.log, settings.log_limit)
        self._process: subprocess.Popen[bytes] | None = None
        self._restarts: list[float] = []
        self._starting = asyncio.Lock()  # held by the task that starts or restarts
        self._stopped = asyncio.Event()  # nothing is to run
        self._stopped.set()

    @property
    def alive(self) -> bool:
        """True while the process runs. It may still be starting, or not answer."""
        return self._process is not None and not has_ended(self._process)

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid if self._process is not None and self.alive else None

    async def is_too_big(self) -> bool:
        """Find out if it and its descendants hold more RAM than it may."""
        pid, limit = self.pid, self._settings.memory_limit
        return pid is not None and limit is not None and await asyncio.to_thread(memory, pid) > limit

    async def python(self) -> Path:
        """The python that it runs with. Raises LaunchError for what would keep it from starting; starts nothing."""
        found = await asyncio.to_thread(self._find_python)
        if await _is_taken(self._settings.host, self._settings.port):
            raise self._error(
                "starting",
                f"{self._settings.name} is already taken by a server that reggen did not start",
                "Stop that server, choose another port, or take `launch` out of [[servers]] to use it as it is",
            )
        return found

    async def start(self) -> None:
        """Start it and wait until it answers; returns at once when it runs. After a LaunchError nothing runs."""
        self._stopped.clear()
        async with self._starting:
            if self.alive:
                return
            try:
                await self._start_once()
            except BaseException:  # cancelled or failed: then there is nothing to watch
                self._stopped.set()
                raise

    async def watch(self) -> None:
        """Restart it whenever it has ended, until `stop`. Raises LaunchError when the hour's restarts are spent."""
        while not self._stopped.is_set():
            if self.alive:
                await asyncio.to_thread(self._log.cut)
                await asyncio.sleep(self._timings.glance)
                continue
            async with self._starting:
                if not self.alive:
                    await self._restart_until_ready(self._how_it_ended())

    async def restart(self, why: str) -> None:
        """End it and start it again. Raises LaunchError, and leaves it as it is, when the hour's restarts are spent."""
        meant = self._process
        async with self._starting:
            if self._process is meant:  # otherwise another task's restart was this one too
                await self._restart_until_ready(why)

    async def stop(self) -> None:
        """End it and its children, politely at first. Takes a known time at most; cancelled, it kills at once."""
        self._stopped.set()
        await self._end()

    # ---- starting

    async def _restart_until_ready(self, why: str) -> None:
        """Restart it; a start that fails counts as one more crash."""
        while not self._stopped.is_set():
            pause = self._next_pause(why)
            await self._end()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), pause)
            if self._stopped.is_set():
                return
            try:
                await self._start_once()
            except LaunchError as error:
                why = error.what
            else:
                return

    def _next_pause(self, why: str) -> float:
        """Count one more restart. Raises LaunchError when the hour's restarts are spent."""
        now, cap = self._clock(), self._settings.restarts_per_hour
        self._restarts = [at for at in self._restarts if now - at < self._timings.hour]
        longest = longest_pause(self._restarts, now, cap, self._timings)
        if longest is None:
            times = "once" if cap == 1 else f"{cap} times"
            spent = f"it was restarted {times} within the hour already" if cap else "it may not be restarted"
            raise self._error("restarting", f"{why}, and {spent}", "Find out why it ends")
        self._restarts.append(now)
        pause = full_jitter(longest)
        count = f"restart {len(self._restarts)} of at most {cap} an hour"
        self._tell(f"{self._settings.name}: {why}; starting ComfyUI again in {pause:.0f} s ({count})")
        return pause

    async def _start_once(self) -> None:
        """Start it and wait until it answers; when that fails, no process is left."""
        python = await self.python()
        tied = await asyncio.to_thread(tie)
        if self._stopped.is_set():
            raise self._stopped_early()
        began = self._clock()
        self._process = process = self._spawn([*tied, *command(self._settings, python)])
        folder, log = self._settings.folder, self._settings.log
        self._tell(f"{self._settings.name}: starting ComfyUI in {folder} (its log: {log})")
        try:
            await self._wait_until_ready(process, began)
        except BaseException:  # cancelled or failed: what was started is not left behind
            await self._end()
            raise
        self._tell(f"{self._settings.name}: ComfyUI is ready after {self._clock() - began:.0f} s")

    def _find_python(self) -> Path:
        """The python to run. Raises LaunchError for whatever is known to be wrong before anything is started."""
        if self._process is not None and self.alive:
            what = f"the process before it ({self._process.pid}) does not end even when it is killed"
            raise self._error("starting", what, "A driver may hold it: restart this machine")
        if not is_comfyui(self._settings.folder):
            remedy = "Name the folder with ComfyUI's main.py: `launch` in [[servers]]"
            raise self._error("starting", "there is no main.py", remedy)
        python = pick_python(self._settings)
        found = shutil.which(str(python))
        if found is None:
            remedy = "Name the python that ComfyUI is installed with: `python` in [[servers]]"
            raise self._error("starting", f"there is no python to run at {python}", remedy)
        return Path(found).absolute()  # not resolved: a venv is known by its link

    def _spawn(self, words: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start the process. Not in a worker thread: a cancelled wait would leave a process that nobody knows."""
        # output that is redirected to a file on Windows would be written in the system's code page
        environ = {"PYTHONIOENCODING": "utf-8:replace", **os.environ}
        try:
            with self._log.open() as log:
                return subprocess.Popen(  # noqa: S603 - the job's own words, and no shell
                    words,
                    cwd=self._settings.folder,
                    env=environ,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    # both: Ctrl-C in the terminal is for reggen, which decides what becomes of ComfyUI
                    start_new_session=os.name != "nt",
                    creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
                )
        except OSError as error:
            what = f"{error.strerror or error} ({error.filename or words[0]})"
            raise self._error("starting", what, "Fix that, and start again") from error

    async def _wait_until_ready(self, process: subprocess.Popen[bytes], began: float) -> None:
        settings, ready = self._settings, self._timings.ready
        async with Client(settings.url, name=settings.name, headers=settings.headers, timeouts=_READY_CHECK) as client:
            while not await _answers(client) or has_ended(process):  # then another server answered
                if self._stopped.is_set():
                    raise self._stopped_early()
                if has_ended(process):
                    what = f"it {ending(process.returncode)} before it was ready"
                    raise self._error("starting", what, "Start it by hand to see more")
                if self._clock() - began > ready:
                    what = f"it was not ready within {ready:g} s"
                    raise self._error("starting", what, "Start it by hand to see what it waits for")
                await asyncio.sleep(self._timings.glance)

    # ---- ending

    async def _end(self) -> None:
        process = self._process
        if process is None or has_ended(process):
            return
        try:
            end_group(process, kill=False)
            if not await ends_within(process, self._timings.end):
                end_group(process, kill=True)
                await ends_within(process, KILL_LIMIT)
        except BaseException:  # cancelled while it was asked politely
            end_group(process, kill=True)  # no time is left to be polite, nor to let other tasks run
            with suppress(subprocess.TimeoutExpired):
                process.wait(KILL_LIMIT)
            raise
        if not has_ended(process):
            self._tell(f"{self._settings.name}: ComfyUI (process {process.pid}) does not end even when it is killed")

    # ---- words

    def _how_it_ended(self) -> str:
        code = None if self._process is None else self._process.returncode
        return "it is not running" if code is None else f"it {ending(code)}"

    def _stopped_early(self) -> LaunchError:
        return LaunchError(str(self._settings.folder), "starting ComfyUI", "it was stopped before it was ready")

    def _error(self, doing: str, what: str, remedy: str) -> LaunchError:
        log = "" if self._process is None else self._log.last_lines()
        return LaunchError(str(self._settings.folder), f"{doing} ComfyUI", what, remedy, log)


def ending(code: int) -> str:
    """The end of a process, in words, by its exit status."""
    if code >= 0:
        return f"exited with status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


async def _answers(client: Client) -> bool:
    try:
        await client.queue_depth()
    except ServerError:
        return False
    return True


async def _is_taken(host: str, port: int) -> bool:
    """Find out if a server listens there already."""
    try:
        async with asyncio.timeout(_PORT_CHECK):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return True  # by one too busy to accept
    except OSError:
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True
