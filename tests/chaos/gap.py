"""A healthy server with gaps between its prompts: nothing runs, prompts wait, and the interpreter is held.

ComfyUI collects garbage between two prompts, at most every ten seconds; with many node packs that takes a second.
A node written into the server's `custom_nodes` for the run makes it so with any heap.
"""

from __future__ import annotations

import re
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from tests.chaos.real import Comfy
from tests.chaos.stage import Stage

_NODE = '''"""Between two prompts, hold the interpreter, as the collection of a big heap does."""
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
_MARKS = "gaps"


class Launched:
    """A server that reggen itself starts."""

    def __init__(self, comfy: Comfy) -> None:
        self.url = comfy.url
        self.keys = comfy.launch


def gaps(
    seconds: float, *, launched: bool = False
) -> Callable[[Comfy, Path], AbstractAsyncContextManager[Launched | None]]:
    """The server, started anew, with gaps of so many seconds; started by reggen, if asked for."""

    @asynccontextmanager
    async def with_gaps(comfy: Comfy, place: Path) -> AsyncIterator[Launched | None]:
        assert comfy.folder is not None
        node = comfy.folder / "custom_nodes" / "reggen_live_gap.py"
        await comfy.end(signal.SIGKILL)
        text = _NODE.format(marks=str(place / _MARKS), microseconds=round(seconds * 1_000_000))
        node.write_text(text, encoding="utf-8")
        try:
            yield Launched(comfy) if launched else None
        finally:
            node.unlink()
            await comfy.end(signal.SIGKILL)

    return with_gaps


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
