"""A ComfyUI that reggen itself starts: one process with its children, its log, its restarts, its end.

    launched = Launched(Launch(folder=..., url="http://127.0.0.1:8188", log=...), tell=print)
    await launched.start()
    try:
        await launched.watch()
    finally:
        await launched.stop()

Only what was started here is ever ended. On Linux and macOS the process leads a session of its own, and its whole
group goes with it; a child that leaves its group on purpose is left alone. On Windows its descendants are killed with
it. When reggen itself is killed, Linux ends the process (see `process.tie`); elsewhere it goes on, and the next start
says that the port is taken.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from reggen.comfy.client import Client, Timeouts
from reggen.errors import NO_SERVER, ReggenError, ServerError
from reggen.launch.process import DEATH, ProcessLog, end_group, gone, gone_within, memory, tie

_WINDOWS = os.name == "nt"
_HOUR = 3600.0
_PAUSES = (1.0, 60.0)  # seconds: the ceiling of the jitter before the first restart, and the highest
_GLANCE = 0.1  # seconds between two looks at a process
_KNOCK = 5.0  # Windows takes two seconds to refuse a connection
_ASKING = Timeouts(connect=2.0, request=5.0)


class LaunchError(ReggenError):
    """A ComfyUI could not be started, or not once more. ``said`` quotes the last lines of its log."""

    exit_code = NO_SERVER

    def __init__(self, folder: str, doing: str, what: str, remedy: str = "", said: str = "") -> None:
        super().__init__(folder, doing, what, remedy, said)
        self.folder, self.doing, self.what, self.remedy, self.said = folder, doing, what, remedy, said

    def __str__(self) -> str:
        return ". ".join(
            part for part in (f"{self.doing} in {self.folder}: {self.what}", self.remedy, self.said) if part
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What to start. Times are in seconds."""

    folder: Path
    """Holds ComfyUI's main.py."""
    url: str
    """The address that the process is to serve: http, this machine, and nothing after the port."""
    python: Path | None = None
    """Left out: see `pick_python`."""
    arguments: tuple[str, ...] = ()
    """For main.py, before reggen's own: of two equal ones the last counts."""
    device: int | None = None
    """Which GPU: --cuda-device."""
    log: Path
    """Takes what the process prints, start after start."""
    log_limit: int = 16 << 20
    """Bytes; a longer log is put aside as NAME.1, over the one before. On Windows only at a start."""
    ready_within: float = 300.0
    ends_within: float = 10.0
    """From asking it to end until it is killed."""
    restarts_per_hour: int = 6
    memory_limit: int | None = None
    """Bytes in RAM; beyond them it `is_too_big`."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme != "http" or parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc:
            raise ValueError(f"{self.url!r} is not an address to start ComfyUI at, such as http://127.0.0.1:8188")
        if not _is_loopback(parts.hostname or ""):
            raise ValueError(f"{self.url!r} is not on this machine; ComfyUI can only be started at 127.0.0.1")
        if self.port == 0 or self.restarts_per_hour < 0 or min(self.ready_within, self.ends_within) < 0:
            raise ValueError("the port must not be 0, and no limit may be negative")

    @property
    def host(self) -> str:
        """What it listens on."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """Where it listens."""
        port = urlsplit(self.url).port
        return 80 if port is None else port

    @property
    def name(self) -> str:
        """The address without its scheme, for people to read."""
        return self.url.split("://", 1)[1].rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


# ---- decided without a process


def is_comfyui(folder: Path) -> bool:
    """Whether a ComfyUI lies there, going by the file it is started with."""
    return (folder / "main.py").is_file()


def pick_python(launch: Launch, *, windows: bool = _WINDOWS) -> Path:
    """The job's own, or what people install ComfyUI with: a venv in its folder, the portable's; or reggen's own."""
    if launch.python is not None:
        return launch.python
    inside = Path("Scripts", "python.exe") if windows else Path("bin", "python")
    places = [launch.folder / name / inside for name in ("venv", ".venv")]
    if windows:
        places.append(launch.folder.parent / "python_embeded" / "python.exe")  # ComfyUI's own spelling
    return next((place for place in places if place.is_file()), Path(sys.executable))


