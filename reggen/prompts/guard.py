"""The guard: words that must not be in a prompt, a caption or the class tokens.

Rules for what counts as the same:

- Case, Unicode form (NFKC, case folded) and the characters between words do not matter: spaces,
  underscores, hyphens, brackets, slashes, prompt weights. ``(red bandana:1.2)``, ``((red)) bandana`` and
  ``red_bandana`` are all "red bandana".
- A phrase is found where its words are next to each other in its order. A comma, semicolon, colon,
  question or exclamation mark, bar or the end of a sentence separates them: ``red, bandana`` is not the phrase.
- A phrase is also found written as one word (``redbandana``), and a name of six letters and digits or more as
  several (``spyke plasma v1`` for ``spykeplasmav1``). Each begins and ends with whole words: "cloak" is not in
  "cloakroom", nor "red" in "bred" or "reddish".
- The plural of a forbidden word of three letters or more is forbidden too: s; es after s, x, z, ch, sh, o;
  ies for y. The singular of a forbidden plural is not: "glasses" does not forbid "glass".
- A near spelling of a word with six letters or more is forbidden: one letter more, less, other, or two
  exchanged (Damerau-Levenshtein distance 1). The first letter and all digits must agree: "bandanna" is
  "bandana", but "finger" is not "ginger", nor ``plasma_v2`` ``plasma_v1``.
- Words in ``allow`` are forbidden only where they are spelled exactly like an entry. This permits "banana" beside a
  forbidden "bandana".
- Chinese and Japanese, which have no spaces, are matched character by character, anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reggen.errors import JobError, Problem
from reggen.prompts.spelling import folded, is_near, plurals, runs, tokens

_MIN_NEAR = 6  # letters of a word whose near spellings are found
_MIN_APART = 6  # letters and digits of a name that is found written as several words
_MAX_KNOWN = 100_000  # words that are remembered
_JOINED = -1

_Role = tuple[int, int]  # what a word can be: the number of an entry and of its word (_JOINED: all of them as one)


@dataclass(frozen=True, slots=True)
class Offence:
    """A forbidden entry as the job has it, and its place in a text: ``found`` is ``text[start:end]``."""

    forbidden: str
    found: str
    start: int
    end: int

    def __str__(self) -> str:
        entry = "" if self.found == self.forbidden else f" (for {self.forbidden!r})"
        return f"{self.found!r} at character {self.start + 1}{entry}"


@dataclass(frozen=True, slots=True)
class _Entry:
    """A forbidden entry: as the job has it, its words, the words joined to one, and this with its plurals."""

    written: str
    words: tuple[str, ...]
    joined: str
    joined_forms: tuple[str, ...]

    @classmethod
    def of(cls, written: str) -> _Entry:
        words = tuple(tokens(folded(written)))
        joined = "".join(words)
        return cls(written, words, joined, (joined, *plurals(joined)))


class Guard:
    """Finds forbidden words. Raises JobError, under ``key``, for entries that can never be found."""

    def __init__(self, forbid: Sequence[str], *, allow: Sequence[str] = (), key: str = "forbid") -> None:
        if problems := tuple(_problems(forbid, key)):
            raise JobError("the job", problems)
        self._entries = [_Entry.of(entry) for entry in forbid]
        self._allowed = {word for entry in allow for word in tokens(folded(entry))}
        self._exact: dict[str, set[_Role]] = {}
        self._near: dict[str, list[tuple[str, _Role]]] = {}  # by first letter
        for number, entry in enumerate(self._entries):
            self._learn(number, entry)
        self._apart = {number: entry for number, entry in enumerate(self._entries) if len(entry.joined) >= _MIN_APART}
        self._without_roles: set[str] = set()
        self._with_roles: dict[str, frozenset[_Role]] = {}

    def __bool__(self) -> bool:
        return bool(self._entries)

    def find(self, text: str) -> Offence | None:
        """The first forbidden entry in the text."""
        return next(iter(self.find_all(text)), None)

    def find_all(self, text: str) -> tuple[Offence, ...]:
        """All forbidden entries in the text, in its order."""
        if not any(self._matches(tokens(folded(text)))):  # the usual case; without places and much faster
            return ()
        found = {
            Offence(self._entries[number].written, text[begin:end], begin, end)
            for run in runs(text)
            for number, start, stop in self._matches([word.text for word in run])
            for begin, end in [(run[start].start, run[stop - 1].end)]
        }
        return tuple(sorted(found, key=lambda one: (one.start, -one.end, one.forbidden)))

    def extend_negative(self, text: str | None) -> str:
        """A negative prompt with every entry that is not a tag of it yet, spelled as in the job."""
        parts = [text.strip().rstrip(", ")] if text and text.strip(" ,\n") else []
        present = {"".join(tokens(folded(tag))) for tag in (text or "").split(",")}
        for entry in self._entries:
            if present.isdisjoint(entry.joined_forms):
                parts.append(entry.written.strip())
                present.add(entry.joined)
        return ", ".join(parts)

    def _learn(self, number: int, entry: _Entry) -> None:
        spelled = list(enumerate(entry.words))
        if len(entry.words) > 1:
            spelled.append((_JOINED, entry.joined))
        # with a word of one letter, a near spelling of the whole would be the phrase without that word
        whole = min(map(len, entry.words)) > 1
        for place, word in spelled:
            for form in (word, *plurals(word)):
                if form == word or form not in self._allowed:
                    self._exact.setdefault(form, set()).add((number, place))
                if sum(letter.isalpha() for letter in word) >= _MIN_NEAR and (place != _JOINED or whole):
                    self._near.setdefault(form[0], []).append((form, (number, place)))

    def _matches(self, words: list[str]) -> Iterator[tuple[int, int, int]]:
        """Entries in a run of words: number, first word, word after the last; matches of one entry do not overlap."""
        joined = "".join(words)
        apart = [number for number, entry in self._apart.items() if entry.joined in joined]
        if not apart and self._without_roles.issuperset(words):
            return
        free = [0] * len(self._entries)  # the first word after the last match of each entry
        for start, word in enumerate(words):
            roles = self._roles(word)
            if not roles and not apart:
                continue
            for number, stop in sorted(self._starting(words, start, roles, apart), key=lambda one: -one[1]):
                if free[number] <= start:
                    free[number] = stop
                    yield number, start, stop

    def _starting(
        self, words: list[str], start: int, roles: frozenset[_Role], apart: list[int]
    ) -> Iterator[tuple[int, int]]:
        """Entries that begin at a word: number, and the word after the last."""
        for number, place in roles:
            length = len(self._entries[number].words)
            if place == _JOINED:
                yield number, start + 1
            elif place == 0 and self._is_entry(words[start : start + length], number):
                yield number, start + length
        for number in apart:
            entry = self._entries[number]
            if entry.joined.startswith(words[start]) and (stop := _end_apart(words, start, entry.joined_forms)):
                yield number, stop

    def _is_entry(self, words: list[str], number: int) -> bool:
        if len(words) < len(self._entries[number].words):
            return False
        return all((number, place) in self._roles(word) for place, word in enumerate(words))

    def _roles(self, word: str) -> frozenset[_Role]:
        """The roles that a word of a text can have. Remembered, since texts of one job share their words."""
        if word in self._without_roles:
            return frozenset()
        if (known := self._with_roles.get(word)) is not None:
            return known
        roles = set(self._exact.get(word, ()))
        if word not in self._allowed:
            roles |= {role for form, role in self._near.get(word[0], ()) if is_near(word, form)}
        self._remember(word, frozenset(roles))
        return frozenset(roles)

    def _remember(self, word: str, roles: frozenset[_Role]) -> None:
        if len(self._without_roles) + len(self._with_roles) >= _MAX_KNOWN:
            self._without_roles.clear()
            self._with_roles.clear()
        if roles:
            self._with_roles[word] = roles
        else:
            self._without_roles.add(word)


def _end_apart(words: list[str], start: int, forms: Sequence[str]) -> int:
    """The word after those from ``start`` on that together make up one of the forms; 0 where none do."""
    longest, text = max(map(len, forms)), ""
    for stop, word in enumerate(words[start:], start + 1):
        text += word
        if text in forms:
            return stop
        if len(text) >= longest:
            break
    return 0


def _problems(forbid: Sequence[str], key: str) -> Iterator[Problem]:
    for number, entry in enumerate(forbid):
        parts = [part for part in entry.split(",") if part.strip()]
        if not tokens(folded(entry)):
            yield Problem(f"{key}[{number}]", f"{entry!r} has neither letters nor digits", "leave it out")
        elif len(runs(entry)) > 1:
            split = ", ".join(repr(part.strip()) for part in parts)
            hint = f"write them one by one: {split}" if len(parts) > 1 else "leave the punctuation out"
            yield Problem(f"{key}[{number}]", f"{entry!r} is more than one phrase and can never be found", hint)
