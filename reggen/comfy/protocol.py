"""What ComfyUI says, turned into reggen's own types. Pure: no I/O, no clock.

The only module that knows ComfyUI's JSON. Frames are hints and are read leniently (an odd one is
`Unknown`, never an error); answers settle things and are read strictly (an odd one is `InvalidResponse`).
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from reggen.comfy.sanitize import FRAME, LINE, NAME, SAID, is_choice, is_name, is_number, said
from reggen.errors import (
    ExecutionError,
    InvalidResponse,
    MissingOutput,
    PromptInterrupted,
    PromptRejected,
    SampleError,
    ServerDiskFull,
)

# ---- frames ---------------------------------------------------------------------------------------


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


class Certainty(StrEnum):
    """How certain an ending is, and of which kind."""

    OVER = "over"  # executing node=null: the history entry exists
    SUCCESS = "success"  # execution_success: the entry follows within milliseconds
    ERROR = "error"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Ended:
    """The prompt ended. Only a look at the history says with what.

    ``blocked`` is the message of a node that let nothing through on purpose: it stands nowhere else.
    """

    prompt_id: str
    how: Certainty
    blocked: str = ""


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """Prompts running and waiting on the server, everybody's. Sent to every socket."""

    remaining: int


@dataclass(frozen=True, slots=True)
class Preview:
    """A binary frame: somebody's preview picture. Carries nothing we need."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A frame of a kind that means nothing here, or no readable frame at all."""

    kind: str


WORK = (Started, Progressed, NodeDone, Ended, Preview)
"""Frames that a worker which lives has sent; what a node pack tells of the machine is none of them."""

Event = Started | Progressed | NodeDone | Ended | QueueDepth | Preview | Unknown

_ENDINGS = {
    "execution_success": Certainty.SUCCESS,
    "execution_error": Certainty.ERROR,
    "execution_interrupted": Certainty.INTERRUPTED,
}
# by far the largest and most frequent text frame, and it says nothing that the others do not
_BULKY = '{"type": "progress_state"'


def read_frame(frame: str | bytes) -> Event:
    """One WebSocket message. Never raises."""
    if isinstance(frame, bytes):
        return Preview()
    if frame.startswith(_BULKY):
        return Unknown("progress_state")
    if len(frame) > FRAME:
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
    prompt_id = data.get("prompt_id")  # absent on a frame after a reconnect, and in other clients' frames
    if not is_name(prompt_id):
        return Unknown(kind)
    match kind:
        case "execution_start":
            return Started(prompt_id)
        case "executing":
            return NodeDone(prompt_id) if data.get("node") is not None else Ended(prompt_id, Certainty.OVER)
        case "executed" | "execution_cached":
            return NodeDone(prompt_id)
        case "progress":
            return Progressed(prompt_id, float(data["value"]), float(data["max"]))
        case "execution_error" if data.get("exception_type") == "ExecutionBlocked":
            message = said(data.get("exception_message") or "").removeprefix("Execution Blocked:")
            return Ended(prompt_id, Certainty.ERROR, message.strip())
        case _ if kind in _ENDINGS:
            return Ended(prompt_id, _ENDINGS[kind])
    return Unknown(kind)


# ---- submission -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PostAccepted:
    """The server queued the prompt under ``prompt_id``, which is the one we chose, or its own."""

    prompt_id: str


_IN_PICTURES = ("index", "take", "seed", "batch")


def submission(graph: Mapping[str, Any], client_id: str, prompt_id: str, note: Mapping[str, Any]) -> dict[str, Any]:
    """The body of POST /prompt.

    ``note`` travels twice: beside the prompt, so that it can be found on servers that choose their
    own prompt ids, and by a later run (`OrphanedPrompt`); and slot, take, seed and batch into the PNG, so that a
    file without a ledger row can say what it is.
    """
    return {
        "prompt": graph,
        "client_id": client_id,
        "prompt_id": prompt_id,
        "extra_data": {
            "preview_method": "none",
            "reggen": {"id": prompt_id, **note},
            "extra_pnginfo": {"reggen": {key: note[key] for key in _IN_PICTURES if key in note}},
        },
    }


