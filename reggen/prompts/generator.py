"""Templates become prompts, slot by slot, so that no combination comes twice before all have come once.

The rules:

- Templates get their slots by weight, evenly mixed, exactly (see `reggen.prompts.permute.Shares`);
  equal ones take turns.
- In its own slots a template goes through all its entries in an order that belongs to the seed, then
  through all of them again in another. An entry is a combination; one that a weight counts three times is
  three entries, so it comes three times in a round, and may come twice before every other has come once.
- Another thing may be gone through beside the prompts (see `reggen.prompts.matrix`): then the order of a template
  stays the same until each of its entries has met each of the other things.
- A text without choices is used as it is written. In others the gaps that empty options leave are closed:
  empty tags go, and spaces beside them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from reggen.errors import JobError, Problem
from reggen.prompts.parser import Unreadable, parse
from reggen.prompts.permute import Shares, met, shuffled, whole
from reggen.prompts.template import Node, Text, TooMuch, Value
from reggen.prompts.wildcards import Library, Wildcards

Template = str | tuple[str, float]


@dataclass(frozen=True, slots=True)
class Prompt:
    """The prompt of one slot: its template, what was chosen for it, and the number of what it meets."""

    text: str
    template: int
    values: tuple[Value, ...] = ()
    other: int = 0


class PromptGenerator:
    """The prompts of all slots, by index, computed from templates, wildcards and seed alone.

    Raises JobError with a problem for every template that cannot be read, under ``key``.
    """

    def __init__(
        self,
        templates: Sequence[Template],
        wildcards: Wildcards | None = None,
        *,
        seed: int = 0,
        key: str = "prompts.positive",
    ) -> None:
        given = [(template, 1.0) if isinstance(template, str) else template for template in templates]
        self._trees = _trees(given, Library(wildcards or {}), key)
        exact = {weight: Fraction(str(weight)) for _, weight in given}  # 0.1 is a tenth, as it is written
        self._shares = Shares(whole([exact[weight] for _, weight in given]))
        self._seed = seed
        self._plain = all(isinstance(tree, Text) for tree in self._trees)

    @property
    def combinations(self) -> int:
        """How many different prompts there are, as far as what is chosen tells them apart."""
        return sum(tree.combinations for tree in self._trees)

    @property
    def round(self) -> int:
        """After how many slots every combination has come: its length for one template without weights."""
        return 1 + max(self._shares.slot(part, tree.count - 1) for part, tree in enumerate(self._trees))

    @property
    def even(self) -> bool:
        """Whether every combination comes once in each round: no weights, and templates of one length only."""
        alike = {(tree.count, tree.combinations) for tree in self._trees}
        return len(alike) == 1 and len(set(next(iter(alike)))) == 1 and self._shares.period == len(self._trees)

    def prompt(self, index: int) -> str:
        """The text for a slot, from 0."""
        return self.at(index).text

    def values(self, index: int) -> tuple[Value, ...]:
        """What was chosen for a slot, in the order of the template, what is nested after what it is nested in."""
        return self.at(index).values

    def at(self, index: int, others: int = 1) -> Prompt:
        """All about the prompt of a slot; ``others`` is how many things are gone through beside it."""
        part, turn = self._shares.turn(index)
        tree, chosen = self._trees[part], list[Value]()
        great, within = divmod(turn, tree.count * others)
        text = tree.write(shuffled(within % tree.count, tree.count, f"{self._seed}/{part}/{great}"), chosen)
        return Prompt(
            text if isinstance(tree, Text) else _closed(text), part, tuple(chosen), self._met(index, part, turn, others)
        )

    def _met(self, index: int, part: int, turn: int, others: int) -> int:
        size = self._trees[part].count
        if self._plain:  # all templates together are one cycle, with an entry for each of its slots
            size, part, turn = self._shares.period, 0, index
        great, within = divmod(turn, size * others)
        return shuffled(met(within, size, others), others, f"{self._seed}/{part}/{great}/other")


_EMPTY_TAGS = re.compile(r"(?<!\s)\s*+,(?:\s*+,)++")  # begun where spaces begin, or many would be gone through for each
_SPACES = re.compile(r"[ \t]+(?=[ \t,])")


def _closed(text: str) -> str:
    text = _SPACES.sub("", _EMPTY_TAGS.sub(",", text))
    return text.strip().strip(",").strip()


def _trees(templates: Sequence[tuple[str, float]], library: Library, key: str) -> list[Node]:
    trees: list[Node] = []
    problems: list[Problem] = [] if templates else [Problem(key, "there is no prompt")]
    for number, (text, weight) in enumerate(templates):
        where = f"{key}[{number}]" if len(templates) > 1 else key
        if not 0 < weight < float("inf"):
            problems.append(Problem(where, f"the weight {weight:g} is not above 0", "leave the prompt out"))
        try:
            trees.append(parse(text, library.tree))
        except Unreadable as error:
            problems.append(Problem(where, error.problem, error.hint))
        except TooMuch as error:
            problems.append(Problem(where, str(error), "leave some of its choices out"))
        except RecursionError:
            problems.append(Problem(where, "braces and wildcards are nested too deeply"))
    if problems:
        raise JobError("the job", tuple(problems))
    return trees
