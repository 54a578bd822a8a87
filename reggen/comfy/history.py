"""GET /history/{id} and /api/jobs/{id}: how one prompt ended. Pure: no I/O, no clock.

Answers settle prompts, so they are read strictly: one that cannot be read is an `InvalidResponse`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reggen.comfy.sanitize import LINE, TEXT, cleaned, is_name
from reggen.errors import (
    ExecutionError,
    InvalidResponse,
    MissingOutput,
    PromptInterrupted,
    SampleError,
    ServerDiskFull,
)

READING_HISTORY = "reading the history"
_OUT_OF_MEMORY = re.compile(r"out of memory|allocation on device|allocat.*memory|memory.*allocat", re.IGNORECASE)
_LONGEST_LINE = 500  # characters of one line of a node's message


@dataclass(frozen=True, slots=True)
class ImageRef:
    """The place of one picture on its server. Never used to form a local path."""

    filename: str
    subfolder: str
    kind: str


@dataclass(frozen=True, slots=True)
class Success:
    """A prompt that ended well.

    ``images`` by output node, in batch order; ``seconds`` is how long the server was busy with it. ``blocked`` is the
    message of a node that blocked an output on purpose, "" for none.
    """

    images: Mapping[str, tuple[ImageRef, ...]]
    seconds: float | None
    blocked: str = ""

    def images_of(self, server: str, node: str, batch: int) -> tuple[ImageRef, ...]:
        """The pictures of one output node. Raises MissingOutput when there are fewer than ``batch``."""
        found = self.images.get(node, ())
        if len(found) < batch:
            raise MissingOutput(server, batch, len(found), self.blocked)
        return found


Outcome = Success | SampleError | ServerDiskFull
"""The end of a prompt, as a value: the engine raises what is an error."""


def read_history(server: str, prompt_id: str, body: Any) -> Outcome | None:
    """Read GET /history/{id}: how the prompt ended, or None while it has not. Raises InvalidResponse."""
    if not isinstance(body, dict):
        raise InvalidResponse(server, READING_HISTORY, "the answer is not a JSON object")
    entry = body.get(prompt_id)
    if not isinstance(entry, dict):
        return None
    status = entry.get("status")
    status = status if isinstance(status, dict) else {}
    messages = dict(_messages(status.get("messages")))
    if "execution_interrupted" in messages:  # status_str says "error" for these too
        return PromptInterrupted(server)
    if status.get("status_str") == "error" or "execution_error" in messages:
        return _failure(server, messages.get("execution_error", {}))
    return Success(dict(_images(entry.get("outputs"))), _seconds_by_messages(messages))


def read_job(server: str, prompt_id: str, body: Any) -> Outcome | None:
    """Read GET /api/jobs/{id}: how the prompt ended, or None while it has not. Raises InvalidResponse."""
    status = body.get("status") if isinstance(body, dict) else None
    match status:
        case "pending" | "in_progress":
            return None
        case "completed":
            return Success(dict(_images(body.get("outputs"))), _seconds_of_job(body))
        case "cancelled":
            return PromptInterrupted(server)
        case "failed":
            error = body.get("execution_error")
            return _failure(server, error if isinstance(error, dict) else {})
    raise InvalidResponse(server, READING_HISTORY, f"the answer for prompt {prompt_id} is not a job")


def is_unknown_job(body: Any) -> bool:
    """Tell ComfyUI's own 404 of /api/jobs/{id}, for a prompt that it does not know, from a missing route."""
    return isinstance(body, dict) and body.get("error") == "Job not found"


def _messages(messages: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, list) and len(message) == 2 and isinstance(message[1], dict):
            yield cleaned(message[0], LINE), message[1]


def _images(outputs: Any) -> Iterator[tuple[str, tuple[ImageRef, ...]]]:
    for node_id, output in outputs.items() if isinstance(outputs, dict) else ():
        images = output.get("images") if isinstance(output, dict) else None
        if isinstance(images, list) and is_name(node_id):
            yield str(node_id), tuple(ref for image in images if (ref := _image(image)))


def _image(image: Any) -> ImageRef | None:
    if not isinstance(image, dict):
        return None
    filename, subfolder, kind = image.get("filename"), image.get("subfolder") or "", image.get("type") or "output"
    return ImageRef(filename, subfolder, kind) if is_name(filename) and is_name(subfolder) and is_name(kind) else None


def _seconds_by_messages(messages: Mapping[str, Mapping[str, Any]]) -> float | None:
    """The time between two readings of the server's own clock, which need not agree with ours."""
    try:
        start = messages["execution_start"]["timestamp"]
        return _not_negative(float(messages["execution_success"]["timestamp"] - start) / 1000)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _seconds_of_job(body: Mapping[str, Any]) -> float | None:
    try:
        return _not_negative(float(body["execution_end_time"] - body["execution_start_time"]) / 1000)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _not_negative(seconds: float) -> float | None:
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _failure(server: str, data: Mapping[str, Any]) -> ExecutionError | ServerDiskFull:
    kind = cleaned(data.get("exception_type", "an error"), LINE)
    message = data.get("exception_message", "")
    lines = (message if isinstance(message, str) else cleaned(message))[:TEXT].strip().splitlines()
    first = cleaned(lines[0], _LONGEST_LINE) if lines else "no message"
    node = f"{cleaned(data.get('node_type', 'a node'), LINE)} (node {cleaned(data.get('node_id', '?'), LINE)})"
    if kind == "OSError" and "[Errno 28]" in first:
        return ServerDiskFull(server, "saving an image", "its disk is full")
    return ExecutionError(server, node, kind, first, "OutOfMemory" in kind or bool(_OUT_OF_MEMORY.search(first)))
