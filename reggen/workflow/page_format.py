"""Convert a workflow as ComfyUI's page saves it into the API format.

The page keeps the values of a node's widgets as a list; their names and order stand in the server's ``/object_info``.
Everything that only the page knows is worked out as it does: subgraphs, reroutes, primitives, set and get nodes, muted
and bypassed nodes. What cannot be known for certain is refused, naming the node, for a shifted list of values is a
picture that nobody asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from reggen.errors import Problem
from reggen.workflow.graph import Graph
from reggen.workflow.samplers import SEEDS
from reggen.workflow.widgets import SIMPLE, WidgetError, demand_fits, values_of

ObjectInfo = Mapping[str, Mapping[str, Any]]
"""A server's answer to GET /object_info: each node class with its inputs."""

EXPORT = "in ComfyUI: Workflow > Export (API)"
_MUTED, _BYPASSED = 2, 4
_NOTES = {"Note", "MarkdownNote", "Label (rgthree)", "Bookmark (rgthree)"}
_PANELS = (
    "Fast Groups ",
    "Fast Muter",
    "Fast Bypasser",
    "Fast Actions",
    "Mute / Bypass ",
    "Random Unmuter",
    "Node Collector",
)
_IMPLICIT = ("Anything Everywhere", "Seed Everywhere", "Prompts Everywhere")
_MOST_LEVELS = 20  # of subgraphs in subgraphs


class PageError(Exception):
    """The workflow cannot be converted for certain. Carries the problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class _End(NamedTuple):
    """Where a link comes from in the end: a node's output, or a value."""

    node: str = ""
    output: int = 0
    value: Any = None
    is_value: bool = False
    promoted: bool = False  # the value of a subgraph's own widget


@dataclass(slots=True)
class _Scope:
    """One level of the workflow: the page itself, or one use of a subgraph."""

    nodes: dict[str, Mapping[str, Any]]
    links: dict[str, tuple[str, int, str]]  # by id: origin node, origin output, type
    ends: dict[int, str]  # of a subgraph: output number -> link id
    inputs: list[str] = field(default_factory=list)  # of a subgraph, by number
    prefix: str = ""
    parent: _Scope | None = None
    instance: Mapping[str, Any] = field(default_factory=dict)
    promoted: dict[tuple[str, str], Any] = field(default_factory=dict)  # (inner node or "-1", widget) -> value


def is_page_format(document: Any) -> bool:
    """If a JSON document is a workflow as the page saves it."""
    return isinstance(document, Mapping) and isinstance(document.get("nodes"), list) and "links" in document


def classes_of(document: Mapping[str, Any]) -> set[str]:
    """The node classes that a conversion needs to know."""
    return {str(node.get("type")) for node in _all_nodes(document) if not _is_the_page_s(node)}


def from_page(document: Mapping[str, Any], info: ObjectInfo) -> Graph:
    """The workflow in API format. Raises PageError, naming the node and what to do."""
    return _Converter(document, info).convert()


