"""Validation of prompts, with the words in which a server refuses them.

`check` is the interface: it coerces values in the graph in place ("5" becomes 5 for an INT, as the
server does) and says which outputs can run and what is wrong with the others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from reggen.sim.settings import Traits
from reggen.sim.state.graph import Graph
from reggen.sim.state.specs import Specs

Error = dict[str, Any]
Declared = dict[str, tuple[bool, Any, dict[str, Any]]]
PLAIN: dict[str, Any] = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}
"""The types whose values stand in the graph itself, and what makes a value one of them."""


@dataclass(frozen=True, slots=True)
class Validation:
    """The result of a validation. With an `error` the prompt is refused; without, `outputs` will run."""

    error: Error | None
    outputs: list[str]
    node_errors: dict[str, Any] | list[Any]


def check(graph: Graph, specs: Specs, traits: Traits, targets: list[str] | None = None) -> Validation:
    """Validate a prompt. Raises what the server would (a 500) on a value that is not a graph."""
    nothing: Any = [] if traits.errors_as_list else {}
    error, outputs = _outputs(graph, specs, traits, targets)
    if error is not None:
        return Validation(error, [], nothing)
    checker = _Checker(graph, specs, traits)
    good = [output for output in outputs if checker.accepts(output)]
    if good:
        return Validation(None, good, checker.node_errors)
    details = "\n".join(f"{one['message']}: {one['details']}" for one in checker.reasons)
    refused = _error("prompt_outputs_failed_validation", "Prompt outputs failed validation", details)
    return Validation(refused, [], checker.node_errors)


def _outputs(graph: Graph, specs: Specs, traits: Traits, targets: list[str] | None) -> tuple[Error | None, list[str]]:
    outputs = []
    for node_id in graph:
        node = graph[node_id]
        class_type = node.get("class_type")
        if not isinstance(node.get("inputs", {}), dict):
            raise TypeError("inputs must be an object")
        if class_type is None or not (specs.lenient or class_type in specs.classes):
            return _missing_class(node_id, node, traits), []
        if specs.saves(class_type) and (targets is None or node_id in targets):
            outputs.append(node_id)
    if not outputs:
        return _error("prompt_no_outputs", "Prompt has no outputs", ""), []
    return None, outputs


def _missing_class(node_id: str, node: dict[str, Any], traits: Traits) -> Error:
    class_type = node.get("class_type")
    details = f"Node ID '#{node_id}'"
    if not traits.missing_node_type:
        missing = "a node is missing the class_type property."
        message = missing if "class_type" not in node else f"node {class_type} does not exist."
        return _error("invalid_prompt", f"Cannot execute because {message}", details)
    title = node.get("_meta", {}).get("title", class_type)
    if "class_type" not in node:
        message = (
            f"Node '{title or f'ID #{node_id}'}' has no class_type."
            " The workflow may be corrupted or a custom node is missing."
        )
    else:
        message = f"Node '{title}' not found. The custom node may not be installed."
    extra = {"node_id": node_id, "class_type": class_type, "node_title": title}
    return _error("missing_node_type", message, details, extra)


@dataclass(slots=True)
class _Checker:
    """One validation: walks up from each output and judges every node once."""

    graph: Graph
    specs: Specs
    traits: Traits
    judged: dict[str, tuple[bool, list[Error]]] = field(default_factory=dict)
    path: list[str] = field(default_factory=list)
    node_errors: dict[str, Any] = field(default_factory=dict)
    reasons: list[Error] = field(default_factory=list)

    def accepts(self, output: str) -> bool:
        """True if an output can run; the errors against it go into `node_errors` and `reasons`."""
        try:
            valid, reasons = self.judge(output)
        except (LookupError, TypeError, AttributeError) as error:
            extra = {"exception_type": type(error).__name__, "traceback": []}
            valid = False
            reasons = [_error("exception_during_validation", "Exception when validating node", str(error), extra)]
            self.judged[output] = False, reasons
        if not valid:
            self.reasons += reasons
            self._report(output)
        return valid

    def judge(self, node_id: str) -> tuple[bool, list[Error]]:
        """Validity of a node and all it reads from, and this node's own errors."""
        if node_id in self.judged:
            return self.judged[node_id]
        if node_id in self.path:
            return self._cycle(node_id)
        given = self.graph[node_id]["inputs"]
        class_type = self.graph[node_id]["class_type"]
        errors: list[Error] = []
        upstream_valid = True
        declared = self._declared(class_type, given)
        for name, (required, kind, limits) in declared.items():
            if name not in given:
                if required:
                    errors.append(_missing_input(name))
            elif isinstance(given[name], list):
                upstream_valid &= self._link(node_id, name, (kind, limits), errors)
            else:
                error = self._value(given, name, kind, limits)
                errors += [] if error is None else [error]
        known, earlier = self.judged.get(node_id, (True, []))
        errors = earlier + [error for error in errors if error not in earlier]
        self.judged[node_id] = known and upstream_valid and not errors, errors
        return self.judged[node_id]

    def _declared(self, class_type: str, given: dict[str, Any]) -> Declared:
        if class_type in self.specs.classes:
            return self.specs.inputs(class_type)
        return {name: (False, "*", {}) for name in given}

    def _link(self, node_id: str, name: str, config: tuple[Any, Any], errors: list[Error]) -> bool:
        link = self.graph[node_id]["inputs"][name]
        if len(link) != 2:
            errors.append(_bad_link(name, config, link))
            return True
        received = self._returned(link)
        if "*" not in (received, config[0]) and received != config[0]:
            errors.append(_mismatch(name, config, received, link))
            return True
        self.path.append(node_id)
        try:
            return self.judge(link[0])[0]
        except (LookupError, TypeError, AttributeError) as error:
            self.judged[link[0]] = False, [_inner(name, config, error, link)]
            return False
        finally:
            self.path.pop()

    def _returned(self, link: list[Any]) -> Any:
        source, slot = link
        class_type = self.graph[source]["class_type"]
        if class_type not in self.specs.classes:
            return "*"
        return tuple(self.specs.classes[class_type]["output"])[slot]

    def _value(self, given: dict[str, Any], name: str, kind: Any, limits: dict[str, Any]) -> Error | None:
        value = given[name]
        if isinstance(value, dict) and "__value__" in value:
            value = value["__value__"]
        convert = PLAIN.get(kind) if isinstance(kind, str) else None
        if convert is not None:
            try:
                value = convert(value)
            except (TypeError, ValueError, OverflowError) as error:
                return _unconvertible(name, (kind, limits), value, error)
        given[name] = value
        return self._limited(name, value, kind, limits)

    def _limited(self, name: str, value: Any, kind: Any, limits: dict[str, Any]) -> Error | None:
        extra = {"input_name": name, "input_config": [kind, limits], "received_value": value}
        if "min" in limits and value < limits["min"]:
            message = f"Value {value} smaller than min of {limits['min']}"
            return _error("value_smaller_than_min", message, name, extra)
        if "max" in limits and value > limits["max"]:
            message = f"Value {value} bigger than max of {limits['max']}"
            return _error("value_bigger_than_max", message, name, extra)
        if isinstance(kind, list) and value not in kind and not self.specs.lenient:
            shown = str(kind) if len(kind) <= 20 else f"(list of length {len(kind)})"
            extra["input_config"] = [kind, limits] if len(kind) <= 20 else None
            return _error("value_not_in_list", "Value not in list", f"{name}: {value!r} not in {shown}", extra)
        return None

    def _cycle(self, node_id: str) -> tuple[bool, list[Error]]:
        if not self.traits.cycle_check:
            raise LookupError("maximum recursion depth exceeded")
        walk = [*self.path[self.path.index(node_id) :], node_id]
        members = list(dict.fromkeys(walk))
        details = " -> ".join(f"{one} ({self.graph[one]['class_type']})" for one in walk)
        for one in members:
            extra = {"node_id": one, "cycle_nodes": members}
            found = _error("dependency_cycle", "Dependency cycle detected", details, extra)
            self.judged[one] = False, [found]
        return self.judged[node_id]

    def _report(self, output: str) -> None:
        for node_id, (valid, reasons) in self.judged.items():
            if valid or not reasons:
                continue
            entry = {
                "errors": reasons,
                "dependent_outputs": [],
                "class_type": self.graph[node_id]["class_type"],
            }
            self.node_errors.setdefault(node_id, entry)["dependent_outputs"].append(output)


