"""One execution of one prompt: which frames leave, which files appear, how it ends.

`Execution.go` is a generator. It puts frames into the outbox, and yields `Pause` wherever time passes; the
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
    Frame,
    InterruptError,
    Item,
    Mishap,
    NodeError,
    Pause,
    Shown,
    WorkerDiedError,
)
from reggen.sim.state.specs import Specs
from reggen.sim.state.validate import PLAIN

PROGRESS_GAP = 0.1
"""Servers that throttle send progress at most this often, in seconds."""

MEMORY = 2**36
"""Bytes of the largest batch of plain pictures."""

OOM_TIPS = (
    "This error means you ran out of memory on your GPU.\n\n"
    "TIPS: If the workflow worked before you might have accidentally set the batch_size to a large number."
)


@dataclass(slots=True)
class Execution:
    """The state of one execution."""

    item: Item
    settings: Settings
    specs: Specs
    cache: ExecutionCache
    disk: Disk
    interrupted: Callable[[], bool]
    outbox: list[Frame | Shown]
    temp_prefix: str
    mishap: Mishap | None = None
    now: float = 0.0
    messages: list[list[Any]] = field(default_factory=list)
    progress: dict[str, dict[str, Any]] = field(default_factory=dict)
    executed: list[str] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    pictures: int = 0

    def go(self, now: float) -> Generator[Pause, float, Ending]:
        """Run the prompt. Raises WorkerDiedError where the real worker dies."""
        self.now = now
        self._message("execution_start", {})
        lacking = any("inputs" not in node for node in self.item.graph.values())
        if lacking or (self.mishap is not None and self.mishap.kind == "die"):
            raise WorkerDiedError("a node without inputs kills the worker")
        keys = graphs.signatures(self.item.graph)
        self.cache.begin(keys.values())
        cached = [n for n in self.item.graph if keys.get(n) in self.cache]
        self._message("execution_cached", {"nodes": cached})
        todo = self._wanted([n for n in graphs.order(self.item.graph, self.item.outputs) if n not in cached])
        node_id = ""
        try:
            for node_id in todo:
                yield from self._node(node_id, keys, todo)
            self._show_cached(cached, keys)
        except NodeError as error:
            self._failed(node_id, error)
            return self._ending(success=False)
        except InterruptError:
            self._stopped(node_id)
            return self._ending(success=False)
        if self.settings.traits.timestamps:
            self.now = yield Pause(0.0)  # saving took its time too
            self._message("execution_success", {})
        yield Pause(self.settings.history_lag)
        return self._ending(success=True)

    def _wanted(self, uncached: list[str]) -> list[str]:
        """The nodes that must run: those whose results somebody still needs."""
        needed = set(self.item.outputs)
        for node_id in reversed(uncached):
            if node_id in needed:
                needed.update(graphs.links(self.item.graph[node_id]))
        return [node_id for node_id in uncached if node_id in needed]

    def _node(self, node_id: str, keys: dict[str, str], todo: list[str]) -> Generator[Pause, float, None]:
        if keys[node_id] in self.cache:  # an equal node ran a moment ago in this very prompt
            return
        if self.interrupted():
            raise InterruptError
        self._progress_state(node_id, 0.0, 1.0, "running")
        self._tell("executing", self._named(node_id))
        yield from self._work(node_id, todo)
        result = self._result(node_id)
        if result is not None:
            self._executed(node_id, result)
        self.executed.append(node_id)
        if self._keeps(node_id, result):
            self.cache.put(keys[node_id], result)
        last = self.progress.get(node_id, {"max": 1.0})["max"]
        self._progress_state(node_id, last, last, "finished")

    def _keeps(self, node_id: str, result: Result) -> bool:
        """Whether the result goes into the cache: not from savers that gave none."""
        return result is not None or not self.specs.saves(self.item.graph[node_id]["class_type"])

    def _work(self, node_id: str, todo: list[str]) -> Generator[Pause, float, None]:
        """What the node does before it has a result: take time, or go wrong."""
        samplers = [n for n in todo if graphs.is_sampler(self.item.graph, n)]
        struck = self._struck(todo, samplers or todo)
        if node_id == struck and self.mishap is not None:
            if self.mishap.kind == "interrupt":
                raise InterruptError
            raise NodeError(self.mishap.exception_type, self.mishap.message)
        self._allocate(node_id)
        self._use(node_id)
        if node_id in samplers:
            yield from self._sample(node_id)
        elif not samplers and node_id == todo[0]:
            self.now = yield Pause(self.settings.trivial_seconds, interruptible=True)
        if self.interrupted():
            raise InterruptError

    def _allocate(self, node_id: str) -> None:
        """Plain pictures that no memory can hold fail as they do on a CPU."""
        if self.item.graph[node_id]["class_type"] != "EmptyImage":
            return
        sides = [self.item.graph[node_id]["inputs"][name] for name in ("width", "height", "batch_size")]
        size = 4 * math.prod(side for side in sides if isinstance(side, int))
        if size > MEMORY:
            message = f"DefaultCPUAllocator: can't allocate memory: you tried to allocate {size} bytes."
            raise NodeError("RuntimeError", f"{message} Error code 12 (Cannot allocate memory)")

    def _use(self, node_id: str) -> None:
        """A value where a link belongs passes validation, and is of no use to the node."""
        node = self.item.graph[node_id]
        if node["class_type"] not in self.specs.classes:
            return
        for name, (_, kind, _) in self.specs.inputs(node["class_type"]).items():
            value = node["inputs"].get(name, [])
            if isinstance(kind, str) and kind not in PLAIN and not graphs.is_link(value):
                held = type(value).__name__
                raise NodeError("AttributeError", f"'{held}' object has no attribute of a {kind}")

    def _struck(self, todo: list[str], likely: list[str]) -> str | None:
        """The node that goes wrong, if one is to."""
        if self.mishap is None or self.mishap.kind not in ("fail", "interrupt"):
            return None
        named = self.mishap.node
        return next((n for n in todo if named in (n, self.item.graph[n]["class_type"])), likely[0])

    def _sample(self, node_id: str) -> Generator[Pause, float, None]:
        total = graphs.steps(self.item.graph, node_id)
        batch = len(graphs.pictures(self.item.graph, node_id))
        each = (self.settings.prompt_seconds + self.settings.seconds * batch) / total
        waited = 0.0
        for step in range(1, total + 1):
            waited += each
            due = step in (1, total) or waited >= PROGRESS_GAP or not self.settings.traits.throttled
            if due:
                self.now = yield Pause(waited, interruptible=True)
                waited = 0.0
                self._step(node_id, step, total)
            if self.interrupted():
                raise InterruptError

    def _step(self, node_id: str, step: int, total: int) -> None:
        self._progress_state(node_id, step, total, "running")
        data = {"value": step, "max": total, "prompt_id": self.item.prompt_id, "node": node_id}
        self.outbox.append(Frame("progress", data, self._client))
        if self._previews:
            picture = graphs.pictures(self.item.graph, node_id)[0]
            shown = Shown(picture, step / total, node_id, self.item.prompt_id, self._client)
            self.outbox.append(shown)

    def _result(self, node_id: str) -> Result:
        node = self.item.graph[node_id]
        if not self.specs.saves(node["class_type"]) or node_id not in self.item.outputs:
            return None
        if self.mishap is not None and self.mishap.kind in ("blocked", "blank"):
            return None
        pictures = graphs.describe(self.item.graph, node_id)
        if self.mishap is not None and self.mishap.kind == "look":
            pictures = [replace(picture, color=None, look=self.mishap.look) for picture in pictures]
        if every := self.settings.same_every:
            same = PaintedPicture(text="the same again")
            pictures = [
                replace(same, width=one.width, height=one.height) if one.seed % every == 0 else one for one in pictures
            ]
        if node["class_type"] == "SaveImageWebsocket":
            for picture in pictures:
                shown = Shown(picture, 1.0, node_id, self.item.prompt_id, self._client, whole=True)
                self.outbox.append(shown)
            return None
        return {"images": self._save(node["inputs"], pictures)}

    def _save(self, inputs: dict[str, Any], pictures: list[PaintedPicture]) -> list[dict[str, str]]:
        text = [("prompt", json.dumps(self.item.graph))]
        extra = self.item.extra.get("extra_pnginfo")
        if extra is not None:
            try:
                text += [(key, json.dumps(extra[key])) for key in extra]
            except TypeError as error:
                raise NodeError("TypeError", str(error)) from error
        folder, prefix = "output", inputs.get("filename_prefix")
        if not isinstance(prefix, str):
            folder, prefix = "temp", self.temp_prefix
        try:
            entries = self.disk.save(folder, prefix, pictures, tuple(text), self.now)
        except OutsideError as error:
            message = (
                "**** ERROR: Saving image outside the output folder is not allowed.\n"
                " full_output_folder: /srv/comfyui\n         output_dir: /srv/comfyui/output"
            )
            raise NodeError("Exception", message) from error
        self.pictures += len(entries)
        return entries

    def _executed(self, node_id: str, result: dict[str, Any]) -> None:
        self.outputs[node_id] = result
        data = self._named(node_id)
        self._tell("executed", {**data, "output": result, "prompt_id": data["prompt_id"]})

    def _show_cached(self, cached: list[str], keys: dict[str, str]) -> None:
        """Outputs that did not run again report what they gave last time."""
        if self.mishap is not None and self.mishap.kind == "blocked":
            self._blocked()
        for node_id in self.item.outputs:
            if node_id in self.outputs or keys[node_id] not in self.cache:
                continue
            result = self.cache.get(keys[node_id])
            if result is None:
                continue
            self.outputs[node_id] = result
            if self.settings.traits.display_nodes:
                self._executed(node_id, result)
            if node_id in cached:
                self._progress_state(node_id, 1.0, 1.0, "finished")

    def _blocked(self) -> None:
        node_id = self.item.outputs[0]
        data = {
            "prompt_id": self.item.prompt_id,
            "node_id": node_id,
            "node_type": self.item.graph[node_id]["class_type"],
            "executed": list(self.executed),
            "exception_message": f"Execution Blocked: {self.mishap.message if self.mishap else ''}",
            "exception_type": "ExecutionBlocked",
            "traceback": [],
            "current_inputs": [],
            "current_outputs": [],
        }
        self._tell("execution_error", data)

    def _failed(self, node_id: str, error: NodeError) -> None:
        newline = "\n" if self.settings.traits.progress_state else ""
        tips = OOM_TIPS if error.exception_type == "torch.OutOfMemoryError" else ""
        data = {
            "node_id": node_id,
            "node_type": self.item.graph[node_id]["class_type"],
            "executed": list(self.executed),
            "exception_message": f"{error.message}{newline}{tips}",
            "exception_type": error.exception_type,
            "traceback": [f'  File "execution.py", in execute\n    {error.exception_type}\n'],
            "current_inputs": self._inputs(node_id),
            "current_outputs": list(self.item.graph),
        }
        self._message("execution_error", data)

    def _inputs(self, node_id: str) -> dict[str, Any]:
        """A failed node's inputs, as far as an error frame shows them: tensors in words."""
        node = self.item.graph[node_id]
        values = node["inputs"].items()
        shown = {name: ["tensor([[[[...]]]])"] if graphs.is_link(value) else [value] for name, value in values}
        if self.specs.saves(node["class_type"]):
            shown["prompt"] = [str(self.item.graph)]
            shown["extra_pnginfo"] = [self.item.extra.get("extra_pnginfo")]
        return shown

    def _stopped(self, node_id: str) -> None:
        data = {
            "prompt_id": self.item.prompt_id,
            "node_id": node_id,
            "node_type": self.item.graph[node_id]["class_type"],
            "executed": list(self.executed),
        }
        self._message("execution_interrupted", data, to_all=True)

    def _message(self, event: str, data: dict[str, Any], *, to_all: bool = False) -> None:
        """A frame that history remembers too."""
        data = {"prompt_id": self.item.prompt_id, **data}
        if self.settings.traits.timestamps:
            data["timestamp"] = int(self.now * 1000)
        self.messages.append([event, data])
        if to_all or self._client is not None:
            self.outbox.append(Frame(event, data, self._client))

    def _tell(self, event: str, data: dict[str, Any]) -> None:
        """A frame for the prompt's own client; nobody else gets it, and without one nobody at all."""
        if self._client is not None:
            self.outbox.append(Frame(event, data, self._client))

    def _named(self, node_id: str) -> dict[str, Any]:
        shown = {"display_node": node_id} if self.settings.traits.display_nodes else {}
        return {"node": node_id, **shown, "prompt_id": self.item.prompt_id}

    def _progress_state(self, node_id: str, value: float, most: float, state: str) -> None:
        self.progress[node_id] = {
            "value": value,
            "max": most,
            "state": state,
            "node_id": node_id,
            "prompt_id": self.item.prompt_id,
            "display_node_id": node_id,
            "parent_node_id": None,
            "real_node_id": node_id,
        }
        if self.settings.traits.progress_state:
            data = {"prompt_id": self.item.prompt_id, "nodes": dict(self.progress)}
            self.outbox.append(Frame("progress_state", data, self._client))

    @property
    def _client(self) -> Any:
        return self.item.extra.get("client_id")

    @property
    def _previews(self) -> bool:
        asked = self.item.extra.get("preview_method") if self.settings.traits.preview_method else None
        if asked in ("auto", "latent2rgb", "taesd"):
            return True
        return self.settings.previews and asked != "none"

    def _ending(self, *, success: bool) -> Ending:
        meta = {n: {"node_id": n, "display_node": n, "parent_node": None, "real_node_id": n} for n in self.outputs}
        return Ending(success, self.outputs, meta, self.messages, len(self.executed), self.pictures)
