"""The frames and messages of one execution: what clients and the history are told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from reggen.sim.settings import Settings
from reggen.sim.state import graph as graphs
from reggen.sim.state.graph import PaintedPicture
from reggen.sim.state.model import Frame, NodeError, PictureFrame, QueuedPrompt

OOM_TIPS = (
    "This error means you ran out of memory on your GPU.\n\n"
    "TIPS: If the workflow worked before you might have accidentally set the batch_size to a large number."
)


@dataclass(slots=True)
class Reporter:
    """Puts the frames about one prompt into the outbox, and keeps the messages for its history entry."""

    prompt: QueuedPrompt
    settings: Settings
    outbox: list[Frame | PictureFrame]
    now: float = 0.0
    messages: list[list[Any]] = field(default_factory=list)
    executed: list[str] = field(default_factory=list)
    """The nodes that have run."""
    _progress: dict[str, dict[str, Any]] = field(default_factory=dict)

    def message(self, event: str, data: dict[str, Any], *, to_all: bool = False) -> None:
        """Send a frame that the history remembers too."""
        data = {"prompt_id": self.prompt.prompt_id, **data}
        if self.settings.traits.timestamps:
            data["timestamp"] = int(self.now * 1000)
        self.messages.append([event, data])
        if to_all or self._client is not None:
            self.outbox.append(Frame(event, data, self._client))

    def executing(self, node_id: str) -> None:
        """Send that a node runs now."""
        self.progress(node_id, 0.0, 1.0, "running")
        self._tell("executing", self._named(node_id))

    def finished(self, node_id: str) -> None:
        """Send that a node has run."""
        last = self._progress.get(node_id, {"max": 1.0})["max"]
        self.progress(node_id, last, last, "finished")

    def step(self, node_id: str, step: int, total: int) -> None:
        """Send a sampler's step, and a preview to those who want one."""
        self.progress(node_id, step, total, "running")
        data = {"value": step, "max": total, "prompt_id": self.prompt.prompt_id, "node": node_id}
        self.outbox.append(Frame("progress", data, self._client))
        if self._previews:
            picture = graphs.pictures(self.prompt.graph, node_id)[0]
            self.outbox.append(PictureFrame(picture, step / total, node_id, self.prompt.prompt_id, self._client))

    def progress(self, node_id: str, value: float, most: float, state: str) -> None:
        """Note how far a node is, and send it to clients that know `progress_state`."""
        self._progress[node_id] = {
            "value": value,
            "max": most,
            "state": state,
            "node_id": node_id,
            "prompt_id": self.prompt.prompt_id,
            "display_node_id": node_id,
            "parent_node_id": None,
            "real_node_id": node_id,
        }
        if self.settings.traits.progress_state:
            data = {"prompt_id": self.prompt.prompt_id, "nodes": dict(self._progress)}
            self.outbox.append(Frame("progress_state", data, self._client))

    def picture(self, picture: PaintedPicture, node_id: str) -> None:
        """Send a finished picture through the socket."""
        frame = PictureFrame(picture, 1.0, node_id, self.prompt.prompt_id, self._client, whole=True)
        self.outbox.append(frame)

    def output(self, node_id: str, result: dict[str, Any]) -> None:
        """Send what an output node has given."""
        data = self._named(node_id)
        self._tell("executed", {**data, "output": result, "prompt_id": data["prompt_id"]})

    def blocked(self, message: str) -> None:
        """Send that the first output was blocked; the history does not remember it."""
        node_id = self.prompt.outputs[0]
        data = {
            "prompt_id": self.prompt.prompt_id,
            **self._place(node_id),
            "exception_message": f"Execution Blocked: {message}",
            "exception_type": "ExecutionBlocked",
            "traceback": [],
            "current_inputs": [],
            "current_outputs": [],
        }
        self._tell("execution_error", data)

    def failed(self, node_id: str, error: NodeError, *, saves: bool) -> None:
        """Send that a node has raised; `saves` says whether it is an output."""
        newline = "\n" if self.settings.traits.progress_state else ""
        tips = OOM_TIPS if error.exception_type == "torch.OutOfMemoryError" else ""
        data = {
            **self._place(node_id),
            "exception_message": f"{error.message}{newline}{tips}",
            "exception_type": error.exception_type,
            "traceback": [f'  File "execution.py", in execute\n    {error.exception_type}\n'],
            "current_inputs": self._inputs(node_id, saves=saves),
            "current_outputs": list(self.prompt.graph),
        }
        self.message("execution_error", data)

    def stopped(self, node_id: str) -> None:
        """Send to everybody that a node was interrupted."""
        data = {"prompt_id": self.prompt.prompt_id, **self._place(node_id)}
        self.message("execution_interrupted", data, to_all=True)

    def _inputs(self, node_id: str, *, saves: bool) -> dict[str, Any]:
        """A failed node's inputs, as far as an error frame shows them: tensors in words."""
        values = self.prompt.graph[node_id]["inputs"].items()
        shown = {name: ["tensor([[[[...]]]])"] if graphs.is_link(value) else [value] for name, value in values}
        if saves:
            shown["prompt"] = [str(self.prompt.graph)]
            shown["extra_pnginfo"] = [self.prompt.extra.get("extra_pnginfo")]
        return shown

    def _tell(self, event: str, data: dict[str, Any]) -> None:
        """Send a frame to the prompt's own client; to nobody if it has none."""
        if self._client is not None:
            self.outbox.append(Frame(event, data, self._client))

    def _named(self, node_id: str) -> dict[str, Any]:
        shown = {"display_node": node_id} if self.settings.traits.display_nodes else {}
        return {"node": node_id, **shown, "prompt_id": self.prompt.prompt_id}

    def _place(self, node_id: str) -> dict[str, Any]:
        """Where an execution ended: the node, its class, and the nodes that have run."""
        class_type = self.prompt.graph[node_id]["class_type"]
        return {"node_id": node_id, "node_type": class_type, "executed": list(self.executed)}

    @property
    def _client(self) -> Any:
        return self.prompt.extra.get("client_id")

    @property
    def _previews(self) -> bool:
        asked = self.prompt.extra.get("preview_method") if self.settings.traits.preview_method else None
        if asked in ("auto", "latent2rgb", "taesd"):
            return True
        return self.settings.previews and asked != "none"