def _error(kind: str, message: str, details: str, extra: dict[str, Any] | None = None) -> Error:
    return {"type": kind, "message": message, "details": details, "extra_info": extra or {}}


def _missing_input(name: str) -> Error:
    return _error("required_input_missing", "Required input is missing", name, {"input_name": name})


def _bad_link(name: str, config: tuple[Any, Any], link: list[Any]) -> Error:
    message = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
    extra = {"input_name": name, "input_config": list(config), "received_value": link}
    return _error("bad_linked_input", message, name, extra)


def _mismatch(name: str, config: tuple[Any, Any], received: Any, link: list[Any]) -> Error:
    details = f"{name}, received_type({received}) mismatch input_type({config[0]})"
    extra = {
        "input_name": name,
        "input_config": list(config),
        "received_type": received,
        "linked_node": link,
    }
    return _error("return_type_mismatch", "Return type mismatch between linked nodes", details, extra)


def _unconvertible(name: str, config: tuple[Any, Any], value: Any, error: Exception) -> Error:
    extra = {
        "input_name": name,
        "input_config": list(config),
        "received_value": value,
        "exception_message": str(error),
    }
    message = f"Failed to convert an input value to a {config[0]} value"
    return _error("invalid_input_type", message, f"{name}, {value}, {error}", extra)


def _inner(name: str, config: tuple[Any, Any], error: Exception, link: list[Any]) -> Error:
    extra = {
        "input_name": name,
        "input_config": list(config),
        "exception_message": str(error),
        "exception_type": type(error).__name__,
        "traceback": [],
        "linked_node": link,
    }
    message = "Exception when validating inner node"
    return _error("exception_during_inner_validation", message, str(error), extra)
