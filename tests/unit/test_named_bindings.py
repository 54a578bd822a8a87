"""The job's own bindings: nodes by id or title, several inputs for a name, and a problem for each that is not there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from reggen.workflow.graph import Graph
from reggen.workflow.named import NAMES, NamedBindings

GRAPH: Graph = {
    "3": {"class_type": "KSampler", "_meta": {"title": "v1.5 sampler"}, "inputs": {"seed": 1, "steps": 20}},
    "6": {"class_type": "CLIPTextEncode", "_meta": {"title": "Prompt"}, "inputs": {"text": "a"}},
    "7": {"class_type": "CLIPTextEncode", "_meta": {"title": "Prompt"}, "inputs": {"text": "b"}},
    "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "x"}},
}


def found(named: Mapping[str, str | Sequence[str]], name: str) -> list[str]:
    """The inputs that a name is bound to, as "node.input"; no problem may be left."""
    bindings = NamedBindings(GRAPH, named)
    inputs = [f"{one.node}.{one.input}" for one in bindings.find(name)]
    assert bindings.problems == []
    return inputs


def problems(named: Mapping[str, str | Sequence[str]]) -> list[str]:
    """The problems after every name was looked for, and the output too."""
    bindings = NamedBindings(GRAPH, named)
    for name in bindings:
        bindings.find(name)
    if "output" in bindings:
        assert bindings.output == ""
    return [str(problem) for problem in bindings.problems]


@pytest.mark.parametrize("value", ["3.seed", "v1.5 sampler.seed"])
def test_a_node_is_named_by_its_id_or_its_title(value: str) -> None:
    """What follows the last dot is the input: titles may have dots, too."""
    assert found({"seed": value}, "seed") == ["3.seed"]


def test_a_name_may_be_bound_to_several_inputs() -> None:
    """In the order of the job file, each once."""
    assert found({"positive": ["7.text", "6.text", "7.text"]}, "positive") == ["7.text", "6.text"]


def test_the_output_is_a_node() -> None:
    """It is named without an input, and is no binding itself."""
    bindings = NamedBindings(GRAPH, {"output": "9", "seed": "3.seed"})
    assert (bindings.output, list(bindings), bindings.problems) == ("9", ["seed"], [])


def test_a_name_is_only_looked_for_where_the_job_has_it() -> None:
    """`in` tells which names the job binds."""
    bindings = NamedBindings(GRAPH, {"seed": "3.seed"})
    assert [name for name in NAMES if name in bindings] == ["seed"]


@pytest.mark.parametrize(
    ("named", "problem"),
    [
        ({"sed": "3.seed"}, "workflow.bindings.sed: is not a binding (did you mean 'seed'?)"),
        ({"seed": "3"}, "workflow.bindings.seed: '3' names no input (write it as 'node.seed')"),
        ({"width": "3"}, "workflow.bindings.width: '3' names no input (write it as 'node.width')"),
        ({"seed": "3.sed"}, "workflow.bindings.seed: node 3 has no input 'sed' (it has seed, steps)"),
        (
            {"seed": "v1.5 samplr.seed"},
            "workflow.bindings.seed: no node has the id or title 'v1.5 samplr' (did you mean 'v1.5 sampler'?)",
        ),
        (
            {"positive": "Prompt.text"},
            "workflow.bindings.positive: 2 nodes have the title 'Prompt' (use an id: 6, 7)",
        ),
        ({"output": "Prompt"}, "workflow.bindings.output: 2 nodes have the title 'Prompt' (use an id: 6, 7)"),
    ],
    ids=["name", "no input", "no input of a size", "input", "title", "two nodes", "two outputs"],
)
def test_each_mistake_is_reported_with_what_there_is(named: dict[str, str], problem: str) -> None:
    """The key of the job file, the problem, and what would be right."""
    assert problems(named) == [problem]


def test_mistakes_are_reported_together_in_the_order_of_the_job_file() -> None:
    """Unknown names come first, since they are found before the graph is searched."""
    named = {"steps": "3.step", "zzz": "3.seed", "seed": ["3", "9.seed"]}
    keys = [problem.split(":")[0].rpartition(".")[2] for problem in problems(named)]
    assert keys == ["zzz", "steps", "seed", "seed"]
