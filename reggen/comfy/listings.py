"""GET /queue and GET /history: every prompt that a server holds. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reggen.comfy.history import READING_HISTORY, Success, read_history
from reggen.comfy.sanitize import NAME, cleaned, is_name, is_number
from reggen.errors import InvalidResponse

READING_QUEUE = "reading the queue"
FINDING_ORPHANS = "looking for prompts of an earlier run"
_NOTE = ("id", "index", "take", "post", "seed", "batch", "recipe")


@dataclass(frozen=True, slots=True)
class Queue:
    """The running and the waiting prompts, in order.

    ``notes`` maps the ids that reggen chose to the server's, for servers that choose their own.
    """

    running: tuple[str, ...]
    pending: tuple[str, ...]
    notes: Mapping[str, str]

    def find(self, prompt_id: str) -> str | None:
        """The server's id of the prompt that was posted under ``prompt_id``; None when it is not queued."""
        if prompt_id in self.running or prompt_id in self.pending:
            return prompt_id
        return self.notes.get(prompt_id)


def read_queue(server: str, body: Any) -> Queue:
    """Read GET /queue. Raises InvalidResponse."""
    try:
        running, pending = _items(body["queue_running"]), _items(body["queue_pending"])
        notes = {note: _id(item) for item in (*running, *pending) if (note := _note_id(item))}
        return Queue(tuple(map(_id, running)), tuple(map(_id, pending)), notes)
    except (KeyError, TypeError, IndexError):
        raise InvalidResponse(server, READING_QUEUE, "the answer is not a queue") from None


def find_in_history(server: str, body: Any, prompt_id: str) -> str | None:
    """The server's id of the prompt that was posted under ``prompt_id``, from GET /history. Raises InvalidResponse."""
    if not isinstance(body, dict):
        raise InvalidResponse(server, READING_HISTORY, "the answer is not a JSON object")
    if prompt_id in body:
        return prompt_id
    for known_as, entry in body.items():
        item = entry.get("prompt") if isinstance(entry, dict) else None
        if isinstance(item, list) and _note_id(item) == prompt_id and is_name(known_as):
            return str(known_as)
    return None


@dataclass(frozen=True, slots=True)
class OrphanedPrompt:
    """A prompt that a run of reggen's left on a server, queued or ended well; ``known_as`` is the server's id of it.

    The other fields are the note that it was posted with: the id that reggen chose, slot and take, the number of
    posts before it, seed and batch size, and the fingerprint (``recipe``) of its graph.
    """

    known_as: str
    id: str
    index: int
    take: int
    post: int
    seed: int
    batch: int
    recipe: str


def read_orphans(server: str, queue: Any, history: Any) -> list[OrphanedPrompt]:
    """Prompts with a whole note, from the answers to GET /queue and then GET /history. Raises InvalidResponse."""
    if not isinstance(queue, dict) or not isinstance(history, dict):
        raise InvalidResponse(server, FINDING_ORPHANS, "the answer is not a JSON object")
    try:
        queued = [item for key in ("queue_running", "queue_pending") for item in _items(queue.get(key) or [])]
    except TypeError:
        raise InvalidResponse(server, FINDING_ORPHANS, "the answer is not a queue") from None
    done = [
        entry.get("prompt")
        for known_as, entry in history.items()
        if isinstance(entry, dict) and isinstance(read_history(server, known_as, history), Success)
    ]
    found = {orphan.known_as: orphan for item in (*queued, *done) if (orphan := _orphan(item))}
    return list(found.values())


def slim_item(item: Any) -> Any:
    """The parts of a queue item that `read_queue` and `read_orphans` read: its id and reggen's note."""
    if not isinstance(item, list) or len(item) < 2 or not isinstance(item[1], str):
        return None
    kept = {key: value for key in _NOTE if is_name(value := _note(item).get(key)) or is_number(value)}
    return [None, cleaned(item[1], NAME), None, {"reggen": kept} if kept else {}]


def slim_entry(entry: Any) -> Any:
    """The parts of a history entry that `find_in_history` and `read_orphans` read: its note, and if it ended well."""
    if not isinstance(entry, dict) or not (item := slim_item(entry.get("prompt"))) or not item[3]:
        return {}
    is_success = isinstance(read_history("", "", {"": entry}), Success)
    return {"prompt": item, "status": {"status_str": "success" if is_success else "error"}}


def _items(listed: Any) -> list[Any]:
    if not isinstance(listed, list):
        raise TypeError("not a list")
    return listed


def _id(item: Any) -> str:
    if not isinstance(item, list) or not isinstance(item[1], str):
        raise TypeError("not a queue item")
    return cleaned(item[1], NAME)  # other clients may choose any text; the prompt counts all the same


def _note(item: list[Any]) -> dict[str, Any]:
    extra = item[3] if len(item) > 3 else None
    note = extra.get("reggen") if isinstance(extra, dict) else None
    return note if isinstance(note, dict) else {}


def _note_id(item: list[Any]) -> str | None:
    prompt_id = _note(item).get("id")
    return prompt_id if is_name(prompt_id) else None


def _orphan(item: Any) -> OrphanedPrompt | None:
    try:
        note = item[3]["reggen"]
        orphan = OrphanedPrompt(item[1], *(note[field] for field in _NOTE))
    except (TypeError, KeyError, IndexError):
        return None
    numbers: tuple[Any, ...] = (orphan.index, orphan.take, orphan.post, orphan.seed, orphan.batch)
    whole = all(is_name(text) for text in (orphan.known_as, orphan.id, orphan.recipe))
    return orphan if whole and all(isinstance(one, int) and is_number(one) for one in numbers) else None
