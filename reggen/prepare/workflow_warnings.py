"""Warnings about a workflow before a run: what makes pictures of another size, or a setting without effect."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from reggen.planning.plan import Plan
from reggen.workflow.template import Template

_LORA = re.compile(r"lora(_name)?(_?\d+)?", re.IGNORECASE)
_QUALITY = re.compile(
    r"\b(worst|low|bad|normal) quality\b|\b(blurry|jpeg artifacts|lowres|bad anatomy)\b", re.IGNORECASE
)
_MANY = 50  # images of one prompt from which on a set shows little but its seeds


def of_size(template: Template, *, has_size: bool, is_checked: bool) -> Iterator[str]:
    """Nodes between the first latent and the saver that change the size, where the job asks for one."""
    if not has_size:
        return
    for node_id, how_much in template.account.scaled_by:
        scales = f"{template.label(node_id)} changes the size{f' {how_much}' if how_much else ''}"
        refused = ", so the size check refuses every image" if is_checked else ", so images are not the size asked for"
        yield f"{scales} after the sampler{refused}: take it out, save before it (output), or set checks.size = false"


def of_batch(template: Template) -> Iterator[str]:
    """Nodes that make more pictures than are asked for."""
    for node_id, how_much in template.account.multiplied_by:
        times = f" {how_much}" if how_much else ""
        yield f"{template.label(node_id)} multiplies the batch{times}: pictures beyond the batch are made and not kept"


def of_cfg(template: Template) -> Iterator[str]:
    """A job's cfg on a graph whose own is 1: a distilled model, which burns at more."""
    own = [template.graph[one.node]["inputs"].get(one.input) for one in template.account.cfg]
    wanted = template.fixed.get("cfg")
    if isinstance(wanted, int | float) and wanted > 1 and own and all(value == 1 for value in own):
        yield (
            f"sampling.cfg is {wanted:g} and the workflow's own is 1: a distilled model takes twice the time and burns "
            "the picture at more; its strength is sampling.guidance"
        )


def of_negative(template: Template, negative: str | None) -> Iterator[str]:
    """A negative prompt that changes no pixel."""
    if not negative:
        return
    kind = template.account.negative
    if kind == "zeroed":
        yield "the negative prompt has no effect: the workflow zeroes its negative conditioning (ConditioningZeroOut)"
    elif kind == "none" and template.account.cfg == () and template.bindings.get("positive"):
        yield "the negative prompt has no effect: the workflow's guider has no negative conditioning"
    elif (cfg := template.value("cfg")) == 1 and "cfg" not in template.axes:
        yield f"the negative prompt has no effect at cfg {cfg:g}"


def prior_notes(template: Template, plan: Plan, negative: str | None) -> Iterator[str]:
    """Properties of a job that move its images away from what the base model itself thinks of the class."""
    for node_id, node in template.graph.items():
        if loads_a_lora(node):
            yield f"{template.label(node_id)} loads a LoRA: regularization images should be the base model's own"
    if len(checkpoints := _checkpoints(template)) > 1:
        yield f"{len(checkpoints)} checkpoints make one image: a refiner's taste is learned as the base model's"
    if negative and (found := _QUALITY.search(negative)):
        yield (
            f"the negative prompt asks for quality ({found[0]!r}): the images are better than the model's own idea of "
            "the class, and training pulls it there"
        )
    if len(plan) > _MANY and plan.has_one_text and plan.source.combinations == 1:
        yield f"one prompt makes all {len(plan):,} images: they differ by their seeds only"


def _checkpoints(template: Template) -> set[str]:
    """The names of the models that a graph loads."""
    names = (node["inputs"].get(key) for node in template.graph.values() for key in ("ckpt_name", "unet_name"))
    return {name for name in names if isinstance(name, str)}


def loads_a_lora(node: Mapping[str, Any]) -> bool:
    """If a node's class says so, or an input such as lora_name, lora_name_1 or lora_01 names a file."""
    kind = str(node.get("class_type", "")).lower()
    if "lora" in kind and ("load" in kind or "stack" in kind):
        return True
    return any(
        _LORA.fullmatch(name) and isinstance(value, str) and PurePath(value).suffix
        for name, value in node["inputs"].items()
    )
