"""Reading a prompt graph: links, order, signatures, and the picture that arrives at a save node.

A graph is `{node id: {"class_type": name, "inputs": {name: value or [node id, slot]}}}`. Everything
here reads it and changes nothing.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

Graph = dict[str, dict[str, Any]]
Appearance = Literal["plain", "black", "flat", "noise", "wrong"]
T = TypeVar("T")

SEEDS = ("seed", "noise_seed")
TEXTS = ("text", "text_g", "prompt", "positive_prompt", "clip_l", "t5xxl", "value", "string")
VALUES = ("value", "int", "number", "float", "string", "text", "seed")


@dataclass(frozen=True, slots=True)
class PaintedPicture:
    """The content of a saved file: all that is needed to paint it, the same each time."""

    text: str = ""
    seed: int = 0
    width: int = 512
    height: int = 512
    index: int = 0
    color: int | None = None
    appearance: Appearance = "plain"


def is_link(value: Any) -> bool:
    """True if an input's value names another node's output."""
    return isinstance(value, list) and len(value) == 2


def links(node: dict[str, Any]) -> Iterator[str]:
    """The ids of the nodes that this one reads from, in the order of its inputs."""
    return (value[0] for value in node.get("inputs", {}).values() if is_link(value))


def order(graph: Graph, outputs: list[str]) -> list[str]:
    """Every node the outputs need, each after the nodes it reads from."""
    done: dict[str, None] = {}
    stack = [(output, False) for output in reversed(outputs)]
    while stack:
        node_id, expanded = stack.pop()
        if node_id in done:
            continue
        if expanded:
            done[node_id] = None
            continue
        stack.append((node_id, True))
        stack.extend((source, False) for source in reversed(list(links(graph[node_id]))))
    return list(done)


def upstream(graph: Graph, start: str) -> Iterator[str]:
    """`start` and everything it reads from, nearest first; links into nowhere are skipped."""
    seen, waiting = {start}, deque([start])
    while waiting:
        node_id = waiting.popleft()
        yield node_id
        for source in links(graph[node_id]):
            if source in graph and source not in seen:
                seen.add(source)
                waiting.append(source)


def signatures(graph: Graph) -> dict[str, str]:
    """A key for each node that changes when the node, or anything it reads from, changes.

    Nodes in a loop, or reading from one, have no signature.
    """
    keys: dict[str, str] = {}
    left = dict(graph)
    while left:
        ready = [n for n, node in left.items() if all(s in keys or s not in graph for s in links(node))]
        if not ready:
            break
        for node_id in ready:
            keys[node_id] = _signature(left.pop(node_id), keys)
    return keys


def _signature(node: dict[str, Any], keys: dict[str, str]) -> str:
    inputs = sorted(
        (name, (keys.get(value[0], "?"), value[1]) if is_link(value) else repr(value))
        for name, value in node.get("inputs", {}).items()
    )
    return hashlib.sha1(repr((node["class_type"], inputs)).encode(), usedforsecurity=False).hexdigest()


def is_sampler(graph: Graph, node_id: str) -> bool:
    """True if this node is one that takes the time."""
    node = graph[node_id]
    inputs = node.get("inputs", {})
    if "steps" in inputs and any(name in inputs for name in SEEDS):
        return True
    return "sampler" in node["class_type"].lower() and any("latent" in name for name in inputs)


def steps(graph: Graph, node_id: str) -> int:
    """The number of a sampler's steps: its own, or the nearest upstream one; else 20."""
    found = _nearest(graph, node_id, ("steps",), int)
    return max(1, found) if found is not None else 20


def describe(graph: Graph, save_id: str) -> list[PaintedPicture]:
    """The pictures that arrive at a save node, found by walking upstream from it."""
    inputs = graph[save_id].get("inputs", {})
    given = [inputs[name] for name in ("images", "image") if is_link(inputs.get(name))]
    source = given[0][0] if given else next(links(graph[save_id]), None)
    return pictures(graph, source if source in graph else save_id)


def pictures(graph: Graph, start: str) -> list[PaintedPicture]:
    """The pictures at a node: a batch of them, equal but for the index."""
    width, height, batch, color = _canvas(graph, start)
    seed = _nearest(graph, start, SEEDS, int) or 0
    text = "" if color is not None else _prompt(graph, start)
    return [
        PaintedPicture(text=text, seed=seed, width=width, height=height, index=index, color=color)
        for index in range(batch)
    ]


def _canvas(graph: Graph, start: str) -> tuple[int, int, int, int | None]:
    """Width, height, batch size, and the colour if the nearest source of pictures is a plain one."""
    for node_id in upstream(graph, start):
        inputs = graph[node_id].get("inputs", {})
        width, height = (_value(graph, inputs.get(side), int) for side in ("width", "height"))
        if width is None or height is None:
            continue
        batch = max(1, _nearest(graph, node_id, ("batch_size",), int) or 1)
        if graph[node_id]["class_type"] == "EmptyImage":
            return width, height, batch, _value(graph, inputs.get("color"), int) or 0
        # A latent has one cell per 8 pixels, and what does not fill a cell is cut off.
        return max(8, width // 8 * 8), max(8, height // 8 * 8), batch, None
    return 512, 512, 1, None


def _prompt(graph: Graph, start: str) -> str:
    """The positive prompt: up the sampler's `positive` link, else the longest text upstream."""
    for node_id in upstream(graph, start):
        positive = graph[node_id].get("inputs", {}).get("positive")
        if is_link(positive) and positive[0] in graph:
            return _nearest(graph, positive[0], TEXTS, str) or ""
    texts = (_nearest(graph, node_id, ("text", "prompt"), str) or "" for node_id in upstream(graph, start))
    return max(texts, key=len, default="")


def _nearest(graph: Graph, start: str, names: tuple[str, ...], kind: type[T]) -> T | None:
    for node_id in upstream(graph, start):
        inputs = graph[node_id].get("inputs", {})
        for name in names:
            value = _value(graph, inputs.get(name), kind)
            if value is not None:
                return value
    return None


def _value(graph: Graph, value: Any, kind: type[T], depth: int = 8) -> T | None:
    """A value given in place, or by a link to nodes that only pass a value on."""
    if isinstance(value, kind) and not isinstance(value, bool):
        return value
    if not is_link(value) or value[0] not in graph or depth == 0:
        return None
    inputs = graph[value[0]].get("inputs", {})
    found = (_value(graph, inputs.get(name), kind, depth - 1) for name in VALUES)
    return next((one for one in found if one is not None), None)
