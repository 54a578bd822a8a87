"""The limits of the code, and what breaks them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.style.source import Module

MODULE_LINES = 400
BODY_LINES = 40
PARAMETERS = 6
NESTING = 3
METHODS = 20
_QUESTION = re.compile(r"(What|Whether|How|Who|Why|Which|When)\b")


@dataclass(frozen=True)
class Breach:
    """A limit that something breaks without a reason beside it."""

    path: str
    line: int
    name: str
    """Dotted, inside its module; empty for the module itself."""
    limit: str
    found: str

    @property
    def key(self) -> str:
        """The same as long as it is neither moved nor renamed."""
        return f"{self.path}:{self.name} {self.limit}"

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.name or 'module'}: {self.found}"


def breaches(modules: Sequence[Module]) -> list[Breach]:
    """Everything that breaks a limit, file by file."""
    return [breach for module in modules for breach in _of_module(module)] + list(_names_twice(modules))


def asks(first_line: str) -> bool:
    """True if a docstring begins like a question: with What, Whether, How, Who, Why, Which or When."""
    return bool(_QUESTION.match(first_line))


def _of_module(module: Module) -> Iterator[Breach]:
    if module.lines > MODULE_LINES and "long" not in module.reasons:
        yield Breach(module.path, 1, "", "long", f"{module.lines} lines, more than {MODULE_LINES}")
    for function in module.functions:
        for limit, value, most, unit in (
            ("long", function.lines, BODY_LINES, "lines"),
            ("wide", function.parameters, PARAMETERS, "parameters"),
            ("deep", function.nesting, NESTING, "blocks deep"),
        ):
            if value > most and limit not in function.reasons:
                yield Breach(module.path, function.line, function.name, limit, f"{value} {unit}, more than {most}")
    for one in module.classes:
        if one.methods > METHODS and "methods" not in one.reasons:
            yield Breach(module.path, one.line, one.name, "methods", f"{one.methods} methods, more than {METHODS}")
    for docstring in module.docstrings:
        if asks(docstring.first):
            yield Breach(
                module.path, docstring.line, docstring.first, "prose", "a docstring that begins like a question"
            )


def names_twice(modules: Sequence[Module]) -> dict[str, list[str]]:
    """Names of classes that stand in more than one module, but for private and nested ones and those with a reason."""
    places = defaultdict(list)
    for module in modules:
        for one in module.classes:
            if not (one.nested or "twin" in one.reasons):
                places[one.name].append(module.path)
    return {name: paths for name, paths in sorted(places.items()) if len(set(paths)) > 1}


def _names_twice(modules: Sequence[Module]) -> Iterator[Breach]:
    for name, paths in names_twice(modules).items():
        for path in paths:
            others = ", ".join(other for other in paths if other != path)
            line = next(
                one.line for module in modules if module.path == path for one in module.classes if one.name == name
            )
            yield Breach(path, line, name, "twin", f"a class of this name is in {others}, too")
