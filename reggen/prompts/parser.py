"""The parser of prompt templates; see `reggen.prompts.template` for the syntax.

The reference for the syntax is dynamicprompts. Its parser is not used: it cannot express a literal brace, fails at
"50%" and "$5", and takes three milliseconds a template.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

from reggen.prompts.permute import smallest_integers
from reggen.prompts.template import Choice, Node, Option, Selection, Series, Text

# each pattern fails after a bounded number of steps at every position, or a long text would take very long
_MARK = re.compile(
    r"""\\(?P<escaped>[{}|$\#]|_(?=\\?_))
      | (?P<foreign>[$%]\{ | \{\s*[~!@](?=[^\W_]|__) | __[~!@]?[^\W_][^\s{}|,()]{0,300}\( | __[~!@](?=[^\W_]))
      | __(?P<wildcard>(?:[^\W_]|\*)(?:[-\w./*?\[\]\ ]{0,300}?(?:[^\W_]|[*?\]]))??)__
      | (?P<mark>[{}|])""",
    re.VERBOSE,
)
_WEIGHT = re.compile(r"\s*+(\d++\.?+\d*+|\.\d++)::")
_BOUNDS = re.compile(r"\s*+(?:(?P<exact>\d+)|(?P<least>\d*)-(?P<most>\d*))\$\$(?:(?P<glue>[^${}]*)\$\$)?")
_ONE = Fraction(1)
_MAX_DEPTH = 50  # braces
_MAX_LENGTH = 1_000_000  # characters of a template, or of a line
_MAX_DIGITS = 20  # of a number in it
_MAX_SELECTED = 100  # options at once
_FOREIGN = {
    "$": (
        "begins a variable, which reggen does not support",
        "write the choice itself, or \\$ for a literal dollar",
    ),
    "%": ("begins a wrap, which reggen does not support", "write %\\{ for a literal brace"),
    "{": ("begins with a sampling method", "leave the ~, ! or @ out: every combination gets its turn"),
    "_": (
        "gives a wildcard parameters or a sampling method",
        "write __name__ alone, or \\__ for literal underscores",
    ),
}

Lookup = Callable[[str], Node]


class TemplateSyntaxError(ValueError):
    """A template that cannot be parsed: problem, hint, and the wildcard file it is in (the last two may be empty)."""

    def __init__(self, problem: str, hint: str = "", file: str = "") -> None:
        super().__init__(problem, hint, file)
        self.problem, self.hint, self.file = problem, hint, file


def parse(text: str, wildcard: Lookup) -> Node:
    """Parse a template; ``wildcard`` gives the tree for a wildcard's name. Raises TemplateSyntaxError."""
    if len(text) > _MAX_LENGTH:
        raise TemplateSyntaxError(
            f"has {len(text):,} characters; {_MAX_LENGTH:,} are allowed", "put its choices into wildcard files"
        )
    return _TemplateReader(text, wildcard).whole()


def parse_option(text: str, wildcard: Lookup) -> tuple[Option, Fraction]:
    """Parse a line of a wildcard file: an option, which may begin with its weight. Raises TemplateSyntaxError."""
    match = _WEIGHT.match(text)
    rest = text[match.end() :] if match else text
    return Option(parse(rest, wildcard), rest.strip()), _weight(match)


def _weight(match: re.Match[str] | None) -> Fraction:
    if match is None:
        return _ONE
    if len(match[1]) > _MAX_DIGITS:
        raise TemplateSyntaxError(f"a weight has {len(match[1]):,} digits", f"{_MAX_DIGITS} are allowed")
    return Fraction(match[1])


def with_weights(options: list[tuple[Option, Fraction]]) -> list[Option]:
    """Give options their weights, as the smallest integers in the same proportion; those of weight 0 are left out."""
    chosen = [(option, weight) for option, weight in options if weight]
    if not chosen:
        raise TemplateSyntaxError("every option has the weight 0", "leave the weights out")
    weights = smallest_integers([weight for _, weight in chosen])
    return [option._replace(weight=weight) for (option, _), weight in zip(chosen, weights, strict=True)]


class _TemplateReader:
    """A reader of one template, from left to right."""

    def __init__(self, text: str, wildcard: Lookup) -> None:
        self._text, self._wildcard, self._at, self._depth = text, wildcard, 0, 0

    def whole(self) -> Node:
        node = self._series()
        if self._at < len(self._text):
            raise self._error(self._at, "closes a brace that was never opened", "write \\} for a literal one")
        return node

    def _series(self) -> Node:
        """The tree of everything up to the end of the option, or of the text."""
        parts: list[Node] = []
        while self._at < len(self._text):
            match = _MARK.search(self._text, self._at)
            self._add(parts, self._text[self._at : match.start() if match else None])
            self._at = match.start() if match else len(self._text)
            if match is None or (match["mark"] in ("|", "}") and (self._depth or match["mark"] == "}")):
                break
            self._read_mark(match, parts)
        return parts[0] if len(parts) == 1 else Series(parts)

    def _read_mark(self, match: re.Match[str], parts: list[Node]) -> None:
        if match["foreign"]:
            raise self._error(match.start(), *_FOREIGN[match[0][0]])
        if match["mark"] == "{":
            parts.append(self._choice())
            return
        self._at = match.end()
        if match["wildcard"]:
            parts.append(self._wildcard(match["wildcard"]))
        else:
            self._add(parts, match["escaped"] or match[0])

    @staticmethod
    def _add(parts: list[Node], text: str) -> None:
        if text and parts and isinstance(last := parts[-1], Text):
            parts[-1] = Text(last.text + text)
        elif text:
            parts.append(Text(text))

    def _choice(self) -> Node:
        start, self._at, self._depth = self._at, self._at + 1, self._depth + 1
        if self._depth > _MAX_DEPTH:
            raise self._error(start, f"is more than {_MAX_DEPTH} braces deep")
        if bounds := _BOUNDS.match(self._text, self._at):
            self._at = bounds.end()
        options = [self._option()]
        while self._text[self._at : self._at + 1] == "|":
            self._at += 1
            options.append(self._option())
        if self._at == len(self._text):
            raise self._error(start, "opens a brace that is never closed", "write \\{ for a literal one")
        self._at, self._depth = self._at + 1, self._depth - 1
        if len(options) == 1 and not options[0][0].label:
            raise self._error(start, "has nothing to choose from", "write {red|blue}")
        place = self._text[start : self._at]
        return self._selection(place, with_weights(options), bounds) if bounds else Choice(place, with_weights(options))

    def _option(self) -> tuple[Option, Fraction]:
        match = _WEIGHT.match(self._text, self._at)
        start = self._at = match.end() if match else self._at
        node = self._series()
        return Option(node, self._text[start : self._at].strip()), _weight(match)

    def _selection(self, place: str, options: list[Option], match: re.Match[str]) -> Node:
        if len(options) == 1 and (only := _only_choice(options[0].node)):
            options, place = list(only.options), only.place  # of one file: different lines of it
        least, most = _bounds(match, len(options))
        if most > _MAX_SELECTED:
            problem = f"{place[:60]} asks for up to {most} options at once"
            raise TemplateSyntaxError(problem, f"{_MAX_SELECTED} are allowed")
        return Selection(place, options, ", " if match["glue"] is None else match["glue"], (least, most))

    def _error(self, at: int, problem: str, hint: str = "") -> TemplateSyntaxError:
        begin, end = max(0, at - 15), at + 25
        shown = f"{'...' if begin else ''}{self._text[begin:end]}{'...' if end < len(self._text) else ''}"
        return TemplateSyntaxError(f"character {at + 1} of {shown!r} {problem}", hint)


def _bounds(match: re.Match[str], options: int) -> tuple[int, int]:
    """The least and the most options of a selection, of those there are."""
    if (digits := max(len(match[name] or "") for name in ("exact", "least", "most"))) > _MAX_DIGITS:
        problem = f"a number before $$ has {digits:,} digits"
        raise TemplateSyntaxError(problem, f"{_MAX_SELECTED} options at once are allowed")
    least = int(match["exact"] or match["least"] or 1)
    most = int(match["exact"] or match["most"] or options)
    if match["most"] and least > most:
        problem = f"{match[0].strip()} asks for at least {least} and at most {most}"
        raise TemplateSyntaxError(problem, f"write {most}-{least}$$")
    return min(least, options), min(most, options)


def _only_choice(node: Node) -> Choice | None:
    """The choice that a node consists of, but for spaces; None for any other node."""
    parts = node.parts if isinstance(node, Series) else (node,)
    left = [part for part in parts if not isinstance(part, Text) or part.text.strip()]
    return only if len(left) == 1 and isinstance(only := left[0], Choice) else None
