"""Prompts from templates by index, so that no combination comes twice before all have come once.

The rules:

- Templates get their indices by weight, evenly mixed, exactly (see `reggen.prompts.permute.Shares`);
  equal ones take turns.
- Among its own indices a template goes through all its entries in an order that depends on the seed, then
  through all of them again in another. An entry is a combination; one with weight 3 makes three entries, so it comes
  three times in a round, and may come twice before every other has come once.
- Settings may be gone through beside the prompts (see `reggen.prompts.matrix`): then the order of a template
  stays the same until each of its entries has met each combination of settings.
- A text without choices is used as it is written. In others the gaps that empty options leave are closed:
  empty tags are removed, and spaces beside them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from reggen.errors import JobError, Problem
from reggen.prompts.parser import TemplateSyntaxError, parse
from reggen.prompts.permute import Shares, partner, shuffled, smallest_integers
from reggen.prompts.template import Node, TemplateTooLarge, Text, Value
from reggen.prompts.wildcards import WildcardLibrary, Wildcards

WeightedTemplate = str | tuple[str, float]
"""A template, with a weight other than 1 where it has one."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """The prompt of one index: its text, its template's number, the options taken, and the number of its partner."""

    text: str
    template: int
    values: tuple[Value, ...] = ()
    partner: int = 0


class PromptGenerator:
    """All prompts, by index from 0, computed from templates, wildcards and seed alone.

    Raises JobError with a problem for every template that cannot be parsed, under ``key``.
    """

    def __init__(
        self,
        templates: Sequence[WeightedTemplate],
        wildcards: Wildcards | None = None,
        *,
        seed: int = 0,
        key: str = "prompts.positive",
    ) -> None:
        given = [(template, 1.0) if isinstance(template, str) else template for template in templates]
        self._trees = _trees(given, WildcardLibrary(wildcards or {}), key)
        exact = {weight: Fraction(str(weight)) for _, weight in given}  # 0.1 is exactly a tenth
        self._shares = Shares(smallest_integers([exact[weight] for _, weight in given]))
        self._seed = seed
        self._has_no_choices = all(isinstance(tree, Text) for tree in self._trees)

    @property
    def combinations(self) -> int:
        """The number of different prompts, as far as the options taken distinguish them."""
        return sum(tree.combinations for tree in self._trees)

    @property
    def round_length(self) -> int:
        """The number of indices within which every combination comes."""
        return 1 + max(self._shares.index(part, tree.count - 1) for part, tree in enumerate(self._trees))

    @property
    def is_even(self) -> bool:
        """True where every combination comes once in each round: no weights, and all templates equally long."""
        alike = {(tree.count, tree.combinations) for tree in self._trees}
        return len(alike) == 1 and len(set(next(iter(alike)))) == 1 and self._shares.period == len(self._trees)

    def prompt(self, index: int) -> str:
        """The text of one prompt."""
        return self.at(index).text

    def values(self, index: int) -> tuple[Value, ...]:
        """The options taken for one prompt, in the order of the template, an outer choice before its inner ones."""
        return self.at(index).values

    def at(self, index: int, others: int = 1) -> Prompt:
        """One prompt; ``others`` is the number of things that each prompt meets in turn."""
        part, turn = self._shares.turn(index)
        tree, chosen = self._trees[part], list[Value]()
        cycle, within = divmod(turn, tree.count * others)
        text = tree.render(shuffled(within % tree.count, tree.count, f"{self._seed}/{part}/{cycle}"), chosen)
        text = text if isinstance(tree, Text) else _without_gaps(text)
        return Prompt(text, part, tuple(chosen), self._partner(index, part, turn, others))

    def _partner(self, index: int, part: int, turn: int, others: int) -> int:
        size = self._trees[part].count
        if self._has_no_choices:  # all templates together are one cycle
            size, part, turn = self._shares.period, 0, index
        cycle, within = divmod(turn, size * others)
        return shuffled(partner(within, size, others), others, f"{self._seed}/{part}/{cycle}/other")


_EMPTY_TAGS = re.compile(r"(?<!\s)\s*+,(?:\s*+,)++")  # only where spaces begin, or many take very long
_SPACES = re.compile(r"[ \t]+(?=[ \t,])")


def _without_gaps(text: str) -> str:
    text = _SPACES.sub("", _EMPTY_TAGS.sub(",", text))
    return text.strip().strip(",").strip()


def _trees(templates: Sequence[tuple[str, float]], library: WildcardLibrary, key: str) -> list[Node]:
    trees: list[Node] = []
    problems: list[Problem] = [] if templates else [Problem(key, "there is no prompt")]
    for number, (text, weight) in enumerate(templates):
        where = f"{key}[{number}]" if len(templates) > 1 else key
        if not 0 < weight < float("inf"):
            problems.append(Problem(where, f"the weight {weight:g} is not above 0", "leave the prompt out"))
        try:
            trees.append(parse(text, library.tree))
        except TemplateSyntaxError as error:
            problems.append(Problem(where, error.problem, error.hint))
        except TemplateTooLarge as error:
            problems.append(Problem(where, str(error), "leave some of its choices out"))
        except RecursionError:
            problems.append(Problem(where, "braces and wildcards are nested too deeply"))
    if problems:
        raise JobError("the job", tuple(problems))
    return trees
