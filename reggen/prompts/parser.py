"""A template's text becomes its tree; see `reggen.prompts.template` for the syntax.

dynamicprompts is the reference for it. Its parser is not used: it has no way to write a brace that is
meant, stops at "50%" and "$5", and takes three milliseconds a template.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

from reggen.prompts.permute import whole
from reggen.prompts.template import Choice, Node, Option, Series, Several, Text

# each pattern fails after a bounded number of steps wherever it is tried, or a long text would take for ever
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
_DEEPEST = 50
_LARGEST = 1_000_000  # letters of a template, or of a line
_DIGITS = 20  # of a number in one
_MOST_AT_ONCE = 100
_FOREIGN = {
    "$": (
        "begins a variable, which reggen does not know",
        "write the choice itself, or \\$ for a dollar that is meant",
    ),
    "%": ("begins a wrap, which reggen does not know", "write %\\{ for a brace that is meant"),
    "{": ("begins with a way of choosing", "leave the ~, ! or @ out: every combination gets its turn"),
    "_": (
        "gives a wildcard parameters or a way of choosing",
        "write __name__ alone, or \\__ for what is meant as it is",
    ),
}

Lookup = Callable[[str], Node]


class Unreadable(ValueError):
    """A template that cannot be read: what is wrong, a hint, and the wildcard file it is in (both may be empty)."""

    def __init__(self, problem: str, hint: str = "", file: str = "") -> None:
        super().__init__(problem, hint, file)
        self.problem, self.hint, self.file = problem, hint, file


def parse(text: str, wildcard: Lookup) -> Node:
    """The tree of a template. ``wildcard`` gives the tree of a file's name. Raises Unreadable."""
    if len(text) > _LARGEST:
        raise Unreadable(
            f"is {len(text):,} letters long; {_LARGEST:,} are the most", "put its choices into wildcard files"
        )
    return _TemplateReader(text, wildcard).whole()


def parse_option(text: str, wildcard: Lookup) -> tuple[Option, Fraction]:
    """A line of a wildcard file: an option, which may begin with its weight. Raises Unreadable."""
    match = _WEIGHT.match(text)
    rest = text[match.end() :] if match else text
    return Option(parse(rest, wildcard), rest.strip()), _weight(match)


def _weight(match: re.Match[str] | None) -> Fraction:
    if match is None:
        return _ONE
    if len(match[1]) > _DIGITS:
        raise Unreadable(f"a weight has {len(match[1]):,} digits", f"{_DIGITS} are the most")
    return Fraction(match[1])


def weighted(options: list[tuple[Option, Fraction]]) -> list[Option]:
    """The options with their weights as the smallest whole numbers in the same proportion, without those of 0."""
    chosen = [(option, weight) for option, weight in options if weight]
    if not chosen:
        raise Unreadable("every option has the weight 0", "leave the weights out")
    weights = whole([weight for _, weight in chosen])
    return [option._replace(weight=weight) for (option, _), weight in zip(chosen, weights, strict=True)]


class _TemplateReader:
    """Reads one template, from left to right, once."""

    def __init__(self, text: str, wildcard: Lookup) -> None:
        self._text, self._wildcard, self._at, self._depth = text, wildcard, 0, 0

    def whole(self) -> Node:
        node = self._series()
        if self._at < len(self._text):
            raise self._unreadable(self._at, "closes a brace that was never opened", "write \\} for one that is meant")
        return node

    def _series(self) -> Node:
        """Everything up to the end of the option, or of the text."""
        parts: list[Node] = []
        while self._at < len(self._text):
            match = _MARK.search(self._text, self._at)
            self._add(parts, self._text[self._at : match.start() if match else None])
            self._at = match.start() if match else len(self._text)
            if match is None or (match["mark"] in ("|", "}") and (self._depth or match["mark"] == "}")):
                break
            self._take(match, parts)
        return parts[0] if len(parts) == 1 else Series(parts)

    def _take(self, match: re.Match[str], parts: list[Node]) -> None:
        if match["foreign"]:
            raise self._unreadable(match.start(), *_FOREIGN[match[0][0]])
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
        if self._depth > _DEEPEST:
            raise self._unreadable(start, f"is more than {_DEEPEST} braces deep")
        if bounds := _BOUNDS.match(self._text, self._at):
            self._at = bounds.end()
        options = [self._option()]
        while self._text[self._at : self._at + 1] == "|":
            self._at += 1
            options.append(self._option())
        if self._at == len(self._text):
            raise self._unreadable(start, "opens a brace that is never closed", "write \\{ for one that is meant")
        self._at, self._depth = self._at + 1, self._depth - 1
        if len(options) == 1 and not options[0][0].label:
            raise self._unreadable(start, "has nothing to choose from", "write {red|blue}")
        place = self._text[start : self._at]
        return self._several(place, weighted(options), bounds) if bounds else Choice(place, weighted(options))

    def _option(self) -> tuple[Option, Fraction]:
        match = _WEIGHT.match(self._text, self._at)
        start = self._at = match.end() if match else self._at
        node = self._series()
        return Option(node, self._text[start : self._at].strip()), _weight(match)

    def _several(self, place: str, options: list[Option], match: re.Match[str]) -> Node:
        if len(options) == 1 and (only := _lone(options[0].node)):
            options, place = list(only.options), only.place  # two lines of one file, never the same twice
        if (digits := max(len(match[name] or "") for name in ("exact", "least", "most"))) > _DIGITS:
            raise Unreadable(f"a number before $$ has {digits:,} digits", f"no more than {_MOST_AT_ONCE} at once")
        least = int(match["exact"] or match["least"] or 1)
        most = int(match["exact"] or match["most"] or len(options))
        if match["most"] and least > most:
            raise Unreadable(f"{match[0].strip()} asks for {least} at least and {most} at most", f"{most}-{least}$$")
        least, most = min(least, len(options)), min(most, len(options))
        if most > _MOST_AT_ONCE:
            raise Unreadable(f"{place[:60]} asks for up to {most} at once", f"no more than {_MOST_AT_ONCE}")
        return Several(place, options, ", " if match["glue"] is None else match["glue"], (least, most))

    def _unreadable(self, at: int, problem: str, hint: str = "") -> Unreadable:
        begin, end = max(0, at - 15), at + 25
        shown = f"{'...' if begin else ''}{self._text[begin:end]}{'...' if end < len(self._text) else ''}"
        return Unreadable(f"character {at + 1} of {shown!r} {problem}", hint)


def _lone(node: Node) -> Choice | None:
    """The one choice that a node is, spaces aside."""
    parts = node.parts if isinstance(node, Series) else (node,)
    left = [part for part in parts if not isinstance(part, Text) or part.text.strip()]
    return only if len(left) == 1 and isinstance(only := left[0], Choice) else None
