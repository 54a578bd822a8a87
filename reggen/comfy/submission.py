"""POST /prompt: the body of a submission, and its answer. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reggen.comfy.node_classes import choices_of, suggestion
from reggen.comfy.sanitize import LINE, TEXT, cleaned, is_name
from reggen.errors import InvalidResponse, PromptRejected

QUEUEING = "queueing a prompt"
_IN_PICTURES = ("index", "take", "seed", "batch")  # the parts of the note that are written into the PNG


@dataclass(frozen=True, slots=True)
class PostAccepted:
    """The server queued the prompt under ``prompt_id``: the id that reggen chose, or the server's own."""

    prompt_id: str


def submission(graph: Mapping[str, Any], client_id: str, prompt_id: str, note: Mapping[str, Any]) -> dict[str, Any]:
    """The body of POST /prompt.

    ``note`` is sent in two places. Beside the prompt it lets reggen find the prompt on servers that choose their own
    ids, and lets a later run know it (`OrphanedPrompt`). In the PNG its slot, take, seed and batch say what a file
    without a ledger row is.
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
    """Read an answer to POST /prompt with status 200 or 400. Raises InvalidResponse."""
    if not isinstance(body, dict):
        raise InvalidResponse(server, QUEUEING, "the answer is not a JSON object")
    reasons = tuple(_readable(reason for reason in _reasons(body) if reason.strip()))
    if status == 200 and not body.get("node_errors"):
        prompt_id = body.get("prompt_id")
        if not is_name(prompt_id):
            raise InvalidResponse(server, QUEUEING, "the answer has no prompt_id")
        return PostAccepted(prompt_id)
    return PromptRejected(server, reasons or ("it gave no reason",))


def read_partly_queued(body: Any) -> str | None:
    """The id of a prompt that was queued although some of its outputs were refused; None when nothing was queued."""
    prompt_id = body.get("prompt_id") if isinstance(body, dict) else None
    return prompt_id if is_name(prompt_id) else None


def _readable(reasons: Iterator[str]) -> Iterator[str]:
    """The first reasons, as many as a person reads."""
    remaining = 2 * TEXT
    for reason in reasons:
        yield reason
        remaining -= len(reason)
        if remaining <= 0:
            return


def _reasons(body: Mapping[str, Any]) -> Iterator[str]:
    node_errors = list(_node_errors(body))
    yield from node_errors
    error = body.get("error")
    if isinstance(error, str):
        yield cleaned(error)
    elif isinstance(error, dict) and not node_errors:
        yield _message_and_details(error)


def _node_errors(body: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each node error. In 2024 ``node_errors`` could be a list: then there are none."""
    nodes = body.get("node_errors")
    for node_id, node in nodes.items() if isinstance(nodes, dict) else ():
        errors = node.get("errors") if isinstance(node, dict) else None
        for error in errors if isinstance(errors, list) else ():
            if isinstance(error, dict):
                where = f"{cleaned(node.get('class_type', 'a node'), LINE)} (node {cleaned(node_id, LINE)})"
                yield cleaned(f"{where}: {_node_error(error)}")


def _node_error(error: Mapping[str, Any]) -> str:
    extra = error.get("extra_info")
    extra = extra if isinstance(extra, dict) else {}
    choices = choices_of(extra.get("input_config"))  # the server leaves it out when the list is long
    if error.get("type") != "value_not_in_list" or not choices:
        return _message_and_details(error)
    got = extra.get("received_value")
    shown = cleaned(got, LINE)
    shown = repr(shown) if isinstance(got, str) else shown
    name = cleaned(extra.get("input_name"), LINE)
    return f"{name} {shown} is not in the server's list{suggestion(cleaned(got), choices)}"


def _message_and_details(error: Mapping[str, Any]) -> str:
    return ": ".join(cleaned(error[key]) for key in ("message", "details") if error.get(key))
