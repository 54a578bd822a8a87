"""The values of an execution: prompts, frames, pauses, mishaps and endings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from reggen.sim.state.graph import Appearance, Graph, PaintedPicture


@dataclass(frozen=True, slots=True)
class Frame:
    """A text frame for one client id, or for every socket (`to` is None)."""

    event: str
    data: dict[str, Any]
    to: Any = None


@dataclass(frozen=True, slots=True)
class PictureFrame:
    """A picture to be sent as a binary frame: a preview, or the whole picture."""

    picture: PaintedPicture
    share: float
    node_id: str
    prompt_id: str
    to: Any = None
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Pause:
    """A time to wait. An interruptible one ends early at an interrupt."""

    seconds: float
    interruptible: bool = False


@dataclass(frozen=True, slots=True)
class QueuedPrompt:
    """A prompt that was accepted."""

    number: float
    prompt_id: str
    graph: Graph
    extra: dict[str, Any]
    outputs: list[str]

    def as_list(self) -> list[Any]:
        """The form in /queue and /history."""
        return [self.number, self.prompt_id, self.graph, self.extra, self.outputs]


@dataclass(frozen=True, slots=True)
class Mishap:
    """A failure of one execution that a fault orders."""

    kind: Literal["fail", "blocked", "blank", "interrupt", "appearance", "die"]
    exception_type: str = "RuntimeError"
    message: str = "rehearsed failure"
    node: str = ""
    """A node id or class name; empty: the first sampler, or else the first node that runs."""
    appearance: Appearance = "plain"


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of an execution, as its history entry will show it."""

    success: bool
    outputs: dict[str, Any]
    meta: dict[str, Any]
    messages: list[list[Any]]
    ran: int
    pictures: int


class NodeError(Exception):
    """A node that raised: the exception type and message that the frame will name."""

    def __init__(self, exception_type: str, message: str) -> None:
        super().__init__(exception_type, message)
        self.exception_type = exception_type
        self.message = message


class WorkerDiedError(Exception):
    """The worker thread has ended in the middle: nothing will run any more."""


class InterruptError(Exception):
    """The running prompt has noticed that it was interrupted."""