def read_submission(server: str, status: int, body: Any) -> PostAccepted | PromptRejected:
    """The answer to POST /prompt with status 200 or 400. Raises InvalidResponse."""
    if not isinstance(body, dict):
        raise InvalidResponse(server, "queueing a prompt", "the answer is no JSON object")
    reasons = tuple(_few(reason for reason in _reasons(body) if reason.strip()))
    if status == 200 and not body.get("node_errors"):
        prompt_id = body.get("prompt_id")
        if not is_name(prompt_id):
            raise InvalidResponse(server, "queueing a prompt", "the answer names no prompt_id")
        return PostAccepted(prompt_id)
    return PromptRejected(server, reasons or ("it gave no reason",))


def _few(reasons: Iterator[str]) -> Iterator[str]:
    """As many as a person reads."""
    left = 2 * SAID
    for reason in reasons:
        yield reason
        left -= len(reason)
        if left <= 0:
            return


def dropped_prompt(body: Any) -> str | None:
    """The id of a prompt that was queued although some of its outputs were refused."""
    prompt_id = body.get("prompt_id") if isinstance(body, dict) else None
    return prompt_id if is_name(prompt_id) else None


def _node_errors(body: Mapping[str, Any]) -> Iterator[str]:
    """The sentence of every node error. In 2024 ``node_errors`` could be a list: then there are none."""
    nodes = body.get("node_errors")
    for node_id, node in nodes.items() if isinstance(nodes, dict) else ():
        errors = node.get("errors") if isinstance(node, dict) else None
        for error in errors if isinstance(errors, list) else ():
            if isinstance(error, dict):
                where = f"{said(node.get('class_type', 'a node'), LINE)} (node {said(node_id, LINE)})"
                yield said(f"{where}: {_node_error(error)}")


def _reasons(body: Mapping[str, Any]) -> Iterator[str]:
    told = list(_node_errors(body))
    yield from told
    error = body.get("error")
    if isinstance(error, str):
        yield said(error)
    elif isinstance(error, dict) and not told:
        yield said(": ".join(said(error[key]) for key in ("message", "details") if error.get(key)))


def _node_error(error: Mapping[str, Any]) -> str:
    extra = error.get("extra_info")
    extra = extra if isinstance(extra, dict) else {}
    name, got = extra.get("input_name"), extra.get("received_value")
    choices = choices_of(extra.get("input_config"))  # left out by the server when the list is long
    if error.get("type") == "value_not_in_list" and choices:
        shown = said(got, LINE)
        shown = repr(shown) if isinstance(got, str) else shown
        return f"{said(name, LINE)} {shown} is not in the server's list{suggestion(said(got), choices)}"
    return ": ".join(said(error[key]) for key in ("message", "details") if error.get(key))


def choices_of(spec: Any) -> list[str]:
    """The values an input accepts, from its specification; empty when it is no list of choices."""
    if isinstance(spec, list | tuple) and spec:
        if isinstance(spec[0], list | tuple):
            return _choices(spec[0])
        if spec[0] == "COMBO" and len(spec) > 1 and isinstance(spec[1], dict):
            options = spec[1].get("options")
            return _choices(options) if isinstance(options, list) else []
    return []


def _choices(listed: Iterable[Any]) -> list[str]:
    texts = (choice if isinstance(choice, str) else said(choice) for choice in listed)
    return [text for text in texts if is_choice(text)]


_COMPARED = 5_000  # choices that are looked through for the nearest: more would take seconds


