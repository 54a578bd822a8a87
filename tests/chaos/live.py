"""Breaks a real ComfyUI under the real command line, and checks the result.

    python -m tests.chaos.live --url http://127.0.0.1:8188 --start "COMMAND THAT RUNS COMFYUI IN THE FOREGROUND"
                               [--images 12] [--only kill,term,proxy,...]
                               [--comfy FOLDER [--python FILE] [--arguments "WORDS"]]

    kill, term    the server is killed in mid-batch, and started again after a few seconds
    proxy         between the two is a proxy: it cuts the sockets, several times, and then everything for 10 s
    deaf          a second socket is opened under reggen's client id and closed: the server forgets the first
    freeze        the server is stopped for a minute (SIGSTOP), and goes on
    reggen        reggen is killed in mid-batch, and started again
    token         a proxy answers 401 to everything for half a minute while the socket lives: reported once, within 15 s
    login         the same with a login page and 200
    forbidden     the same with 403 for the history only
    large         a proxy answers 413 to every post: the run ends, and says what to do about it
    rate          a proxy lets four requests a second through, and answers 429 to all others, from the first one on
    prefix        the server is reached under a path
    tls           the server has an unsigned certificate that names no address; the job pins it
    redirect      /view names another address, which is asked without any header of the job
    gap, longgap  300 images from a server that holds its interpreter for 0.35 or 1 s between prompts: no false death
    unloading     no socket gets through, and each /free of reggen takes the server 14 s: no false death
    launched      the same, 1 s, with a server that reggen starts: it is never restarted

After each: exit code 0; every image there, decodable, the right one by the seed in its own metadata, none twice;
hashes as in the ledger; no part files; no prompts of reggen on the server; no prompt executed without need; and another
run asks for nothing. Prints one line for each, and JSON at the end; the exit code is 1 if anything failed. The server
is started and killed by this program, so nothing else may be answering at the address. Needs POSIX signals, `tls` also
the command openssl, and the gaps the folder of that ComfyUI: a node is written into its custom_nodes for the run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from reggen.errors import COMPLETE, NO_SERVER
from tests.bench.facts import machine, versions
from tests.chaos import breakages, doors, gap
from tests.chaos.between import Between
from tests.chaos.real import RealComfy
from tests.chaos.stage import DEADLINE, BreakageOutcome, Stage, assert_finished, assert_nothing_left, assert_whole

_GAPS = 300  # images made between gaps


@asynccontextmanager
async def nothing(_: RealComfy, __: Path) -> AsyncIterator[None]:
    """A setting without a proxy."""
    yield


def seen(stage: Stage) -> int:
    """The number of prompts that the server has executed, by its history."""
    return len(stage.watcher.executed)


@dataclass(frozen=True, slots=True)
class Breakage:
    """A breakage, its setting, and the expected end.

    A server that was restarted has forgotten the prompts that had ended and were not fetched yet: at most those in
    flight. So many prompts may be executed ``more`` than there are images.
    """

    breaks: Callable[[Stage], Awaitable[None]]
    setting: Callable[[RealComfy, Path], AbstractAsyncContextManager[Between | None]] = nothing
    more: int = 0
    ends: int = COMPLETE
    images: int | None = None
    deadline: float = DEADLINE
    counted: Callable[[Stage], int] = seen

    @property
    def launched(self) -> bool:
        """True if reggen starts the server, and ends it."""
        return self.counted is not seen


def _gap(seconds: float) -> Breakage:
    return Breakage(gap.gap, gap.gaps(seconds), images=_GAPS, deadline=1800.0)


BREAKAGES = {
    "kill": Breakage(breakages.kill, more=2),
    "term": Breakage(breakages.term, more=2),
    "proxy": Breakage(breakages.proxy, breakages.cuttable),
    "deaf": Breakage(breakages.deaf, breakages.cuttable),
    "freeze": Breakage(breakages.freeze),
    "reggen": Breakage(breakages.reggen),
    "token": Breakage(doors.token, doors.door),
    "login": Breakage(doors.login, doors.door),
    "forbidden": Breakage(doors.forbidden, doors.door),
    "large": Breakage(doors.large, doors.door, ends=NO_SERVER, deadline=120.0),
    "rate": Breakage(doors.rate, doors.limited),
    "prefix": Breakage(doors.prefix, doors.prefixed),
    "tls": Breakage(doors.tls, doors.certified),
    "redirect": Breakage(doors.redirect, doors.moved),
    "gap": _gap(0.35),
    "longgap": _gap(1.0),
    "unloading": Breakage(gap.gap, gap.unloading(14.0)),
    "launched": Breakage(
        gap.launched,
        gap.gaps(1.0, launched=True),
        images=_GAPS,
        deadline=1800.0,
        counted=gap.executed_by_launched,
    ),
}
_OF_A_FOLDER = ("gap", "longgap", "unloading", "launched")


async def run_breakage(name: str, comfy: RealComfy, options: argparse.Namespace) -> BreakageOutcome:
    """Run one breakage. A failure is noted in its outcome."""
    outcome, began, breakage = BreakageOutcome(name), time.monotonic(), BREAKAGES[name]
    with tempfile.TemporaryDirectory(prefix=f"live-{name}-") as place:
        async with breakage.setting(comfy, Path(place)) as between:
            if not breakage.launched:
                await comfy.start()
            stage = Stage(comfy, between, Path(place), options, breakage.images or options.images)
            await _run_on(stage, breakage, outcome)
            outcome.facts = stage.facts
    outcome.seconds = round(time.monotonic() - began, 1)
    return outcome


async def _run_on(stage: Stage, breakage: Breakage, outcome: BreakageOutcome) -> None:
    try:
        async with asyncio.timeout(breakage.deadline):
            await _broken(stage, breakage, outcome)
    except (AssertionError, TimeoutError, ValueError, OSError) as error:
        tail = stage.output.splitlines()[-12:]
        outcome.executed = seen(stage)
        outcome.failure = "\n  ".join([f"{type(error).__name__}: {error}", *tail])


async def _broken(stage: Stage, breakage: Breakage, outcome: BreakageOutcome) -> None:
    await stage.watcher.poll()
    watching = asyncio.create_task(stage.watcher.watch())
    await stage.start()
    try:
        await breakage.breaks(stage)
        outcome.exit_code = await stage.process.wait()
        await stage.watcher.poll()
        assert outcome.exit_code == breakage.ends, f"exit code {outcome.exit_code}"
        outcome.executed = breakage.counted(stage)
        outcome.failed_prompts = sum(status != "success" for status in stage.watcher.executed.values())
        if not breakage.launched:
            await assert_nothing_left(stage.comfy)
        if breakage.ends == COMPLETE:
            outcome.images = assert_whole(stage.job)
            assert outcome.images <= outcome.executed, f"{outcome.executed} prompts were seen, fewer than images"
            await assert_finished(stage, gone=breakage.launched)
        assert outcome.executed <= outcome.images + breakage.more, (
            f"{outcome.executed} prompts for {outcome.images} images"
        )
    finally:
        watching.cancel()
        await asyncio.wait({watching})
        if stage.process.returncode is None:
            stage.process.kill()
            await stage.process.wait()
        stage.comfy.send(signal.SIGCONT)


# ---- all of them


async def all_of(options: argparse.Namespace) -> list[BreakageOutcome]:
    """Run the breakages one after another, with one server; prints a line for each as it ends."""
    outcomes: list[BreakageOutcome] = []
    with tempfile.TemporaryDirectory(prefix="live-server-") as place:
        comfy = RealComfy(options.url, options.start, Path(place) / "server.log", options.comfy, _launch(options))
        if await comfy.ask("/queue") is not None:
            sys.exit(f"something answers at {options.url} already, and it is not ours to break")
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        try:
            for name in _possible(options):
                outcomes.append(await run_breakage(name, comfy, options))
                print(outcomes[-1].line, flush=True)
            await comfy.start()
            options.server = (await comfy.ask("/system_stats") or {}).get("system", {}).get("comfyui_version")
        finally:
            comfy.send(signal.SIGCONT)
            await comfy.end(signal.SIGKILL)
    return outcomes


def _possible(options: argparse.Namespace) -> list[str]:
    """The breakages asked for, without those that need a folder where none is given."""
    left_out = [name for name in options.only if name in _OF_A_FOLDER and options.comfy is None]
    for name in left_out:
        print(f"{name}: left out; it needs --comfy, the folder of that ComfyUI", flush=True)
    return [name for name in options.only if name not in left_out]


def _launch(options: argparse.Namespace) -> str:
    """Keys of the server's table with which reggen starts this ComfyUI, as TOML."""
    if options.comfy is None:
        return ""
    keys = [f"launch = {json.dumps(str(options.comfy))}", f"arguments = {json.dumps(shlex.split(options.arguments))}"]
    return "\n".join([*keys, f"python = {json.dumps(options.python)}"] if options.python else keys)


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(BREAKAGES):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: there is {', '.join(BREAKAGES)}")
    return names


def main() -> int:
    """Run the breakages that the command line names; 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.live", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8188")
    parser.add_argument("--start", required=True, help="a command that runs ComfyUI there, in the foreground")
    parser.add_argument("--comfy", type=Path, help="the folder of that ComfyUI, for the gaps")
    parser.add_argument("--python", help="for launched: the python that runs it; its own venv's by default")
    parser.add_argument("--arguments", default="--cpu", help="for launched: arguments of main.py")
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--only", type=_names, default=list(BREAKAGES), help="names, with commas")
    parser.add_argument("--checkpoint", default="AnythingXL_inkBase.safetensors")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    try:
        outcomes = asyncio.run(all_of(options))
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM
    found = {
        "breakages": [asdict(one) for one in outcomes],
        "failed": [one.name for one in outcomes if one.failure],
        "comfyui": options.server,
        "graph": f"{options.size} px, {options.steps} steps",
        "machine": machine(),
        "versions": versions(),
    }
    print(json.dumps(found, indent=2))
    return 1 if found["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
