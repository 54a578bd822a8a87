"""What is missing from a job file, or too much, only in view of what else it says. Pure; reads the raw tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reggen.errors import Problem


def gaps(document: Mapping[str, Any]) -> list[Problem]:
    """What is missing only in view of what else the job says."""

    def section(name: str) -> Mapping[str, Any]:
        found = document.get(name)
        return found if isinstance(found, Mapping) else {}

    sampling, problems = section("sampling"), []
    if not document.get("workflow"):
        hint = "the built-in workflow needs it"
        if "checkpoint" not in sampling:
            problems.append(Problem("sampling.checkpoint", "is missing", hint))
        elsewhere = "from" in section("prompts") or _all_have_prompts(document)
        if "positive" not in section("prompts") and not elsewhere:
            problems.append(Problem("prompts.positive", "is missing", hint))
    if ("width" in sampling) != ("height" in sampling):
        problems.append(Problem("sampling", "width and height are given together or not at all"))
    if sampling.get("size") and section("matrix").get("size"):
        hint = "leave one of the two out"
        problems.append(
            Problem("matrix.size", "stands beside sampling.size = 'match': sizes come from one place", hint)
        )
    return [*problems, *_unmatched(document), *_classless(document)]


def _all_have_prompts(document: Mapping[str, Any]) -> bool:
    blocks = document.get("class")
    if not isinstance(blocks, list | tuple) or not blocks:
        return False
    return all(isinstance(one, Mapping) and one.get("positive") for one in blocks)


def _unmatched(document: Mapping[str, Any]) -> Iterator[Problem]:
    """What wants a training set where there is none."""
    if document.get("training"):
        return
    wanting = (
        ("dataset", "count", "match"),
        ("sampling", "size", "match"),
        ("prompts", "from", "captions"),
        ("captions", "write", "training"),
    )
    for section, key, value in wanting:
        found = document.get(section)
        if isinstance(found, Mapping) and found.get(key) == value:
            yield Problem(f"{section}.{key}", f"{value!r} needs the training set", "add [training] with its folder")


def _classless(document: Mapping[str, Any]) -> Iterator[Problem]:
    """The class tokens stand in [dataset] or in [[class]] blocks, one of them."""
    dataset, blocks = document.get("dataset"), document.get("class")
    if not isinstance(dataset, Mapping):
        return
    words = dataset.get("class")
    blocks = blocks if isinstance(blocks, list | tuple) else ()
    if not words and not blocks:
        yield Problem("dataset.class", "is missing")
    if words and blocks:
        yield Problem("dataset.class", "stands beside [[class]] blocks", "name the class in one of the two places")
