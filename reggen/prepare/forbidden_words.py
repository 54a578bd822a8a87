"""Forbidden words in the tokens, prompts and captions of a class, and in the workflow's own texts. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

from reggen.errors import Problem
from reggen.planning.plan import CHECKED, Plan
from reggen.planning.prompt_source import TrainingExample
from reggen.prompts.guard import Guard, Offence
from reggen.workflow.template import Template

_MAX_NAMED = 10  # offences that are reported


def in_plan(plan: Plan, guard: Guard) -> Iterator[Problem]:
    """Forbidden words in the class tokens, the prompts and the captions: the first one in each text."""
    if not guard:
        return
    settings = plan.source.settings
    if offence := guard.find(settings.class_tokens):
        yield Problem("dataset.class", f"{offence} is forbidden")
    named, read, prompts, most = 0, set[str](), set[str | None](), _prompts_at_most(plan)
    for number in range(min(-(-len(plan) // plan.batch), CHECKED)):
        if len(prompts) >= most:
            return
        spec, name = plan.source.at(number), plan.name(number * plan.batch)
        prompts.add(spec.positive)
        for kind, text in (("prompt", spec.positive), ("caption", spec.caption)):
            if not text or text in read:
                continue
            read.add(text)
            if (offence := guard.find(text)) and named < _MAX_NAMED:
                named += 1
                example = spec.example if _is_of_a_caption(plan, kind) else None
                yield _offending(f"the {kind} of {name}", text, offence, example, guard)


def in_workflow(template: Template, guard: Guard) -> Iterator[Problem]:
    """Forbidden words in texts of the graph that are sent as they are, whatever a prompt says."""
    for sent in template.sent:
        if offence := guard.find(sent.text):
            where = f"the workflow's {template.label(sent.binding.node)}.{sent.binding.input}"
            yield Problem(where, f"{offence} is forbidden: {sent.text[:120]!r}")


def _prompts_at_most(plan: Plan) -> float:
    """An upper bound for the number of different prompts; infinite where captions differ as well."""
    generator = plan.source.generator
    return math.inf if generator is None or plan.source.settings.captions == "training" else generator.combinations


def _is_of_a_caption(plan: Plan, kind: str) -> bool:
    """True for a kind of text, "prompt" or "caption", that is made from training captions."""
    settings = plan.source.settings
    return bool(settings.prompts.source) or (kind == "caption" and settings.captions == "training")


def _offending(where: str, text: str, offence: Offence, example: TrainingExample | None, guard: Guard) -> Problem:
    """A forbidden word in a text; where a training caption brought it, with its image and the remedy."""
    hint = ""
    if example and offence.forbidden in {found.forbidden for found in guard.find_all(example.caption)}:
        where += f", from the caption of {example.name}"
        hint = f"to have it taken out, write prompts.remove = [{json.dumps(offence.forbidden, ensure_ascii=False)}]"
    return Problem(where, f"{offence} is forbidden: {text[:120]!r}", hint)
