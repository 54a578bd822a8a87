"""Node classes as /object_info describes them, and the choices of their inputs. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from reggen.aliases import sampler_called, scheduler_called
from reggen.comfy.sanitize import LINE, cleaned, is_choice
from reggen.errors import InvalidResponse
from reggen.wording import first_few, likest, meant


def read_node_class(server: str, body: Any, name: str) -> dict[str, Any] | None:
    """The node class in an answer to GET /object_info/{name}, its inputs as tables; None when there is none.

    Raises InvalidResponse: the answer for an unknown class is an empty object, and nothing else.
    """
    if body == {}:
        return None
    found = body.get(name) if isinstance(body, dict) else None
    if not isinstance(found, dict):
        raise InvalidResponse(server, "asking for its nodes", "the answer does not describe a node")
    inputs = found.get("input")
    groups = inputs.items() if isinstance(inputs, dict) else ()
    return {**found, "input": {group: table for group, table in groups if isinstance(table, dict)}}


def choices_of(spec: Any) -> list[str]:
    """The values that an input accepts, from its specification; empty when the input is not a list of choices."""
    if isinstance(spec, list | tuple) and spec:
        if isinstance(spec[0], list | tuple):
            return _choices(spec[0])
        if spec[0] == "COMBO" and len(spec) > 1 and isinstance(spec[1], dict):
            options = spec[1].get("options")
            return _choices(options) if isinstance(options, list) else []
    return []


def _choices(values: Iterable[Any]) -> list[str]:
    texts = (value if isinstance(value, str) else cleaned(value) for value in values)
    return [text for text in texts if is_choice(text)]


def suggestion(got: str, choices: Sequence[str], most: int = 8) -> str:
    """A clause to append to a sentence about a wrong choice: the right name of what another tool calls so, else the
    choice that is surely meant, else ``most`` of those there are.
    """
    if not choices:
        return ""
    if renamed := _as_comfyui_calls_it(got, choices):
        return f"; {renamed}"
    if near := meant(got, choices):
        return f"; did you mean {near!r}?"
    shown = choices if len(choices) <= most else likest(got, choices)
    return f"; it has {first_few([cleaned(choice, LINE) for choice in shown], most)}"


def _as_comfyui_calls_it(got: str, choices: Sequence[str]) -> str:
    """The choice for a name of another tool, in a sentence; "" where none is known."""
    if (scheduler := scheduler_called(got)) in choices:
        return f"ComfyUI calls it {scheduler!r}"
    sampler, scheduler = sampler_called(got) or ("", "")
    if sampler not in choices:
        return ""
    return f"ComfyUI calls it {sampler!r}" + (f", with scheduler {scheduler!r}" if scheduler else "")
