"""The house stands as docs/design.md draws it: imports go down only."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import reggen

ROOT = Path(reggen.__file__).parent
FLOORS = {
    "errors": 0,
    "spelling": 0,
    "guard": 0,
    "spread": 0,
    "template": 0,
    "syntax": 0,
    "wildcards": 0,
    "variety": 0,
    "matrix": 0,
    "captions": 0,
    "gaps": 0,
    "reading": 0,
    "job": 0,
    "jobfile": 0,
    "kohya": 0,
    "graph": 0,
    "bindings": 0,
    "plan": 0,
    "source": 0,
    "workflow": 0,
    "progress": 0,
    "comfy.answers": 1,
    "comfy.door": 1,
    "comfy.skim": 1,
    "comfy.tls": 1,
    "comfy.wire": 1,
    "comfy.follow": 1,
    "comfy.worker": 1,
    "comfy.refusals": 1,
    "comfy.cuts": 1,
    "comfy.throttle": 1,
    "comfy.client": 2,
    "comfy.websocket": 2,
    "comfy.link": 2,
    "comfy.launch": 2,
    "comfy.process": 2,
    "dataset": 2,
    "engine": 3,
    "report": 4,
    "cli": 4,
    "__main__": 4,
}
# which of our modules may know which library
KNOWS = {
    "aiohttp": {"comfy.client", "sim.server"},
    "websockets": {"comfy.websocket"},
    "aiohappyeyeballs": {"comfy.websocket"},
    "yarl": {"comfy.client"},
    "PIL": {
        "dataset.check",
        "dataset.compare",
        "dataset.decode",
        "dataset.formats",
        "dataset.picture",
        "dataset.prints",
        "graph",
        "sim.paint",
    },
    "sqlite3": {"dataset.ledger"},
    "psutil": {"comfy.process"},
    "pydantic": {"job", "jobfile"},
    "typer": {"cli", "cli.asking", "cli.judging", "cli.options", "cli.running", "cli.standin"},
}


def modules() -> Iterator[tuple[str, Path]]:
    for file in sorted(ROOT.rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            yield name, file


def imports(file: Path) -> Iterator[str]:
    """What a file imports: `from a import b` is a.b where that is a module of ours, and a otherwise."""
    known = {f"reggen.{name}" for name, _ in modules()}
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from names & known or {node.module}


def floor(module: str) -> int | None:
    for name in (module, module.split(".", maxsplit=1)[0]):
        if name in FLOORS:
            return FLOORS[name]
    return None


def ours(file: Path) -> set[str]:
    return {name.removeprefix("reggen.") for name in imports(file)} & {name for name, _ in modules()}


@pytest.mark.parametrize(("module", "file"), list(modules()), ids=lambda value: str(value) if value else "")
def test_imports_go_down_only(module: str, file: Path) -> None:
    """A module imports from its own floor or from below, never from above."""
    if module.split(".", maxsplit=1)[0] == "sim":
        assert {name.split(".")[0] for name in ours(file)} <= {"sim"}
        return
    own = floor(module)
    for imported in ours(file):
        below = floor(imported)
        if own is None or below is None:  # packages, which hold nothing, and the stand-in, for the command line
            assert imported.split(".")[0] in {"comfy", "dataset", "engine", "report"} or module == "cli.standin"
        else:
            assert below <= own, f"{module} imports {imported}"


def test_every_module_has_a_floor() -> None:
    """A new module is given its floor before it lands."""
    packages = {"comfy", "dataset", "engine", "report", "sim"}
    assert [name for name, _ in modules() if floor(name) is None and name.split(".")[0] not in packages] == []


@pytest.mark.parametrize("library", KNOWS)
def test_a_library_is_known_only_where_it_belongs(library: str) -> None:
    """Each outside thing is owned by one module, so that replacing it touches one file."""
    knowing = {name for name, file in modules() if any(one.split(".")[0] == library for one in imports(file))}
    strangers = {name for name in knowing - KNOWS[library] if not name.startswith("sim.")}
    assert strangers == set()


def test_there_are_no_circles() -> None:
    """No module imports itself, through others or not."""
    graph = {name: ours(file) - {name} for name, file in modules()}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " > ".join((*path, name))
        if name not in done:
            for below in graph.get(name, ()):
                visit(below, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_the_command_line_starts_without_what_only_its_commands_need() -> None:
    """--help answers at once: the heavy libraries wait for the command that works with them."""
    command = [sys.executable, "-X", "importtime", "-m", "reggen", "--help"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stderr
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in told.splitlines()}
    assert "typer" in imported
    assert imported & {"aiohttp", "websockets", "PIL", "pydantic", "sqlite3", "wakepy"} == set()
