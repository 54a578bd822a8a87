"""One source file, measured: pure functions of its text."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.TryStar, ast.Match)
_REASON = re.compile(r"#\s*(long|wide|deep|methods|twin):\s*\S")


@dataclass(frozen=True)
class Function:
    """A function or method: the lines of its body (docstring left out), parameters (self left out), nested blocks."""

    name: str
    line: int
    lines: int
    parameters: int
    nesting: int
    takes: frozenset[str]
    """The annotations of its parameters."""
    reasons: frozenset[str]
    """The limits it may exceed: `# long: one table` on a line of its signature gives `long`."""


@dataclass(frozen=True)
class Class:
    """A class and the number of its methods, properties included."""

    name: str
    line: int
    methods: int
    nested: bool
    reasons: frozenset[str]


@dataclass(frozen=True)
class Docstring:
    """The docstring of a module, class, function or attribute."""

    line: int
    first: str
    """Its first line."""


@dataclass(frozen=True)
class Module:
    """One file. Functions and classes inside others carry the names of these: `Outer.inner`."""

    path: str
    lines: int
    functions: tuple[Function, ...]
    classes: tuple[Class, ...]
    docstrings: tuple[Docstring, ...]
    reasons: frozenset[str]
    """Those that stand above the first statement after the module's docstring."""


def measure(path: str, text: str) -> Module:
    """Measure a file's text. Raises SyntaxError for what is not Python."""
    tree = ast.parse(text)
    comments = dict(_reasons(text))
    functions: list[Function] = []
    classes: list[Class] = []
    for name, node, inside in _definitions(tree, "", None):
        reasons = _between(comments, node.lineno, node.body[0].lineno)
        if isinstance(node, ast.ClassDef):
            methods = sum(isinstance(member, _FUNCTIONS) for member in node.body)
            classes.append(Class(name, node.lineno, methods, inside is not None, reasons))
        else:
            functions.append(_function(name, node, isinstance(inside, ast.ClassDef), reasons))
    head = _without_docstring(tree.body)
    top = _between(comments, 1, head[0].lineno if head else len(text))
    count = len(text.splitlines())
    return Module(path, count, tuple(functions), tuple(classes), tuple(_docstrings(tree)), top)


def _function(
    name: str, node: ast.FunctionDef | ast.AsyncFunctionDef, method: bool, reasons: frozenset[str]
) -> Function:
    body = _without_docstring(node.body)
    given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    static = any(isinstance(one, ast.Name) and one.id == "staticmethod" for one in node.decorator_list)
    if method and not static:
        given = given[1:]
    return Function(
        name,
        node.lineno,
        _end(body[-1]) - _begin(body[0]) + 1 if body else 0,
        len(given),
        _nesting(node.body),
        frozenset(ast.unparse(one.annotation) for one in given if one.annotation),
        reasons,
    )


def _definitions(
    node: ast.AST, prefix: str, inside: ast.AST | None
) -> Iterator[tuple[str, Definition, ast.AST | None]]:
    """Every function and class below a node, with its full name and the definition that it stands in."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (*_FUNCTIONS, ast.ClassDef)):
            yield f"{prefix}{child.name}", child, inside
            yield from _definitions(child, f"{prefix}{child.name}.", child)
        else:
            yield from _definitions(child, prefix, inside)


def _nesting(body: list[ast.stmt]) -> int:
    """Depth of the blocks in a body; `elif` goes no deeper than its `if`, a function inside counts for itself."""
    return max((_depth(statement) for statement in body), default=0)


def _depth(node: ast.AST, *, is_elif: bool = False) -> int:
    if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
        return 0
    below = 0
    for child in ast.iter_child_nodes(node):
        chained = isinstance(node, ast.If) and node.orelse == [child] and isinstance(child, ast.If)
        below = max(below, _depth(child, is_elif=chained))
    return below + (isinstance(node, _BLOCKS) and not is_elif)


def _docstrings(tree: ast.Module) -> Iterator[Docstring]:
    """Docstrings proper, and the strings below a field that document it."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(node, (ast.Module, ast.ClassDef, *_FUNCTIONS)) or not isinstance(body, list):
            continue
        for index, statement in enumerate(body):
            after_field = index and isinstance(body[index - 1], (ast.Assign, ast.AnnAssign))
            text = _text(statement)
            if text is not None and (index == 0 or after_field):
                yield Docstring(statement.lineno, text.strip().partition("\n")[0])


def _text(statement: ast.stmt) -> str | None:
    """A statement that is nothing but a string, as docstrings are."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    return body[1:] if body and _text(body[0]) is not None else body


def _begin(statement: ast.stmt) -> int:
    """The first line of a statement, its decorators included."""
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    return min([statement.lineno, *(one.lineno for one in decorators)])


def _end(statement: ast.stmt) -> int:
    return statement.end_lineno or statement.lineno


def _reasons(text: str) -> Iterator[tuple[int, str]]:
    """The line and keyword of each comment that gives a reason."""
    if not _REASON.search(text):
        return  # most files have none, and reading tokens is slow
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        found = _REASON.match(token.string) if token.type == tokenize.COMMENT else None
        if found:
            yield token.start[0], found[1]


def _between(comments: dict[int, str], first: int, end: int) -> frozenset[str]:
    """The reasons from a line up to another; on the first line too where both are one."""
    return frozenset(word for line, word in comments.items() if first <= line < max(end, first + 1))
