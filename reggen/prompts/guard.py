"""The guard: words that must not stand in a prompt, a caption or the class tokens.

What counts as the same, stated once:

- Case, Unicode forms (NFKC, case folded) and what stands between the words do not count: spaces,
  underscores, hyphens, brackets, slashes, prompt weights. ``(red bandana:1.2)``, ``((red)) bandana`` and
  ``red_bandana`` are all "red bandana".
- A phrase stands where its words stand next to each other in its order. A comma, semicolon, colon,
  question or exclamation mark, bar or the end of a sentence parts them: ``red, bandana`` is not the phrase.
- Words written together are the phrase (``redbandana``), and a name of six letters and digits or more is
  found written apart (``spyke plasma v1`` for ``spykeplasmav1``). Each begins and ends with whole words:
  "cloak" is not in "cloakroom", nor "red" in "bred" or "reddish".
- The plural of a forbidden word of three letters or more is forbidden too: s; es after s, x, z, ch, sh, o;
  ies for y. The singular of a forbidden plural is not: "glasses" leaves "glass" alone.
- A near spelling of a word with six letters or more is forbidden: one letter more, less, other, or two
  exchanged (Damerau-Levenshtein distance 1). The first letter and all digits must agree: "bandanna" is
  "bandana", but "finger" is not "ginger", nor ``plasma_v2`` ``plasma_v1``.
- Words in ``allow`` are forbidden only when they are spelled exactly so: the way out for a "banana" beside a
  forbidden "bandana".
- Chinese and Japanese, which have no spaces, are matched letter by letter, anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reggen.errors import JobError, Problem
from reggen.prompts.spelling import folded, near, plurals, runs, words

_NEAR = 6  # letters a word must have before a near spelling counts
_APART = 6  # letters and digits a name must have before it is looked for written apart
_KNOWN = 100_000  # innocent words remembered; their number is otherwise that of the words ever seen
_TOGETHER = -1

_Role = tuple[int, int]  # what a word can be: which entry, and which of its words (_TOGETHER: all of them)
_Apart = tuple[int, str, tuple[str, ...]]  # which entry, how it is written together, and with its plurals


@dataclass(frozen=True, slots=True)
class Offence:
    """A forbidden entry, as the job has it, and where it stands: ``found`` is ``text[start:end]``."""

    forbidden: str
    found: str
    start: int
    end: int

    def __str__(self) -> str:
        as_what = "" if self.found == self.forbidden else f" for {self.forbidden!r}"
        return f"{self.found!r} stands at character {self.start + 1}{as_what}"


@dataclass(frozen=True, slots=True)
class _Entry:
    written: str
    words: tuple[str, ...]

    @property
    def together(self) -> str:
        return "".join(self.words)


class Guard:
    """Finds forbidden words. Raises JobError for entries in which nothing can be found, under ``key``."""

    def __init__(self, forbid: Sequence[str], *, allow: Sequence[str] = (), key: str = "forbid") -> None:
        if problems := tuple(_problems(forbid, key)):
            raise JobError("the job", problems)
        self._entries = [_Entry(entry, tuple(words(folded(entry)))) for entry in forbid]
        self._allowed = {word for entry in allow for word in words(folded(entry))}
        self._exact: dict[str, set[_Role]] = {}
        self._near: dict[str, list[tuple[str, _Role]]] = {}  # by first letter
        for number, entry in enumerate(self._entries):
            self._learn(number, entry)
        self._apart: list[_Apart] = [
            (number, entry.together, (entry.together, *plurals(entry.together)))
            for number, entry in enumerate(self._entries)
            if len(entry.together) >= _APART
        ]
        self._innocent: set[str] = set()
        self._guilty: dict[str, frozenset[_Role]] = {}

    def __bool__(self) -> bool:
        return bool(self._entries)

    def find(self, text: str) -> Offence | None:
        """The first forbidden entry that stands in the text."""
        return next(iter(self.find_all(text)), None)

    def find_all(self, text: str) -> tuple[Offence, ...]:
        """Every forbidden entry that stands in the text, in the order of the text."""
        if not any(self._matches(words(folded(text)))):  # the fast way to know, and nearly always the answer
            return ()
        found = {
            Offence(self._entries[number].written, text[begin:end], begin, end)
            for run in runs(text)
            for number, start, stop in self._matches([word.text for word in run])
            for begin, end in [(run[start].start, run[stop - 1].end)]
        }
        return tuple(sorted(found, key=lambda one: (one.start, -one.end, one.forbidden)))

    def negative(self, text: str | None) -> str:
        """A negative prompt with every entry added that is no tag of it yet, in the job's own spelling."""
        parts = [text.strip().rstrip(", ")] if text and text.strip(" ,\n") else []
        standing = {"".join(words(folded(tag))) for tag in (text or "").split(",")}
        for entry in self._entries:
            if standing.isdisjoint((entry.together, *plurals(entry.together))):
                parts.append(entry.written.strip())
                standing.add(entry.together)
        return ", ".join(parts)

    def _learn(self, number: int, entry: _Entry) -> None:
        spelled = list(enumerate(entry.words))
        if len(entry.words) > 1:
            spelled.append((_TOGETHER, entry.together))
        whole = min(map(len, entry.words)) > 1  # or one letter less would be the phrase without one of its words
        for place, word in spelled:
            for form in (word, *plurals(word)):
                if form == word or form not in self._allowed:
                    self._exact.setdefault(form, set()).add((number, place))
                if sum(letter.isalpha() for letter in word) >= _NEAR and (place != _TOGETHER or whole):
                    self._near.setdefault(form[0], []).append((form, (number, place)))

    def _matches(self, found: list[str]) -> Iterator[tuple[int, int, int]]:
        """The entries in words that nothing parts: which, and from which word to which; none overlaps itself."""
        together = "".join(found)
        apart = [one for one in self._apart if one[1] in together]
        if not apart and self._innocent.issuperset(found):
            return
        free = [0] * len(self._entries)
        for start, word in enumerate(found):
            roles = self._roles(word)
            if roles or apart:
                for number, stop in sorted(self._starting(found, start, roles, apart), key=lambda one: -one[1]):
                    if free[number] <= start:
                        free[number] = stop
                        yield number, start, stop

    def _starting(
        self, found: list[str], start: int, roles: frozenset[_Role], apart: list[_Apart]
    ) -> Iterator[tuple[int, int]]:
        for number, place in roles:
            length = len(self._entries[number].words)
            if place == _TOGETHER:
                yield number, start + 1
            elif place == 0 and self._word_for_word(found[start : start + length], number):
                yield number, start + length
        for number, together, forms in apart:
            if together.startswith(found[start]) and (stop := _written_apart(found, start, forms)):
                yield number, stop

    def _word_for_word(self, part: list[str], number: int) -> bool:
        if len(part) < len(self._entries[number].words):
            return False
        return all((number, place) in self._roles(word) for place, word in enumerate(part))

    def _roles(self, word: str) -> frozenset[_Role]:
        """What a word of a text can stand for. Remembered: texts of one job share their words."""
        if word in self._innocent:
            return frozenset()
        if (known := self._guilty.get(word)) is not None:
            return known
        roles = set(self._exact.get(word, ()))
        if word not in self._allowed:
            roles |= {role for form, role in self._near.get(word[0], ()) if near(word, form)}
        self._remember(word, frozenset(roles))
        return frozenset(roles)

    def _remember(self, word: str, roles: frozenset[_Role]) -> None:
        if len(self._innocent) + len(self._guilty) >= _KNOWN:
            self._innocent.clear()
            self._guilty.clear()
        if roles:
            self._guilty[word] = roles
        else:
            self._innocent.add(word)


def _written_apart(found: list[str], start: int, forms: Sequence[str]) -> int:
    """Where words that make up one of the forms end, or 0."""
    longest, text = max(map(len, forms)), ""
    for stop, word in enumerate(found[start:], start + 1):
        text += word
        if text in forms:
            return stop
        if len(text) >= longest:
            break
    return 0


def _problems(forbid: Sequence[str], key: str) -> Iterator[Problem]:
    for number, entry in enumerate(forbid):
        parts = [part for part in entry.split(",") if part.strip()]
        if not words(folded(entry)):
            yield Problem(f"{key}[{number}]", f"{entry!r} has neither a letter nor a digit", "leave it out")
        elif len(runs(entry)) > 1:
            hint = ", ".join(repr(part.strip()) for part in parts) if len(parts) > 1 else "leave the mark out"
            yield Problem(f"{key}[{number}]", f"{entry!r} is more than one phrase and is never found", hint)
