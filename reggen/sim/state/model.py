"""The nouns of an execution: what waits, what leaves, what goes wrong, how it ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from reggen.sim.state.graph import Graph, Look, PaintedPicture


@dataclass(frozen=True, slots=True)
class Frame:
    """A text frame for one client id, or for every socket (`to` is None)."""

    event: str
    data: dict[str, Any]
    to: Any = None


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture to be sent as a binary frame: a preview, or the whole of it."""

    picture: PaintedPicture
    share: float
    node_id: str
    prompt_id: str
    to: Any = None
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Pause:
    """Time passes. `interruptible` ones end early when somebody interrupts."""

    seconds: float
    interruptible: bool = False


@dataclass(frozen=True, slots=True)
class Item:
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
    """What goes wrong in one execution on purpose."""

    kind: Literal["fail", "blocked", "blank", "interrupt", "look", "die"]
    exception_type: str = "RuntimeError"
    message: str = "rehearsed failure"
    node: str = ""
    """A node id or class name; empty: the first sampler, or else the first node that runs."""
    look: Look = "plain"


@dataclass(frozen=True, slots=True)
class Ending:
    """How an execution ended: what its history entry will say."""

    success: bool
    outputs: dict[str, Any]
    meta: dict[str, Any]
    messages: list[list[Any]]
    ran: int
    pictures: int


class NodeError(Exception):
    """A node that raised: the type and the message that the frame will name."""

    def __init__(self, exception_type: str, message: str) -> None:
        super().__init__(exception_type, message)
        self.exception_type = exception_type
        self.message = message


class WorkerDiedError(Exception):
    """The worker thread ended in the middle: nothing will ever run again."""


class InterruptError(Exception):
    """Somebody has asked the running prompt to stop, and it has noticed."""
