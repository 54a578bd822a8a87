"""Checks between the tables of a job file: a key that is missing, or too much, because of another. Pure.

They read the raw tables, so that they can be reported beside the problems inside a table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reggen.errors import Problem

_FROM_TRAINING = (
    ("dataset", "count", "match"),
    ("sampling", "size", "match"),
    ("prompts", "from", "captions"),
    ("captions", "write", "training"),
)
"""Tables and keys, with the value that is taken from the training set."""


def cross_check(document: Mapping[str, Any]) -> list[Problem]:
    """The problems between the tables of a job file; tables of a wrong type are passed over."""
    return [
        *_without_workflow(document),
        *_sizes(document),
        *_without_training(document),
        *_without_resolution(document),
        *_class_tokens(document),
    ]


def _table(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = document.get(name)
    return found if isinstance(found, Mapping) else {}


def _without_workflow(document: Mapping[str, Any]) -> Iterator[Problem]:
    """The built-in workflow has neither a checkpoint nor a prompt of its own."""
    sampling = _table(document, "sampling")
    if document.get("workflow"):
        for name in ("family", "model", "text_encoders", "vae", "clip_skip", "shift"):
            if sampling.get(name):
                problem = "goes with the built-in workflow, and this job has one of its own"
                yield Problem(f"sampling.{name}", problem, "set it in the workflow, or leave [workflow] out")
        return
    hint = "the built-in workflow needs it"
    if "checkpoint" not in sampling and "model" not in sampling:
        needed = "is missing, or sampling.model" if sampling.get("family") else "is missing"
        yield Problem("sampling.checkpoint", needed, hint)
    prompts = _table(document, "prompts")
    if not ("positive" in prompts or "from" in prompts or _all_classes_have_prompts(document)):
        yield Problem("prompts.positive", "is missing", hint)


def _all_classes_have_prompts(document: Mapping[str, Any]) -> bool:
    blocks = document.get("class")
    if not isinstance(blocks, list | tuple) or not blocks:
        return False
    return all(isinstance(one, Mapping) and one.get("positive") for one in blocks)


def _sizes(document: Mapping[str, Any]) -> Iterator[Problem]:
    """The size comes from one place, and whole."""
    sampling = _table(document, "sampling")
    if ("width" in sampling) != ("height" in sampling):
        yield Problem("sampling", "width and height are given together or not at all")
    if sampling.get("size") and _table(document, "matrix").get("size"):
        problem = "stands beside sampling.size = 'match'; sizes come from one place"
        yield Problem("matrix.size", problem, "leave one of the two out")


def _without_training(document: Mapping[str, Any]) -> Iterator[Problem]:
    """Some values are taken from the training set, so there must be one."""
    if document.get("training"):
        return
    for table, key, value in _FROM_TRAINING:
        if _table(document, table).get(key) == value:
            yield Problem(f"{table}.{key}", f"{value!r} needs the training set", "add [training] with its folder")


def _without_resolution(document: Mapping[str, Any]) -> Iterator[Problem]:
    """Matched sizes are buckets of the trainer's resolution; a config may have it, which is read later."""
    training = _table(document, "training")
    if (
        _table(document, "sampling").get("size") == "match"
        and training.get("folder")
        and not training.get("resolution")
    ):
        hint = "write --resolution as the trainer is given it; kohya does not start without one"
        yield Problem("training.resolution", "is missing, and sampling.size = 'match' needs it", hint)


def _class_tokens(document: Mapping[str, Any]) -> Iterator[Problem]:
    """The class tokens stand in [dataset] or in [[class]] blocks, in one of the two."""
    dataset, blocks = document.get("dataset"), document.get("class")
    if not isinstance(dataset, Mapping):
        return
    in_dataset, in_blocks = bool(dataset.get("class")), isinstance(blocks, list | tuple) and bool(blocks)
    if not in_dataset and not in_blocks:
        yield Problem("dataset.class", "is missing")
    if in_dataset and in_blocks:
        yield Problem("dataset.class", "stands beside [[class]] blocks", "name the class in one of the two places")
