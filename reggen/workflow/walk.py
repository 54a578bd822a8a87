"""Walk a graph upstream: live links, and the literals that decide an input."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from reggen.workflow.graph import Graph, title

# Inputs that carry models, pictures and numbers: no prompt comes through them.
NOT_TEXT = re.compile(
    r"(clip|model|vae|image|images|pixels|mask|masks|samples|latent|latent_image|control_net|clip_vision(_output)?"
    r"|style_model|noise|sigmas|sampler|guider|unet|lora_stack|cnet_stack|optional_cnet_stack|bbox_detector|sam_model\w*"
    r"|segs|seed|noise_seed|switch|select)",
    re.IGNORECASE,
)
_TEXT_KEY = re.compile(
    r"(^|_)(text|texts|prompt|prompts|string|str|value|wildcard|caption|sentence|positive|negative|llama|t5xxl|mt5xl|bert|words)"
    r"(_|\d|$)|^clip_[lgh]$|^any_\d+$|^on_(true|false)$|^input\d*$|^source$|^replace$|^multiline",
    re.IGNORECASE,
)
# Strings beside a text that are no part of it in any node that people use.
_SETTING_KEY = re.compile(
    r"(^|_)(delimiter|separator|find|mode|type|dtype|device|name|file|filename|path|prefix|suffix_type|method|format"
    r"|scheduler|sampler|style|parser|interpretation|normalization|language|extension|clean\w*|spec|aspect|ratio"
    r"|template|control|action|preset|log|crop|algorithm|interpolation|position|color|channel|operation|unit)"
    r"(_|$)|^select to add ",
    re.IGNORECASE,
)


WILDCARD_PAIR = ("wildcard_text", "populated_text")
"""A text with wildcards and what it was filled in to: a node sends the second, or fills it in again from the first."""
_ABOUT_TEXT = re.compile(r"text|string|prompt|caption|wildcard|lora", re.IGNORECASE)  # in the name of a class
_INSTRUCTION = re.compile(r"system|instruction", re.IGNORECASE)  # to an encoder or a language model, no prompt
_REWRITES = re.compile(
    r"textgenerate|generate.?text|llm|ollama|gpt|gemini|claude|florence|joycaption|enhance|interrogat|vlm|(?<!dp)random"
)


@dataclass(frozen=True, slots=True)
class Binding:
    """One input of one node."""

    node: str
    input: str

    def __str__(self) -> str:
        return f"{self.node}.{self.input}"


class Link(NamedTuple):
    """An input that comes from another node: its name, that node's id, and the number of the output there."""

    input: str
    node: str
    output: int