def command(launch: Launch, python: Path) -> list[str]:
    """The words to run. Unbuffered, so that the log has the last ones of a process that crashed."""
    words = [str(python), "-u"]
    if python.parent.name == "python_embeded":
        words += ["-s", "-X", "utf8"]  # it reads no environment; a log in the system's code page chokes on an emoji
    words += [str(launch.folder.absolute() / "main.py"), *launch.arguments]
    if not any(word.split("=", 1)[0] == "--listen" for word in launch.arguments):
        words += ["--listen", launch.host]
    words += ["--port", str(launch.port)]
    return words if launch.device is None else [*words, "--cuda-device", str(launch.device)]


def ceiling(restarts: Sequence[float], now: float, cap: int) -> float | None:
    """The longest pause before the next restart, given when others were; None: the hour has had its ``cap``."""
    recent = sum(now - at < _HOUR for at in restarts)
    return None if recent >= cap else min(_PAUSES[1], _PAUSES[0] * 2.0 ** min(recent, 16))


def ending(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"exited with status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


# ---- the process


class Launched:
    """One supervised process.

    Use it from a thread that lives as long as the run, such as the main one: on Linux the process ends with it.
    ``tell`` is called with sentences for people.
    """

    def __init__(
        self, launch: Launch, *, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._launch, self._tell, self._clock = launch, tell, clock
        self._log = ProcessLog(launch.log, launch.log_limit)
        self._process: subprocess.Popen[bytes] | None = None
        self._restarts: list[float] = []
        self._changing = asyncio.Lock()  # held by the one who starts or restarts
        self._over = asyncio.Event()  # nothing is to run
        self._over.set()

    @property
    def alive(self) -> bool:
        """Whether the process runs. It may still be starting, or be deaf."""
        return self._process is not None and not gone(self._process)

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid if self._process is not None and self.alive else None

    async def is_too_big(self) -> bool:
        """Whether it and its descendants hold more RAM than it may."""
        pid, limit = self.pid, self._launch.memory_limit
        return pid is not None and limit is not None and await asyncio.to_thread(memory, pid) > limit

    async def python(self) -> Path:
        """The python it is run with. Raises LaunchError for what would keep it from being started; starts nothing."""
        found = await asyncio.to_thread(self._checked)
        if await _listens(self._launch.host, self._launch.port):
            raise self._error(
                "starting",
                f"{self._launch.name} is already taken by a server that reggen did not start",
                "End that one, choose another port, or name it without its folder to use it as it is",
            )
        return found

    async def start(self) -> None:
        """Start it and wait until it answers; returns at once when it runs. After a LaunchError nothing runs."""
        self._over.clear()
        async with self._changing:
            if self.alive:
                return
            try:
                await self._begin()
            except BaseException:  # cancelled or failed: then there is nothing to watch
                self._over.set()
                raise

    async def watch(self) -> None:
        """Until `stop`: start it again whenever it has ended. Raises LaunchError when the hour's restarts are spent."""
        while not self._over.is_set():
            if self.alive:
                await asyncio.to_thread(self._log.put_aside)
                await asyncio.sleep(_GLANCE)
                continue
            async with self._changing:
                if not self.alive:
                    await self._again(self._how_it_ended())

    async def restart(self, why: str) -> None:
        """End it and start it again. Raises LaunchError, and leaves it as it is, when the hour's restarts are spent."""
        meant = self._process
        async with self._changing:
            if self._process is meant:  # otherwise somebody else's restart was this one too
                await self._again(why)

    async def stop(self) -> None:
        """End it and its children, politely at first. Takes a known time at most; cancelled, it kills at once."""
        self._over.set()
        await self._end()

    # ---- beginning

    async def _again(self, why: str) -> None:
        """Restart until it is ready; a start that fails counts as one more crash."""
        while not self._over.is_set():
            pause = self._next_pause(why)
            await self._end()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), pause)
            if self._over.is_set():
                return
            try:
                await self._begin()
            except LaunchError as error:
                why = error.what
            else:
                return

    def _next_pause(self, why: str) -> float:
        now, cap = self._clock(), self._launch.restarts_per_hour
        self._restarts = [at for at in self._restarts if now - at < _HOUR]
        longest = ceiling(self._restarts, now, cap)
        if longest is None:
            times = "once" if cap == 1 else f"{cap} times"
            spent = f"it was restarted {times} within the hour already" if cap else "it may not be restarted"
            raise self._error("restarting", f"{why}, and {spent}", "Find out why it ends, or allow it more restarts")
        self._restarts.append(now)
        pause = random.uniform(0, longest)
        count = f"restart {len(self._restarts)} of at most {cap} an hour"
        self._tell(f"{self._launch.name}: {why}; starting ComfyUI again in {pause:.0f} s ({count})")
        return pause

    async def _begin(self) -> None:
        """Start it and wait until it answers; whatever else comes of this, there is no process then."""
        python = await self.python()
        tied = await asyncio.to_thread(tie)
        if self._over.is_set():
            raise self._stopped()
        began = self._clock()
        self._process = process = self._spawn([*tied, *command(self._launch, python)])
        self._tell(f"{self._launch.name}: starting ComfyUI in {self._launch.folder} (its log: {self._launch.log})")
        try:
            await self._ready(process, began)
        except BaseException:  # cancelled or failed: what was started is not left behind
            await self._end()
            raise
        self._tell(f"{self._launch.name}: ComfyUI is ready after {self._clock() - began:.0f} s")

    def _checked(self) -> Path:
        """The python to run, after a look at what can be wrong before anything is started."""
        if self._process is not None and self.alive:
            what = f"the process before it ({self._process.pid}) does not end even when it is killed"
            raise self._error("starting", what, "A driver may hold it: restart this machine")
        if not is_comfyui(self._launch.folder):
            raise self._error("starting", "there is no main.py", "Name the folder that holds ComfyUI's main.py")
        python = pick_python(self._launch)
        found = shutil.which(str(python))
        if found is None:
            remedy = "Name the python that ComfyUI is installed with"
            raise self._error("starting", f"there is no python to run at {python}", remedy)
        return Path(found).absolute()  # not resolved: a venv is known by the link

    def _spawn(self, words: Sequence[str]) -> subprocess.Popen[bytes]:
        """Not in a worker thread: a cancelled wait for one would leave a process that nobody knows."""
        # what people redirect to a file on Windows would be written in the system's code page
        environ = {"PYTHONIOENCODING": "utf-8:replace", **os.environ}
        try:
            with self._log.open() as log:
                return subprocess.Popen(  # noqa: S603 - the job's own words, and no shell
                    words,
                    cwd=self._launch.folder,
                    env=environ,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    # both: Ctrl-C in the terminal is for reggen, which decides what becomes of ComfyUI
                    start_new_session=not _WINDOWS,
                    creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
                )
        except OSError as error:
            what = f"{error.strerror or error} ({error.filename or words[0]})"
            raise self._error("starting", what, "Mend that, and start again") from error

    async def _ready(self, process: subprocess.Popen[bytes], began: float) -> None:
        async with Client(self._launch.url, name=self._launch.name, timeouts=_ASKING) as client:
            while not await _answers(client) or gone(process):  # the answer of another's server is none
                if self._over.is_set():
                    raise self._stopped()
                if gone(process):
                    what = f"it {ending(process.returncode)} before it was ready"
                    raise self._error("starting", what, "Start it by hand to see more")
                if self._clock() - began > self._launch.ready_within:
                    what = f"it was not ready within {self._launch.ready_within:g} s"
                    raise self._error("starting", what, "Give it more time, or start it by hand to see more")
                await asyncio.sleep(_GLANCE)

    # ---- ending

    async def _end(self) -> None:
        process = self._process
        if process is None or gone(process):
            return
        try:
            end_group(process, kill=False)
            if not await gone_within(process, self._launch.ends_within):
                end_group(process, kill=True)
                await gone_within(process, DEATH)
        except BaseException:  # cancelled while it was asked politely
            end_group(process, kill=True)  # there is no time left to be polite, nor to let others run
            with suppress(subprocess.TimeoutExpired):
                process.wait(DEATH)
            raise
        if not gone(process):
            self._tell(f"{self._launch.name}: ComfyUI (process {process.pid}) does not end even when it is killed")

    # ---- words

    def _how_it_ended(self) -> str:
        code = None if self._process is None else self._process.returncode
        return "it is not running" if code is None else f"it {ending(code)}"

    def _stopped(self) -> LaunchError:
        return LaunchError(str(self._launch.folder), "starting ComfyUI", "it was stopped before it was ready")

    def _error(self, doing: str, what: str, remedy: str) -> LaunchError:
        said = "" if self._process is None else self._log.quoted()
        return LaunchError(str(self._launch.folder), f"{doing} ComfyUI", what, remedy, said)


async def _answers(client: Client) -> bool:
    try:
        await client.queue_depth()
    except ServerError:
        return False
    return True


async def _listens(host: str, port: int) -> bool:
    """Whether somebody listens there already."""
    try:
        async with asyncio.timeout(_KNOCK):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return True  # one too busy to accept
    except OSError:
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True
