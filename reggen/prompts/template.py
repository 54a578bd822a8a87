r"""A prompt template: text with choices, in the syntax of sd-dynamic-prompts.

    {red|blue}              one of them
    {3::red|blue}           red counts three times: of four entries three are red; 0 leaves an option out
    {2$$a|b|c}              two of them, as they are ordered here, joined by ", "
    {1-2$$ and $$a|b|c}     one or two, joined by " and "; -2 is 1-2, and 2- is two or more
    {2$$__colour__}         two different lines of one file
    __colour__              a line of colour.txt in the wildcards folder; lines are templates themselves
    __clothes/*__           a line of any file that matches
    \{ \} \| \$ \#          the letter itself; so is the first of \__ ; other backslashes stay

The combinations of a template are counted, not listed, and combination k is computed from k. Count and length are
bounded, since wildcard files that name each other make numbers and texts that do not fit into memory. Two of three
are three combinations, not six: tags in another order do not make another picture.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from heapq import nlargest
from itertools import accumulate
from typing import NamedTuple, Protocol

MAX_ENTRIES = 10**1_000
"""Entries of a template."""
MAX_EXTENT = 20_000
"""Characters and choices of a prompt."""
_TABLE_BYTES = 128 << 20  # of the counts of a selection, about


class TemplateTooLarge(ValueError):
    """A template beyond a bound; the text says which."""


class Value(NamedTuple):
    """A choice of a template and the option taken, both as they are written: ("{red|blue}", "red")."""

    place: str
    value: str


class Node(Protocol):
    """A part of a template."""

    @property
    def count(self) -> int:
        """The number of entries: of combinations, each as often as its weights say."""

    @property
    def combinations(self) -> int:
        """The number of entries that differ in the options taken."""

    @property
    def extent(self) -> int:
        """An upper bound for the characters and choices of its texts."""

    def render(self, entry: int, chosen: list[Value]) -> str:
        """The text of one entry, from 0; the options taken for it are appended to ``chosen``."""


def _product(counts: Iterable[int]) -> int:
    """The product; raises TemplateTooLarge as soon as it is out of bounds, before it fills the memory."""
    product = 1
    for count in counts:
        product = _counted(product * count)
    return product


def _counted(count: int) -> int:
    if count > MAX_ENTRIES:
        raise TemplateTooLarge("has more than 10^1000 combinations")
    return count


def _bounded(extent: int) -> int:
    if extent > MAX_EXTENT:
        raise TemplateTooLarge(f"makes prompts of more than {MAX_EXTENT:,} characters and choices")
    return extent


@dataclass(frozen=True, slots=True)
class Text:
    """Text that is the same in every combination."""

    text: str
    count: int = 1
    combinations: int = 1

    def __post_init__(self) -> None:
        _bounded(len(self.text))

    @property
    def extent(self) -> int:
        """The length of the text."""
        return len(self.text)

    def render(self, entry: int, chosen: list[Value]) -> str:  # noqa: ARG002
        """The text itself."""
        return self.text


class Series:
    """Parts one after the other, in every combination of theirs."""

    __slots__ = ("combinations", "count", "extent", "parts")

    def __init__(self, parts: Sequence[Node]) -> None:
        self.parts = tuple(parts)
        self.count = _product(part.count for part in parts)
        self.combinations = _product(part.combinations for part in parts)
        self.extent = _bounded(sum(part.extent for part in parts))

    def render(self, entry: int, chosen: list[Value]) -> str:
        """The texts of the parts, joined; the entry is a mixed-radix number with a digit for each part."""
        texts = []
        for part in self.parts:
            entry, digit = divmod(entry, part.count)
            texts.append(part.render(digit, chosen))
        return "".join(texts)


class Option(NamedTuple):
    """One option of a choice: its template, the text it is written as, and its weight."""

    node: Node
    label: str
    weight: int = 1

    @property
    def entries(self) -> int:
        """The number of entries: all of its combinations, times its weight."""
        return self.node.count * self.weight

    def render(self, place: str, entry: int, chosen: list[Value]) -> str:
        """The text of one of its entries."""
        chosen.append(Value(place, self.label))
        return self.node.render(entry % self.node.count, chosen)


class Choice:
    """A choice of one of its options."""

    __slots__ = ("_ends", "combinations", "count", "extent", "options", "place")

    def __init__(self, place: str, options: Sequence[Option]) -> None:
        self.place, self.options = place, tuple(options)
        self._ends = list(accumulate(option.entries for option in options))
        self.count = _counted(self._ends[-1])
        self.combinations = sum(option.node.combinations for option in options)
        self.extent = _bounded(1 + max(option.node.extent for option in options))

    def render(self, entry: int, chosen: list[Value]) -> str:
        """The text of the option that the entry falls into; the first option's entries come first."""
        number = bisect_right(self._ends, entry)
        before = self._ends[number - 1] if number else 0
        return self.options[number].render(self.place, entry - before, chosen)


class Selection:
    """A choice of ``least`` to ``most`` of its options, each at most once, in the order they are written."""

    __slots__ = ("_counts", "_glue", "_least", "_options", "_place", "combinations", "count", "extent")

    def __init__(self, place: str, options: Sequence[Option], glue: str, bounds: tuple[int, int]) -> None:
        self._place, self._options, self._glue = place, tuple(options), glue
        self._least, most = bounds
        self._counts = _subsets(tuple(option.entries for option in options), most)
        self.count = _counted(sum(self._counts[0][self._least :]))
        different = _subsets(tuple(option.node.combinations for option in options), most)
        self.combinations = sum(different[0][self._least :])
        longest = nlargest(most, (option.node.extent for option in options))
        self.extent = _bounded(sum(longest) + most * (1 + len(glue)))

    def render(self, entry: int, chosen: list[Value]) -> str:
        """The joined texts of the options taken: few before many, with the first option before without it."""
        wanted = self._least
        while entry >= self._counts[0][wanted]:
            entry -= self._counts[0][wanted]
            wanted += 1
        texts: list[str] = []
        for option, rest in zip(self._options, self._counts[1:], strict=True):
            if not wanted:
                break
            if entry < (with_it := option.entries * rest[wanted - 1]):
                entry, digit = divmod(entry, option.entries)
                texts.append(option.render(self._place, digit, chosen))
                wanted -= 1
            else:
                entry -= with_it
        return self._glue.join(texts)


@lru_cache(maxsize=8)
def _subsets(counts: tuple[int, ...], most: int) -> list[list[int]]:
    """Numbers of entries of the selections of 0, 1, ... ``most`` options, for the options from each one on."""
    table, room = [[1] + [0] * most], _TABLE_BYTES
    for count in reversed(counts):
        after = table[-1]
        table.append([1] + [after[wanted] + count * after[wanted - 1] for wanted in range(1, most + 1)])
        room -= (most + 1) * (36 + max(table[-1]).bit_length() // 8)
        if room < 0:
            raise TemplateTooLarge(f"chooses up to {most} of {len(counts):,}, which are too many combinations to count")
    return table[::-1]


def escape(text: str) -> str:
    r"""The template for exactly this text, such as a caption with braces in it."""
    return re.sub(r"[{}|$#]|_(?=_)", lambda match: "\\" + match.group(), text)