def _all_nodes(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    subgraphs = _subgraphs(document)
    for level in (document, *subgraphs.values()):
        for node in level.get("nodes", ()):
            if isinstance(node, Mapping) and str(node.get("type")) not in subgraphs:
                yield node


def _subgraphs(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    definitions = document.get("definitions")
    found = definitions.get("subgraphs", ()) if isinstance(definitions, Mapping) else ()
    return {str(one.get("id")): one for one in found if isinstance(one, Mapping)}


def _is_the_page_s(node: Mapping[str, Any]) -> bool:
    """If a node exists on the page only."""
    kind = str(node.get("type"))
    return (
        kind in _NOTES
        or kind in {"PrimitiveNode", "SetNode", "GetNode"}
        or _is_reroute(kind)
        or kind.startswith(_PANELS)
    )


def _is_reroute(kind: str) -> bool:
    return kind in {"Reroute", "Reroute (rgthree)", "ReroutePrimitive|pysssss"}


class _Converter:
    def __init__(self, document: Mapping[str, Any], info: ObjectInfo) -> None:
        self._document, self._info = document, info
        self._subgraphs = _subgraphs(document)
        self._graph: Graph = {}

    def convert(self) -> Graph:
        self._emit(self._scope(self._document), level=0)
        return self._graph

    # ---- scopes

    def _scope(self, level: Mapping[str, Any]) -> _Scope:
        nodes = {str(node["id"]): node for node in level.get("nodes", ()) if isinstance(node, Mapping) and "id" in node}
        links: dict[str, tuple[str, int, str]] = {}
        ends: dict[int, str] = {}
        for link in level.get("links", ()):
            number, origin, output, target, slot, kind = _link(link)
            links[number] = (origin, output, kind)
            if target == "-20":
                ends[slot] = number
        return _Scope(nodes, links, ends)

    def _inner(self, outer: _Scope, instance: Mapping[str, Any]) -> _Scope:
        definition = self._subgraphs[str(instance["type"])]
        scope = self._scope(definition)
        scope.inputs = [str(one.get("name")) for one in definition.get("inputs", ())]
        scope.prefix, scope.parent, scope.instance = f"{outer.prefix}{instance['id']}:", outer, instance
        scope.promoted = self._promoted(outer, instance)
        return scope

    def _promoted(self, outer: _Scope, instance: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
        """The values of a subgraph's own widgets. They lie on the instance in the order of its promoted widgets."""
        values = instance.get("widgets_values")
        if isinstance(values, Mapping):
            return {("-1", str(name)): value for name, value in values.items()}
        if not values:
            return {}
        properties = instance.get("properties")
        proxies = properties.get("proxyWidgets") if isinstance(properties, Mapping) else None
        own = [("-1", str(one["widget"]["name"])) for one in instance.get("inputs", ()) if one.get("widget")]
        inputs = self._subgraphs[str(instance["type"])].get("inputs", ())
        all_of_them = [("-1", str(one.get("name"))) for one in inputs if one.get("type") in SIMPLE]
        for listed in (proxies or (), own, all_of_them):
            if len(listed) == len(values):
                return {(str(node), str(name)): value for (node, name), value in zip(listed, values, strict=True)}
        problem = f"the subgraph has {len(values)} values for {len(proxies or all_of_them)} widgets"
        raise self._refuse(outer, instance, problem)

    # ---- nodes

    def _emit(self, scope: _Scope, level: int) -> None:
        if level > _MOST_LEVELS:
            raise PageError(Problem("", f"its subgraphs are nested more than {_MOST_LEVELS} times", EXPORT))
        for node_id, node in scope.nodes.items():
            kind = str(node.get("type"))
            if node.get("mode", 0) in {_MUTED, _BYPASSED} or _is_the_page_s(node):
                continue
            if kind in self._subgraphs:
                self._emit(self._inner(scope, node), level + 1)
                continue
            self._demand_known(scope, node, kind)
            made: dict[str, Any] = {"class_type": kind, "inputs": self._inputs(scope, node_id, node)}
            title = node.get("title") or self._info[kind].get("display_name")
            self._graph[scope.prefix + node_id] = made | ({"_meta": {"title": title}} if title else {})

    def _demand_known(self, scope: _Scope, node: Mapping[str, Any], kind: str) -> None:
        if kind.startswith(("workflow>", "workflow/")):
            raise self._refuse(
                scope, node, "it is a group node of an old page, whose inside nobody can tell for certain"
            )
        if any(kind.startswith(one) for one in _IMPLICIT):
            raise self._refuse(scope, node, "it makes links that only the page sees")
        if kind not in self._info:
            raise self._refuse(
                scope, node, "the server does not have its class", f"install its node pack there, or {EXPORT}"
            )

    def _inputs(self, scope: _Scope, node_id: str, node: Mapping[str, Any]) -> dict[str, Any]:
        spec = self._info[str(node["type"])]
        links = {str(one["name"]): str(one["link"]) for one in node.get("inputs", ()) if one.get("link") is not None}
        ends = {name: self._origin(scope, link) for name, link in links.items()}
        try:
            inputs = values_of(spec, node.get("widgets_values"))
            outer = {name: value for (inner, name), value in scope.promoted.items() if inner == node_id}
            outer |= {name: end.value for name, end in ends.items() if end and end.promoted}
            for name, value in outer.items():
                self._demand_alike(scope, node, name, (value, inputs.get(name, value)))
            values = {name: end.value for name, end in ends.items() if end and end.is_value}
            inputs |= {name: demand_fits(spec, name, value) for name, value in (outer | values).items()}
        except WidgetError as error:
            raise self._refuse(scope, node, str(error)) from None
        return inputs | {name: [end.node, end.output] for name, end in ends.items() if end and not end.is_value}

    def _demand_alike(self, scope: _Scope, node: Mapping[str, Any], name: str, values: tuple[Any, Any]) -> None:
        """Pages of different versions send the value on a subgraph or the one inside: they agree, but for seeds."""
        if values[0] != values[1] and name not in SEEDS:
            shown = f"{name} is {values[0]!r:.60} on the subgraph and {values[1]!r:.60} inside"
            raise self._refuse(scope, node, f"{shown}, and pages of different versions send one or the other")

    # ---- links

    def _origin(self, scope: _Scope, link: str, seen: int = 0) -> _End | None:
        """The end of a link, through everything that only the page has; None where it leads nowhere."""
        if link not in scope.links or seen > 1_000:
            return None
        origin, output, kind = scope.links[link]
        if origin == "-10":
            return self._from_outside(scope, output, seen + 1)
        node = scope.nodes.get(origin)
        if node is None or node.get("mode", 0) == _MUTED:
            return None
        if node.get("mode", 0) == _BYPASSED:
            return self._past(scope, node, output, kind, seen + 1)
        name = str(node.get("type"))
        if name in self._subgraphs:
            inner = self._inner(scope, node)
            return self._origin(inner, inner.ends[output], seen + 1) if output in inner.ends else None
        if name == "PrimitiveNode":
            values = node.get("widgets_values") or [None]
            return _End(value=values[0], is_value=True)
        if name == "GetNode":
            return self._from_set(scope, node, seen + 1)
        if _is_reroute(name) or name == "SetNode":
            return self._through(scope, node, seen + 1)
        return _End(scope.prefix + origin, output)

    def _through(self, scope: _Scope, node: Mapping[str, Any], seen: int) -> _End | None:
        links = [str(one["link"]) for one in node.get("inputs", ()) if one.get("link") is not None]
        return self._origin(scope, links[0], seen) if links else None

    def _from_set(self, scope: _Scope, getter: Mapping[str, Any], seen: int) -> _End | None:
        name = (getter.get("widgets_values") or [None])[0]
        level: _Scope | None = scope
        while level:
            for node in level.nodes.values():
                if node.get("type") == "SetNode" and (node.get("widgets_values") or [None])[0] == name:
                    return self._through(level, node, seen)
            level = level.parent
        raise self._refuse(scope, getter, f"no SetNode sets {name!r}")

    def _from_outside(self, scope: _Scope, number: int, seen: int) -> _End | None:
        """The origin of one input of a subgraph: a link of its instance, or the value of a widget."""
        if scope.parent is None or number >= len(scope.inputs):
            return None
        name = scope.inputs[number]
        for one in scope.instance.get("inputs", ()):
            if one.get("name") == name and one.get("link") is not None:
                return self._origin(scope.parent, str(one["link"]), seen)
        if ("-1", name) in scope.promoted:
            return _End(value=scope.promoted["-1", name], is_value=True, promoted=True)
        outer = (str(scope.instance.get("id")), name)
        if outer in scope.parent.promoted:
            return _End(value=scope.parent.promoted[outer], is_value=True, promoted=True)
        return None

    def _past(self, scope: _Scope, node: Mapping[str, Any], output: int, kind: str, seen: int) -> _End | None:
        """Through a bypassed node: its input of the same number where that has the type, else the first that has."""
        inputs = [one for one in node.get("inputs", ()) if isinstance(one, Mapping)]
        same = inputs[output : output + 1]
        for one in (*same, *inputs):
            if one.get("link") is not None and (one.get("type") in {kind, "*"} or kind == "*"):
                return self._origin(scope, str(one["link"]), seen)
        return None

    def _refuse(self, scope: _Scope, node: Mapping[str, Any], problem: str, hint: str = EXPORT) -> PageError:
        called = f" {node['title']!r}" if node.get("title") and node.get("title") != node.get("type") else ""
        kind = self._subgraphs.get(str(node.get("type")), {}).get("name") or node.get("type")
        return PageError(Problem("", f"{kind}{called} (node {scope.prefix}{node.get('id')}): {problem}", hint))


def _link(link: Any) -> tuple[str, str, int, str, int, str]:
    """A link's id, origin node and output, target node and input, type; in either of the two forms."""
    if isinstance(link, Mapping):
        return (
            str(link.get("id")), str(link.get("origin_id")), int(link.get("origin_slot") or 0),
            str(link.get("target_id")), int(link.get("target_slot") or 0), str(link.get("type")),
        )  # fmt: skip
    number, origin, output, target, slot, *kind = link
    return str(number), str(origin), int(output), str(target), int(slot), str(kind[0]) if kind else "*"