def suggestion(got: str, choices: list[str], most: int = 8) -> str:
    """A clause to append: the nearest choice, or what there is."""
    folded = {choice.lower(): choice for choice in choices[:_COMPARED] if len(choice) <= LINE}
    if near := difflib.get_close_matches(got[:LINE].lower(), folded, n=1, cutoff=0.5):
        return f"; did you mean {folded[near[0]]!r}?"
    shown = ", ".join(said(choice, LINE) for choice in choices[:most])
    more = f" and {len(choices) - most} more" if len(choices) > most else ""
    return f"; it has {shown}{more}" if choices else ""


# ---- looks ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ImageRef:
    """Where the server keeps one picture. Never used to form a local path."""

    filename: str
    subfolder: str
    kind: str


@dataclass(frozen=True, slots=True)
class Success:
    """The prompt ended well. ``images`` by output node, in batch order; ``seconds`` the server was busy with it.

    ``blocked`` is what a node said that let nothing through.
    """

    images: Mapping[str, tuple[ImageRef, ...]]
    seconds: float | None
    blocked: str = ""

    def take(self, server: str, node: str, batch: int) -> tuple[ImageRef, ...]:
        """The pictures of one output node. Raises MissingOutput when there are fewer than asked for."""
        found = self.images.get(node, ())
        if len(found) < batch:
            raise MissingOutput(server, batch, len(found), self.blocked)
        return found


Outcome = Success | SampleError | ServerDiskFull


@dataclass(frozen=True, slots=True)
class Queue:
    """What is running and waiting, in order; ``notes`` maps our own ids to the server's where it chose its own."""

    running: tuple[str, ...]
    pending: tuple[str, ...]
    notes: Mapping[str, str]

    def find(self, prompt_id: str) -> str | None:
        """The server's id of a prompt that was sent under ``prompt_id``, if it is here."""
        if prompt_id in self.running or prompt_id in self.pending:
            return prompt_id
        return self.notes.get(prompt_id)


def read_queue(server: str, body: Any) -> Queue:
    """The answer to GET /queue. Raises InvalidResponse."""
    try:
        running, pending = _items(body["queue_running"]), _items(body["queue_pending"])
        notes = {note: _own_id(item) for item in (*running, *pending) if (note := _note(item))}
        return Queue(tuple(map(_own_id, running)), tuple(map(_own_id, pending)), notes)
    except (KeyError, TypeError, IndexError):
        raise InvalidResponse(server, "reading the queue", "the answer is no queue") from None


def _items(listed: Any) -> list[Any]:
    if not isinstance(listed, list):
        raise TypeError("no list")
    return listed


def _own_id(item: Any) -> str:
    if not isinstance(item, list) or not isinstance(item[1], str):
        raise TypeError("no queue item")
    return said(item[1], NAME)  # somebody else's may be anything; it counts all the same


def _note(item: Any) -> str | None:
    extra = item[3] if len(item) > 3 else None
    note = extra.get("reggen") if isinstance(extra, dict) else None
    name = note.get("id") if isinstance(note, dict) else None
    return name if is_name(name) else None


def find_in_history(server: str, body: Any, prompt_id: str) -> str | None:
    """The server's id of a prompt that was sent under ``prompt_id``, in an answer to GET /history."""
    if not isinstance(body, dict):
        raise InvalidResponse(server, "reading the history", "the answer is no JSON object")
    if prompt_id in body:
        return prompt_id
    for own_id, entry in body.items():
        item = entry.get("prompt") if isinstance(entry, dict) else None
        if isinstance(item, list) and _note(item) == prompt_id and is_name(own_id):
            return str(own_id)
    return None


_NOTE = ("id", "index", "take", "post", "seed", "batch", "recipe")


@dataclass(frozen=True, slots=True)
class OrphanedPrompt:
    """A prompt that some reggen left on a server, queued or done well; ``known_as`` is the server's id of it.

    The rest is the note that it was posted with: its id there, the slot and take it was for, how many posts
    came before it, its seed and batch size, and the fingerprint (``recipe``) of its graph.
    """

    known_as: str
    id: str
    index: int
    take: int
    post: int
    seed: int
    batch: int
    recipe: str


