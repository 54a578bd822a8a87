"""Wildcards as templates: ``__name__`` is one of the lines of name.txt.

`reggen.prepare.wildcard_files` reads the files.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from fractions import Fraction

from reggen.prompts.parser import Unreadable, parse_option, weighted
from reggen.prompts.template import Choice, Option

Wildcards = Mapping[str, Sequence[str]]
"""The lines of each file by its name: its path inside the folder with ``/``, without ``.txt``, in NFC."""


class Library:
    """The trees of wildcard files, each made once and only when it is named."""

    def __init__(self, files: Wildcards) -> None:
        self._files = files
        self._trees: dict[str, Choice] = {}
        self._open: list[str] = []  # what is being read, outermost first

    def tree(self, name: str) -> Choice:
        """The choice among a file's lines, or among those of all files that match. Raises Unreadable."""
        name = unicodedata.normalize("NFC", name)
        if name in self._open:
            circle = " > ".join([*self._open[self._open.index(name) :], name])
            raise Unreadable(f"the wildcard __{name}__ names itself: {circle}")
        if name not in self._trees:
            self._open.append(name)
            try:
                self._trees[name] = self._read(name)
            finally:
                self._open.pop()
        return self._trees[name]

    def _read(self, name: str) -> Choice:
        options, seen = list[tuple[Option, Fraction]](), set[str]()
        for file, line in self._lines(name):
            if line not in seen:
                seen.add(line)
                options.append(self._option(file, line))
        if not options:
            raise Unreadable(f"__{name}__ has nothing to choose from", "its file has no lines, or only comments")
        return Choice(f"__{name}__", weighted(options))

    def _option(self, file: str, line: str) -> tuple[Option, Fraction]:
        try:
            return parse_option(line, self.tree)
        except Unreadable as error:
            if error.file:  # another, which this one names
                raise
            raise Unreadable(f"in {file}.txt: {error.problem}", error.hint, file) from None

    def _lines(self, name: str) -> Iterator[tuple[str, str]]:
        return ((file, line) for file in self._matching(name) for line in self._files[file])

    def _matching(self, name: str) -> list[str]:
        if name in self._files:
            return [name]
        if found := sorted(file for file in self._files if fnmatchcase(file, name)):
            return found
        if not self._files:
            raise Unreadable(f"__{name}__ stands for {name}.txt, but there are no wildcard files", "name their folder")
        raise Unreadable(f"there is no wildcard file {name}.txt", self._nearest(name))

    def _nearest(self, name: str) -> str:
        """The name somebody may have meant: the same in another folder or case, or one spelled much like it."""
        last = name.casefold().rsplit("/", 1)[-1]
        same = [file for file in self._files if file.casefold().rsplit("/", 1)[-1] == last]
        near = sorted(same) or difflib.get_close_matches(name, self._files, n=1, cutoff=0.5)
        return f"did you mean __{near[0]}__?" if near else f"there are {len(self._files)} others"