def link_of(value: Any) -> tuple[str, int] | None:
    """The node id and output number that an input's value points to; None for a literal."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int):
        return value[0], value[1]
    return None


def live_links(graph: Graph, node_id: str) -> list[Link]:
    """The inputs of a node that come from others, without the branches that a switch leaves out."""
    node = graph[node_id]
    found = [
        Link(name, *link) for name, value in node["inputs"].items() if (link := link_of(value)) and link[0] in graph
    ]
    chosen = _chosen(graph, node_id)
    return found if chosen is None else [link for link in found if link.input in chosen]


def _chosen(graph: Graph, node_id: str) -> set[str] | None:
    """The inputs that a switch lets through; None where nothing is left out, or nobody can tell."""
    node = graph[node_id]
    kind, inputs = node["class_type"], node["inputs"]
    if {"on_true", "on_false"} & inputs.keys():
        key = "switch" if "switch" in inputs else "boolean"
        value = constant(graph, node_id, key)
        if isinstance(value, bool):
            return {"on_true" if value else "on_false"}
    if kind.startswith("Any Switch"):  # rgthree's: the first that is connected
        connected = sorted(name for name, value in inputs.items() if link_of(value))
        return set(connected[:1]) if connected else None
    return _numbered(graph, node_id) if "switch" in kind.lower() else None


def _numbered(graph: Graph, node_id: str) -> set[str] | None:
    """The input that a switch chooses by its number: select = 2 for input2, Input = 2 for text2."""
    inputs = graph[node_id]["inputs"]
    for key in ("select", "Input", "input", "index"):
        number = constant(graph, node_id, key) if key in inputs else None
        if isinstance(number, int) and not isinstance(number, bool):
            ending = re.compile(rf"\D+{number}")
            return {name for name in inputs if ending.fullmatch(name)} or None
    return None


def dead_inputs(graph: Graph, node_id: str) -> set[str]:
    """The inputs that a switch leaves out."""
    chosen = _chosen(graph, node_id)
    return set() if chosen is None else set(graph[node_id]["inputs"]) - chosen


def constant(graph: Graph, node_id: str, key: str) -> Any:
    """The value of an input, found through links to nodes with one literal; None where there is no single one."""
    source = number_source(graph, node_id, key)
    return graph[source.node]["inputs"][source.input] if source else None


def number_source(graph: Graph, node_id: str, key: str) -> Binding | None:
    """The literal that decides a number: the input itself, or the only literal of the node behind its link."""
    seen: set[str] = set()
    while node_id not in seen:
        seen.add(node_id)
        inputs = graph[node_id]["inputs"]
        if key not in inputs:
            return None
        link = link_of(inputs[key])
        if link is None:
            return Binding(node_id, key)
        if link[0] not in graph:
            return None
        behind, links = graph[link[0]]["inputs"], live_links(graph, link[0])
        if any(isinstance(value, str) for value in behind.values()):
            return None  # an operation, an expression or a preset makes another number of it
        literals = [name for name, value in behind.items() if _is_number(value)]
        if len(literals) == 1 and not links:
            return Binding(link[0], literals[0])
        onward = [one for one in links if one.input not in {"switch", "boolean", "select"}]
        if len(onward) != 1 or (literals and literals != ["select"] and not _is_switch(behind)):
            return None
        if onward[0].input in {"image", "images", "samples", "latent", "mask"}:
            return None  # a picture's size
        node_id, key = link[0], onward[0].input
    return None


def _is_switch(inputs: Mapping[str, Any]) -> bool:
    return bool({"on_true", "on_false"} & inputs.keys())


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int | float)


def upstream(graph: Graph, starts: list[str]) -> list[str]:
    """The nodes at and above ``starts`` along live links, nearest first."""
    seen = dict.fromkeys(start for start in starts if start in graph)
    queue = list(seen)
    for node_id in queue:
        for link in live_links(graph, node_id):
            if link.node not in seen:
                seen[link.node] = None
                queue.append(link.node)
    return list(seen)


def texts_of(graph: Graph, node_id: str) -> list[str]:
    """The inputs of a node that hold a text or come from one, by their names and values."""
    inputs = graph[node_id]["inputs"]
    named = [key for key in inputs if is_text_key(key) and not _is_number(inputs[key])]
    if named:
        return named
    return [key for key, value in inputs.items() if isinstance(value, str) and looks_like_text(key, value)]


def is_text_key(key: str) -> bool:
    """If an input of that name holds a text in the nodes that people use."""
    settings = NOT_TEXT.fullmatch(key) or _SETTING_KEY.search(key) or _INSTRUCTION.search(key)
    return bool(_TEXT_KEY.search(key)) and not settings


def looks_like_text(key: str, value: str) -> bool:
    """If a literal reads like words for a picture: several of them, and no name of a file or setting."""
    return not _SETTING_KEY.search(key) and bool(re.search(r"[^\W\d_]{2,}[ ,.]+\S", value.strip()))


@dataclass(frozen=True, slots=True)
class TextSources:
    """The literals that a text is made of, in their order, and the nodes that put words of their own into it."""

    literals: tuple[Binding, ...]
    rewritten_by: tuple[str, ...] = ()

    def as_one(self) -> tuple[Binding, ...]:
        """The inputs that decide the text: one literal, or a wildcard text and what it was filled in to; or ()."""
        if self.rewritten_by:
            return ()
        if len(self.literals) == 1:
            return self.literals
        names = {source.input for source in self.literals}
        one_node = len({source.node for source in self.literals}) == 1
        return self.literals if one_node and names == set(WILDCARD_PAIR) else ()


def text_sources(graph: Graph, node_id: str, key: str, side: str = "") -> TextSources:
    """The literals behind one input for a text.

    ``side`` is "positive" or "negative": of a node with texts for both only that one counts. Empty literals count only
    where there is no other.
    """
    found: dict[Binding, str] = {}
    rewriting: dict[str, None] = {}
    seen: set[Binding] = set()
    open_inputs = [Binding(node_id, key)]
    while open_inputs:
        one = open_inputs.pop()
        value = graph[one.node]["inputs"].get(one.input)
        link = link_of(value)
        if one in seen or (link and link[0] not in graph):
            continue
        seen.add(one)
        if link:
            open_inputs += reversed(list(_behind(graph, link[0], side)))
            if rewrites(graph[link[0]]):
                rewriting[link[0]] = None
        elif isinstance(value, str):
            found[one] = value
    filled = tuple(one for one, text in found.items() if text.strip())
    return TextSources(filled or tuple(found)[:1], tuple(rewriting))


def _behind(graph: Graph, node_id: str, side: str) -> Iterator[Binding]:
    """The inputs of a node that its text is made of."""
    node = graph[node_id]
    live = {link.input for link in live_links(graph, node_id)}
    chosen = _chosen(graph, node_id)
    other = {"positive": "negative", "negative": "positive"}.get(side, "\0")
    sided = any(side and side in name for name in node["inputs"])
    shows = bool(live) and node["class_type"].startswith("ShowText")  # its literals are what it showed last
    for name, value in node["inputs"].items():
        if (sided and other in name) or NOT_TEXT.fullmatch(name) or (chosen is not None and name not in chosen):
            continue
        if link_of(value):
            if name in live:
                yield Binding(node_id, name)
        elif isinstance(value, str) and not shows and (is_text_key(name) or _is_only_string(graph, node_id, name)):
            yield Binding(node_id, name)


def rewrites(node: Mapping[str, Any]) -> bool:
    """If a node adds words of its own: a language model, or a styler with a style."""
    kind = node["class_type"].lower()
    style = str(node["inputs"].get("style", "")).lower()
    return bool(_REWRITES.search(kind)) or ("styl" in kind and style not in {"", "none", "no style", "base"})


def _is_only_string(graph: Graph, node_id: str, key: str) -> bool:
    strings = [name for name, value in graph[node_id]["inputs"].items() if isinstance(value, str)]
    return strings == [key] and not _SETTING_KEY.search(key)


def label(graph: Graph, node_id: str) -> str:
    """A node as people know it: its class, and its title when it has another one."""
    node = graph.get(node_id, {})
    kind, called = node.get("class_type", "?"), title(node) if node else ""
    return f"{kind} {called!r} (node {node_id})" if called and called != kind else f"{kind} (node {node_id})"


def literals(graph: Graph, node_ids: list[str]) -> Iterator[tuple[Binding, str]]:
    """Every literal text of some nodes that is not empty, with where it stands."""
    for node_id in node_ids:
        chosen = _chosen(graph, node_id)
        for key, value in graph[node_id]["inputs"].items():
            if not isinstance(value, str) or not value.strip() or (chosen is not None and key not in chosen):
                continue
            only = _is_only_string(graph, node_id, key) and _ABOUT_TEXT.search(graph[node_id]["class_type"])
            text = is_text_key(key) or only or looks_like_text(key, value)
            if text and not _is_choice(graph, node_id, key, value):
                yield Binding(node_id, key), value


def _is_choice(graph: Graph, node_id: str, key: str, value: str) -> bool:
    """If a literal is a file or one of a list: what loaders and savers have."""
    kind = graph[node_id]["class_type"].lower()
    if re.search(r"\.(safetensors|ckpt|pt|pth|bin|gguf|png|jpe?g|webp)$", value, re.IGNORECASE):
        return not re.search(r"\s\S+\s", value)
    return "loader" in kind and "lora" not in kind and not is_text_key(key)


def is_setting(one: Binding) -> bool:
    """If an input holds the name of a file or of a setting rather than words for a picture."""
    return one.input.endswith(("_name", "_prefix")) or one.input == "scheduler"
