r"""A prompt template: text with choices, in the syntax of sd-dynamic-prompts.

    {red|blue}              one of them
    {3::red|blue}           red counts three times: of four entries three are red; 0 leaves an option out
    {2$$a|b|c}              two of them, as they are ordered here, joined by ", "
    {1-2$$ and $$a|b|c}     one or two, joined by " and "; -2 is 1-2, and 2- is two or more
    {2$$__colour__}         two different lines of one file
    __colour__              a line of colour.txt in the wildcards folder; lines are templates themselves
    __clothes/*__           a line of any file that matches
    \{ \} \| \$ \#          the letter itself; so is the first of \__ ; other backslashes stay

A template is a number: its combinations are counted, not listed, and combination k is computed from k.
Two of three are three combinations, not six: the order in which tags are written is no other picture.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from typing import NamedTuple, Protocol


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

    def write(self, entry: int, chosen: list[Value]) -> str:
        """The text of one entry, from 0; what was chosen for it is added to ``chosen``."""


@dataclass(frozen=True, slots=True)
class Text:
    """Text that is the same in every combination."""

    text: str
    count: int = 1
    combinations: int = 1

    def write(self, entry: int, chosen: list[Value]) -> str:  # noqa: ARG002
        """The text itself."""
        return self.text


class Series:
    """Parts one after the other: every combination of theirs."""

    __slots__ = ("combinations", "count", "parts")

    def __init__(self, parts: Sequence[Node]) -> None:
        self.parts = tuple(parts)
        self.count = prod(part.count for part in parts)
        self.combinations = prod(part.combinations for part in parts)

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

    __slots__ = ("_ends", "combinations", "count", "options", "place")

    def __init__(self, place: str, options: Sequence[Option]) -> None:
        self.place, self.options = place, tuple(options)
        self._ends = list(accumulate(option.entries for option in options))
        self.count = self._ends[-1]
        self.combinations = sum(option.node.combinations for option in options)

    def write(self, entry: int, chosen: list[Value]) -> str:
        """The entries of the first option come first."""
        number = bisect_right(self._ends, entry)
        before = self._ends[number - 1] if number else 0
        return self.options[number].write(self.place, entry - before, chosen)


class Several:
    """Some of its options, ``least`` to ``most``, each once at most, in the order they are written."""

    __slots__ = ("_counts", "_glue", "_least", "_options", "_place", "combinations", "count")

    def __init__(self, place: str, options: Sequence[Option], glue: str, bounds: tuple[int, int]) -> None:
        self._place, self._options, self._glue = place, tuple(options), glue
        self._least, most = bounds
        self._counts = _subsets([option.entries for option in options], most)
        self.count = sum(self._counts[0][self._least :])
        different = _subsets([option.node.combinations for option in options], most)
        self.combinations = sum(different[0][self._least :])

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


def _subsets(counts: Sequence[int], most: int) -> list[list[int]]:
    """For the options from each one on: how many entries the choices of 0, 1, ... ``most`` of them have."""
    table = [[1] + [0] * most]
    for count in reversed(counts):
        after = table[-1]
        table.append([1] + [after[wanted] + count * after[wanted - 1] for wanted in range(1, most + 1)])
    return table[::-1]


def escape(text: str) -> str:
    r"""The template that stands for just this text: a caption with braces in it, say."""
    return re.sub(r"[{}|$#]|_(?=_)", lambda match: "\\" + match.group(), text)
