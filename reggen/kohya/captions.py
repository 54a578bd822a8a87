"""Captions: the files in which kohya looks for them, and what it trains of their text. Pure."""

from __future__ import annotations

import os.path
import re
from dataclasses import dataclass

_CHOICE = re.compile(r"\{([^}]+)\}")
_MOST = 256  # texts of one caption that are listed


@dataclass(frozen=True, slots=True)
class CaptionRules:
    """The options of a folder's captions.

    ``ending`` of the caption files, with its dot; ``class_tokens``, the caption of images without a file, if any;
    ``wildcard``: enable_wildcard, with which a file has one caption a line, and ``{a|b}`` is one of the two.
    ``prefix`` and ``suffix`` are put around every caption, ``secondary_separator`` becomes the ``separator``.
    """

    ending: str = ".caption"
    class_tokens: str | None = None
    wildcard: bool = False
    prefix: str = ""
    suffix: str = ""
    separator: str = ","
    secondary_separator: str = ""

    def lines(self, caption: str) -> tuple[str, ...]:
        """The captions one of which a step is trained with, prefix and suffix included; choices are still open.

        train_util.py, process_caption: with several lines the prefix is part of the first, the suffix of the last.
        """
        caption = f"{self.prefix} {caption}" if self.prefix else caption
        caption = f"{caption} {self.suffix}" if self.suffix else caption
        lines = caption.split("\n")
        return tuple(lines) if self.wildcard else (lines[0],)

    def chosen(self, line: str, number: int) -> str:
        """One of the texts that a line stands for: over all numbers each combination of its choices in turn."""
        if self.wildcard:
            text, opened, closed = _escaped(line)

            def choice(match: re.Match[str]) -> str:
                nonlocal number
                options = match[1].split("|")
                number, place = divmod(number, len(options))
                return options[place]

            line = _CHOICE.sub(choice, text).replace(opened, "{").replace(closed, "}")
        return line.replace(self.secondary_separator, self.separator) if self.secondary_separator else line

    def trained(self, caption: str) -> tuple[str, ...]:
        """The texts that kohya trains an image of this caption with; of very many the first ones.

        Shuffling and dropout are left out: they add no words.
        """
        found = dict[str, None]()
        for line in self.lines(caption):
            for number in range(min(self._combinations(line), _MOST)):
                found[self.chosen(line, number)] = None
        return tuple(found)

    def _combinations(self, line: str) -> int:
        count = 1
        for match in _CHOICE.finditer(_escaped(line)[0]) if self.wildcard else ():
            count *= match[1].count("|") + 1
        return count


PLAIN_CAPTIONS = CaptionRules()
"""The rules of a trainer that is told nothing of captions."""


def _escaped(line: str) -> tuple[str, str, str]:
    """The line with marks for double braces, and the two marks: as many signs as the line itself has not."""
    opened, closed = "\u2985", "\u2986"
    while opened in line or closed in line:
        opened, closed = opened + "\u2985", closed + "\u2986"
    return line.replace("{{", opened).replace("}}", closed), opened, closed


def caption_paths(image: str, ending: str) -> tuple[str, ...]:
    """The paths where an image's caption is looked for, in order; the first that exists is read.

    train_util.py, DreamBoothDataset.read_caption: where the whole path, as the trainer was given it, has five
    or more parts between ``_``, a name without the last four is tried too; it may well lie in another folder.
    """
    stem = os.path.splitext(image)[0]  # noqa: PTH122 - a path is kohya's text here: Path would tidy it
    parts = stem.split("_")
    ending = with_dot(ending)
    return (stem + ending,) if len(parts) < 5 else (stem + ending, "_".join(parts[:-4]) + ending)


def with_dot(ending: str) -> str:
    """A caption ending with its dot (train_util.py, DreamBoothSubset.__init__)."""
    return ending if not ending or ending.startswith(".") else f".{ending}"


def caption_of(text: str, *, wildcard: bool = False) -> str | None:
    """The caption in the text of a caption file; None for an empty one, which is an AssertionError.

    train_util.py, read_caption: the first line, stripped, even when it is blank; with ``enable_wildcard`` all
    lines that are not. A byte order mark is no white space and stays.
    """
    if not text:
        return None
    lines = re.split(r"\r\n|\r|\n", text)
    return "\n".join(line.strip() for line in lines if line.strip()) if wildcard else lines[0].strip()
