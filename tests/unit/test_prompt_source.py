"""What each prompt is asked for: by its number alone, in the proportions of the training set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reggen.errors import JobError
from reggen.job.models import Prompts
from reggen.kohya.captions import CaptionRules
from reggen.planning.plan import Plan
from reggen.planning.prompt_source import PromptSettings, PromptSource, TrainingExample

EXAMPLES = (
    TrainingExample("a.png", "sks, 1boy, standing", (512, 512), 10),
    TrainingExample("b.png", "photo of sks in a forest", (384, 640), 10),
    TrainingExample("closeup_c.png", "", (640, 384), 5),
)


def a_source(
    examples: Sequence[TrainingExample] = EXAMPLES, prompts: dict[str, Any] | None = None, **settings: Any
) -> PromptSource:
    """A source of the class 1boy_person; prompts come from the training captions unless there is a positive one."""
    document = {"from": None if "positive" in (prompts or {}) else "captions", **(prompts or {})}
    chosen: dict[str, Any] = {"class_tokens": "1boy_person", "seed": 7, "trigger": ("sks",), "size": (512, 512)}
    chosen |= {"prompts": Prompts.model_validate(document), **settings}
    return PromptSource(PromptSettings(**chosen), examples)


def test_captions_become_prompts_with_the_class_tokens_in_the_triggers_place() -> None:
    """An image without a caption is asked for in the class tokens."""
    source = a_source()
    prompts = {spec.positive for spec in map(source.at, range(25))}
    assert prompts == {"1boy person, 1boy, standing", "photo of 1boy person in a forest", "1boy person"}


def test_each_example_comes_as_often_as_its_repeats() -> None:
    """10, 10 and 5 of 25, and in that proportion at every point on the way."""
    source = a_source()
    names = [spec.example.name for spec in map(source.at, range(50)) if spec.example]
    assert Counter(names) == {"a.png": 20, "b.png": 20, "closeup_c.png": 10}
    assert Counter(names[:10])["closeup_c.png"] == 2


def test_a_pattern_makes_its_images_come_more_often() -> None:
    """Twice the close-ups: 10, 10 and 10."""
    source = a_source(prompts={"weights": {"closeup_*": 2}})
    names = Counter(spec.example.name for spec in map(source.at, range(30)) if spec.example)
    assert set(names.values()) == {10}


@pytest.mark.parametrize("weights", [{"nothing*": 2.0}, {"*": 0.0}])
def test_weights_that_fit_nothing_are_told(weights: dict[str, float]) -> None:
    """A pattern that no image is named like, or nothing left at all."""
    with pytest.raises(JobError, match=r"prompts\.weights"):
        a_source(prompts={"weights": weights})


def test_matched_sizes_are_the_buckets_of_the_same_images() -> None:
    """A caption about a portrait is painted in the portrait's bucket."""
    source = a_source(size="training")
    for spec in map(source.at, range(25)):
        assert spec.example is not None
        assert spec.size == spec.example.bucket


def test_a_size_is_legal_for_the_model_whatever_the_bucket() -> None:
    """Multiples of 8, rounded down."""
    odd = (TrainingExample("a.png", "", (514, 780), 1),)
    assert a_source(odd, size="training").at(0).size == (512, 776)


def test_templates_take_matched_sizes_too() -> None:
    """Words from a template, sizes from the training set."""
    source = a_source(prompts={"positive": "a {cat|dog}"}, size="training")
    found = [source.at(number) for number in range(25)]
    assert Counter(spec.size for spec in found) == {(512, 512): 10, (384, 640): 10, (640, 384): 5}
    assert {spec.positive for spec in found} == {"a cat", "a dog"}


def test_a_matrix_meets_every_prompt() -> None:
    """Three prompts and four settings: twelve pairs in twelve slots."""
    axes = {"sampler": ("euler", "heun"), "size": ((512, 512), (512, 768))}
    source = a_source((), prompts={"positive": ("a", "b", "c")}, axes=axes, size="matrix")
    pairs = {(spec.positive, spec.size, spec.settings) for spec in map(source.at, range(12))}
    assert len(pairs) == source.combinations == 12


@pytest.mark.parametrize(
    ("write", "caption"),
    [
        ("none", None),
        ("class", "1boy_person"),
        ("prompt", "best quality, 1boy person, 1boy, standing"),
        ("training", "1boy person, 1boy, standing"),
    ],
)
def test_the_caption_beside_an_image(write: str, caption: str | None) -> None:
    """Nothing, the class tokens, the final prompt, or the training caption without the trigger."""
    source = a_source(EXAMPLES[:1], prompts={"prefix": "best quality"}, captions=write)
    assert source.at(0).caption == caption


def test_a_caption_is_never_empty() -> None:
    """The workflow's own prompt is not known here: then the class tokens are."""
    source = a_source((), prompts={"from": None}, size="workflow", captions="prompt")
    assert source.at(0).caption == "1boy_person"


@given(st.integers(0, 10**12), st.integers(1, 5))
def test_a_slot_costs_the_same_wherever_it_is_and_is_always_the_same(index: int, batch: int) -> None:
    """Law 8: from the job and the number alone; the pictures of a batch share what is asked for."""
    one, two = (Plan(a_source(size="training"), 10**12 + 10, seed=3, batch=batch) for _ in range(2))
    assert one.sample(index) == two.sample(index)
    first = one.sample(index - index % batch)
    assert (first.positive, first.size, first.seed) == (
        one.sample(index).positive,
        one.sample(index).size,
        one.sample(index).seed,
    )


def test_choices_of_a_caption_come_in_turn() -> None:
    """enable_wildcard: ``{a|b}`` is one of the two, ``{{`` a brace, and separators of kohya are commas."""
    rules = CaptionRules(wildcard=True)
    caption = "sks ||| a {red|blue} hat;;;{{x}}"
    source = a_source([TrainingExample("a.png", caption, (512, 512), 2, rules=rules)], captions="training")
    first, second, third = (source.at(number) for number in range(3))
    assert first.positive == "1boy person, a red hat, {x}"
    assert second.positive == "1boy person, a blue hat, {x}"
    assert third.positive == first.positive
    assert second.caption == "1boy person ||| a blue hat;;;{x}"


def test_a_text_takes_the_triggers_place() -> None:
    """Natural captions need the class with its article, and no class doubled beside itself."""
    examples = [
        TrainingExample("a.png", "sks standing in a field, wearing a red bandana", (512, 512), 1),
        TrainingExample("b.png", "photo of a sks woman (fate)", (512, 512), 1),
    ]
    source = a_source(examples, {"replace": "a woman", "remove": ["wearing a red bandana"]})
    assert source.at(0).positive == "a woman standing in a field"
    assert source.at(1).positive == "photo of a woman \\(fate\\)"
    plain = a_source(examples, {"replace": "a woman", "escape": False}, captions="training")
    assert plain.at(1).positive == plain.at(1).caption == "photo of a woman (fate)"
