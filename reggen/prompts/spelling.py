"""Comparison of words in prompts: folding, words and runs of words, plurals, near spellings."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

_ALONE = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"  # scripts without spaces: every character is a word
_WORD = rf"[{_ALONE}]|[^\W_{_ALONE}]+"
_WEIGHT = r":\s*[+-]?(?:\d+\.?\d*|\.\d+)\s*(?=[)\]>])"
_BREAK = r"[,;:|!?\u3001\u3002]|\.(?=\s|$)"  # ends a phrase; NFKC has replaced the wide forms of the others
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060-\u2064\ufe00-\ufe0f\ufeff]")
_WORDS, _WEIGHTS = re.compile(_WORD), re.compile(_WEIGHT)
_PIECES = re.compile(rf"(?P<weight>{_WEIGHT})|(?P<word>{_WORD})|(?P<break>{_BREAK})")
_BETWEEN = {code: " " for code in range(128) if not chr(code).isalnum()}  # three times as fast as the pattern
_ES = ("s", "x", "z", "ch", "sh", "o")


class Word(NamedTuple):
    """A folded word, and its place in the text as it was written: ``text[start:end]``."""

    text: str
    start: int
    end: int


def folded(text: str) -> str:
    """The text in the form in which it is compared: NFKC, case folded, without invisible characters."""
    if text.isascii():
        return text.lower()
    once = unicodedata.normalize("NFKC", text).casefold()
    return _INVISIBLE.sub("", unicodedata.normalize("NFKC", once))


def tokens(text: str) -> list[str]:
    """The words of a folded text, without prompt weights and whatever else is between them."""
    text = _WEIGHTS.sub(" ", text) if ":" in text else text
    return text.translate(_BETWEEN).split() if text.isascii() else _WORDS.findall(text)


def runs(text: str) -> list[list[Word]]:
    """The words of a text as it was written, in runs that no comma or end of a sentence interrupts; none is empty."""
    plain, starts, ends = _traced(text)
    found: list[list[Word]] = [[]]
    for match in _PIECES.finditer(plain):
        if match.lastgroup == "word":
            found[-1].append(Word(match.group(), starts[match.start()], ends[match.end() - 1]))
        elif match.lastgroup == "break":
            found.append([])
    return [run for run in found if run]


def _traced(text: str) -> tuple[str, range | list[int], range | list[int]]:
    """The folded text, with the start and the end in the text of what each of its characters comes from."""
    if text.isascii():
        return text.lower(), range(len(text)), range(1, len(text) + 1)
    plain, starts, ends = [], [], []
    for start, end in _clusters(text):
        piece = folded(text[start:end])
        plain.append(piece)
        starts += [start] * len(piece)
        ends += [end] * len(piece)
    return "".join(plain), starts, ends


def _clusters(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each character with the marks that NFKC may join to it."""
    start = 0
    for index in range(1, len(text)):
        if not (unicodedata.combining(text[index]) or "\u1160" <= text[index] <= "\u11ff"):
            yield start, index
            start = index
    yield start, len(text)


def plurals(word: str) -> tuple[str, ...]:
    """The simple plurals of a word of three letters or more that ends with a letter."""
    if len(word) < 3 or not word[-1].isalpha():
        return ()
    if word[-1] == "y" and word[-2] not in "aeiou":
        return word + "s", word[:-1] + "ies"
    return (word + "s", word + "es") if word.endswith(_ES) else (word + "s",)


def is_near(one: str, other: str) -> bool:
    """True for words at most one edit apart, with the same first letter and the same digits."""
    if abs(len(one) - len(other)) > 1 or one[0] != other[0]:
        return False
    start, shorter = 0, min(len(one), len(other))
    while start < shorter and one[start] == other[start]:
        start += 1
    end = 0
    while end < shorter - start and one[-1 - end] == other[-1 - end]:
        end += 1
    here, there = one[start : len(one) - end], other[start : len(other) - end]
    if any(letter.isdigit() for letter in here + there):
        return False
    return max(len(here), len(there)) < 2 or (len(here) == len(there) == 2 and here == there[::-1])
