"""Problems between the tables of a job file: each is found in the raw tables, whatever else is wrong with them."""

from __future__ import annotations

from typing import Any

import pytest

from reggen.job.cross_checks import cross_check

COMPLETE: dict[str, Any] = {
    "dataset": {"root": "reg", "class": "person", "count": 3},
    "sampling": {"checkpoint": "base"},
    "prompts": {"positive": "a person"},
}


def told(**tables: Any) -> list[str]:
    """The problems of the complete job with some tables changed; None takes a table out."""
    document = {name: table for name, table in {**COMPLETE, **tables}.items() if table is not None}
    return [str(problem) for problem in cross_check(document)]


def test_a_complete_job_has_no_problem() -> None:
    """A class, a checkpoint and a prompt are all that the built-in workflow needs."""
    assert told() == []


def test_the_built_in_workflow_needs_a_checkpoint_and_a_prompt() -> None:
    """It has neither of its own; both are reported at once."""
    assert told(sampling={}, prompts={}) == [
        "sampling.checkpoint: is missing (the built-in workflow needs it)",
        "prompts.positive: is missing (the built-in workflow needs it)",
    ]
    assert told(sampling=None, prompts=None) == told(sampling={}, prompts={})


def test_a_workflow_brings_its_own_checkpoint_and_prompt() -> None:
    """With a graph of the user's own nothing of it has to be in the job."""
    assert told(sampling=None, prompts=None, workflow={"file": "graph.json"}) == []


@pytest.mark.parametrize(
    ("blocks", "complete"),
    [
        ([{"words": "boy", "positive": "a boy"}, {"words": "girl", "positive": "a girl"}], True),
        ([{"words": "boy", "positive": "a boy"}, {"words": "girl"}], False),
        ([{"words": "boy", "positive": ""}], False),
        ([5], False),
        ("boy", False),
    ],
    ids=["all have one", "one has none", "an empty one", "a number for a block", "a text for the blocks"],
)
def test_classes_with_prompts_of_their_own_need_no_other(blocks: Any, complete: bool) -> None:
    """prompts.positive is needed as soon as one class has no prompt."""
    problems = told(**{"dataset": {"root": "reg", "count": 3}, "prompts": None, "class": blocks})
    assert ("prompts.positive: is missing (the built-in workflow needs it)" not in problems) is complete


@pytest.mark.parametrize("side", ["width", "height"])
def test_width_and_height_come_together(side: str) -> None:
    """One of them alone decides on nothing."""
    (problem,) = told(sampling={"checkpoint": "base", side: 512})
    assert problem == "sampling: width and height are given together or not at all"


def test_sizes_come_from_one_place() -> None:
    """The training set's buckets or the matrix: not both."""
    sampling, training = {"checkpoint": "base", "size": "match"}, {"folder": "train", "resolution": 512}
    (problem,) = told(sampling=sampling, training=training, matrix={"size": [[512, 512]]})
    assert problem.startswith("matrix.size: stands beside sampling.size = 'match'")
    assert told(sampling=sampling, training=training, matrix={"sampler": ["euler"]}) == []


@pytest.mark.parametrize(
    ("table", "values"),
    [
        ("dataset", {"root": "reg", "class": "person", "count": "match"}),
        ("sampling", {"checkpoint": "base", "size": "match"}),
        ("prompts", {"from": "captions"}),
        ("captions", {"write": "training"}),
    ],
)
def test_what_is_taken_from_the_training_set_needs_one(table: str, values: dict[str, Any]) -> None:
    """The problem names the very key, and the table to add."""
    (problem,) = told(**{table: values})
    key = list(values)[-1]
    assert problem == f"{table}.{key}: {values[key]!r} needs the training set (add [training] with its folder)"
    assert told(**{table: values, "training": {"folder": "train", "resolution": 512}}) == []


@pytest.mark.parametrize(
    ("dataset_class", "blocks", "problem"),
    [
        (None, None, "dataset.class: is missing"),
        (None, [], "dataset.class: is missing"),
        ("", None, "dataset.class: is missing"),
        (
            "a",
            [{"words": "b"}],
            "dataset.class: stands beside [[class]] blocks (name the class in one of the two places)",
        ),
    ],
)
def test_the_class_is_named_once(dataset_class: str | None, blocks: Any, problem: str) -> None:
    """In [dataset] for one class, in [[class]] blocks for several."""
    dataset = {"root": "reg", "count": 3} | ({} if dataset_class is None else {"class": dataset_class})
    assert told(**{"dataset": dataset, "class": blocks}) == [problem]


@pytest.mark.parametrize("wrong", [5, "text", [1], True])
@pytest.mark.parametrize("table", ["dataset", "sampling", "prompts", "matrix", "captions", "class"])
def test_a_table_of_a_wrong_type_is_left_to_the_models(table: str, wrong: Any) -> None:
    """It is reported as such; here it is passed over and never raises."""
    assert all(isinstance(problem, str) for problem in told(**{table: wrong}))


def test_matched_sizes_need_a_resolution() -> None:
    """kohya does not start without one; a config may have it, which is read later."""
    sampling = {"checkpoint": "base", "size": "match"}
    (problem,) = told(sampling=sampling, training={"folder": "train"})
    assert problem.startswith("training.resolution: is missing, and sampling.size = 'match' needs it")
    assert told(sampling=sampling, training={"config": "train.toml"}) == []