def orphans(server: str, queue: Any, history: Any) -> list[OrphanedPrompt]:
    """Prompts that carry a whole note, from the answers to GET /queue and then GET /history. Raises InvalidResponse."""
    doing = "looking for prompts of an earlier run"
    if not isinstance(queue, dict) or not isinstance(history, dict):
        raise InvalidResponse(server, doing, "the answer is no JSON object")
    try:
        queued = [item for key in ("queue_running", "queue_pending") for item in _items(queue.get(key) or [])]
    except TypeError:
        raise InvalidResponse(server, doing, "the answer is no queue") from None
    done = [
        entry.get("prompt")
        for known_as, entry in history.items()
        if isinstance(entry, dict) and isinstance(read_history(server, known_as, history), Success)
    ]
    found = {orphan.known_as: orphan for item in (*queued, *done) if (orphan := _trace(item))}
    return list(found.values())


def _trace(item: Any) -> OrphanedPrompt | None:
    try:
        note = item[3]["reggen"]
        orphan = OrphanedPrompt(item[1], *(note[field] for field in _NOTE))
    except (TypeError, KeyError, IndexError):
        return None
    numbers: tuple[Any, ...] = (orphan.index, orphan.take, orphan.post, orphan.seed, orphan.batch)
    whole = all(is_name(text) for text in (orphan.known_as, orphan.id, orphan.recipe))
    return orphan if whole and all(isinstance(one, int) and is_number(one) for one in numbers) else None


def slim_item(item: Any) -> Any:
    """Of an item of a queue, as much as `read_queue` and `orphans` read: its id and reggen's note."""
    if not isinstance(item, list) or len(item) < 2 or not isinstance(item[1], str):
        return None
    extra = item[3] if len(item) > 3 else None
    note = extra.get("reggen") if isinstance(extra, dict) else None
    note = note if isinstance(note, dict) else {}
    kept = {key: value for key in _NOTE if is_name(value := note.get(key)) or is_number(value)}
    return [None, said(item[1], NAME), None, {"reggen": kept} if kept else {}]


def slim_entry(entry: Any) -> Any:
    """Of an entry of the history, what `find_in_history` and `orphans` read: its note, and whether it ended well."""
    if not isinstance(entry, dict) or not (item := slim_item(entry.get("prompt"))) or not item[3]:
        return {}
    good = isinstance(read_history("", "", {"": entry}), Success)
    return {"prompt": item, "status": {"status_str": "success" if good else "error"}}


def memory_left(body: Any) -> float | None:
    """In an answer to GET /system_stats: the part of memory that is free on the fullest device, if it says."""
    devices = body.get("devices") if isinstance(body, dict) else None
    found = [
        device["vram_free"] / device["vram_total"]
        for device in (devices if isinstance(devices, list) else ())
        if isinstance(device, dict)
        and is_number(device.get("vram_free"))
        and is_number(device.get("vram_total"))
        and device["vram_total"] > 0
    ]
    return min(found, default=None)


def remaining(server: str, body: Any) -> int:
    """The answer to GET /prompt: prompts running and waiting, everybody's. Raises InvalidResponse."""
    info = body.get("exec_info") if isinstance(body, dict) else None
    count = info.get("queue_remaining") if isinstance(info, dict) else None
    if not is_number(count):
        raise InvalidResponse(server, "asking for a sign of life", "this is no ComfyUI server")
    return int(count)


def version(body: Any) -> str:
    """In an answer to GET /system_stats: ComfyUI's version as it names it, or "unknown"."""
    system = body.get("system") if isinstance(body, dict) else None
    return said(system.get("comfyui_version", "unknown"), LINE) if isinstance(system, dict) else "unknown"


