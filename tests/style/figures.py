"""The figures of one folder of code as lines of text."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tests.style import rooms
from tests.style.limits import BODY_LINES, METHODS, MODULE_LINES, NESTING, PARAMETERS, asks, names_twice
from tests.style.source import Function, Module, measure

ROOT = Path(__file__).parents[2]
_WORST = 5


def read(folder: Path) -> list[Module]:
    """Measure every Python file below a folder; paths are relative to the repository or to the folder's parent."""
    base = ROOT if folder.is_relative_to(ROOT) else folder.parent
    return [
        measure(file.relative_to(base).as_posix(), file.read_text(encoding="utf-8"))
        for file in sorted(folder.rglob("*.py"))
    ]


def table(folder: Path) -> str:
    """All figures of a folder, a line each."""
    modules = read(folder)
    lines = [(label, figure) for part in (_sizes, _shapes, _words) for label, figure in part(modules)]
    lines += _rooms(folder)
    return "\n".join([f"{folder.name}/", *(f"  {label:<36}{figure}" for label, figure in lines)])


def _sizes(modules: Sequence[Module]) -> Iterator[tuple[str, str]]:
    yield "files", f"{len(modules):,}"
    yield "lines", f"{sum(one.lines for one in modules):,}"
    large = sorted((one for one in modules if one.lines > MODULE_LINES), key=lambda one: -one.lines)
    yield f"modules over {MODULE_LINES} lines", _named(f"{one.path} {one.lines}" for one in large)


def _shapes(modules: Sequence[Module]) -> Iterator[tuple[str, str]]:
    functions = [(one, f"{module.path} {one.name}") for module in modules for one in module.functions]
    yield "functions", f"{len(functions):,}"
    yield "lines of a body", _spread([one.lines for one, _ in functions])
    yield f"bodies over {BODY_LINES} lines", _over(functions, "lines", BODY_LINES)
    yield "parameters", _spread([one.parameters for one, _ in functions])
    yield f"more than {PARAMETERS} parameters", _over(functions, "parameters", PARAMETERS)
    yield "nesting", _spread([one.nesting for one, _ in functions])
    yield f"nested deeper than {NESTING}", _over(functions, "nesting", NESTING)
    yield "functions that take the whole Job", str(sum("Job" in one.takes for one, _ in functions))
    classes = sorted((one for module in modules for one in module.classes), key=lambda one: -one.methods)
    yield "classes", f"{len(classes):,}"
    yield (
        f"classes over {METHODS} methods",
        _named(f"{one.name} {one.methods}" for one in classes if one.methods > METHODS),
    )


def _words(modules: Sequence[Module]) -> Iterator[tuple[str, str]]:
    yield "class names in two modules", _named(names_twice(modules))
    docstrings = [one for module in modules for one in module.docstrings]
    yield "docstrings", f"{len(docstrings):,}"
    yield "that begin like a question", str(sum(asks(one.first) for one in docstrings))


def _rooms(folder: Path) -> Iterator[tuple[str, str]]:
    modules = rooms.module_graph(rooms.imports(folder), folder.name)
    packages = rooms.package_graph(modules)
    names = {rooms.package(name) for name in modules if "." in name}
    yield "packages", str(len(names))
    yield "modules beside them", str(len(packages) - len(names))
    yield "floors", str(rooms.height(packages))
    yield "arrows between packages", str(sum(map(len, packages.values())))
    yield "circles", _named(" > ".join(circle) for circle in rooms.circles(modules) + rooms.circles(packages))


def _spread(values: Sequence[int]) -> str:
    """Median, 90th percentile and maximum."""
    if not values:
        return "none"
    ordered = sorted(values)
    return f"median {statistics.median(ordered):g}, p90 {ordered[len(ordered) * 9 // 10]}, max {ordered[-1]}"


def _over(functions: Iterable[tuple[Function, str]], measure: str, limit: int) -> str:
    """The number of functions over a limit, and the worst of them by name."""
    found = sorted(((getattr(one, measure), name) for one, name in functions), reverse=True)
    return _named(f"{name} {value}" for value, name in found if value > limit)


def _named(names: Iterable[str]) -> str:
    """A count, and the first names."""
    found = list(names)
    more = ["..."] if len(found) > _WORST else []
    return f"{len(found)}: {', '.join(found[:_WORST] + more)}" if found else "0"
