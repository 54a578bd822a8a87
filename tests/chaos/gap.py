"""A healthy server with gaps between its prompts: nothing runs, prompts wait, and the interpreter is held.

ComfyUI collects garbage between two prompts, at most every ten seconds; with many node packs that takes a second.
A node written into the server's `custom_nodes` for the run makes it so with any heap. Another makes the unloading of
models take long, which a `/free` of reggen's own asks for.
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
from tests.chaos.real import Comfy
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

Setting = Callable[[Comfy, Path], AbstractAsyncContextManager[Between | None]]


class Launched:
    """A server that reggen itself starts."""

    def __init__(self, comfy: Comfy) -> None:
        self.url = comfy.url
        self.keys = comfy.launch


def gaps(seconds: float, *, launched: bool = False) -> Setting:
    """The server, started anew, with gaps of so many seconds; started by reggen, if asked for."""

    @asynccontextmanager
    async def with_gaps(comfy: Comfy, place: Path) -> AsyncIterator[Launched | None]:
        async with _with_node(_COLLECTING, seconds, comfy, place):
            yield Launched(comfy) if launched else None

    return with_gaps


def unloading(seconds: float) -> Setting:
    """The server, started anew, that takes so long to free its memory, behind a proxy that lets no socket through."""

    def no_socket(request: web.Request) -> web.Response | None:
        return page(404, "404 Not Found") if request.path.endswith("/ws") else None

    @asynccontextmanager
    async def unheard(comfy: Comfy, place: Path) -> AsyncIterator[Front]:
        front = Front(comfy.url, no_socket, keys="free_every = 4")
        async with _with_node(_UNLOADING, seconds, comfy, place), front.open():
            yield front

    return unheard


@asynccontextmanager
async def _with_node(text: str, seconds: float, comfy: Comfy, place: Path) -> AsyncIterator[None]:
    """A node file in the server's folder; the server is ended before and after."""
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
    """Work as on any other night: nobody is declared dead, nobody rests, nobody is restarted."""
    await stage.process.wait()
    marks = stage.file.parent / _MARKS
    struck = len(marks.read_text(encoding="utf-8")) if marks.exists() else 0
    stage.facts["gaps"] = struck
    assert struck, "there was no gap"
    deaths = stage.lines(r"\bdead\b|\brests?\b|restart")
    assert not deaths, f"a false death after {len(stage.lines(' made on '))} images: {deaths[0]}"


async def launched(stage: Stage) -> None:
    """The same with a server that reggen started: once, and never again."""
    await gap(stage)
    starts = _output(stage).count("Starting server")
    assert starts == 1, f"it was started {starts} times"


def executed_by_launched(stage: Stage) -> int:
    """Prompts that a server which is gone has executed, by its own output."""
    return len(re.findall(r"^.*Prompt executed", _output(stage), re.MULTILINE))


def _output(stage: Stage) -> str:
    """What a server that reggen started has said."""
    (log,) = stage.job.dataset.state.glob("comfyui-*.log")
    return log.read_text(encoding="utf-8", errors="replace")
