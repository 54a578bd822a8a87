"""What each prompt of a plan is asked for, by its number: words, size, settings, caption. Pure, computed, never stored.

- Words: the training captions with the trigger out, each example as often as its repeats say; or templates, no
  combination twice before all came once; or the workflow's own.
- Size: of the example, where sizes are matched; from the matrix; or the job's one size.
- Settings: from the matrix, so that all its combinations meet all prompts.

One number is one prompt: with batches it is shared by the pictures of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from fractions import Fraction
from functools import lru_cache
from typing import Any, Literal

from reggen.errors import JobError, Problem
from reggen.geometry import Size
from reggen.job.models import ImageSize, Prompts
from reggen.prompts.from_caption import prompt_from
from reggen.prompts.generator import PromptGenerator
from reggen.prompts.matrix import Matrix
from reggen.prompts.permute import Shares, whole
from reggen.prompts.template import Value
from reggen.prompts.wildcards import Wildcards

_STEP = 8  # pixels: what a latent's sides are multiples of


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """One training image as a plan sees it: its file name, caption, bucket in pixels, and repeats."""

    name: str
    caption: str
    bucket: Size
    repeats: int


@dataclass(frozen=True, slots=True)
class PromptSpec:
    """What one prompt is asked for. None: as the workflow has it.

    ``values`` is what was chosen in a template; ``example`` the training image it stands for, if any.
    """

    positive: str | None
    size: Size | None
    caption: str | None
    settings: tuple[tuple[str, Any], ...] = ()
    values: tuple[Value, ...] = ()
    example: TrainingExample | None = None


@dataclass(frozen=True, slots=True)
class WorkflowDefaults:
    """The prompts that a workflow brings along: what an image is made with where the job has none."""

    positive: str = ""
    negative: str = ""


NOTHING = WorkflowDefaults()


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSettings:
    """What a job says of the prompts of one class.

    ``trigger`` goes out of training captions, ``class_tokens`` come in. ``axes`` are the settings gone through beside
    the prompts, by name; ``seed`` decides on the order of both. ``captions`` is what is written beside the images.
    """

    prompts: Prompts
    class_tokens: str
    seed: int
    trigger: tuple[str, ...] = ()
    axes: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    size: ImageSize = "workflow"
    captions: Literal["none", "class", "prompt", "training"] = "none"


class PromptSource:
    """The prompt specifications of one class, by number; ``own`` is what the workflow says where the job is silent.

    Raises JobError for templates that cannot be read, and for weights that fit nothing or are all 0.
    """

    def __init__(
        self,
        settings: PromptSettings,
        examples: Sequence[TrainingExample] = (),
        wildcards: Wildcards | None = None,
        own: WorkflowDefaults = NOTHING,
    ) -> None:
        self.own = own
        self.settings, self._examples = settings, tuple(examples)
        prompts, seed = settings.prompts, settings.seed
        self._shares = Shares(_weights(prompts, self._examples)) if examples else None
        positives = () if prompts.source else prompts.positives
        self.variety = PromptGenerator(positives, wildcards, seed=seed) if positives else None
        self.matrix = Matrix(settings.axes, seed=seed)
        self._said = lru_cache(4096)(self._say)

    @property
    def combinations(self) -> int:
        """How many different prompts and settings there are."""
        prompts = 1
        if self.variety:
            prompts = self.variety.combinations
        elif self.settings.prompts.source:
            prompts = len(self._examples)
        return prompts * self.matrix.combinations

    @property
    def even(self) -> bool:
        """Whether none of them comes more often than the others."""
        if self.variety:
            return self.variety.even
        if not self._shares or not self.settings.prompts.source:
            return True
        return self._shares.period == len(self._examples) and self.matrix.combinations == 1

    def at(self, number: int) -> PromptSpec:
        """What the prompt of this number, from 0, is asked for."""
        example = self._examples[self._shares.turn(number)[0]] if self._shares else None
        positive, values, settings = self._words(number, example)
        size = settings.pop("size", None) or self._size(example)
        caption = self._caption(positive, example)
        return PromptSpec(positive, size, caption, tuple(settings.items()), values, example)

    def _words(
        self, number: int, example: TrainingExample | None
    ) -> tuple[str | None, tuple[Value, ...], dict[str, Any]]:
        if self.variety is not None:
            prompt, settings = self.matrix.beside(self.variety, number)
            return prompt.text, prompt.values, settings
        prompts = self.settings.prompts
        told = self._said(example.caption, prompts.prefix, prompts.suffix) if example and prompts.source else None
        return told, (), self.matrix.at(number)

    def _size(self, example: TrainingExample | None) -> Size | None:
        size = self.settings.size
        if size == "training" and example:
            width, height = example.bucket
            return max(_STEP, width - width % _STEP), max(_STEP, height - height % _STEP)
        return None if isinstance(size, str) else size

    def _caption(self, positive: str | None, example: TrainingExample | None) -> str | None:
        words = self.settings.class_tokens
        match self.settings.captions:
            case "none":
                return None
            case "prompt":
                return " ".join((self.own.positive if positive is None else positive).split()) or words
            case "training" if example:
                return self._said(example.caption, "", "")
        return words

    def _say(self, caption: str, prefix: str, suffix: str) -> str:
        settings = self.settings
        words, replace = settings.class_tokens.replace("_", " "), settings.prompts.replace
        return prompt_from(caption, settings.trigger, words, replace=replace, prefix=prefix, suffix=suffix)


def _weights(prompts: Prompts, examples: Sequence[TrainingExample]) -> list[int]:
    """How often each example comes, beside the others: its repeats, times what the job's patterns say."""
    weights = [Fraction(example.repeats) for example in examples]
    for pattern, factor in prompts.weights.items():
        fitting = [number for number, example in enumerate(examples) if fnmatchcase(example.name, pattern)]
        if not fitting:
            hint = f"the first is {examples[0].name}"
            raise JobError(
                "the job", (Problem("prompts.weights", f"no training image is named like {pattern!r}", hint),)
            )
        for number in fitting:
            weights[number] *= Fraction(str(factor))
    if not any(weights):
        raise JobError("the job", (Problem("prompts.weights", "leave no training image with a weight above 0"),))
    return whole(weights)
