r"""A prompt template: text with choices, in the syntax of sd-dynamic-prompts.

    {red|blue}              one of them
    {3::red|blue}           red counts three times: of four entries three are red; 0 leaves an option out
    {2$$a|b|c}              two of them, as they are ordered here, joined by ", "
    {1-2$$ and $$a|b|c}     one or two, joined by " and "; -2 is 1-2, and 2- is two or more
    {2$$__colour__}         two different lines of one file
    __colour__              a line of colour.txt in the wildcards folder; lines are templates themselves
    __clothes/*__           a line of any file that matches
    \{ \} \| \$ \#          the letter itself; so is the first of \__ ; other backslashes stay

A template is a number: its combinations are counted, not listed, and combination k is computed from k. There are
bounds to both: wildcard files that name each other make numbers and texts that no memory holds.
Two of three are three combinations, not six: the order in which tags are written is no other picture.
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

MOST = 10**1_000
"""Entries of a template."""
LONGEST = 20_000
"""Letters and choices of a prompt."""
_TABLE = 128 << 20  # bytes, about, of the counts of some of very many


class TooMuch(ValueError):
    """A template that is out of bounds; the text says of what."""


class Value(NamedTuple):
    """What was chosen at a place of a template, both as they are written there: ("{red|blue}", "red")."""

    place: str
    value: str


class Node(Protocol):
    """A part of a template."""

    @property
    def count(self) -> int:
        """How many entries it has: its combinations, each as often as its weights say."""

    @property
    def combinations(self) -> int:
        """How many of its entries differ in what is chosen."""

    @property
    def extent(self) -> int:
        """Letters and choices of its longest text, at most."""

    def write(self, entry: int, chosen: list[Value]) -> str:
        """The text of one entry, from 0; what was chosen for it is added to ``chosen``."""


def _product(counts: Iterable[int]) -> int:
    """Raises TooMuch on the way, and not when the number has filled the memory."""
    product = 1
    for count in counts:
        product = _counted(product * count)
    return product


def _counted(count: int) -> int:
    if count > MOST:
        raise TooMuch("has more than 10^1000 combinations")
    return count


def _bounded(extent: int) -> int:
    if extent > LONGEST:
        raise TooMuch(f"makes prompts of more than {LONGEST:,} letters and choices")
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
        """Its length."""
        return len(self.text)

    def write(self, entry: int, chosen: list[Value]) -> str:  # noqa: ARG002
        """The text itself."""
        return self.text


class Series:
    """Parts one after the other: every combination of theirs."""

    __slots__ = ("combinations", "count", "extent", "parts")

    def __init__(self, parts: Sequence[Node]) -> None:
        self.parts = tuple(parts)
        self.count = _product(part.count for part in parts)
        self.combinations = _product(part.combinations for part in parts)
        self.extent = _bounded(sum(part.extent for part in parts))

    def write(self, entry: int, chosen: list[Value]) -> str:
        """The entry is a number of mixed radix, with a digit for each part."""
        texts = []
        for part in self.parts:
            entry, digit = divmod(entry, part.count)
            texts.append(part.write(digit, chosen))
        return "".join(texts)


class Option(NamedTuple):
    """One of several things to choose, as it is written, and how often it counts."""

    node: Node
    label: str
    weight: int = 1

    @property
    def entries(self) -> int:
        """How many it has: all of its combinations, as often as its weight says."""
        return self.node.count * self.weight

    def write(self, place: str, entry: int, chosen: list[Value]) -> str:
        """The text of one of its entries."""
        chosen.append(Value(place, self.label))
        return self.node.write(entry % self.node.count, chosen)


class Choice:
    """One of its options."""

    __slots__ = ("_ends", "combinations", "count", "extent", "options", "place")

    def __init__(self, place: str, options: Sequence[Option]) -> None:
        self.place, self.options = place, tuple(options)
        self._ends = list(accumulate(option.entries for option in options))
        self.count = _counted(self._ends[-1])
        self.combinations = sum(option.node.combinations for option in options)
        self.extent = _bounded(1 + max(option.node.extent for option in options))

    def write(self, entry: int, chosen: list[Value]) -> str:
        """The entries of the first option come first."""
        number = bisect_right(self._ends, entry)
        before = self._ends[number - 1] if number else 0
        return self.options[number].write(self.place, entry - before, chosen)


class Several:
    """Some of its options, ``least`` to ``most``, each once at most, in the order they are written."""

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

    def write(self, entry: int, chosen: list[Value]) -> str:
        """The fewest first; then those with the first option before those without it."""
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
                texts.append(option.write(self._place, digit, chosen))
                wanted -= 1
            else:
                entry -= with_it
        return self._glue.join(texts)


@lru_cache(maxsize=8)
def _subsets(counts: tuple[int, ...], most: int) -> list[list[int]]:
    """For the options from each one on: how many entries the choices of 0, 1, ... ``most`` of them have."""
    table, room = [[1] + [0] * most], _TABLE
    for count in reversed(counts):
        after = table[-1]
        table.append([1] + [after[wanted] + count * after[wanted - 1] for wanted in range(1, most + 1)])
        room -= (most + 1) * (36 + max(table[-1]).bit_length() // 8)
        if room < 0:
            raise TooMuch(f"chooses up to {most} of {len(counts):,}, which are too many ways to be counted")
    return table[::-1]


def escape(text: str) -> str:
    r"""The template that stands for just this text: a caption with braces in it, say."""
    return re.sub(r"[{}|$#]|_(?=_)", lambda match: "\\" + match.group(), text)
