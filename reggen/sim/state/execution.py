"""One execution of one prompt: the frames that leave, the files that appear, and its end.

`Execution.run` is a generator. It puts frames into the outbox, and yields `Pause` wherever time passes; the
caller waits that long and sends the time of day back in. So the same code runs under a real clock
in the server and under an invented one in tests.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from typing import Any

from reggen.sim.settings import Settings
from reggen.sim.state import graph as graphs
from reggen.sim.state.cache import ExecutionCache, Result
from reggen.sim.state.disk import Disk, OutsideError
from reggen.sim.state.graph import PaintedPicture
from reggen.sim.state.model import (
    Ending,
    InterruptError,
    Mishap,
    NodeError,
    Pause,
    QueuedPrompt,
    WorkerDiedError,
)
from reggen.sim.state.reporter import Reporter
from reggen.sim.state.specs import Specs
from reggen.sim.state.validate import PLAIN

PROGRESS_GAP = 0.1
"""Servers that throttle send progress at most this often, in seconds."""

MEMORY = 2**36
"""Bytes of the largest batch of plain pictures."""


@dataclass(slots=True)
class Execution:
    """The state of one execution."""

    prompt: QueuedPrompt
    settings: Settings
    specs: Specs
    cache: ExecutionCache
    disk: Disk
    reporter: Reporter
    interrupted: Callable[[], bool]
    temp_prefix: str
    mishap: Mishap | None = None
    outputs: dict[str, Any] = field(default_factory=dict)
    pictures: int = 0

    def run(self, now: float) -> Generator[Pause, float, Ending]:
        """Run the prompt. Raises WorkerDiedError where the real worker dies."""
        graph, reporter = self.prompt.graph, self.reporter
        reporter.now = now
        reporter.message("execution_start", {})
        lacking = any("inputs" not in node for node in graph.values())
        if lacking or (self.mishap is not None and self.mishap.kind == "die"):
            raise WorkerDiedError("a node without inputs kills the worker")
        keys = graphs.signatures(graph)
        self.cache.begin(keys.values())
        cached = [n for n in graph if keys.get(n) in self.cache]
        reporter.message("execution_cached", {"nodes": cached})
        todo = self._needed([n for n in graphs.order(graph, self.prompt.outputs) if n not in cached])
        node_id = ""
        try:
            for node_id in todo:
                yield from self._node(node_id, keys, todo)
            self._show_cached(cached, keys)
        except NodeError as error:
            reporter.failed(node_id, error, saves=self.specs.saves(graph[node_id]["class_type"]))
            return self._ending(success=False)
        except InterruptError:
            reporter.stopped(node_id)
            return self._ending(success=False)
        if self.settings.traits.timestamps:
            reporter.now = yield Pause(0.0)  # saving took its time too
            reporter.message("execution_success", {})
        yield Pause(self.settings.history_lag)
        return self._ending(success=True)

    def _needed(self, uncached: list[str]) -> list[str]:
        """The nodes that must run: those whose results are still needed."""
        needed = set(self.prompt.outputs)
        for node_id in reversed(uncached):
            if node_id in needed:
                needed.update(graphs.links(self.prompt.graph[node_id]))
        return [node_id for node_id in uncached if node_id in needed]

    def _node(self, node_id: str, keys: dict[str, str], todo: list[str]) -> Generator[Pause, float, None]:
        if keys[node_id] in self.cache:  # an equal node ran a moment ago in this very prompt
            return
        if self.interrupted():
            raise InterruptError
        self.reporter.executing(node_id)
        yield from self._work(node_id, todo)
        result = self._result(node_id)
        if result is not None:
            self.outputs[node_id] = result
            self.reporter.output(node_id, result)
        self.reporter.executed.append(node_id)
        if self._keeps(node_id, result):
            self.cache.put(keys[node_id], result)
        self.reporter.finished(node_id)

    def _keeps(self, node_id: str, result: Result) -> bool:
        """True unless this is an output that gave nothing."""
        return result is not None or not self.specs.saves(self.prompt.graph[node_id]["class_type"])

    def _work(self, node_id: str, todo: list[str]) -> Generator[Pause, float, None]:
        """Let the node take its time, or go wrong."""
        samplers = [n for n in todo if graphs.is_sampler(self.prompt.graph, n)]
        failing = self._failing_node(todo, samplers or todo)
        if node_id == failing and self.mishap is not None:
            if self.mishap.kind == "interrupt":
                raise InterruptError
            raise NodeError(self.mishap.exception_type, self.mishap.message)
        self._allocate(node_id)
        self._use(node_id)
        if node_id in samplers:
            yield from self._sample(node_id)
        elif not samplers and node_id == todo[0]:
            self.reporter.now = yield Pause(self.settings.trivial_seconds, interruptible=True)
        if self.interrupted():
            raise InterruptError

    def _allocate(self, node_id: str) -> None:
        """Fail as a CPU does on plain pictures that no memory can hold."""
        if self.prompt.graph[node_id]["class_type"] != "EmptyImage":
            return
        sides = [self.prompt.graph[node_id]["inputs"][name] for name in ("width", "height", "batch_size")]
        size = 4 * math.prod(side for side in sides if isinstance(side, int))
        if size > MEMORY:
            message = f"DefaultCPUAllocator: can't allocate memory: you tried to allocate {size} bytes."
            raise NodeError("RuntimeError", f"{message} Error code 12 (Cannot allocate memory)")

    def _use(self, node_id: str) -> None:
        """Fail as a node does that gets a value where a link belongs: validation lets it pass."""
        node = self.prompt.graph[node_id]
        if node["class_type"] not in self.specs.classes:
            return
        for name, (_, kind, _) in self.specs.inputs(node["class_type"]).items():
            value = node["inputs"].get(name, [])
            if isinstance(kind, str) and kind not in PLAIN and not graphs.is_link(value):
                held = type(value).__name__
                raise NodeError("AttributeError", f"'{held}' object has no attribute of a {kind}")

    def _failing_node(self, todo: list[str], likely: list[str]) -> str | None:
        """The node at which the mishap strikes, if it is one that strikes a node."""
        if self.mishap is None or self.mishap.kind not in ("fail", "interrupt"):
            return None
        named = self.mishap.node
        return next((n for n in todo if named in (n, self.prompt.graph[n]["class_type"])), likely[0])

    def _sample(self, node_id: str) -> Generator[Pause, float, None]:
        total = graphs.steps(self.prompt.graph, node_id)
        batch = len(graphs.pictures(self.prompt.graph, node_id))
        each = (self.settings.prompt_seconds + self.settings.seconds * batch) / total
        waited = 0.0
        for step in range(1, total + 1):
            waited += each
            due = step in (1, total) or waited >= PROGRESS_GAP or not self.settings.traits.throttled
            if due:
                self.reporter.now = yield Pause(waited, interruptible=True)
                waited = 0.0
                self.reporter.step(node_id, step, total)
            if self.interrupted():
                raise InterruptError

    def _result(self, node_id: str) -> Result:
        node = self.prompt.graph[node_id]
        if not self.specs.saves(node["class_type"]) or node_id not in self.prompt.outputs:
            return None
        if self.mishap is not None and self.mishap.kind in ("blocked", "blank"):
            return None
        pictures = graphs.describe(self.prompt.graph, node_id)
        if self.mishap is not None and self.mishap.kind == "appearance":
            pictures = [replace(picture, color=None, appearance=self.mishap.appearance) for picture in pictures]
        if every := self.settings.same_every:
            same = PaintedPicture(text="the same again")
            pictures = [
                replace(same, width=one.width, height=one.height) if one.seed % every == 0 else one for one in pictures
            ]
        if node["class_type"] == "SaveImageWebsocket":
            for picture in pictures:
                self.reporter.picture(picture, node_id)
            return None
        return {"images": self._save(node["inputs"], pictures)}

    def _save(self, inputs: dict[str, Any], pictures: list[PaintedPicture]) -> list[dict[str, str]]:
        text = [("prompt", json.dumps(self.prompt.graph))]
        extra = self.prompt.extra.get("extra_pnginfo")
        if extra is not None:
            try:
                text += [(key, json.dumps(extra[key])) for key in extra]
            except TypeError as error:
                raise NodeError("TypeError", str(error)) from error
        folder, prefix = "output", inputs.get("filename_prefix")
        if not isinstance(prefix, str):
            folder, prefix = "temp", self.temp_prefix
        try:
            entries = self.disk.save(folder, prefix, pictures, tuple(text), self.reporter.now)
        except OutsideError as error:
            message = (
                "**** ERROR: Saving image outside the output folder is not allowed.\n"
                " full_output_folder: /srv/comfyui\n         output_dir: /srv/comfyui/output"
            )
            raise NodeError("Exception", message) from error
        self.pictures += len(entries)
        return entries

    def _show_cached(self, cached: list[str], keys: dict[str, str]) -> None:
        """Report, for outputs that did not run again, what they gave last time."""
        if self.mishap is not None and self.mishap.kind == "blocked":
            self.reporter.blocked(self.mishap.message)
        for node_id in self.prompt.outputs:
            if node_id in self.outputs or keys[node_id] not in self.cache:
                continue
            result = self.cache.get(keys[node_id])
            if result is None:
                continue
            self.outputs[node_id] = result
            if self.settings.traits.display_nodes:
                self.reporter.output(node_id, result)
            if node_id in cached:
                self.reporter.progress(node_id, 1.0, 1.0, "finished")

    def _ending(self, *, success: bool) -> Ending:
        meta = {n: {"node_id": n, "display_node": n, "parent_node": None, "real_node_id": n} for n in self.outputs}
        return Ending(success, self.outputs, meta, self.reporter.messages, len(self.reporter.executed), self.pictures)
