"""Settings gone through beside the prompts: every combination of samplers, sizes and so on.

Alone, a matrix uses each of its combinations once before any comes twice. Beside prompts, for each template: each of
its entries comes once before any comes twice; each combination of the matrix comes once in as many of its indices as
there are combinations; and each pair of both comes once before any pair comes twice. So six prompts and two samplers
meet in all twelve pairs within twelve indices. Prompts without choices count as one template together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Generic, TypeVar

from reggen.errors import JobError, Problem
from reggen.prompts.generator import Prompt, PromptGenerator
from reggen.prompts.permute import shuffled

Setting = TypeVar("Setting")


class Matrix(Generic[Setting]):
    """Every combination of one value from each axis; without axes just one, the empty combination.

    Raises JobError, under ``key``, for an axis without values or with the same value twice.
    """

    def __init__(self, axes: Mapping[str, Sequence[Setting]], *, seed: int = 0, key: str = "matrix") -> None:
        if problems := tuple(_problem(f"{key}.{name}", values) for name, values in axes.items() if _faulty(values)):
            raise JobError("the job", problems)
        self._axes = {name: tuple(values) for name, values in axes.items()}
        self._seed = seed

    @property
    def combinations(self) -> int:
        """The number of combinations."""
        return prod(map(len, self._axes.values()))

    def combination(self, number: int) -> dict[str, Setting]:
        """One combination by its number, from 0; the first axis changes fastest."""
        chosen = {}
        for name, values in self._axes.items():
            number, digit = divmod(number, len(values))
            chosen[name] = values[digit]
        return chosen

    def at(self, index: int) -> dict[str, Setting]:
        """The combination for an index where no prompts are gone through beside it."""
        times, within = divmod(index, self.combinations)
        return self.combination(shuffled(within, self.combinations, f"{self._seed}/matrix/{times}"))

    def with_prompt(self, generator: PromptGenerator, index: int) -> tuple[Prompt, dict[str, Setting]]:
        """The prompt and the combination for an index, so that every pair is made."""
        prompt = generator.at(index, self.combinations)
        return prompt, self.combination(prompt.partner)


def _faulty(values: Sequence[Setting]) -> bool:
    return not values or len(_different(values)) < len(values)


def _different(values: Sequence[Setting]) -> list[Setting]:
    return [value for place, value in enumerate(values) if value not in values[:place]]


def _problem(key: str, values: Sequence[Setting]) -> Problem:
    if not values:
        return Problem(key, "has no values", "leave the axis out")
    twice = next(value for place, value in enumerate(values) if value in values[:place])
    return Problem(key, f"has {twice!r} twice", "name each value once")
