"""A workflow as reggen reads it, as text: what is set where, and what is sent as it stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reggen.wording import plural
from reggen.workflow.account import Account
from reggen.workflow.graph import Graph
from reggen.workflow.reader import Reading
from reggen.workflow.walk import Binding, label

_WORDS = 60  # letters of a text that are shown


def format_reading(reading: Reading, whole: Graph, file: str, form: str) -> Iterator[str]:
    """Lines on a workflow without a job; ``whole`` is the graph of the file, ``form`` says how it is written."""
    yield f"{file}: {plural(len(whole), 'node')}, {form}"
    yield from (f"  {line}" for line in format_bindings(reading.graph, reading.bindings, reading.output))
    yield from (f"  {line}" for line in format_account(reading.graph, reading.account))
    if unsent := len(whole) - len(reading.graph):
        yield f"  not sent     {plural(unsent, 'node')} that do not lead to the output"
    for problem in reading.problems:
        hint = f" ({problem.hint})" if problem.hint else ""
        yield f"  QUESTION     {problem.key.rpartition('.')[2]} {problem.problem}{hint}"
    if not reading.problems:
        yield "  A job can use it as it is."


def format_bindings(graph: Graph, bindings: Mapping[str, tuple[Binding, ...]], output: str) -> Iterator[str]:
    """A line for each name with the inputs that it sets, and one for the node whose images are taken."""
    for name, bound in bindings.items():
        yield f"{name:<12} -> {', '.join(f'{label(graph, one.node)}.{one.input}' for one in bound)}"
    if output:
        yield f"{'images':<12} <- {label(graph, output)}"


def format_account(graph: Graph, account: Account) -> Iterator[str]:
    """A line for everything that the workflow does and the job does not set."""
    for sent in account.also_sent:
        side = " (negative)" if sent.negative else ""
        text = " ".join(sent.text.split())
        cut = "..." if len(text) > _WORDS else ""
        yield f"also sent    {sent.binding} {label(graph, sent.binding.node)}{side}: {text[:_WORDS]!r}{cut}"
    for seed in account.fixed_seeds:
        yield f"fixed seed   {seed} = {graph[seed.node]['inputs'][seed.input]}, the same in every prompt"
    for node_id, how_much in account.scaled_by:
        yield f"upscaled by  {label(graph, node_id)}{f', {how_much}' if how_much else ''}"
    for node_id in account.also_saved_by:
        yield f"also saved by  {label(graph, node_id)}"
    for node_id, how_much in account.multiplied_by:
        yield f"batch times  {label(graph, node_id)}{f', {how_much}' if how_much else ''}"
    for image in account.input_images:
        yield f"input image  {image} = {graph[image.node]['inputs'][image.input]!r}, the same in every prompt"
    if account.negative != "text":
        why = {"zeroed": "zeroed by ConditioningZeroOut", "none": "no sampler takes one"}[account.negative]
        yield f"no negative  {why}"
