"""Pieces of sentences that several rooms write the same way: lists that are cut, counts, near names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Sequence
from datetime import date, time
from itertools import islice

CUTOFF = 0.65
"""The likeness of two names, from 0 to 1, from which on one is suggested for the other."""
_SURE = 0.85  # how alike two names are where no other can be meant
_ENDING = re.compile(r"\.(safetensors|sft|ckpt|pth?|gguf|bin)$")
_COMPARED = 5_000  # names that are looked through for the nearest: more would take seconds
_LONGEST = 300  # letters of a name that are compared


def nearest(name: str, names: Iterable[str]) -> str:
    """The name that is most like the one given, upper and lower case alike; "" when none is."""
    folded = {one.lower(): one for one in islice(names, _COMPARED) if len(one) <= _LONGEST}
    near = difflib.get_close_matches(name[:_LONGEST].lower(), folded, n=1, cutoff=CUTOFF)
    return folded[near[0]] if near else ""


def meant(name: str, names: Iterable[str]) -> str:
    """The one name that is surely meant: a slip of the keyboard, or a part left out; "" where it may be another.

    Names that differ in a word with a digit are names of different things: dpmpp_2s is not dpmpp_2m.
    """
    folded = {one.lower(): one for one in islice(names, _COMPARED) if len(one) <= _LONGEST}
    wanted = name[:_LONGEST].lower()
    if wanted in folded:
        return folded[wanted]
    stem = _ENDING.sub("", wanted)
    whole = [one for one in folded if one.startswith(stem) or re.split(r"[\\/]", one)[-1].startswith(stem)]
    if whole and stem:
        return folded[whole[0]] if len(whole) == 1 else ""
    same = [one for one in folded if _numbered_words(one) == _numbered_words(wanted)]
    near = difflib.get_close_matches(wanted, same, n=1, cutoff=_SURE)
    return folded[near[0]] if near else ""


def _numbered_words(name: str) -> list[str]:
    return [word for word in re.split(r"[\W_]+", name) if re.search(r"\d", word)]


def likest(name: str, names: Iterable[str]) -> list[str]:
    """The names, the most alike to the one given first, equals in their order."""
    compared = difflib.SequenceMatcher(b=name[:_LONGEST].lower())

    def unlike(one: str) -> float:
        compared.set_seq1(one[:_LONGEST].lower())
        return -compared.ratio()

    return sorted(islice(names, _COMPARED), key=unlike)


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """The question after the nearest name, as a hint; "" when none is near."""
    near = nearest(name, names)
    return f"did you mean {near!r}?" if near else ""


def first_few(names: Sequence[str], most: int, count: int | None = None) -> str:
    """The first names, and how many more there are; ``count`` is how many there are of them, if not all are given."""
    shown, total = names[:most], len(names) if count is None else count
    more = f" and {total - len(shown):,} more" if total > len(shown) else ""
    return ", ".join(shown) + more


def plural(count: int, one: str, many: str = "") -> str:
    """A count with its noun: "1 image", "2,000 images"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def listed(names: Collection[str], last: str = "and") -> str:
    """Names as a sentence lists them: "a", "a and b", "a, b and c"."""
    *head, tail = names or ("",)
    return f"{', '.join(head)} {last} {tail}" if head else tail


def cut(text: str, most: int = 80) -> str:
    """A text of at most so many letters, with dots for what is left out."""
    return text if len(text) <= most else f"{text[:most]}..."


def value_text(value: object) -> str:
    """A value of a file as a sentence shows it: as TOML writes it, on one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, date | time):  # a date with a time is a date, too
        return value.isoformat()
    try:
        return cut(repr(value))
    except (ValueError, RecursionError):  # a number of thousands of digits, written in hex; tables in tables in tables
        return "the value"
