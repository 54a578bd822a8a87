"""Wildcards as templates: ``__name__`` stands for one of the lines of name.txt.

The files are read by `reggen.prepare.wildcard_files`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from fractions import Fraction

from reggen.prompts.parser import TemplateSyntaxError, parse_option, with_weights
from reggen.prompts.template import Choice, Option
from reggen.wording import nearest, plural

Wildcards = Mapping[str, Sequence[str]]
"""The lines of each file by its name: its path inside the folder with ``/``, without ``.txt``, in NFC."""


class WildcardLibrary:
    """The trees of wildcard files, each parsed once and only when it is named."""

    def __init__(self, files: Wildcards) -> None:
        self._files = files
        self._trees: dict[str, Choice] = {}
        self._open: list[str] = []  # names being parsed, outermost first

    def tree(self, name: str) -> Choice:
        """The choice among a file's lines, or among those of all files that match. Raises TemplateSyntaxError."""
        name = unicodedata.normalize("NFC", name)
        if name in self._open:
            circle = " > ".join([*self._open[self._open.index(name) :], name])
            raise TemplateSyntaxError(f"the wildcard __{name}__ names itself: {circle}")
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
            raise TemplateSyntaxError(
                f"__{name}__ has nothing to choose from", "its file has no lines, or only comments"
            )
        return Choice(f"__{name}__", with_weights(options))

    def _option(self, file: str, line: str) -> tuple[Option, Fraction]:
        try:
            return parse_option(line, self.tree)
        except TemplateSyntaxError as error:
            if error.file:  # another, which this one names
                raise
            raise TemplateSyntaxError(f"in {file}.txt: {error.problem}", error.hint, file) from None

    def _lines(self, name: str) -> Iterator[tuple[str, str]]:
        return ((file, line) for file in self._matching(name) for line in self._files[file])

    def _matching(self, name: str) -> list[str]:
        if name in self._files:
            return [name]
        if found := sorted(file for file in self._files if fnmatchcase(file, name)):
            return found
        if not self._files:
            problem = f"__{name}__ stands for {name}.txt, but there are no wildcard files"
            raise TemplateSyntaxError(problem, "set prompts.wildcards to their folder")
        raise TemplateSyntaxError(f"there is no wildcard file {name}.txt", self._nearest(name))

    def _nearest(self, name: str) -> str:
        """The hint with a near name: the same in another folder or case, or one spelled much like it."""
        last = name.casefold().rsplit("/", 1)[-1]
        same = [file for file in self._files if file.casefold().rsplit("/", 1)[-1] == last]
        near = min(same, default="") or nearest(name, self._files)
        return f"did you mean __{near}__?" if near else f"there are {plural(len(self._files), 'other')}"
