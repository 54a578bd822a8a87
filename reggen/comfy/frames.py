"""WebSocket frames as events. Pure: no I/O, no clock.

Frames are hints and are read leniently: one that cannot be read is `Unknown`, never an error.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from reggen.comfy.sanitize import LARGEST_FRAME, cleaned, is_name


@dataclass(frozen=True, slots=True)
class Started:
    """The server began to execute the prompt."""

    prompt_id: str


@dataclass(frozen=True, slots=True)
class Progressed:
    """Step ``value`` of ``maximum`` of some node of the prompt."""

    prompt_id: str
    value: float
    maximum: float


@dataclass(frozen=True, slots=True)
class NodeDone:
    """A node of the prompt is being executed or was executed."""

    prompt_id: str


class EndSignal(StrEnum):
    """The frame that announced the end of a prompt."""

    OVER = "over"  # executing node=null: the history entry exists
    SUCCESS = "success"  # execution_success: the entry follows within milliseconds
    ERROR = "error"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Ended:
    """The prompt ended; only its history entry says how.

    ``blocked`` is the message of a node that blocked the execution on purpose; no answer repeats it.
    """

    prompt_id: str
    signal: EndSignal
    blocked: str = ""


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """The number of running and waiting prompts on the server, of all clients. Sent to every socket."""

    remaining: int


@dataclass(frozen=True, slots=True)
class Preview:
    """A binary frame: a preview picture of some prompt. reggen does not use it."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A frame of a kind that reggen does not use, or one that cannot be read."""

    kind: str


SIGNS_OF_WORK = (Started, Progressed, NodeDone, Ended, Preview)
"""Events that only a living worker thread causes: not those of a node pack that monitors the machine."""

Event = Started | Progressed | NodeDone | Ended | QueueDepth | Preview | Unknown

_END_SIGNALS = {
    "execution_success": EndSignal.SUCCESS,
    "execution_error": EndSignal.ERROR,
    "execution_interrupted": EndSignal.INTERRUPTED,
}
# by far the largest and most frequent text frame; the other frames say all that it says
_PROGRESS_STATE = '{"type": "progress_state"'


def read_frame(frame: str | bytes) -> Event:
    """Read one WebSocket message. Never raises."""
    if isinstance(frame, bytes):
        return Preview()
    if frame.startswith(_PROGRESS_STATE):
        return Unknown("progress_state")
    if len(frame) > LARGEST_FRAME:
        return Unknown("too large")
    try:
        message = json.loads(frame)
        kind, data = message["type"], message["data"]
        if not is_name(kind):
            return Unknown("unreadable")
        return _event(kind, data) if isinstance(data, dict) else Unknown(kind)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return Unknown("unreadable")


def _event(kind: str, data: dict[str, Any]) -> Event:
    if kind == "status":
        return QueueDepth(int(data["status"]["exec_info"]["queue_remaining"]))
    prompt_id = data.get("prompt_id")  # absent after a reconnect, and in the frames of other clients' prompts
    if not is_name(prompt_id):
        return Unknown(kind)
    match kind:
        case "execution_start":
            return Started(prompt_id)
        case "executing":
            return NodeDone(prompt_id) if data.get("node") is not None else Ended(prompt_id, EndSignal.OVER)
        case "executed" | "execution_cached":
            return NodeDone(prompt_id)
        case "progress":
            return Progressed(prompt_id, float(data["value"]), float(data["max"]))
        case "execution_error" if data.get("exception_type") == "ExecutionBlocked":
            message = cleaned(data.get("exception_message") or "").removeprefix("Execution Blocked:")
            return Ended(prompt_id, EndSignal.ERROR, message.strip())
        case _ if kind in _END_SIGNALS:
            return Ended(prompt_id, _END_SIGNALS[kind])
    return Unknown(kind)
