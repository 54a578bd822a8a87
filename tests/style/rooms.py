"""Imports among modules, and what follows from them for the packages: arrows, floors, circles."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

Graph = Mapping[str, frozenset[str]]
"""The imports of each module or package within its own project."""


def modules(root: Path) -> Iterator[tuple[str, Path]]:
    """Every module of a package folder but its own `__init__`: dotted name below the folder, and file."""
    for file in sorted(root.rglob("*.py")):
        parts = file.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            yield name, file


def package(module: str) -> str:
    """The package that a module stands in; a module at the top stands for itself."""
    return module.partition(".")[0]


def imports(root: Path) -> dict[str, frozenset[str]]:
    """The imports of every module of a package folder: `from a import b` is a.b if that is a module there, else a."""
    found = dict(modules(root))
    known = frozenset(f"{root.name}.{name}" for name in found)
    return {name: frozenset(_imports(file.read_text(encoding="utf-8"), known)) for name, file in found.items()}


def _imports(text: str, known: frozenset[str]) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from names & known or {node.module}


def module_graph(found: Mapping[str, frozenset[str]], project: str) -> Graph:
    """Of the imports of a project's modules, those of its own modules."""
    return {
        name: frozenset(one.removeprefix(f"{project}.") for one in imported) & found.keys()
        for name, imported in found.items()
    }


def package_graph(graph: Graph) -> Graph:
    """The imports among packages."""
    joined: dict[str, set[str]] = {}
    for name, imported in graph.items():
        joined.setdefault(package(name), set()).update(map(package, imported))
    return {name: frozenset(imported - {name}) for name, imported in joined.items()}


def circles(graph: Graph) -> list[tuple[str, ...]]:
    """Paths that come back to where they began, one for each import that closes one."""
    done: set[str] = set()
    found: list[tuple[str, ...]] = []

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            found.append((*path[path.index(name) :], name))
        elif name not in done:
            for below in sorted(graph.get(name, ())):
                visit(below, (*path, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())
    return found


def height(graph: Graph) -> int:
    """The number of floors: of packages in the longest chain of imports. 0 where they run in circles."""
    if circles(graph):
        return 0
    floors: dict[str, int] = {}

    def floor(name: str) -> int:
        if name not in floors:
            floors[name] = 1 + max((floor(below) for below in graph.get(name, ())), default=0)
        return floors[name]

    return max(map(floor, graph), default=0)
