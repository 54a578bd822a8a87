"""A healthy server with gaps between its prompts: none runs, some wait, and the interpreter is held.

ComfyUI collects garbage between two prompts, at most every ten seconds; with many node packs that takes a second.
A node written into the server's `custom_nodes` for the run makes it do so with any heap. Another one makes the
unloading of models slow, which reggen asks for with `/free`.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from aiohttp import web

from tests.chaos.between import Between, Front, page
from tests.chaos.real import RealComfy
from tests.chaos.stage import Stage

_COLLECTING = '''"""Between two prompts, hold the interpreter, as the collection of a big heap does."""
import ctypes, gc, threading
_collect = gc.collect
def _slow(*given):
    if threading.current_thread() is not threading.main_thread():
        with open({marks!r}, "a") as marks:
            marks.write(".")
        ctypes.PyDLL(None).usleep({microseconds})
    return _collect(*given)
gc.collect = _slow
NODE_CLASS_MAPPINGS = {{}}
'''
_UNLOADING = '''"""Take long to unload models, as a card under pressure does."""
import time
import comfy.model_management as memory
_unload = memory.unload_all_models
def _slow():
    with open({marks!r}, "a") as marks:
        marks.write(".")
    time.sleep({microseconds} / 1e6)
    _unload()
memory.unload_all_models = _slow
NODE_CLASS_MAPPINGS = {{}}
'''
_MARKS = "gaps"

Setting = Callable[[RealComfy, Path], AbstractAsyncContextManager[Between | None]]


class Launched:
    """A server that reggen itself starts."""

    def __init__(self, comfy: RealComfy) -> None:
        self.url = comfy.url
        self.keys = comfy.launch


def gaps(seconds: float, *, launched: bool = False) -> Setting:
    """The server, restarted, with gaps of so many seconds; `launched`: started by reggen."""

    @asynccontextmanager
    async def with_gaps(comfy: RealComfy, place: Path) -> AsyncIterator[Launched | None]:
        async with _with_node(_COLLECTING, seconds, comfy, place):
            yield Launched(comfy) if launched else None

    return with_gaps


def unloading(seconds: float) -> Setting:
    """The server, restarted, which takes so long to free memory, behind a proxy that lets no socket through."""

    def no_socket(request: web.Request) -> web.Response | None:
        return page(404, "404 Not Found") if request.path.endswith("/ws") else None

    @asynccontextmanager
    async def unheard(comfy: RealComfy, place: Path) -> AsyncIterator[Front]:
        front = Front(comfy.url, no_socket, keys="free_every = 4")
        async with _with_node(_UNLOADING, seconds, comfy, place), front.open():
            yield front

    return unheard


@asynccontextmanager
async def _with_node(text: str, seconds: float, comfy: RealComfy, place: Path) -> AsyncIterator[None]:
    """Put a node file into the server's folder for the block; the server is ended before and after."""
    assert comfy.folder is not None
    node = comfy.folder / "custom_nodes" / f"reggen_live_gap_{os.getpid()}.py"
    await comfy.end(signal.SIGKILL)
    text = text.format(marks=str(place / _MARKS), microseconds=round(seconds * 1_000_000))
    node.write_text(text, encoding="utf-8")
    try:
        yield
    finally:
        node.unlink(missing_ok=True)
        await comfy.end(signal.SIGKILL)


async def gap(stage: Stage) -> None:
    """Check a run among gaps: the server is not called dead, does not rest, and is not restarted."""
    await stage.process.wait()
    marks = stage.file.parent / _MARKS
    struck = len(marks.read_text(encoding="utf-8")) if marks.exists() else 0
    stage.facts["gaps"] = struck
    assert struck, "there was no gap"
    deaths = stage.lines(r"\bdead\b|\brests?\b|restart")
    assert not deaths, f"a false death after {len(stage.lines(' made on '))} images: {deaths[0]}"


async def launched(stage: Stage) -> None:
    """Check the same with a server that reggen starts: once, and never again."""
    await gap(stage)
    starts = _output(stage).count("Starting server")
    assert starts == 1, f"it was started {starts} times"


def executed_by_launched(stage: Stage) -> int:
    """The number of prompts that a server, now gone, has executed, by its own output."""
    return len(re.findall(r"^.*Prompt executed", _output(stage), re.MULTILINE))


def _output(stage: Stage) -> str:
    """The output of the server that reggen started."""
    (log,) = stage.job.dataset.state.glob("comfyui-*.log")
    return log.read_text(encoding="utf-8", errors="replace")
