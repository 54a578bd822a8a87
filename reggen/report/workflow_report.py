"""A workflow as reggen reads it, as text: what is set where, and what is sent as it stands."""

from __future__ import annotations

from collections.abc import Iterator

from reggen.workflow.template import Template

_WORDS = 60  # letters of a text that are shown


def format_bindings(template: Template) -> Iterator[str]:
    """A line for each name with the inputs that it sets, and one for the node whose images are taken."""
    for name, bound in template.bindings.items():
        yield f"{name:<12} -> {', '.join(f'{template.label(one.node)}.{one.input}' for one in bound)}"
    yield f"{'images':<12} <- {template.label(template.output)}"


def format_account(template: Template) -> Iterator[str]:
    """A line for everything that the workflow does and the job does not set."""
    account, graph = template.account, template.graph
    for sent in account.also_sent:
        side = " (negative)" if sent.negative else ""
        text = " ".join(sent.text.split())
        cut = "..." if len(text) > _WORDS else ""
        yield f"also sent    {sent.binding} {template.label(sent.binding.node)}{side}: {text[:_WORDS]!r}{cut}"
    for seed in account.fixed_seeds:
        yield f"fixed seed   {seed} = {graph[seed.node]['inputs'][seed.input]}, the same in every prompt"
    for node_id, how_much in account.scaled_by:
        yield f"upscaled by  {template.label(node_id)}{f', {how_much}' if how_much else ''}"
    for node_id in account.also_saved_by:
        yield f"also saved by  {template.label(node_id)}"
    for node_id, how_much in account.multiplied_by:
        yield f"batch times  {template.label(node_id)}{f', {how_much}' if how_much else ''}"
    for image in account.input_images:
        yield f"input image  {image} = {graph[image.node]['inputs'][image.input]!r}, the same in every prompt"
    if account.negative != "text":
        why = {"zeroed": "zeroed by ConditioningZeroOut", "none": "no sampler takes one"}[account.negative]
        yield f"no negative  {why}"
