"""The specification of each prompt of a plan, by its number: text, size, settings, caption. Computed, never stored.

- Text: the training captions without the trigger, each as often as its repeats say; or templates, no combination
  twice before all came once; or the workflow's own text.
- Size: of the training image, where sizes are matched; from the matrix; or one size for all.
- Settings: from the matrix, so that every combination meets every prompt.

One number is one prompt; the pictures of a batch share it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from fractions import Fraction
from functools import lru_cache
from typing import Any, Literal

from reggen.errors import JobError, Problem
from reggen.geometry import Size
from reggen.job.models import ImageSize, Prompts
from reggen.kohya.captions import PLAIN_CAPTIONS, CaptionRules
from reggen.prompts.from_caption import as_tags, escaped, prompt_from, without_phrases
from reggen.prompts.generator import PromptGenerator
from reggen.prompts.matrix import Matrix
from reggen.prompts.permute import Shares, smallest_integers
from reggen.prompts.template import Value
from reggen.prompts.wildcards import Wildcards

_STEP = 8  # pixels: a latent's sides are multiples of it


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """A caption of a training image that prompts are made after, with the image's file name and bucket in pixels.

    ``repeats``: how often it is trained on, a fraction where the image has several captions. ``caption`` is what the
    trainer makes of it by its ``rules``, choices still open; ``written``, where it is another, is its caption file's.
    """

    name: str
    caption: str
    bucket: Size
    repeats: int | Fraction
    written: str | None = None
    rules: CaptionRules = PLAIN_CAPTIONS

    def chosen(self, number: int) -> str:
        """The caption with its choices made, for its use of this number."""
        return self.rules.chosen(self.caption, number)

    def chosen_to_write(self, number: int) -> str:
        """The same for the caption file of a reg image, where the trainer finds its separators unchanged."""
        text = self.caption if self.written is None else self.written
        return replace(self.rules, secondary_separator="").chosen(text, number)


@dataclass(frozen=True, slots=True)
class PromptSpec:
    """Text, size and settings of one prompt, and the caption of its images. None leaves the workflow's own value.

    ``values`` are those chosen in the template; ``example`` is the training image it was made after, if any.
    """

    positive: str | None
    size: Size | None
    caption: str | None
    settings: tuple[tuple[str, Any], ...] = ()
    values: tuple[Value, ...] = ()
    example: TrainingExample | None = None


@dataclass(frozen=True, slots=True)
class WorkflowDefaults:
    """The prompts in a workflow's graph, which images are made with where the job has none."""

    positive: str = ""
    negative: str = ""


NO_DEFAULTS = WorkflowDefaults()


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSettings:
    """Settings of a job for the prompts of one class.

    In training captions ``class_tokens`` take the place of the ``trigger``. ``axes`` are the values of the matrix by
    name; ``seed`` decides in which order prompts and matrix are gone through. ``captions`` is what caption files say.
    """

    prompts: Prompts
    class_tokens: str
    seed: int
    trigger: tuple[str, ...] = ()
    axes: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    size: ImageSize = "workflow"
    captions: Literal["none", "class", "prompt", "training"] = "none"


class PromptSource:
    """The prompt specifications of one class, by number.

    Raises JobError for templates that cannot be parsed, and for weights that match no image or are all 0.
    """

    def __init__(
        self,
        settings: PromptSettings,
        examples: Sequence[TrainingExample] = (),
        wildcards: Wildcards | None = None,
        workflow: WorkflowDefaults = NO_DEFAULTS,
    ) -> None:
        self.workflow = workflow
        self.settings, self.examples = settings, tuple(examples)
        prompts, seed = settings.prompts, settings.seed
        self._shares = Shares(_weights(prompts, self.examples)) if examples else None
        positives = () if prompts.source else prompts.positives
        self.generator = PromptGenerator(positives, wildcards, seed=seed) if positives else None
        self.matrix = Matrix(settings.axes, seed=seed)
        self._rewritten = lru_cache(4096)(self._rewrite)

    @property
    def combinations(self) -> int:
        """The number of different pairs of a prompt and settings."""
        prompts = 1
        if self.generator:
            prompts = self.generator.combinations
        elif self.settings.prompts.source:
            prompts = len(self.examples)
        return prompts * self.matrix.combinations

    @property
    def is_even(self) -> bool:
        """True where none of these comes more often than another."""
        if self.generator:
            return self.generator.is_even
        if not self._shares or not self.settings.prompts.source:
            return True
        return self._shares.period == len(self.examples) and self.matrix.combinations == 1

    def at(self, number: int) -> PromptSpec:
        """The specification of one prompt, counted from 0."""
        part, turn = self._shares.turn(number) if self._shares else (0, 0)
        example = self.examples[part] if self._shares else None
        positive, values, settings = self._text(number, example, turn)
        size = settings.pop("size", None) or self._size(example)
        caption = self._caption(positive, example, turn)
        return PromptSpec(positive, size, caption, tuple(settings.items()), values, example)

    def _text(
        self, number: int, example: TrainingExample | None, turn: int
    ) -> tuple[str | None, tuple[Value, ...], dict[str, Any]]:
        if self.generator is not None:
            prompt, settings = self.matrix.with_prompt(self.generator, number)
            return prompt.text, prompt.values, settings
        prompts = self.settings.prompts
        if not example or not prompts.source:
            return None, (), self.matrix.at(number)
        text = as_tags(example.chosen(turn))
        made = self._rewritten(text, prompts.prefix, prompts.suffix)
        return escaped(made) if prompts.escape else made, (), self.matrix.at(number)

    def _size(self, example: TrainingExample | None) -> Size | None:
        size = self.settings.size
        if size == "training" and example:
            width, height = example.bucket
            return max(_STEP, width - width % _STEP), max(_STEP, height - height % _STEP)
        return None if isinstance(size, str) else size

    def _caption(self, positive: str | None, example: TrainingExample | None, turn: int) -> str | None:
        tokens = self.settings.class_tokens
        match self.settings.captions:
            case "none":
                return None
            case "prompt":
                return " ".join((self.workflow.positive if positive is None else positive).split()) or tokens
            case "training" if example:
                return self._rewritten(example.chosen_to_write(turn), "", "")
        return tokens

    def _rewrite(self, caption: str, prefix: str, suffix: str) -> str:
        settings = self.settings
        tokens, replace = settings.class_tokens.replace("_", " "), settings.prompts.replace
        if isinstance(replace, str):
            tokens, replace = replace, True
        caption = without_phrases(caption, settings.prompts.remove)
        return prompt_from(caption, settings.trigger, tokens, replace=replace, prefix=prefix, suffix=suffix)


def _weights(prompts: Prompts, examples: Sequence[TrainingExample]) -> list[int]:
    """The weight of each example: its repeats, times the factors of the job's patterns that match its name."""
    weights = [Fraction(example.repeats) for example in examples]
    for pattern, factor in prompts.weights.items():
        matching = [number for number, example in enumerate(examples) if fnmatchcase(example.name, pattern)]
        if not matching:
            hint = f"the first is {examples[0].name}"
            raise JobError(
                "the job", (Problem("prompts.weights", f"no training image is named like {pattern!r}", hint),)
            )
        for number in matching:
            weights[number] *= Fraction(str(factor))
    if not any(weights):
        raise JobError("the job", (Problem("prompts.weights", "leave no training image with a weight above 0"),))
    return smallest_integers(weights)