def node_class(server: str, body: Any, name: str) -> dict[str, Any] | None:
    """A node class in an answer to GET /object_info/{name}; None when there is none. Its inputs are tables.

    Raises InvalidResponse: a class that is not there is an empty object, and nothing else.
    """
    if body == {}:
        return None
    found = body.get(name) if isinstance(body, dict) else None
    if not isinstance(found, dict):
        raise InvalidResponse(server, "asking for its nodes", "the answer is no description of a node")
    inputs = found.get("input")
    groups = inputs.items() if isinstance(inputs, dict) else ()
    return {**found, "input": {group: table for group, table in groups if isinstance(table, dict)}}


def read_history(server: str, prompt_id: str, body: Any) -> Outcome | None:
    """The answer to GET /history/{id}: how the prompt ended, or None while it has not. Raises InvalidResponse."""
    if not isinstance(body, dict):
        raise InvalidResponse(server, "reading the history", "the answer is no JSON object")
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
    return Success(dict(_images(entry.get("outputs"))), _busy_seconds(messages))


def read_job(server: str, prompt_id: str, body: Any) -> Outcome | None:
    """The answer to GET /api/jobs/{id}: how the prompt ended, or None while it has not. Raises InvalidResponse."""
    status = body.get("status") if isinstance(body, dict) else None
    match status:
        case "pending" | "in_progress":
            return None
        case "completed":
            return Success(dict(_images(body.get("outputs"))), _job_seconds(body))
        case "cancelled":
            return PromptInterrupted(server)
        case "failed":
            error = body.get("execution_error")
            return _failure(server, error if isinstance(error, dict) else {})
    raise InvalidResponse(server, "reading the history", f"the answer for prompt {prompt_id} is no job")


def is_unknown_job(body: Any) -> bool:
    """Whether a 404 of /api/jobs/{id} is ComfyUI's own word that it knows no such prompt."""
    return isinstance(body, dict) and body.get("error") == "Job not found"


def _job_seconds(body: Mapping[str, Any]) -> float | None:
    try:
        seconds = float(body["execution_end_time"] - body["execution_start_time"]) / 1000
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _messages(messages: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, list) and len(message) == 2 and isinstance(message[1], dict):
            yield said(message[0], LINE), message[1]


def _images(outputs: Any) -> Iterator[tuple[str, tuple[ImageRef, ...]]]:
    for node_id, output in outputs.items() if isinstance(outputs, dict) else ():
        images = output.get("images") if isinstance(output, dict) else None
        if isinstance(images, list) and is_name(node_id):
            yield str(node_id), tuple(_image(image) for image in images if _is_image(image))


def _is_image(image: Any) -> bool:
    return isinstance(image, dict) and all(is_name(part) for part in _places(image))


def _image(image: Mapping[str, Any]) -> ImageRef:
    return ImageRef(*_places(image))


def _places(image: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    return image.get("filename"), image.get("subfolder") or "", image.get("type") or "output"


def _busy_seconds(messages: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Between two readings of the server's own clock, which need not agree with ours."""
    try:
        start = messages["execution_start"]["timestamp"]
        seconds = float(messages["execution_success"]["timestamp"] - start) / 1000
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


_OUT_OF_MEMORY = re.compile(r"out of memory|allocation on device|allocat.*memory|memory.*allocat", re.IGNORECASE)


def _failure(server: str, data: Mapping[str, Any]) -> ExecutionError | ServerDiskFull:
    kind = said(data.get("exception_type", "an error"), LINE)
    message = data.get("exception_message", "")
    lines = (message if isinstance(message, str) else said(message))[:SAID].strip().splitlines() or ["no message"]
    lines = [said(line, 500) for line in lines]
    node = f"{said(data.get('node_type', 'a node'), LINE)} (node {said(data.get('node_id', '?'), LINE)})"
    if kind == "OSError" and "[Errno 28]" in lines[0]:
        return ServerDiskFull(server, "saving an image", "its disk is full")
    memory = "OutOfMemory" in kind or bool(_OUT_OF_MEMORY.search(lines[0]))
    return ExecutionError(server, node, kind, lines[0], memory)
